//! What a Prophet model can be told.

use serde::{Deserialize, Serialize};

use crate::detectors::ParameterProblem;

/// The shape of the trend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Growth {
    /// Straight pieces that meet at changepoints.
    #[default]
    Linear,
    /// A constant.
    Flat,
}

/// The word `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Auto {
    #[serde(rename = "auto")]
    Auto,
}

/// How many Fourier terms a season has: a number (0 for none), or `"auto"`: Prophet's own number
/// where the history is two periods long and the step is shorter than the period, else none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Terms {
    Fixed(usize),
    Auto(Auto),
}

impl Default for Terms {
    fn default() -> Self {
        Self::Auto(Auto::Auto)
    }
}

/// What values are modelled on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Counts by their square root, which makes their variance even; others as they are.
    #[default]
    Auto,
    /// As they are, as the original does.
    Plain,
    Sqrt,
}

/// A holiday that comes back: one effect for each day from `lower_window` to `upper_window` around
/// each of its dates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holiday {
    pub name: String,
    /// `YYYY-MM-DD`, on the panel's wall clock.
    pub dates: Vec<String>,
    /// Days before the date, 0 or negative.
    #[serde(default)]
    pub lower_window: i64,
    /// Days after the date, 0 or positive.
    #[serde(default)]
    pub upper_window: i64,
}

/// | name | default | purpose | range |
/// |---|---|---|---|
/// | `growth` | `linear` | shape of the trend | `linear`, `flat` |
/// | `n_changepoints` | 25 | places where the trend may bend | 0 to 200 |
/// | `changepoint_range` | 0.8 | share of the history that holds them | above 0, to 1 |
/// | `changepoint_prior_scale` | 0.05 | how far it may bend | positive |
/// | `seasonality_prior_scale` | 10 | how large seasons may be | positive |
/// | `holidays_prior_scale` | 10 | how large holiday effects may be | positive |
/// | `yearly`, `weekly`, `daily` | `"auto"` | Fourier terms of each season | `"auto"`, 0 to 50 |
/// | `scale` | `auto` | what values are modelled on | `auto`, `plain`, `sqrt` |
/// | `interval_level` | 0.99 | level of the prediction interval | 0.5 to below 1 |
/// | `holidays` | none | see [`Holiday`] | |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProphetParams {
    pub growth: Growth,
    pub n_changepoints: usize,
    pub changepoint_range: f64,
    pub changepoint_prior_scale: f64,
    pub seasonality_prior_scale: f64,
    pub holidays_prior_scale: f64,
    pub yearly: Terms,
    pub weekly: Terms,
    pub daily: Terms,
    pub scale: Scale,
    pub interval_level: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holidays: Vec<Holiday>,
}

impl Default for ProphetParams {
    fn default() -> Self {
        Self {
            growth: Growth::Linear,
            n_changepoints: 25,
            changepoint_range: 0.8,
            changepoint_prior_scale: 0.05,
            seasonality_prior_scale: 10.0,
            holidays_prior_scale: 10.0,
            yearly: Terms::default(),
            weekly: Terms::default(),
            daily: Terms::default(),
            scale: Scale::Auto,
            interval_level: 0.99,
            holidays: Vec::new(),
        }
    }
}

impl ProphetParams {
    /// Every parameter that is out of its range.
    pub(super) fn problems(&self) -> Vec<ParameterProblem> {
        let mut found = Vec::new();
        let mut expect = |fine: bool, name, value: String, range| {
            if !fine {
                found.push((name, value, range));
            }
        };
        let n = self.n_changepoints;
        expect(n <= 200, "n_changepoints", n.to_string(), "0 to 200");
        let range = self.changepoint_range;
        expect(
            range > 0.0 && range <= 1.0,
            "changepoint_range",
            range.to_string(),
            "above 0 and at most 1",
        );
        for (name, value) in [
            ("changepoint_prior_scale", self.changepoint_prior_scale),
            ("seasonality_prior_scale", self.seasonality_prior_scale),
            ("holidays_prior_scale", self.holidays_prior_scale),
        ] {
            expect(value > 0.0 && value.is_finite(), name, value.to_string(), "a positive number");
        }
        for (name, terms) in
            [("yearly", self.yearly), ("weekly", self.weekly), ("daily", self.daily)]
        {
            if let Terms::Fixed(n) = terms {
                expect(n <= 50, name, n.to_string(), "\"auto\" or 0 to 50");
            }
        }
        let level = self.interval_level;
        expect(
            (0.5..1.0).contains(&level),
            "interval_level",
            level.to_string(),
            "at least 0.5 and below 1",
        );
        for holiday in &self.holidays {
            let dated = holiday.dates.iter().all(|date| date.parse::<jiff::civil::Date>().is_ok());
            let windowed = (-60..=0).contains(&holiday.lower_window)
                && (0..=60).contains(&holiday.upper_window);
            expect(
                dated && windowed,
                "holidays",
                format!("`{}`", holiday.name),
                "dates as YYYY-MM-DD, lower_window from -60 to 0, upper_window from 0 to 60",
            );
        }
        found
    }

    /// Every parameter that is out of its range: its key and what to write instead.
    pub fn check(&self) -> Vec<(String, String)> {
        self.problems()
            .into_iter()
            .map(|(key, value, range)| (key.into(), format!("is {value}, but must be {range}")))
            .collect()
    }
}
