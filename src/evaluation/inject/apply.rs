//! Injections into a copy of a panel.
//!
//! A treated value is what the series would have shown at `factor` times its usual level:
//!
//! | metric | below 1 | above 1 |
//! |---|---|---|
//! | count | each event stays with probability `factor` (binomial thinning) | events are added, NB2 with mean (factor - 1) × level and the series' own dispersion |
//! | amount | × factor | + (factor - 1) × level |
//! | measure | + (factor - 1) × the series' median size | the same |
//!
//! so counts stay counts, and a thinned NB2 count is NB2 again with the same dispersion. Ratios are
//! made anew from their parts, and a part that never was above its whole stays so. The level is what
//! was expected at the cell, or the mean of the neighbouring steps where nothing predicts.

use ndarray::{Array3, ArrayView1, s};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution};

use super::{
    params::{Kind, Treatment},
    plan::Injection,
};
use crate::{
    math::{nb::NegativeBinomial, random::stream, robust::median},
    panel::{MetricKind, Panel},
};

/// Steps on either side that a level is averaged over.
const NEIGHBOURS: usize = 8;
/// A dispersion beyond this is one that anomalies of the series' own have made.
const MAX_DISPERSION: f64 = 2.0;

/// What injections need to know of a panel's usual state.
pub struct Usual<'a> {
    panel: &'a Panel,
    /// `[series, time, metric]`; NaN where nothing predicts.
    expected: &'a Array3<f64>,
    /// Places of the metrics that are changed.
    metrics: Vec<usize>,
}

impl<'a> Usual<'a> {
    /// `names` are the metrics to change, all but ratios when there are none.
    ///
    /// # Errors
    /// The name that is no metric of the panel, or is a ratio.
    pub fn new(
        panel: &'a Panel,
        expected: &'a Array3<f64>,
        names: &[String],
    ) -> Result<Self, String> {
        let additive = |m: &usize| !matches!(panel.metrics()[*m].kind, MetricKind::Ratio { .. });
        let metrics = if names.is_empty() {
            (0..panel.n_metrics()).filter(additive).collect()
        } else {
            names
                .iter()
                .map(|name| panel.find_metric(name).filter(additive).ok_or_else(|| name.clone()))
                .collect::<Result<_, _>>()?
        };
        Ok(Self { panel, expected, metrics })
    }

    /// Whether a treatment changes anything: an outage of measures does not.
    pub fn admits(&self, treatment: &Treatment) -> bool {
        let measure = |m: &usize| self.panel.metrics()[*m].kind == MetricKind::Measure;
        treatment.kind != Kind::Outage || !self.metrics.iter().all(measure)
    }

    /// The usual level of a cell; NaN where the series has no value near it.
    pub fn level(&self, series: usize, time: usize, metric: usize) -> f64 {
        let expected = self.expected[[series, time, metric]];
        if expected.is_finite() && expected > 0.0 {
            return expected;
        }
        let from = time.saturating_sub(NEIGHBOURS);
        let to = (time + NEIGHBOURS + 1).min(self.panel.n_times());
        let near = self.panel.values().slice(s![series, from..to, metric]);
        let others = near.iter().enumerate().filter(|(i, v)| from + i != time && v.is_finite());
        let (n, sum) = others.fold((0.0, 0.0), |(n, sum), (_, v)| (n + 1.0, sum + v));
        sum / n
    }

    /// The usual level of the first metric that is changed.
    pub fn typical(&self, series: usize, time: usize) -> f64 {
        self.metrics.first().map_or(f64::NAN, |&metric| self.level(series, time, metric))
    }

    /// Whether that metric is a count.
    pub fn leads_with_count(&self) -> bool {
        let kind = self.metrics.first().map(|&metric| &self.panel.metrics()[metric].kind);
        kind == Some(&MetricKind::Count)
    }

    /// NB2 dispersion of a count by moments about the expected: mean((y - mu)² - y) / mean(mu²).
    fn dispersion(&self, series: usize, metric: usize) -> f64 {
        let (mut excess, mut square) = (0.0, 0.0);
        for (y, mu) in self.panel.metric(series, metric).iter().zip(self.expected.slice(s![
            series,
            ..,
            metric
        ])) {
            if y.is_finite() && mu.is_finite() {
                excess += (y - mu).powi(2) - y;
                square += mu * mu;
            }
        }
        if square > 0.0 { (excess / square).clamp(0.0, MAX_DISPERSION) } else { 0.0 }
    }

    /// The panel's values with the injections in them.
    pub fn inject(&self, injections: &[Injection], seed: u64, repeat: u64) -> Array3<f64> {
        let mut values = self.panel.values().clone();
        for (number, injection) in injections.iter().enumerate() {
            let mut rng = stream(seed, "inject/values", (repeat << 32) | number as u64);
            for (i, time) in injection.steps.clone().enumerate() {
                let factor = factor_at(&injection.treatment, i);
                let outage = injection.treatment.kind == Kind::Outage;
                let mut change = Change { rng: &mut rng, factor, outage };
                self.change_cell(&mut values, injection.series, time, &mut change);
            }
        }
        values
    }

    /// The panel's values with one cell of a series at `factor` times its level, without chance:
    /// counts are rounded away from the level.
    pub fn set(&self, values: &mut Array3<f64>, series: usize, time: usize, factor: f64) {
        for &metric in &self.metrics {
            let level = self.level(series, time, metric);
            let value = match self.panel.metrics()[metric].kind {
                MetricKind::Count if factor > 1.0 => (level * factor).ceil(),
                MetricKind::Count => (level * factor).floor(),
                MetricKind::Measure => level + (factor - 1.0) * self.size(series, metric),
                _ => level * factor,
            };
            if value.is_finite() && values[[series, time, metric]].is_finite() {
                values[[series, time, metric]] = value;
            }
        }
        self.mend_ratios(values, series, time);
    }

    fn change_cell(
        &self,
        values: &mut Array3<f64>,
        series: usize,
        time: usize,
        change: &mut Change<'_>,
    ) {
        // One draw for all metrics of a cell, so that views and purchases rise together.
        let u: f64 = change.rng.random();
        for &metric in &self.metrics {
            let old = values[[series, time, metric]];
            let kind = &self.panel.metrics()[metric].kind;
            if !old.is_finite() || (change.outage && *kind == MetricKind::Measure) {
                continue;
            }
            let level = self.level(series, time, metric);
            let added = (change.factor - 1.0) * if level.is_finite() { level } else { old };
            let new = match kind {
                MetricKind::Count if change.factor < 1.0 => change.thinned(old),
                MetricKind::Count => {
                    let extra = NegativeBinomial::new(added, self.dispersion(series, metric));
                    old + extra.map_or(added.round(), |nb| nb.quantile(u))
                }
                MetricKind::Measure => old + (change.factor - 1.0) * self.size(series, metric),
                _ if change.factor < 1.0 => old * change.factor,
                _ => old + added,
            };
            values[[series, time, metric]] = new;
        }
        self.mend_ratios(values, series, time);
    }

    /// Median size of a measure, which its changes are measured in.
    fn size(&self, series: usize, metric: usize) -> f64 {
        median_size(self.panel.metric(series, metric))
    }

    /// Caps parts at their wholes where they were, and divides again.
    fn mend_ratios(&self, values: &mut Array3<f64>, series: usize, time: usize) {
        for metric in 0..self.panel.n_metrics() {
            let Some((top, bottom)) = self.panel.ratio_parts(metric) else { continue };
            let before = self.panel.values().slice(s![series, time, ..]);
            if before[top] <= before[bottom] {
                let whole = values[[series, time, bottom]];
                values[[series, time, top]] = values[[series, time, top]].min(whole);
            }
            let (part, whole) = (values[[series, time, top]], values[[series, time, bottom]]);
            values[[series, time, metric]] = if whole == 0.0 { f64::NAN } else { part / whole };
        }
    }
}

/// The factor of step `i` of an injection: a drift grows to its full size.
fn factor_at(treatment: &Treatment, i: usize) -> f64 {
    match treatment.kind {
        Kind::Drift => {
            1.0 + (treatment.factor - 1.0) * (i + 1) as f64 / treatment.steps.max(1) as f64
        }
        _ => treatment.factor,
    }
}

struct Change<'a> {
    rng: &'a mut ChaCha8Rng,
    factor: f64,
    /// Takes counts and amounts away, and leaves measures alone.
    outage: bool,
}

impl Change<'_> {
    fn thinned(&mut self, count: f64) -> f64 {
        match Binomial::new(count.round().max(0.0) as u64, self.factor.clamp(0.0, 1.0)) {
            Ok(binomial) => binomial.sample(self.rng) as f64,
            Err(_) => count,
        }
    }
}

/// Median of the absolute values that are not missing.
fn median_size(values: ArrayView1<'_, f64>) -> f64 {
    let mut sizes: Vec<f64> = values.iter().filter(|v| !v.is_nan()).map(|v| v.abs()).collect();
    median(&mut sizes).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::{Calendar, Level, Metric, SeriesKey, Step};
    use jiff::tz::TimeZone;
    use ndarray::array;

    fn panel(metrics: &[(&str, MetricKind)], values: Array3<f64>) -> Panel {
        let (n_series, n_times, _) = values.dim();
        let named = |(name, kind): &(&str, MetricKind)| Metric {
            name: name.to_string(),
            kind: kind.clone(),
        };
        Panel::new(
            Level { name: "key".into(), id_columns: vec!["key".into()] },
            Calendar::new(Step::Week, 0, n_times, TimeZone::UTC),
            metrics.iter().map(named).collect(),
            (0..n_series).map(|s| SeriesKey(vec![s.to_string()])).collect(),
            vec![0..n_times; n_series],
            values,
        )
        .unwrap()
    }

    fn injection(
        kind: Kind,
        factor: f64,
        series: usize,
        steps: std::ops::Range<usize>,
    ) -> Injection {
        let treatment = Treatment { kind, factor, steps: steps.len() };
        Injection { series, steps, treatment, number: 0 }
    }

    /// 400 series of NB2 counts with mean 20 and dispersion 0.1.
    fn counts() -> Panel {
        let nb = NegativeBinomial::new(20.0, 0.1).unwrap();
        let mut rng = stream(1, "inject/test", 0);
        let values = Array3::from_shape_fn((400, 52, 1), |_| nb.quantile(rng.random()));
        panel(&[("count", MetricKind::Count)], values)
    }

    #[test]
    fn counts_stay_counts_with_the_wanted_mean_and_nothing_else_changes() {
        let panel = counts();
        let expected = Array3::from_elem(panel.values().dim(), 20.0);
        let usual = Usual::new(&panel, &expected, &[]).unwrap();
        for (kind, factor, mean) in
            [(Kind::Spike, 3.0, 60.0), (Kind::Drop, 0.25, 5.0), (Kind::Outage, 0.0, 0.0)]
        {
            let planned: Vec<Injection> =
                (0..400).map(|s| injection(kind, factor, s, 10..12)).collect();
            let values = usual.inject(&planned, 7, 0);
            assert!(values.iter().all(|v| v.fract() == 0.0 && *v >= 0.0));
            let inside = values.slice(s![.., 10..12, ..]);
            let found = inside.mean().unwrap();
            // Standard error: at most sqrt(60 + 0.1 (400 + 1600)) / sqrt(800) = 0.57.
            assert!((found - mean).abs() < 2.0, "{kind}: {found}");
            let mut rest = values.clone();
            rest.slice_mut(s![.., 10..12, ..]).assign(&panel.values().slice(s![.., 10..12, ..]));
            assert_eq!(rest, panel.values());
            assert_eq!(values, usual.inject(&planned, 7, 0), "the seed decides");
        }
    }

    #[test]
    fn a_drift_grows_to_its_size_and_a_shift_has_it_at_once() {
        let treatment = |kind| Treatment { kind, factor: 3.0, steps: 4 };
        let factors =
            |kind| -> Vec<f64> { (0..4).map(|i| factor_at(&treatment(kind), i)).collect() };
        assert_eq!(factors(Kind::Drift), [1.5, 2.0, 2.5, 3.0]);
        assert_eq!(factors(Kind::LevelShift), [3.0; 4]);
    }

    #[test]
    fn ratios_follow_from_their_parts_and_a_part_stays_in_its_whole() {
        let ratio =
            MetricKind::Ratio { numerator: "purchases".into(), denominator: "views".into() };
        let metrics = [
            ("views", MetricKind::Count),
            ("purchases", MetricKind::Count),
            ("revenue", MetricKind::Amount),
            ("conversion", ratio),
        ];
        let row = array![1_000.0, 50.0, 500.0, 0.05];
        let values = Array3::from_shape_fn((1, 30, 4), |(_, _, m)| row[m]);
        let panel = panel(&metrics, values.clone());
        let usual = Usual::new(&panel, &values, &[]).unwrap();
        let spike = usual.inject(&[injection(Kind::Spike, 3.0, 0, 5..6)], 1, 0);
        let cell: ArrayView1<'_, f64> = spike.slice(s![0_usize, 5_usize, ..]);
        assert!(cell[0] > 2_000.0 && cell[2] == 1_500.0 && cell[3] == cell[1] / cell[0]);
        let outage = usual.inject(&[injection(Kind::Outage, 0.0, 0, 5..6)], 1, 0);
        assert!(outage[[0, 5, 0]] == 0.0 && outage[[0, 5, 3]].is_nan());

        let only = Usual::new(&panel, &values, &["purchases".into()]).unwrap();
        let wild = only.inject(&[injection(Kind::Spike, 1_000.0, 0, 5..6)], 1, 0);
        assert_eq!(wild.slice(s![0, 5, ..]).to_vec(), [1_000.0, 1_000.0, 500.0, 1.0]);
        assert_eq!(
            Usual::new(&panel, &values, &["conversion".into()]).err().unwrap(),
            "conversion"
        );
    }

    #[test]
    fn measures_move_by_their_size_and_have_no_outage() {
        let values = Array3::from_elem((1, 30, 1), -4.0);
        let panel = panel(&[("balance", MetricKind::Measure)], values.clone());
        let usual = Usual::new(&panel, &values, &[]).unwrap();
        let spike = usual.inject(&[injection(Kind::Spike, 3.0, 0, 5..6)], 1, 0);
        assert_eq!(spike[[0, 5, 0]], 4.0);
        assert!(!usual.admits(&injection(Kind::Outage, 0.0, 0, 5..6).treatment));
        assert_eq!(usual.inject(&[injection(Kind::Outage, 0.0, 0, 5..6)], 1, 0), values);
    }

    #[test]
    fn the_level_is_the_expected_or_else_the_neighbours_and_set_rounds_away_from_it() {
        let values =
            Array3::from_shape_fn((1, 30, 1), |(_, t, _)| if t == 9 { 90.0 } else { 10.0 });
        let panel = panel(&[("count", MetricKind::Count)], values.clone());
        let mut expected = Array3::from_elem((1, 30, 1), 12.5);
        expected[[0, 9, 0]] = f64::NAN;
        let usual = Usual::new(&panel, &expected, &[]).unwrap();
        assert_eq!((usual.level(0, 3, 0), usual.level(0, 9, 0)), (12.5, 10.0));
        let mut changed = values;
        usual.set(&mut changed, 0, 3, 1.5);
        usual.set(&mut changed, 0, 4, 0.5);
        assert_eq!((changed[[0, 3, 0]], changed[[0, 4, 0]]), (19.0, 6.0));
    }
}
