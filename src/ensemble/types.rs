//! The words of a verdict: how bad, of which kind, in which direction.
//!
//! Every room to the right of the ensemble speaks in these words, so they carry no logic beyond
//! their names. Config files, CSV columns and JSON all use the same snake_case spelling.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Gives an enum its name in files, its `Display` and the list of all its values.
macro_rules! named {
    ($type:ident { $($variant:ident => $name:literal),+ $(,)? }) => {
        impl $type {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name that files use.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

/// How bad an anomaly is. Ordered: `Low < Critical`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

named!(Severity { Low => "low", Medium => "medium", High => "high", Critical => "critical" });

impl Severity {
    /// One step worse; `Critical` stays.
    pub fn raised(self) -> Self {
        match self {
            Self::Low => Self::Medium,
            Self::Medium => Self::High,
            Self::High | Self::Critical => Self::Critical,
        }
    }

    /// One step milder; `Low` stays.
    pub fn lowered(self) -> Self {
        match self {
            Self::Low | Self::Medium => Self::Low,
            Self::High => Self::Medium,
            Self::Critical => Self::High,
        }
    }
}

/// Which kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyType {
    /// Short and above the expected.
    Spike,
    /// Short and below the expected.
    Drop,
    /// A sustained run in one direction.
    LevelShift,
    /// A structural break, named by a detector that looks for breaks.
    Changepoint,
    /// A sustained run whose deviation grows.
    Drift,
    /// A count at or near zero where the expected is clearly above.
    Outage,
    /// A ratio below the expected while its denominator is normal.
    ConversionCollapse,
    /// The parts of a whole change while the whole does not.
    MixShift,
    /// Unusual only in its context (hour, channel, queue).
    Contextual,
    /// Many unusual records close together.
    Burst,
    /// Unusual without a clear direction.
    Pattern,
}

named!(AnomalyType {
    Spike => "spike",
    Drop => "drop",
    LevelShift => "level_shift",
    Changepoint => "changepoint",
    Drift => "drift",
    Outage => "outage",
    ConversionCollapse => "conversion_collapse",
    MixShift => "mix_shift",
    Contextual => "contextual",
    Burst => "burst",
    Pattern => "pattern",
});

/// Where the observed lies, seen from the expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Above,
    Below,
    Unknown,
}

named!(Direction { Above => "above", Below => "below", Unknown => "unknown" });

impl Direction {
    /// Positive is above, negative below, 0 unknown.
    pub fn from_sign(sign: i8) -> Self {
        match sign.signum() {
            1 => Self::Above,
            -1 => Self::Below,
            _ => Self::Unknown,
        }
    }
}

/// Which deviations a run is to flag.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum DetectionDirection {
    #[default]
    Both,
    AboveExpected,
    BelowExpected,
}

named!(DetectionDirection {
    Both => "both",
    AboveExpected => "above_expected",
    BelowExpected => "below_expected",
});

impl DetectionDirection {
    /// Whether a deviation of this sign is to be flagged. An unknown direction (0) passes only
    /// when both are asked for.
    pub fn admits(self, sign: i8) -> bool {
        match self {
            Self::Both => true,
            Self::AboveExpected => sign > 0,
            Self::BelowExpected => sign < 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_and_serde_use_the_same_name() {
        for kind in AnomalyType::ALL {
            assert_eq!(serde_json::to_string(kind).unwrap(), format!("\"{kind}\""));
        }
        for severity in Severity::ALL {
            assert_eq!(serde_json::to_string(severity).unwrap(), format!("\"{severity}\""));
        }
        for direction in DetectionDirection::ALL {
            assert_eq!(serde_json::to_string(direction).unwrap(), format!("\"{direction}\""));
        }
        for direction in Direction::ALL {
            assert_eq!(serde_json::to_string(direction).unwrap(), format!("\"{direction}\""));
        }
    }

    #[test]
    fn severities_are_ordered_and_stop_at_both_ends() {
        assert!(Severity::ALL.is_sorted());
        assert_eq!(Severity::Critical.raised(), Severity::Critical);
        assert_eq!(Severity::Low.lowered(), Severity::Low);
        assert_eq!(Severity::Medium.raised().lowered(), Severity::Medium);
    }

    #[test]
    fn a_one_sided_run_ignores_the_other_side_and_the_unknown() {
        assert!(DetectionDirection::AboveExpected.admits(1));
        assert!(!DetectionDirection::AboveExpected.admits(-1));
        assert!(!DetectionDirection::AboveExpected.admits(0));
        assert!(DetectionDirection::BelowExpected.admits(-1));
        assert!(!DetectionDirection::BelowExpected.admits(1));
        assert!(DetectionDirection::Both.admits(0));
    }
}
