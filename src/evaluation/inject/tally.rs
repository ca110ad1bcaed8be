//! How many injections were found, by kind, size and scorer.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::{
    params::{Kind, Treatment},
    plan::Injection,
};

/// The 0.975 quantile of the normal distribution, for 95 % intervals.
const Z: f64 = 1.959_963_984_540_054;

/// Flags of one scorer in one repeat, and in the run without injections; `[series, time]`.
#[derive(Clone, Copy)]
pub struct Flags<'a> {
    pub with: &'a Array2<bool>,
    pub without: &'a Array2<bool>,
}

/// What one scorer found of one kind at one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectionRow {
    /// `ensemble`, or the detector's name.
    pub who: String,
    pub kind: Kind,
    pub factor: f64,
    pub steps: usize,
    pub injected: usize,
    pub found: usize,
    /// Probability of detection: the share found; `None` where nothing was injected.
    pub pod: Option<f64>,
    /// Its 95 % interval (Wilson).
    pub pod_low: Option<f64>,
    pub pod_high: Option<f64>,
    /// Share of the same steps that were flagged already without the injection: what chance, and
    /// anomalies of the data's own, would reach.
    pub pod_without: Option<f64>,
    /// Steps from the first injected to the first flagged, over those found.
    pub mean_delay_steps: Option<f64>,
}

/// The false alarms of one scorer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FalseAlarmRow {
    pub who: String,
    /// Judged cells without injection, label or known event, over all repeats.
    pub cells: usize,
    pub flagged: usize,
    /// Their ratio. Where there are no labels, the data's own anomalies are among them.
    pub fpr: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    injected: usize,
    found: usize,
    without: usize,
    delay: usize,
}

/// Counts over repeats, for one scorer.
pub struct Tally {
    who: String,
    treatments: Vec<Treatment>,
    counts: Vec<Count>,
    clean: (usize, usize),
}

impl Tally {
    pub fn new(who: impl Into<String>, treatments: &[Treatment]) -> Self {
        Self {
            who: who.into(),
            treatments: treatments.to_vec(),
            counts: vec![Count::default(); treatments.len()],
            clean: (0, 0),
        }
    }

    /// Adds one repeat; `clean` are the cells that count for false alarms.
    pub fn add(&mut self, injections: &[Injection], flags: Flags<'_>, clean: &Array2<bool>) {
        for injection in injections {
            let count = &mut self.counts[injection.number];
            let first = |flags: &Array2<bool>| {
                injection.steps.clone().position(|t| flags[[injection.series, t]])
            };
            count.injected += 1;
            count.without += usize::from(first(flags.without).is_some());
            if let Some(delay) = first(flags.with) {
                count.found += 1;
                count.delay += delay;
            }
        }
        for (_, flagged) in clean.iter().zip(flags.with).filter(|(clean, _)| **clean) {
            self.clean.0 += 1;
            self.clean.1 += usize::from(*flagged);
        }
    }

    /// One row per treatment, in their order.
    pub fn rows(&self) -> Vec<DetectionRow> {
        let row = |(treatment, count): (&Treatment, &Count)| {
            let interval = wilson(count.found, count.injected);
            DetectionRow {
                who: self.who.clone(),
                kind: treatment.kind,
                factor: treatment.factor,
                steps: treatment.steps,
                injected: count.injected,
                found: count.found,
                pod: share(count.found, count.injected),
                pod_low: interval.map(|(low, _)| low),
                pod_high: interval.map(|(_, high)| high),
                pod_without: share(count.without, count.injected),
                mean_delay_steps: share(count.delay, count.found),
            }
        };
        self.treatments.iter().zip(&self.counts).map(row).collect()
    }

    pub fn false_alarms(&self) -> FalseAlarmRow {
        let (cells, flagged) = self.clean;
        FalseAlarmRow { who: self.who.clone(), cells, flagged, fpr: share(flagged, cells) }
    }
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Wilson's 95 % score interval (1927) of a share.
fn wilson(part: usize, whole: usize) -> Option<(f64, f64)> {
    let p = share(part, whole)?;
    let (n, z2) = (whole as f64, Z * Z);
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    Some(((centre - half).max(0.0), (centre + half).min(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn found_delay_chance_and_false_alarms_are_counted() {
        let treatments = [
            Treatment { kind: Kind::Spike, factor: 3.0, steps: 1 },
            Treatment { kind: Kind::Drop, factor: 0.5, steps: 3 },
        ];
        let injection = |series, steps: std::ops::Range<usize>, number: usize| Injection {
            series,
            steps,
            treatment: treatments[number],
            number,
        };
        let injections = [injection(0, 0..1, 0), injection(1, 0..1, 0), injection(1, 2..5, 1)];
        let with = array![[false, false, false, true, false], [true, true, false, true, true]];
        let without = array![[false; 5], [true, false, false, false, false]];
        let clean = array![[false, true, true, true, true], [false, true, false, false, false]];
        let mut tally = Tally::new("ensemble", &treatments);
        tally.add(&injections, Flags { with: &with, without: &without }, &clean);
        let rows = tally.rows();
        assert_eq!((rows[0].injected, rows[0].found), (2, 1));
        assert_eq!((rows[0].pod, rows[0].pod_without), (Some(0.5), Some(0.5)));
        assert_eq!((rows[1].pod, rows[1].mean_delay_steps), (Some(1.0), Some(1.0)));
        assert_eq!(rows[1].pod_without, Some(0.0));
        assert_eq!(tally.false_alarms().fpr, Some(0.4));
        assert_eq!(Tally::new("x", &treatments).rows()[0].pod, None);
    }

    // statsmodels 0.15.0: proportion_confint(7, 20, method="wilson").
    #[test]
    fn the_interval_is_wilsons() {
        let (low, high) = wilson(7, 20).unwrap();
        assert!((low - 0.181_191_824_101_08).abs() < 1e-9, "{low}");
        assert!((high - 0.567_145_723_314_76).abs() < 1e-9, "{high}");
    }
}
