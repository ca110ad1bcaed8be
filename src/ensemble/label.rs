//! What kind of anomaly a flagged cell is, by a published rule. The first line that fits wins.
//!
//! | type | when |
//! |---|---|
//! | `outage` | a count or amount at or near zero (5 % of the expected or less) where at least 10 was expected |
//! | `conversion_collapse` | a ratio leads, lies below, and its denominator is within half of its expected value |
//! | `drift` | a run of at least `shift_min_steps` whose deviation more than doubles from its first to its last third |
//! | `level_shift` | a run of at least `shift_min_steps` in one direction |
//! | `spike`, `drop` | above or below, shorter |
//! | `pattern` | no direction |
//!
//! A run is a sequence of flagged cells of one direction, with at most `max_gap_steps` unflagged
//! ones between two. `changepoint`, `mix_shift`, `contextual` and `burst` belong to detectors and
//! analyses of their own.

use std::ops::Range;

use super::AnomalyType;
use crate::panel::{MetricKind, Panel, Step};

/// The smallest expected count of which zero is an outage.
const OUTAGE_MIN_EXPECTED: f64 = 10.0;
/// A value at or below this share of the expected counts as none.
const OUTAGE_SHARE: f64 = 0.05;

/// One flagged cell of a series, as the rules see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flagged {
    pub time: usize,
    /// +1, -1 or 0.
    pub direction: i8,
    /// The metric that leads there.
    pub metric: usize,
    /// (observed - expected) / expected of that metric; may be NaN.
    pub relative: f64,
}

/// Steps from which on a run is a shift, when the config does not say: a day, at least five.
pub(super) fn default_shift_steps(step: Step) -> usize {
    let day = 86_400 / step.secs().max(1);
    usize::try_from(day).unwrap_or(5).max(5)
}

/// The runs of `cells` (sorted by time): ranges of places in `cells`.
pub(super) fn runs(cells: &[Flagged], max_gap: usize) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for i in 1..=cells.len() {
        let continues = i < cells.len()
            && cells[i].direction == cells[i - 1].direction
            && cells[i].time - cells[i - 1].time <= max_gap + 1;
        if !continues && i > start {
            found.push(start..i);
            start = i;
        }
    }
    found
}

/// The type of one flagged cell, given its run. `expected[metric]` may be NaN.
pub(super) fn kind(
    panel: &Panel,
    series: usize,
    cell: Flagged,
    run: &[Flagged],
    expected: &dyn Fn(usize) -> f64,
    shift_min_steps: usize,
) -> AnomalyType {
    let observed = |metric: usize| panel.values()[[series, cell.time, metric]];
    let is_sum = |metric: usize| {
        matches!(panel.metrics()[metric].kind, MetricKind::Count | MetricKind::Amount)
    };
    let none_left = |m: usize| {
        is_sum(m) && expected(m) >= OUTAGE_MIN_EXPECTED && observed(m) <= OUTAGE_SHARE * expected(m)
    };
    // A ratio has no value where its denominator is gone, so any metric may tell of an outage:
    // here the first, which the config puts first because the others follow from it.
    if cell.direction <= 0 && (none_left(cell.metric) && (cell.metric == 0 || none_left(0))) {
        return AnomalyType::Outage;
    }
    if cell.direction < 0 && collapsed(panel, cell.metric, &observed, expected) {
        return AnomalyType::ConversionCollapse;
    }
    let length = run.last().map_or(0, |last| last.time + 1) - run.first().map_or(0, |f| f.time);
    if length >= shift_min_steps && cell.direction != 0 {
        return if grows(run) { AnomalyType::Drift } else { AnomalyType::LevelShift };
    }
    match cell.direction {
        1 => AnomalyType::Spike,
        -1 => AnomalyType::Drop,
        _ => AnomalyType::Pattern,
    }
}

/// A ratio (or its numerator) fell while what it is a share of stayed as usual.
fn collapsed(
    panel: &Panel,
    metric: usize,
    observed: &dyn Fn(usize) -> f64,
    expected: &dyn Fn(usize) -> f64,
) -> bool {
    let ratio = (0..panel.n_metrics()).find_map(|m| {
        let (top, bottom) = panel.ratio_parts(m)?;
        (m == metric || top == metric).then_some((m, bottom))
    });
    ratio.is_some_and(|(rate, bottom)| {
        let usual = (observed(bottom) / expected(bottom) - 1.0).abs() < 0.5;
        let fell = observed(rate) < 0.7 * expected(rate);
        usual && fell
    })
}

fn grows(run: &[Flagged]) -> bool {
    let third = run.len() / 3;
    if third == 0 {
        return false;
    }
    let mean = |cells: &[Flagged]| {
        cells.iter().map(|c| c.relative.abs()).sum::<f64>() / cells.len() as f64
    };
    mean(&run[run.len() - third..]) > 2.0 * mean(&run[..third])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::{Calendar, Level, Metric, SeriesKey};
    use jiff::tz::TimeZone;
    use ndarray::Array3;

    fn panel(values: &[[f64; 3]]) -> Panel {
        let metric = |name: &str, kind| Metric { name: name.into(), kind };
        let metrics = vec![
            metric("views", MetricKind::Count),
            metric("purchases", MetricKind::Count),
            metric(
                "conversion_rate",
                MetricKind::Ratio { numerator: "purchases".into(), denominator: "views".into() },
            ),
        ];
        let values = Array3::from_shape_fn((1, values.len(), 3), |(_, t, m)| values[t][m]);
        let n = values.dim().1;
        Panel::new(
            Level { name: "brand".into(), id_columns: vec!["brand".into()] },
            Calendar::new(Step::HOUR, 0, n, TimeZone::UTC),
            metrics,
            vec![SeriesKey(vec!["a".into()])],
            std::iter::once(0..n).collect(),
            values,
        )
        .unwrap()
    }

    fn cell(time: usize, direction: i8, metric: usize, relative: f64) -> Flagged {
        Flagged { time, direction, metric, relative }
    }

    fn kind_of(values: [f64; 3], at: Flagged) -> AnomalyType {
        let expected = |m: usize| [100.0, 10.0, 0.1][m];
        kind(&panel(&[values]), 0, at, &[at], &expected, 24)
    }

    #[test]
    fn zero_views_are_an_outage_and_zero_purchases_a_collapse() {
        assert_eq!(kind_of([0.0, 0.0, f64::NAN], cell(0, -1, 0, -1.0)), AnomalyType::Outage);
        assert_eq!(
            kind_of([98.0, 0.0, 0.0], cell(0, -1, 2, -1.0)),
            AnomalyType::ConversionCollapse
        );
        assert_eq!(
            kind_of([98.0, 0.0, 0.0], cell(0, -1, 1, -1.0)),
            AnomalyType::ConversionCollapse
        );
        assert_eq!(kind_of([40.0, 4.0, 0.1], cell(0, -1, 0, -0.6)), AnomalyType::Drop);
        assert_eq!(kind_of([400.0, 40.0, 0.1], cell(0, 1, 0, 3.0)), AnomalyType::Spike);
        assert_eq!(kind_of([100.0, 10.0, 0.1], cell(0, 0, 0, 0.0)), AnomalyType::Pattern);
    }

    #[test]
    fn a_long_run_is_a_shift_and_a_growing_one_a_drift() {
        let panel = panel(&[[150.0, 15.0, 0.1]; 40]);
        let expected = |m: usize| [100.0, 10.0, 0.1][m];
        let label = |run: &[Flagged]| kind(&panel, 0, run[5], run, &expected, 24);
        let flat: Vec<Flagged> = (0..30).map(|t| cell(t, 1, 0, 0.5)).collect();
        assert_eq!(label(&flat), AnomalyType::LevelShift);
        let growing: Vec<Flagged> = (0..30).map(|t| cell(t, 1, 0, 0.1 * t as f64)).collect();
        assert_eq!(label(&growing), AnomalyType::Drift);
        assert_eq!(label(&flat[..10]), AnomalyType::Spike);
    }

    #[test]
    fn runs_break_at_gaps_and_at_a_change_of_direction() {
        let cells =
            [cell(0, 1, 0, 1.0), cell(2, 1, 0, 1.0), cell(5, 1, 0, 1.0), cell(6, -1, 0, 1.0)];
        assert_eq!(runs(&cells, 1), [0..2, 2..3, 3..4]);
        assert!(runs(&[], 1).is_empty());
    }

    #[test]
    fn a_shift_takes_a_day_or_five_steps() {
        assert_eq!(default_shift_steps(Step::HOUR), 24);
        assert_eq!(default_shift_steps(Step::Week), 5);
        assert_eq!(default_shift_steps(Step::Seconds(900)), 96);
    }
}
