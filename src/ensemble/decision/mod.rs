//! From a p-value to a decision and a severity, by published rules.
//!
//! A cell is anomalous when p is at or below the threshold of its step, its direction is wanted,
//! its deviation from the expected value is large enough to matter, and no known event excuses it.
//! The threshold is the [`Rule`]'s:
//!
//! | rule | threshold on p | false alerts |
//! |---|---|---|
//! | `interval` | 1 - `level` | at most 1 - `level` of the clean cells |
//! | `percentile` | that of the `percentile` of the reference cells' scores | as many as the reference has, if the data stay as they were |
//! | `fdr` | q R / m for the R alerts among the m series of a step (Benjamini-Hochberg; divided by 1 + 1/2 + … + 1/m for Benjamini-Yekutieli) | on average at most a share q of a step's alerts |
//! | `budget` | the p of the weakest of the `budget` strongest | at most `budget` |
//!
//! Reference cells are the training part under a split, and those of the checkpoint under
//! `detect`. A cross-fitted run has no such part: its reference are the scored cells themselves,
//! each scored by a fit that has not seen it, so `percentile` flags its share there whatever
//! happens.
//!
//! **What a false-discovery rate cannot reach.** A lone alert among m series needs p <= q / m. Two
//! kinds of p-value stop above that. Calibrated ones end at about one over the number of
//! independent scores that the calibration saw; a run warns when no single series can be rejected.
//! Counts are discrete: a drop to zero of a series with mean 3 has p = 0.05 at best, so it is
//! never rejected among many, and the achieved rate lies below q. On a clean step every alert is
//! false, so there q is the share of *steps* with any alert.
//!
//! Severity starts from p (<= 1e-2 low, 1e-3 medium, 1e-4 high, 1e-6 critical by default), goes up
//! one step when the value is at least three times or at most a fifth of the expected, and down
//! one step when it is within a quarter of it.

mod budget;
mod fdr;
mod reference;
mod rule;
mod ruling;

pub(super) use fdr::rejections_needed;
pub use reference::Reference;
pub use rule::{BudgetPer, FdrMethod, Rule, RuleOverride, RuleParams};
pub(super) use ruling::{Docket, Ruling, TOLERANCE, rule};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DetectionDirection, Severity};
use crate::detectors::DetectorName;

/// What a known event does to the verdict of the cells that it covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnownEvents {
    /// No anomaly there.
    Suppress,
    /// p must be `widen_factor` times smaller.
    Widen,
    /// Judged like any other cell; the output names the event.
    #[default]
    Report,
}

/// When a cell is anomalous, and how bad it is.
///
/// | Name | Default | Purpose | Range |
/// |---|---|---|---|
/// | `rule` | `interval` | see the module's table | `interval`, `percentile`, `fdr`, `budget` |
/// | `level` | 0.99 | `interval`: p <= 1 - level; `budget`: what even the strongest must reach | 0.5 to below 1 |
/// | `percentile` | 99 | `percentile`: of the reference cells' scores | 50 to below 100 |
/// | `fdr_q` | 0.1 | `fdr`: share of a step's alerts that may be false | above 0, to 0.5 |
/// | `fdr_method` | `benjamini_hochberg` | `fdr`: see [`FdrMethod`] | `benjamini_hochberg`, `benjamini_yekutieli` |
/// | `budget` | 10 | `budget`: alerts, shared fairly among the levels | at least 1 |
/// | `budget_per` | `step` | `budget`: what it is spent on | `step`, `run` |
/// | `direction` | `both` | which side counts | `both`, `above_expected`, `below_expected` |
/// | `min_absolute_deviation` | 0 | smallest difference to the expected value, in its unit | >= 0 |
/// | `min_relative_deviation` | 0 | the same, as a share of the expected value | >= 0 |
/// | `known_events` | `report` | see [`KnownEvents`] | `suppress`, `widen`, `report` |
/// | `widen_factor` | 10 | under `widen`, how many times smaller p must be | >= 1 |
/// | `severity_p` | 1e-2, 1e-3, 1e-4, 1e-6 | p of low, medium, high, critical | falling, in 0 to 1 |
/// | `shift_min_steps` | a day of steps, at least 5 | run of flags that makes a level shift | >= 2 |
/// | `max_gap_steps` | 1 | unflagged steps that a run may hold | >= 0 |
/// | `detectors` | none | rule and numbers of single detectors' own flags | tables by detector |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecisionParams {
    pub rule: Rule,
    pub level: f64,
    pub percentile: f64,
    pub fdr_q: f64,
    pub fdr_method: FdrMethod,
    pub budget: usize,
    pub budget_per: BudgetPer,
    pub direction: DetectionDirection,
    pub min_absolute_deviation: f64,
    pub min_relative_deviation: f64,
    pub known_events: KnownEvents,
    pub widen_factor: f64,
    pub severity_p: [f64; 4],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shift_min_steps: Option<usize>,
    pub max_gap_steps: usize,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub detectors: BTreeMap<DetectorName, RuleOverride>,
}

impl Default for DecisionParams {
    fn default() -> Self {
        Self {
            rule: Rule::Interval,
            level: 0.99,
            percentile: 99.0,
            fdr_q: 0.1,
            fdr_method: FdrMethod::BenjaminiHochberg,
            budget: 10,
            budget_per: BudgetPer::Step,
            direction: DetectionDirection::Both,
            min_absolute_deviation: 0.0,
            min_relative_deviation: 0.0,
            known_events: KnownEvents::Report,
            widen_factor: 10.0,
            severity_p: [1e-2, 1e-3, 1e-4, 1e-6],
            shift_min_steps: None,
            max_gap_steps: 1,
            detectors: BTreeMap::new(),
        }
    }
}

impl DecisionParams {
    /// The rule of the ensemble (`None`) or of one detector's own flags.
    pub fn rule_of(&self, detector: Option<DetectorName>) -> RuleParams {
        let base = RuleParams {
            rule: self.rule,
            level: self.level,
            percentile: self.percentile,
            fdr_q: self.fdr_q,
            fdr_method: self.fdr_method,
            budget: self.budget,
            budget_per: self.budget_per,
        };
        match detector.and_then(|name| self.detectors.get(&name)) {
            Some(own) => own.over(base),
            None => base,
        }
    }

    /// Every parameter that is out of its range: its key and what to write instead.
    pub fn check(&self) -> Vec<(String, String)> {
        let mut wrong = rule::check(&self.rule_of(None));
        for (name, own) in &self.detectors {
            // Only what the table itself says: what it inherits is reported where it stands.
            let own = own.over(Self::default().rule_of(None));
            let problems = rule::check(&own).into_iter();
            wrong.extend(problems.map(|(key, text)| (format!("detectors.{name}.{key}"), text)));
        }
        let mut expect = |fine: bool, key: &str, value: String, range: &str| {
            if !fine {
                wrong.push((key.to_string(), format!("is {value}, but must be {range}")));
            }
        };
        for (key, value) in [
            ("min_absolute_deviation", self.min_absolute_deviation),
            ("min_relative_deviation", self.min_relative_deviation),
        ] {
            expect(value >= 0.0 && value.is_finite(), key, value.to_string(), "0 or more");
        }
        let factor = self.widen_factor;
        expect(
            factor >= 1.0 && factor.is_finite(),
            "widen_factor",
            factor.to_string(),
            "1 or more",
        );
        let falling = self.severity_p.windows(2).all(|p| p[0] > p[1])
            && self.severity_p.iter().all(|p| *p > 0.0 && *p <= 1.0);
        expect(
            falling,
            "severity_p",
            format!("{:?}", self.severity_p),
            "four falling numbers between 0 and 1",
        );
        let shift = self.shift_min_steps;
        expect(shift.is_none_or(|n| n >= 2), "shift_min_steps", format!("{shift:?}"), "2 or more");
        wrong
    }

    /// The evidence that a cell's ln p carries under its known event: less where the event widens,
    /// none (NaN) where it suppresses.
    pub(super) fn weigh(&self, log_p: f64, known: bool) -> f64 {
        match (known, self.known_events) {
            (true, KnownEvents::Suppress) => f64::NAN,
            (true, KnownEvents::Widen) => (log_p + self.widen_factor.ln()).min(0.0),
            _ => log_p,
        }
    }

    /// The largest ln p that is anomalous at a cell whose step has the threshold `ln_threshold`;
    /// NaN where a known event suppresses every verdict.
    pub fn ln_threshold_at(&self, ln_threshold: f64, known: bool) -> f64 {
        match (known, self.known_events) {
            (true, KnownEvents::Suppress) => f64::NAN,
            (true, KnownEvents::Widen) => ln_threshold - self.widen_factor.ln(),
            _ => ln_threshold,
        }
    }

    /// Whether a cell may be anomalous at all, whatever its p. `direction` is +1, -1 or 0 (unknown
    /// passes no one-sided filter); a NaN deviation means that nothing predicts, and passes.
    pub(super) fn admits(&self, direction: i8, deviation: Deviation) -> bool {
        let too_small = deviation.absolute.abs() < self.min_absolute_deviation
            || deviation.relative.abs() < self.min_relative_deviation;
        self.direction.admits(direction) && !too_small
    }

    /// How bad an anomalous cell is.
    pub(super) fn severity(&self, log_p: f64, deviation: Deviation) -> Severity {
        let reached = self.severity_p.iter().filter(|p| log_p <= p.ln() + 1e-12).count();
        let base = Severity::ALL[reached.max(1) - 1];
        if deviation.relative >= 2.0 || deviation.relative <= -0.8 {
            base.raised()
        } else if deviation.relative.abs() < 0.25 {
            base.lowered()
        } else {
            base
        }
    }
}

/// How far a cell lies from what was expected; NaN when nothing predicts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deviation {
    /// Observed - expected.
    pub absolute: f64,
    /// (Observed - expected) / expected.
    pub relative: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: Deviation = Deviation { absolute: 50.0, relative: 0.5 };

    #[test]
    fn directions_and_small_deviations_are_filtered() {
        let mut params = DecisionParams {
            direction: DetectionDirection::BelowExpected,
            ..DecisionParams::default()
        };
        assert!(params.admits(-1, FAR));
        assert!(!params.admits(1, FAR));
        params = DecisionParams { min_absolute_deviation: 60.0, ..DecisionParams::default() };
        assert!(!params.admits(1, FAR));
        params = DecisionParams { min_relative_deviation: 0.6, ..DecisionParams::default() };
        assert!(!params.admits(1, FAR));
        let unknown = Deviation { absolute: f64::NAN, relative: f64::NAN };
        assert!(params.admits(1, unknown));
    }

    #[test]
    fn known_events_suppress_widen_or_report() {
        let with = |known_events| DecisionParams { known_events, ..DecisionParams::default() };
        let p = 0.005_f64.ln();
        assert_eq!(with(KnownEvents::Report).weigh(p, true), p);
        assert!((with(KnownEvents::Widen).weigh(p, true).exp() - 0.05).abs() < 1e-12);
        assert_eq!(with(KnownEvents::Widen).weigh(0.5_f64.ln(), true), 0.0, "p is at most 1");
        assert_eq!(with(KnownEvents::Widen).weigh(p, false), p);
        assert!(with(KnownEvents::Suppress).weigh(f64::NEG_INFINITY, true).is_nan());
        for known_events in [KnownEvents::Report, KnownEvents::Widen] {
            let params = with(known_events);
            let bar = 0.01_f64.ln();
            let at_bar = params.weigh(params.ln_threshold_at(bar, true), true);
            assert!((at_bar - bar).abs() < 1e-12, "threshold and evidence say the same");
        }
    }

    #[test]
    fn a_detector_inherits_what_its_table_does_not_say() {
        let mut params = DecisionParams { level: 0.95, ..DecisionParams::default() };
        let own = RuleOverride { rule: Some(Rule::Fdr), ..RuleOverride::default() };
        params.detectors.insert(DetectorName::Nb2, own);
        let nb2 = params.rule_of(Some(DetectorName::Nb2));
        assert_eq!((nb2.rule, nb2.level), (Rule::Fdr, 0.95));
        assert_eq!(params.rule_of(Some(DetectorName::Rolling)), params.rule_of(None));
    }

    #[test]
    fn severity_follows_p_and_the_size_of_the_deviation() {
        let params = DecisionParams::default();
        let at =
            |p: f64, relative: f64| params.severity(p.ln(), Deviation { absolute: 1.0, relative });
        assert_eq!(at(1e-2, 0.5), Severity::Low);
        assert_eq!(at(1e-3, 0.5), Severity::Medium);
        assert_eq!(at(1e-5, 0.5), Severity::High);
        assert_eq!(at(1e-7, 0.5), Severity::Critical);
        assert_eq!(at(1e-3, 2.5), Severity::High);
        assert_eq!(at(1e-3, -0.9), Severity::High);
        assert_eq!(at(1e-3, 0.1), Severity::Low);
        assert_eq!(at(1e-3, f64::NAN), Severity::Medium);
    }

    #[test]
    fn bad_parameters_are_named() {
        let params = DecisionParams {
            level: f64::NAN,
            severity_p: [1e-2, 1e-2, 1e-4, 1e-6],
            widen_factor: 0.5,
            min_relative_deviation: -1.0,
            shift_min_steps: Some(1),
            percentile: 100.0,
            fdr_q: 0.0,
            budget: 0,
            detectors: [(
                DetectorName::Nb2,
                RuleOverride { fdr_q: Some(f64::NAN), ..RuleOverride::default() },
            )]
            .into(),
            ..DecisionParams::default()
        };
        let keys: Vec<String> = params.check().into_iter().map(|(key, _)| key).collect();
        assert!(keys.contains(&"detectors.nb2.fdr_q".to_string()), "{keys:?}");
        assert_eq!(params.check().len(), 9, "{:?}", params.check());
        assert!(DecisionParams::default().check().is_empty());
    }
}
