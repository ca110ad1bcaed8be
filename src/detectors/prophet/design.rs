//! The columns of the regression: seasons and holidays of a wall clock.

use serde::{Deserialize, Serialize};

use super::params::{ProphetParams, Terms};

const DAY: f64 = 86_400.0;

/// One season: its period in days and its Fourier terms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Season {
    pub period_days: f64,
    pub terms: usize,
}

/// One holiday effect: the days (since 1970-01-01) on which it acts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Effect {
    pub days: Vec<i64>,
}

/// Which columns a model has beside its trend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Columns {
    pub seasons: Vec<Season>,
    pub effects: Vec<Effect>,
}

impl Columns {
    /// The columns for a history of `span_secs` at steps of `step_secs` (at least).
    pub fn choose(params: &ProphetParams, span_secs: f64, step_secs: f64) -> Self {
        let (span, step) = (span_secs / DAY, step_secs / DAY);
        let seasons = [
            (365.25, params.yearly, 10, 730.0),
            (7.0, params.weekly, 3, 14.0),
            (1.0, params.daily, 4, 2.0),
        ]
        .into_iter()
        .map(|(period_days, terms, usual, least)| {
            // As the reference has it: the step matters for the day and the week alone.
            let fits = span >= least && (step < period_days || period_days > 300.0);
            let terms = match terms {
                Terms::Fixed(n) => n,
                Terms::Auto(_) if fits => usual,
                Terms::Auto(_) => 0,
            };
            Season { period_days, terms }
        })
        .filter(|season| season.terms > 0)
        .collect();
        Self { seasons, effects: effects(params) }
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        2 * self.seasons.iter().map(|season| season.terms).sum::<usize>() + self.effects.len()
    }

    /// Columns that belong to seasons; the rest are holidays'.
    pub fn seasonal_width(&self) -> usize {
        self.width() - self.effects.len()
    }

    /// Appends the columns at a wall clock's reading, in seconds since 1970-01-01.
    pub fn push(&self, wall_secs: f64, row: &mut Vec<f64>) {
        for season in &self.seasons {
            let turn = (wall_secs / DAY / season.period_days).rem_euclid(1.0);
            let (step_sin, step_cos) = (std::f64::consts::TAU * turn).sin_cos();
            let (mut sin, mut cos) = (step_sin, step_cos);
            for _ in 0..season.terms {
                row.push(sin);
                row.push(cos);
                (sin, cos) = (sin * step_cos + cos * step_sin, cos * step_cos - sin * step_sin);
            }
        }
        let day = (wall_secs / DAY).floor() as i64;
        row.extend(
            self.effects.iter().map(|e| f64::from(u8::from(e.days.binary_search(&day).is_ok()))),
        );
    }
}

/// One effect for each day of each holiday's window.
fn effects(params: &ProphetParams) -> Vec<Effect> {
    let epoch = jiff::civil::date(1970, 1, 1);
    let mut found = Vec::new();
    for holiday in &params.holidays {
        let dates = holiday.dates.iter().filter_map(|date| date.parse::<jiff::civil::Date>().ok());
        let days: Vec<i64> = dates.map(|date| date.duration_since(epoch).as_hours() / 24).collect();
        for offset in holiday.lower_window..=holiday.upper_window {
            let mut days: Vec<i64> = days.iter().map(|day| day + offset).collect();
            days.sort_unstable();
            days.dedup();
            found.push(Effect { days });
        }
    }
    found
}
