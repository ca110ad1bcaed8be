//! From a p-value to a decision and a severity, by published rules.
//!
//! A cell is anomalous when p <= 1 - `level`, its direction is wanted, its deviation from the
//! expected value is large enough to matter, and no known event excuses it.
//!
//! Severity starts from p (<= 1e-2 low, 1e-3 medium, 1e-4 high, 1e-6 critical by default), goes up
//! one step when the value is at least three times or at most a fifth of the expected, and down
//! one step when it is within a quarter of it.

use serde::{Deserialize, Serialize};

use super::{DetectionDirection, Severity};

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
/// | `level` | 0.99 | anomalous when p <= 1 - level | 0.5 to below 1 |
/// | `direction` | `both` | which side counts | `both`, `above_expected`, `below_expected` |
/// | `min_absolute_deviation` | 0 | smallest difference to the expected value, in its unit | >= 0 |
/// | `min_relative_deviation` | 0 | the same, as a share of the expected value | >= 0 |
/// | `known_events` | `report` | see [`KnownEvents`] | `suppress`, `widen`, `report` |
/// | `widen_factor` | 10 | under `widen`, how many times smaller p must be | >= 1 |
/// | `severity_p` | 1e-2, 1e-3, 1e-4, 1e-6 | p of low, medium, high, critical | falling, in 0 to 1 |
/// | `shift_min_steps` | a day of steps, at least 5 | run of flags that makes a level shift | >= 2 |
/// | `max_gap_steps` | 1 | unflagged steps that a run may hold | >= 0 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecisionParams {
    pub level: f64,
    pub direction: DetectionDirection,
    pub min_absolute_deviation: f64,
    pub min_relative_deviation: f64,
    pub known_events: KnownEvents,
    pub widen_factor: f64,
    pub severity_p: [f64; 4],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shift_min_steps: Option<usize>,
    pub max_gap_steps: usize,
}

impl Default for DecisionParams {
    fn default() -> Self {
        Self {
            level: 0.99,
            direction: DetectionDirection::Both,
            min_absolute_deviation: 0.0,
            min_relative_deviation: 0.0,
            known_events: KnownEvents::Report,
            widen_factor: 10.0,
            severity_p: [1e-2, 1e-3, 1e-4, 1e-6],
            shift_min_steps: None,
            max_gap_steps: 1,
        }
    }
}

impl DecisionParams {
    /// Every parameter that is out of its range: its key and what to write instead.
    pub fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        let mut expect = |fine: bool, key: &str, value: String, range: &str| {
            if !fine {
                wrong.push((key.to_string(), format!("is {value}, but must be {range}")));
            }
        };
        let level = self.level;
        expect(
            (0.5..1.0).contains(&level),
            "level",
            level.to_string(),
            "at least 0.5 and below 1 (0.99 flags p <= 0.01)",
        );
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

    /// ln of the largest p that is anomalous at a cell.
    pub(super) fn log_threshold(&self, known: bool) -> f64 {
        let threshold = (1.0 - self.level).ln();
        match (known, self.known_events) {
            (true, KnownEvents::Suppress) => f64::NEG_INFINITY,
            (true, KnownEvents::Widen) => threshold - self.widen_factor.ln(),
            _ => threshold,
        }
    }

    /// Whether a cell is anomalous. `direction` is +1, -1 or 0 (unknown passes no one-sided filter);
    /// a NaN deviation means that nothing predicts, and passes.
    pub(super) fn decide(
        &self,
        log_p: f64,
        direction: i8,
        deviation: Deviation,
        known: bool,
    ) -> bool {
        if known && self.known_events == KnownEvents::Suppress {
            return false;
        }
        // The tolerance keeps p = 1 - level on the side that it is on in exact arithmetic.
        let too_small = deviation.absolute.abs() < self.min_absolute_deviation
            || deviation.relative.abs() < self.min_relative_deviation;
        self.direction.admits(direction) && log_p <= self.log_threshold(known) + 1e-12 && !too_small
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
    fn a_cell_is_anomalous_at_the_level_itself_and_not_above_it() {
        let params = DecisionParams::default();
        assert!(params.decide(0.01_f64.ln(), 1, FAR, false));
        assert!(!params.decide(0.010_01_f64.ln(), 1, FAR, false));
        assert!(!params.decide(f64::NAN, 1, FAR, false));
    }

    #[test]
    fn directions_and_small_deviations_are_filtered() {
        let mut params = DecisionParams {
            direction: DetectionDirection::BelowExpected,
            ..DecisionParams::default()
        };
        assert!(params.decide(-20.0, -1, FAR, false));
        assert!(!params.decide(-20.0, 1, FAR, false));
        params = DecisionParams { min_absolute_deviation: 60.0, ..DecisionParams::default() };
        assert!(!params.decide(-20.0, 1, FAR, false));
        params = DecisionParams { min_relative_deviation: 0.6, ..DecisionParams::default() };
        assert!(!params.decide(-20.0, 1, FAR, false));
        let unknown = Deviation { absolute: f64::NAN, relative: f64::NAN };
        assert!(params.decide(-20.0, 1, unknown, false));
    }

    #[test]
    fn known_events_suppress_widen_or_report() {
        let with = |known_events| DecisionParams { known_events, ..DecisionParams::default() };
        let p = 0.005_f64.ln();
        assert!(with(KnownEvents::Report).decide(p, 1, FAR, true));
        assert!(!with(KnownEvents::Widen).decide(p, 1, FAR, true));
        assert!(with(KnownEvents::Widen).decide(0.000_9_f64.ln(), 1, FAR, true));
        assert!(with(KnownEvents::Widen).decide(p, 1, FAR, false));
        assert!(!with(KnownEvents::Suppress).decide(f64::NEG_INFINITY, 1, FAR, true));
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
            ..DecisionParams::default()
        };
        assert_eq!(params.check().len(), 5, "{:?}", params.check());
        assert!(DecisionParams::default().check().is_empty());
    }
}
