//! Members -> one combined score per cell: the room's entry. What is flagged is decided afterwards,
//! over all levels at once, by [`super::decide`].

use ndarray::{Array2, Array3, Zip};

use super::{
    AnomalyType, EnsembleError, Severity,
    combine::{Agreement, EnsembleParams, Member, combine_p},
    decision::Deviation,
};
use crate::{
    detectors::DetectorName,
    panel::{MetricKind, Panel},
};

/// Expected counts below this count as this in ratios, so that 2 against 0.01 is no 200-fold rise.
const MIN_EXPECTED_COUNT: f64 = 0.5;
/// The same for other metrics, as a share of the series' mean size.
const MIN_EXPECTED_SHARE: f64 = 0.05;

/// The verdict of every cell; arrays are `[series, time]` where nothing else is said.
#[derive(Clone, Debug)]
pub struct EnsembleOutput {
    /// ln of the combined p; NaN where nobody scored.
    pub log_p: Array2<f64>,
    /// x / (x + 3) with x = -log10 p: 0.5 is p = 1e-3.
    pub score: Array2<f64>,
    /// Share of the members' weight that flags the cell in the verdict's direction.
    pub confidence: Array2<f64>,
    pub n_models_flagged: Array2<u8>,
    pub is_anomaly: Array2<bool>,
    pub severity: Array2<Option<Severity>>,
    pub kind: Array2<Option<AnomalyType>>,
    /// The side of the leading metric's expected value: +1 above, -1 below. Where nothing predicts
    /// that metric, the members' weighted vote; 0 unknown.
    pub direction: Array2<i8>,
    /// `[series, time, metric]`: the prediction of the first member that has one, parametric
    /// members first, then in the order of the config; NaN where nobody predicts.
    pub expected: Array3<f64>,
    pub lower: Array3<f64>,
    pub upper: Array3<f64>,
    /// The metric with the largest mean share of the members' scores.
    pub leading_metric: Array2<u16>,
    /// Observed / expected of the leading metric; expected counts as at least 0.5 for counts, as at
    /// least 5 % of the series' mean size otherwise.
    pub deviation_ratio: Array2<f64>,
    /// 100 (observed - expected) / expected of the leading metric, with the same floor.
    pub deviation_percentage: Array2<f64>,
    /// `[time]`: ln of the largest p that is anomalous in that step, without known events.
    pub ln_threshold: Vec<f64>,
    pub members: Vec<MemberOutput>,
}

/// One member's part in the verdict.
#[derive(Clone, Debug)]
pub struct MemberOutput {
    pub name: DetectorName,
    pub weight: f64,
    /// As [`EnsembleOutput::score`], from the member's own p.
    pub score: Array2<f64>,
    /// The member's own p is at or below its own threshold.
    pub flagged: Array2<bool>,
    /// As [`EnsembleOutput::ln_threshold`], under the member's own rule.
    pub ln_threshold: Vec<f64>,
}

/// Combines the members into one score per cell; nothing is flagged yet. `agreement` says how alike
/// they are: learnt from these members where a run is fitted, the checkpoint's where it scores.
///
/// # Errors
/// When a member's arrays do not have the panel's shape.
pub fn combine(
    panel: &Panel,
    members: &[Member<'_>],
    agreement: &Agreement,
    params: &EnsembleParams,
) -> Result<EnsembleOutput, EnsembleError> {
    let shape = (panel.n_series(), panel.n_times());
    for member in members {
        for found in [member.log_p.dim(), member.scores.score.dim()] {
            if found != shape {
                return Err(EnsembleError::Shape {
                    what: "a member's scores",
                    found,
                    expected: shape,
                });
            }
        }
    }
    let log_p = combine_p(members, params, agreement);
    let log_p = if members.is_empty() { Array2::from_elem(shape, f64::NAN) } else { log_p };
    let outputs: Vec<MemberOutput> = members
        .iter()
        .map(|member| MemberOutput {
            name: member.scores.detector,
            weight: member.weight,
            score: member.log_p.mapv(bounded_score),
            flagged: Array2::from_elem(shape, false),
            ln_threshold: vec![f64::NAN; shape.1],
        })
        .collect();
    let [expected, lower, upper] = predictions(panel, members);
    let leading_metric = leading(panel, members);
    let mut direction = directions(members, shape);
    face_the_leading_metric(&mut direction, panel, &leading_metric, &expected);
    let mut output = EnsembleOutput {
        score: log_p.mapv(bounded_score),
        confidence: Array2::from_elem(shape, f64::NAN),
        n_models_flagged: Array2::zeros(shape),
        is_anomaly: Array2::from_elem(shape, false),
        severity: Array2::from_elem(shape, None),
        kind: Array2::from_elem(shape, None),
        direction,
        expected,
        lower,
        upper,
        leading_metric,
        deviation_ratio: Array2::from_elem(shape, f64::NAN),
        deviation_percentage: Array2::from_elem(shape, f64::NAN),
        ln_threshold: vec![f64::NAN; shape.1],
        members: outputs,
        log_p,
    };
    measure(&mut output, panel);
    Ok(output)
}

/// The score of a p-value: x / (x + 3) with x = -log10 p; NaN for NaN.
pub fn bounded_score(log_p: f64) -> f64 {
    let x = (-log_p / std::f64::consts::LN_10).max(0.0);
    if log_p.is_nan() {
        log_p
    } else if x == f64::INFINITY {
        1.0
    } else {
        x / (x + 3.0)
    }
}

/// Expected, lower and upper per metric from the first member that has them.
fn predictions(panel: &Panel, members: &[Member<'_>]) -> [Array3<f64>; 3] {
    let mut order: Vec<&Member<'_>> =
        members.iter().filter(|m| m.scores.expected.is_some()).collect();
    order.sort_by_key(|m| (m.scores.log_p.is_none(), m.scores.lower.is_none()));
    let mut bounds = [(); 3].map(|()| Array3::from_elem(panel.values().raw_dim(), f64::NAN));
    for member in order {
        let from = [&member.scores.expected, &member.scores.lower, &member.scores.upper];
        let Some(expected) = from[0] else { continue };
        // Bounds and centre come from one member, or an interval would miss its own centre.
        let free: Array3<bool> = Zip::from(&bounds[0])
            .and(expected)
            .map_collect(|mine, theirs| mine.is_nan() && !theirs.is_nan());
        for (mine, theirs) in bounds.iter_mut().zip(from) {
            if let Some(theirs) = theirs {
                Zip::from(mine).and(theirs).and(&free).for_each(|mine, &theirs, &free| {
                    if free {
                        *mine = theirs;
                    }
                });
            }
        }
    }
    bounds
}

fn leading(panel: &Panel, members: &[Member<'_>]) -> Array2<u16> {
    let shape = (panel.n_series(), panel.n_times());
    if panel.n_metrics() < 2 {
        return Array2::zeros(shape);
    }
    Array2::from_shape_fn(shape, |(s, t)| {
        let mut total = vec![0.0_f64; panel.n_metrics()];
        for member in members {
            // Members that find the cell stranger have more to say about why.
            let strength = -member.log_p[[s, t]];
            if let (Some(share), true) = (&member.scores.metric_share, strength > 0.0) {
                for (sum, part) in total.iter_mut().zip(share.slice(ndarray::s![s, t, ..])) {
                    let part = f64::from(*part);
                    *sum += if part.is_finite() { part * member.weight * strength } else { 0.0 };
                }
            }
        }
        let best = total.iter().copied().fold(0.0, f64::max);
        let place = total.iter().position(|sum| *sum == best && best > 0.0).unwrap_or(0);
        u16::try_from(place).unwrap_or(u16::MAX)
    })
}

/// The sign of the weighted sum of the members' directions, each as strong as its -ln p.
fn directions(members: &[Member<'_>], shape: (usize, usize)) -> Array2<i8> {
    let mut sum = Array2::<f64>::zeros(shape);
    for member in members {
        Zip::from(&mut sum).and(member.log_p).and(&member.scores.direction).for_each(
            |sum, &p, &direction| {
                if !p.is_nan() {
                    *sum += member.weight * f64::from(direction) * (-p).min(700.0);
                }
            },
        );
    }
    sum.mapv(|s| {
        if s > 0.0 {
            1
        } else if s < 0.0 {
            -1
        } else {
            0
        }
    })
}

/// The leading metric's own side of its expected value overrules the members' vote, so that a row
/// never says "above" beside a deviation of -40 %.
fn face_the_leading_metric(
    direction: &mut Array2<i8>,
    panel: &Panel,
    leading: &Array2<u16>,
    expected: &Array3<f64>,
) {
    for ((s, t), direction) in direction.indexed_iter_mut() {
        let metric = usize::from(leading[[s, t]]);
        let deviation = panel.values()[[s, t, metric]] - expected[[s, t, metric]];
        if deviation != 0.0 && !deviation.is_nan() {
            *direction = if deviation > 0.0 { 1 } else { -1 };
        }
    }
}

/// Observed against expected of every cell's leading metric.
fn measure(output: &mut EnsembleOutput, panel: &Panel) {
    let floors = expected_floors(panel);
    for (cell, ratio) in output.deviation_ratio.indexed_iter_mut() {
        let (s, t) = cell;
        let metric = usize::from(output.leading_metric[cell]);
        let observed = panel.values()[[s, t, metric]];
        let expected = output.expected[[s, t, metric]];
        let floor = floors[[s, metric]];
        let base = if expected.is_nan() { f64::NAN } else { expected.abs().max(floor) };
        *ratio = observed / base;
        output.deviation_percentage[cell] = 100.0 * ((observed - expected) / base);
    }
}

impl EnsembleOutput {
    /// How far a cell's leading metric lies from its expected value.
    pub(super) fn deviation(&self, panel: &Panel, cell: (usize, usize)) -> Deviation {
        let place = [cell.0, cell.1, usize::from(self.leading_metric[cell])];
        Deviation {
            absolute: panel.values()[place] - self.expected[place],
            relative: self.deviation_percentage[cell] / 100.0,
        }
    }
}

/// What an expected value counts as at least, `[series, metric]`.
fn expected_floors(panel: &Panel) -> Array2<f64> {
    Array2::from_shape_fn((panel.n_series(), panel.n_metrics()), |(s, m)| {
        if panel.metrics()[m].kind == MetricKind::Count {
            return MIN_EXPECTED_COUNT;
        }
        let (mut sum, mut n) = (0.0, 0.0);
        for value in panel.metric(s, m).iter().filter(|value| value.is_finite()) {
            sum += value.abs();
            n += 1.0;
        }
        (MIN_EXPECTED_SHARE * sum / f64::max(n, 1.0)).max(f64::MIN_POSITIVE)
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        detectors::Scores,
        panel::{Calendar, Level, Metric, SeriesKey, Step},
    };
    use jiff::tz::TimeZone;

    /// One series of weekly counts.
    pub(in crate::ensemble) fn panel(values: &[f64]) -> Panel {
        let n = values.len();
        Panel::new(
            Level { name: "key".into(), id_columns: vec!["key".into()] },
            Calendar::new(Step::Week, 0, n, TimeZone::UTC),
            vec![Metric { name: "count".into(), kind: MetricKind::Count }],
            vec![SeriesKey(vec!["a".into()])],
            std::iter::once(0..n).collect(),
            Array3::from_shape_fn((1, n, 1), |(_, t, _)| values[t]),
        )
        .unwrap()
    }

    pub(in crate::ensemble) fn scores(
        detector: DetectorName,
        panel: &Panel,
        raw: &[f64],
        direction: i8,
    ) -> Scores {
        let mut scores = Scores::empty(detector, panel);
        scores.score.row_mut(0).assign(&ndarray::aview1(raw));
        scores.direction.fill(direction);
        scores
    }

    pub(in crate::ensemble) fn log_p(p: &[f64]) -> Array2<f64> {
        Array2::from_shape_fn((1, p.len()), |(_, t)| p[t].ln())
    }

    #[test]
    fn scores_rise_as_p_falls() {
        let panel = panel(&[1.0; 4]);
        let rolling = scores(DetectorName::Rolling, &panel, &[1.0, 5.0, 9.0, 40.0], 1);
        let p = log_p(&[0.5, 0.01, 1e-4, 1e-5]);
        let members = [Member { scores: &rolling, log_p: &p, weight: 1.0 }];
        let agreement = Agreement::learn(&members);
        let output = combine(&panel, &members, &agreement, &EnsembleParams::default()).unwrap();
        let score = output.score.row(0).to_vec();
        assert!(score.windows(2).all(|pair| pair[0] < pair[1]), "{score:?}");
        assert!(score.iter().all(|s| (0.0..1.0).contains(s)));
    }

    #[test]
    fn a_member_of_another_shape_is_refused() {
        let panel = panel(&[1.0; 4]);
        let rolling = scores(DetectorName::Rolling, &panel, &[1.0; 4], 1);
        let p = log_p(&[0.5; 3]);
        let members = [Member { scores: &rolling, log_p: &p, weight: 1.0 }];
        let agreement = Agreement::learn(&members);
        assert!(combine(&panel, &members, &agreement, &EnsembleParams::default()).is_err());
    }
}
