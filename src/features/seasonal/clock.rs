//! Where each step lies in its day, week and year, and which cycle it belongs to.

use serde::{Deserialize, Serialize};

use crate::panel::{Calendar, Local, Step};

const DAY_SECS: i64 = 86_400;
const DAYS_PER_YEAR: f64 = 365.2425;
/// The year in parts of 7.02 days.
const YEAR_SLOTS: usize = 52;
/// A day is cut into quarter hours at the finest: below that, a week of history has too few points
/// a slot.
const MAX_DAY_SLOTS: i64 = 96;

/// A way of cutting time into slots that look alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Season {
    TimeOfDay,
    /// Time of day, apart for Monday to Friday and for the weekend.
    WeekendTimeOfDay,
    TimeOfWeek,
    DayOfWeek,
    WeekOfYear,
    /// Weeks of the year under one smooth wave.
    YearWave,
}

fn day_slots(step: Step) -> usize {
    (DAY_SECS / step.secs().max(1)).clamp(1, MAX_DAY_SLOTS) as usize
}

impl Season {
    /// Number of slots.
    pub fn slots(self, step: Step) -> usize {
        match self {
            Self::TimeOfDay => day_slots(step),
            Self::WeekendTimeOfDay => 2 * day_slots(step),
            Self::TimeOfWeek => 7 * day_slots(step),
            Self::DayOfWeek => 7,
            Self::WeekOfYear | Self::YearWave => YEAR_SLOTS,
        }
    }

    /// Number of slots after which neighbours wrap around.
    pub fn ring(self, step: Step) -> usize {
        match self {
            Self::WeekendTimeOfDay => day_slots(step),
            other => other.slots(step),
        }
    }

    /// Whether neighbouring slots are expected to look alike.
    pub fn is_smooth(self) -> bool {
        self != Self::DayOfWeek
    }

    /// The slot of a step.
    pub fn slot(self, local: Local, step: Step) -> usize {
        let per_day = day_slots(step);
        let in_day = (local.second_of_day * per_day as i64 / DAY_SECS) as usize;
        match self {
            Self::TimeOfDay => in_day,
            Self::WeekendTimeOfDay => usize::from(local.weekday >= 5) * per_day + in_day,
            Self::TimeOfWeek => local.weekday * per_day + in_day,
            Self::DayOfWeek => local.weekday,
            Self::WeekOfYear | Self::YearWave => {
                let share = (local.day as f64 / DAYS_PER_YEAR).rem_euclid(1.0);
                ((share * YEAR_SLOTS as f64) as usize).min(YEAR_SLOTS - 1)
            }
        }
    }

    /// The seasons that `days` of usable history can bear, coarse ones first: nested ones are
    /// fitted one on the residuals of the other.
    pub fn bearable(step: Step, days: f64) -> Vec<Self> {
        let table: &[(Self, f64)] = match step {
            Step::Seconds(_) => {
                &[(Self::TimeOfDay, 2.0), (Self::WeekendTimeOfDay, 9.0), (Self::TimeOfWeek, 20.0)]
            }
            Step::Days(1) => &[(Self::DayOfWeek, 20.0), (Self::WeekOfYear, 3.0 * DAYS_PER_YEAR)],
            _ if days >= 3.0 * DAYS_PER_YEAR => &[(Self::WeekOfYear, 0.0)],
            _ => &[(Self::YearWave, 0.9 * DAYS_PER_YEAR)],
        };
        table.iter().filter(|(_, least)| days >= *least).map(|(season, _)| *season).collect()
    }
}

/// A calendar, read once for all series.
pub(super) struct Clock {
    pub step: Step,
    local: Vec<Local>,
    /// The cycle of each step, on a scale that does not depend on where the calendar starts.
    pub cycle: Vec<i64>,
}

impl Clock {
    pub fn new(calendar: &Calendar) -> Self {
        let step = calendar.step();
        let local: Vec<Local> = (0..calendar.len() as i64).map(|t| calendar.local(t)).collect();
        let cycle = local
            .iter()
            .enumerate()
            .map(|(t, local)| match step {
                Step::Seconds(_) => local.day,
                Step::Days(1) => (local.day + 3).div_euclid(7),
                _ => calendar.start(t).div_euclid(step.secs()),
            })
            .collect();
        Self { step, local, cycle }
    }

    /// The slot of every step.
    pub fn slots(&self, season: Season) -> Vec<u32> {
        self.local.iter().map(|local| season.slot(*local, self.step) as u32).collect()
    }
}

/// Length of a cycle, over which a level is estimated: a day below a day, a week for days, else one
/// step.
pub(super) fn cycle_days(step: Step) -> f64 {
    match step {
        Step::Seconds(_) => 1.0,
        Step::Days(1) => 7.0,
        _ => step.secs() as f64 / DAY_SECS as f64,
    }
}

/// Level window where the parameters leave it open: two weeks below a day, eight weeks for days,
/// else 26 steps.
pub(super) fn default_level_window_days(step: Step) -> f64 {
    match step {
        Step::Seconds(_) => 14.0,
        Step::Days(1) => 56.0,
        _ => 26.0 * cycle_days(step),
    }
}
