//! Which terms a series has besides its intercept: the season and trend that all series may share,
//! and terms of its own.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Prior standard deviation of a shift of the log mean: a tenfold change is plausible.
const SHIFT_SD: f64 = 1.0;

/// The word for a choice that the data make.
const AUTO: &str = "auto";

/// How many harmonics the season has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FourierK {
    /// As many as the history bears (none under 3/4 of a period, one under two periods, else two)
    /// and the keys of the pair together speak for, by Akaike's criterion.
    #[default]
    Auto,
    /// So many, whatever the data say.
    Fixed(usize),
}

/// Whether the log mean has a linear trend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trend {
    /// If the keys of the pair together speak for one, by Akaike's criterion.
    Auto,
    Fixed(bool),
}

impl Serialize for FourierK {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Auto => serializer.serialize_str(AUTO),
            Self::Fixed(k) => serializer.serialize_u64(k as u64),
        }
    }
}

impl<'de> Deserialize<'de> for FourierK {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = FourierK;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"auto\" or a whole number from 0 to 6")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<FourierK, E> {
                match text {
                    AUTO => Ok(FourierK::Auto),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
            fn visit_u64<E: de::Error>(self, k: u64) -> Result<FourierK, E> {
                Ok(FourierK::Fixed(usize::try_from(k).unwrap_or(usize::MAX)))
            }
            fn visit_i64<E: de::Error>(self, k: i64) -> Result<FourierK, E> {
                let wrong = || E::invalid_value(de::Unexpected::Signed(k), &self);
                usize::try_from(k).map(FourierK::Fixed).map_err(|_| wrong())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Trend {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Auto => serializer.serialize_str(AUTO),
            Self::Fixed(on) => serializer.serialize_bool(on),
        }
    }
}

impl<'de> Deserialize<'de> for Trend {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Trend;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("true, false or \"auto\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Trend, E> {
                match text {
                    AUTO => Ok(Trend::Auto),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Trend, E> {
                Ok(Trend::Fixed(on))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A term that one series has for itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnTerm {
    /// 1 where a known event of this name is on, else 0.
    KnownEvent(String),
    /// 1 from this step on, counted from the model's origin: the level has moved for good.
    LevelShift { at: usize },
}

/// Where the own terms of a series are on.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnTerms {
    pub terms: Vec<OwnTerm>,
    /// `[term][time]`, as the fit sees them.
    pub columns: Vec<Vec<f64>>,
    /// `[term][time]`, as predictions see them: a shift of the level counts only once it has lasted,
    /// so that its first steps are still told from the level before.
    pub predicted: Vec<Vec<f64>>,
    /// `[term]`: precision of the prior of its coefficient, around 0.
    pub precisions: Vec<f64>,
}

impl OwnTerms {
    /// The terms of a fit on `n_times` steps, the first of which is the step `first` of the model's
    /// time; `event` gives the column of a known event.
    pub fn on(
        terms: &[OwnTerm],
        (first, n_times): (i64, usize),
        lasting: usize,
        event: impl Fn(&str) -> Vec<f64>,
    ) -> Self {
        let mut own = Self::default();
        for term in terms {
            match term {
                OwnTerm::KnownEvent(name) => own.push(term.clone(), event(name), 1.0),
                OwnTerm::LevelShift { at } => own.push_shift(*at, first, n_times, lasting),
            }
        }
        own
    }

    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// True for a step at which predictions do not yet see what the fit does.
    pub fn is_late(&self, t: usize) -> bool {
        self.columns.iter().zip(&self.predicted).any(|(fitted, seen)| fitted[t] != seen[t])
    }

    /// Adds a term that predictions see as the fit does.
    pub fn push(&mut self, term: OwnTerm, column: Vec<f64>, sd: f64) {
        self.terms.push(term);
        self.precisions.push(sd.powi(-2));
        self.predicted.push(column.clone());
        self.columns.push(column);
    }

    /// Adds a shift of the level at step `at` of `n_times` steps, the first of which is the step
    /// `first` of the model's time.
    pub fn push_shift(&mut self, at: usize, first: i64, n_times: usize, lasting: usize) {
        let from = |step: usize| {
            (0..n_times).map(|t| f64::from(u8::from(first + t as i64 >= step as i64))).collect()
        };
        self.terms.push(OwnTerm::LevelShift { at });
        self.precisions.push(SHIFT_SD.powi(-2));
        self.columns.push(from(at));
        self.predicted.push(from(at + lasting));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Table {
        k: FourierK,
        trend: Trend,
    }

    #[test]
    fn a_choice_is_a_word_or_a_value_and_nothing_else() {
        for table in [
            Table { k: FourierK::Auto, trend: Trend::Auto },
            Table { k: FourierK::Fixed(3), trend: Trend::Fixed(false) },
        ] {
            let text = toml::to_string(&table).unwrap();
            assert_eq!(toml::from_str::<Table>(&text).unwrap(), table, "{text}");
        }
        for (text, wanted) in [
            ("k = \"many\"\ntrend = true", "\"auto\" or a whole number from 0 to 6"),
            ("k = -1\ntrend = true", "\"auto\" or a whole number from 0 to 6"),
            ("k = 1\ntrend = 1", "true, false or \"auto\""),
        ] {
            let error = toml::from_str::<Table>(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn a_shift_of_the_level_is_fitted_at_once_and_predicted_once_it_has_lasted() {
        let mut own = OwnTerms::default();
        own.push_shift(12, 10, 6, 3);
        assert_eq!(own.columns[0], [0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(own.predicted[0], [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    }
}
