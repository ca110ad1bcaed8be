//! What is injected: kinds, sizes, lengths, and how much of the data may be touched.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::panel::Step;

/// What an injection does to a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Short and above the usual level.
    Spike,
    /// Short and below it.
    Drop,
    /// Long, above or below, from one step to the next.
    LevelShift,
    /// Long, growing linearly to its full size.
    Drift,
    /// Counts and amounts are gone.
    Outage,
}

impl Kind {
    pub const ALL: [Self; 5] =
        [Self::Spike, Self::Drop, Self::LevelShift, Self::Drift, Self::Outage];

    /// The name that files use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spike => "spike",
            Self::Drop => "drop",
            Self::LevelShift => "level_shift",
            Self::Drift => "drift",
            Self::Outage => "outage",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One thing to inject: a kind at a size for a number of steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Treatment {
    pub kind: Kind,
    /// Injected level over usual level: 3 triples it, 0.25 leaves a quarter, 0 nothing.
    pub factor: f64,
    pub steps: usize,
}

/// `[inject]`: what is injected into real series to see whether it is found.
///
/// | Name | Default | Purpose | Range |
/// |---|---|---|---|
/// | `repeats` | 5 | runs with injections, each with a fit of its own | 1 to 1000 |
/// | `seed` | the run's | of places and sizes | any |
/// | `series_share` | 1 | share of the series that a repeat touches | above 0, to 1 |
/// | `max_share` | 0.1 | share of a series' judged steps that a repeat changes, beyond one event | above 0, to 0.25 |
/// | `spike_factors` | 1.5, 2, 3, 5 | sizes of spikes | above 1 |
/// | `drop_factors` | 0.5, 0.25, 0.1 | what a drop leaves | 0 to below 1 |
/// | `shift_factors` | 0.5, 1.5, 2, 3 | sizes of level shifts | 0 or more, not 1 |
/// | `drift_factors` | 0.5, 2, 3 | sizes that drifts end at | 0 or more, not 1 |
/// | `outages` | true | whether there are outages | |
/// | `spike_steps`, `drop_steps`, `outage_steps` | 1, 2, 2; 2, 3, 3 below a day | lengths | at least 1 |
/// | `shift_steps`, `drift_steps` | 8; a day below a day | lengths | at least 2 |
/// | `metrics` | all but ratios | metrics that are changed; ratios follow from their parts | names |
/// | `probes` | 3 | steps of each series at which its smallest spike and drop are sought | 1 to 25 |
///
/// An empty list leaves a kind out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InjectParams {
    pub repeats: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    pub series_share: f64,
    pub max_share: f64,
    pub spike_factors: Vec<f64>,
    pub drop_factors: Vec<f64>,
    pub shift_factors: Vec<f64>,
    pub drift_factors: Vec<f64>,
    pub outages: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spike_steps: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_steps: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outage_steps: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shift_steps: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift_steps: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<String>,
    pub probes: usize,
}

impl Default for InjectParams {
    fn default() -> Self {
        Self {
            repeats: 5,
            seed: None,
            series_share: 1.0,
            max_share: 0.1,
            spike_factors: vec![1.5, 2.0, 3.0, 5.0],
            drop_factors: vec![0.5, 0.25, 0.1],
            shift_factors: vec![0.5, 1.5, 2.0, 3.0],
            drift_factors: vec![0.5, 2.0, 3.0],
            outages: true,
            spike_steps: None,
            drop_steps: None,
            outage_steps: None,
            shift_steps: None,
            drift_steps: None,
            metrics: Vec::new(),
            probes: 3,
        }
    }
}

impl InjectParams {
    /// Every parameter that is out of its range: its key and what to write instead.
    pub fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        let mut expect = |fine: bool, key: &str, value: String, range: &str| {
            if !fine {
                wrong.push((key.to_string(), format!("is {value}, but must be {range}")));
            }
        };
        let repeats = self.repeats;
        expect((1..=1_000).contains(&repeats), "repeats", repeats.to_string(), "from 1 to 1000");
        let probes = self.probes;
        expect((1..=25).contains(&probes), "probes", probes.to_string(), "from 1 to 25");
        let share = self.series_share;
        let fine = share > 0.0 && share <= 1.0;
        expect(fine, "series_share", share.to_string(), "above 0 and at most 1");
        let share = self.max_share;
        let fine = share > 0.0 && share <= 0.25;
        expect(fine, "max_share", share.to_string(), "above 0 and at most 0.25");
        let above = |f: &f64| f.is_finite() && *f > 1.0;
        let below = |f: &f64| (0.0..1.0).contains(f);
        let other = |f: &f64| above(f) || below(f);
        let text = |factors: &[f64]| format!("{factors:?}");
        let (spikes, drops) = (&self.spike_factors, &self.drop_factors);
        expect(spikes.iter().all(above), "spike_factors", text(spikes), "numbers above 1");
        expect(drops.iter().all(below), "drop_factors", text(drops), "numbers from 0 to below 1");
        for (key, factors) in
            [("shift_factors", &self.shift_factors), ("drift_factors", &self.drift_factors)]
        {
            expect(factors.iter().all(other), key, text(factors), "numbers from 0 on, but not 1");
        }
        for (key, steps, least) in [
            ("spike_steps", self.spike_steps, 1),
            ("drop_steps", self.drop_steps, 1),
            ("outage_steps", self.outage_steps, 1),
            ("shift_steps", self.shift_steps, 2),
            ("drift_steps", self.drift_steps, 2),
        ] {
            let fine = steps.is_none_or(|n| n >= least);
            let value = steps.map_or_else(String::new, |n| n.to_string());
            expect(fine, key, value, &format!("{least} or more"));
        }
        if self.treatments(Step::Week).is_empty() {
            wrong.push((
                "spike_factors".into(),
                "and every other kind is left out: name at least one factor, or set outages".into(),
            ));
        }
        wrong
    }

    /// Everything that is injected on a calendar of this step.
    pub fn treatments(&self, step: Step) -> Vec<Treatment> {
        let below_a_day = step.secs() < 86_400;
        let short =
            |set: Option<usize>, civil: usize| set.unwrap_or(civil + usize::from(below_a_day));
        let day = usize::try_from(86_400 / step.secs().max(1)).unwrap_or(8);
        let long = |set: Option<usize>| set.unwrap_or(if below_a_day { day.max(2) } else { 8 });
        let of = |kind, factors: &[f64], steps| {
            let made = move |&factor| Treatment { kind, factor, steps };
            factors.iter().map(made).collect::<Vec<_>>()
        };
        let outage: &[f64] = if self.outages { &[0.0] } else { &[] };
        [
            of(Kind::Spike, &self.spike_factors, short(self.spike_steps, 1)),
            of(Kind::Drop, &self.drop_factors, short(self.drop_steps, 2)),
            of(Kind::LevelShift, &self.shift_factors, long(self.shift_steps)),
            of(Kind::Drift, &self.drift_factors, long(self.drift_steps)),
            of(Kind::Outage, outage, short(self.outage_steps, 2)),
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_fine_and_bad_numbers_are_named() {
        assert!(InjectParams::default().check().is_empty());
        let params = InjectParams {
            repeats: 0,
            series_share: f64::NAN,
            max_share: 0.5,
            spike_factors: vec![1.0],
            drop_factors: vec![-0.1],
            shift_factors: vec![1.0],
            drift_factors: vec![f64::INFINITY],
            drift_steps: Some(1),
            probes: 0,
            ..InjectParams::default()
        };
        assert_eq!(params.check().len(), 9, "{:?}", params.check());
        let nothing = InjectParams {
            spike_factors: vec![],
            drop_factors: vec![],
            shift_factors: vec![],
            drift_factors: vec![],
            outages: false,
            ..InjectParams::default()
        };
        assert_eq!(nothing.check().len(), 1);
    }

    #[test]
    fn lengths_follow_the_step_unless_they_are_set() {
        let params = InjectParams { spike_steps: Some(4), ..InjectParams::default() };
        let of = |step, kind| {
            params.treatments(step).into_iter().find(|t| t.kind == kind).map(|t| t.steps)
        };
        assert_eq!(of(Step::Week, Kind::Spike), Some(4));
        assert_eq!(of(Step::Week, Kind::LevelShift), Some(8));
        assert_eq!(of(Step::HOUR, Kind::Drift), Some(24));
        assert_eq!(of(Step::HOUR, Kind::Outage), Some(3));
    }
}
