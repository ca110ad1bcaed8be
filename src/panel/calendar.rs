//! The regular time axis of a panel.
//!
//! Two kinds of step need two kinds of clock. Steps below a day are counted on the UTC clock,
//! so that every hour exists once even where a zone changes to or from daylight saving time.
//! Days and weeks are counted on the civil calendar of the panel's time zone, so that "Monday"
//! means the analyst's Monday.

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

const DAY_SECS: i64 = 86_400;

/// The length of one step of a calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Step {
    /// A fixed number of seconds that divides a day, counted in UTC.
    Seconds(i64),
    /// A number of civil days, counted from 1970-01-01.
    Days(i64),
    /// Civil weeks that start on Monday.
    Week,
}

impl Step {
    /// One hour.
    pub const HOUR: Step = Step::Seconds(3_600);

    /// The step's nominal length in seconds.
    pub fn secs(self) -> i64 {
        match self {
            Step::Seconds(secs) => secs,
            Step::Days(days) => days * DAY_SECS,
            Step::Week => 7 * DAY_SECS,
        }
    }

    /// True for steps of a day or longer, which live on the civil calendar.
    pub fn is_civil(self) -> bool {
        !matches!(self, Step::Seconds(_))
    }

    /// How many steps a year has, on average.
    pub fn per_year(self) -> f64 {
        365.2425 * DAY_SECS as f64 / self.secs() as f64
    }

    /// The word that file names use: `weekly`, `daily`, `hourly`, or the duration itself.
    pub fn adverb(self) -> String {
        match self {
            Step::Week => "weekly".into(),
            Step::Days(1) => "daily".into(),
            Step::Seconds(3_600) => "hourly".into(),
            other => String::from(other).replace(' ', "_"),
        }
    }
}

impl TryFrom<String> for Step {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let help = || {
            format!(
                "`{text}` is not a step: write \"hour\", \"day\", \"week\" or a duration such as \"15 min\" or \"2 days\""
            )
        };
        let lower = text.trim().to_lowercase();
        let digits: String = lower.chars().take_while(char::is_ascii_digit).collect();
        let count: i64 = if digits.is_empty() { 1 } else { digits.parse().map_err(|_| help())? };
        let unit = lower[digits.len()..].trim();
        let step = match unit.strip_suffix('s').unwrap_or(unit) {
            "hour" | "h" => Step::Seconds(count.saturating_mul(3_600)),
            "min" | "minute" => Step::Seconds(count.saturating_mul(60)),
            "sec" | "second" => Step::Seconds(count),
            "day" | "d" => Step::Days(count),
            "week" | "w" if count == 1 => Step::Week,
            _ => return Err(help()),
        };
        match step {
            Step::Seconds(secs) if secs <= 0 || secs > DAY_SECS || DAY_SECS % secs != 0 => Err(
                format!("a step of `{text}` does not divide a day: take one that does, or days"),
            ),
            Step::Days(days) if !(1..=3_660).contains(&days) => Err(help()),
            step => Ok(step),
        }
    }
}

impl From<Step> for String {
    fn from(step: Step) -> String {
        match step {
            Step::Week => "week".into(),
            Step::Days(1) => "day".into(),
            Step::Days(days) => format!("{days} days"),
            Step::Seconds(3_600) => "hour".into(),
            Step::Seconds(secs) if secs % 3_600 == 0 => format!("{} hours", secs / 3_600),
            Step::Seconds(secs) if secs % 60 == 0 => format!("{} min", secs / 60),
            Step::Seconds(secs) => format!("{secs} sec"),
        }
    }
}

/// A regular time axis: `len` steps from `origin`.
///
/// `origin` and every bucket start are seconds: UTC epoch seconds for steps below a day,
/// civil seconds (civil date × 86,400) for days and weeks.
#[derive(Clone, Debug, PartialEq)]
pub struct Calendar {
    step: Step,
    origin: i64,
    len: usize,
    time_zone: TimeZone,
}

/// Where a step lies on the analyst's wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Days since 1970-01-01 in the panel's time zone.
    pub day: i64,
    /// Seconds since local midnight.
    pub second_of_day: i64,
    /// 0 = Monday … 6 = Sunday.
    pub weekday: usize,
}

impl Calendar {
    /// A calendar of `len` steps whose first bucket holds `first` (a bucket start or any
    /// second inside the bucket, on the clock that `step` uses).
    pub fn new(step: Step, first: i64, len: usize, time_zone: TimeZone) -> Self {
        let origin = bucket_start(step, first);
        Self { step, origin, len, time_zone }
    }

    pub fn step(&self) -> Step {
        self.step
    }
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    pub fn time_zone(&self) -> &TimeZone {
        &self.time_zone
    }
    /// Start of the first bucket, on the calendar's clock.
    pub fn origin(&self) -> i64 {
        self.origin
    }

    /// Start of step `index` on the calendar's clock.
    pub fn start(&self, index: usize) -> i64 {
        self.start_at(index as i64)
    }

    fn start_at(&self, index: i64) -> i64 {
        self.origin + index * self.step.secs()
    }

    /// Steps from the calendar's origin to `start` (a second on the calendar's clock); negative
    /// before the origin. Models store their own origin and use this to keep their phase.
    pub fn offset_of(&self, start: i64) -> i64 {
        (start - self.origin).div_euclid(self.step.secs())
    }

    /// The step that holds `second` (on the calendar's clock), if the calendar covers it.
    pub fn index_of(&self, second: i64) -> Option<usize> {
        usize::try_from(self.offset_of(second)).ok().filter(|&i| i < self.len)
    }

    /// Steps that the interval `[start, end)` touches, on the calendar's clock, clipped to the calendar.
    pub fn range_of(&self, start: i64, end: i64) -> std::ops::Range<usize> {
        let clip = |offset: i64| offset.clamp(0, self.len as i64) as usize;
        let first = clip(self.offset_of(start));
        let last = clip(self.offset_of(end - 1) + 1);
        first..last.max(first)
    }

    /// The wall clock at the start of step `index`, which may lie outside the calendar.
    pub fn local(&self, index: i64) -> Local {
        let start = self.start_at(index);
        let civil_secs =
            if self.step.is_civil() { start } else { to_civil_secs(start, &self.time_zone) };
        let day = civil_secs.div_euclid(DAY_SECS);
        Local {
            day,
            second_of_day: civil_secs.rem_euclid(DAY_SECS),
            weekday: (day + 3).rem_euclid(7) as usize,
        }
    }

    /// An ISO date for days and weeks, an RFC 3339 UTC timestamp below a day.
    pub fn label(&self, index: usize) -> String {
        label(self.step, self.start(index))
    }
}

/// The bucket that holds `second`, on the clock that `step` uses.
pub fn bucket_start(step: Step, second: i64) -> i64 {
    let secs = step.secs();
    // 1970-01-01 was a Thursday; the Monday before it is three days earlier.
    let anchor = if step == Step::Week { -3 * DAY_SECS } else { 0 };
    (second - anchor).div_euclid(secs) * secs + anchor
}

/// UTC epoch seconds -> seconds on the wall clock of `time_zone` (civil date × 86,400 + time of day).
pub fn to_civil_secs(epoch_secs: i64, time_zone: &TimeZone) -> i64 {
    match Timestamp::from_second(epoch_secs) {
        Ok(instant) => epoch_secs + i64::from(time_zone.to_offset(instant).seconds()),
        Err(_) => epoch_secs,
    }
}

/// Epoch seconds of an instant -> seconds on the clock that `step` uses.
pub fn clock_secs(step: Step, epoch_secs: i64, time_zone: &TimeZone) -> i64 {
    if step.is_civil() { to_civil_secs(epoch_secs, time_zone) } else { epoch_secs }
}

/// The text of a bucket start: see [`Calendar::label`].
pub fn label(step: Step, start: i64) -> String {
    let Ok(instant) = Timestamp::from_second(start) else {
        return start.to_string();
    };
    if step.is_civil() {
        TimeZone::UTC.to_datetime(instant).date().to_string()
    } else {
        instant.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    #[test]
    fn a_week_starts_on_monday() {
        let calendar = Calendar::new(Step::Week, secs("2026-11-21T10:00:00Z"), 3, TimeZone::UTC);
        assert_eq!(calendar.label(0), "2026-11-16");
        assert_eq!(calendar.label(2), "2026-11-30");
        assert_eq!(calendar.local(0).weekday, 0);
    }

    #[test]
    fn hours_keep_their_wall_clock_over_a_change_to_summer_time() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let calendar = Calendar::new(Step::HOUR, secs("2026-03-29T00:00:00Z"), 4, berlin);
        let hours: Vec<i64> = (0..4).map(|i| calendar.local(i).second_of_day / 3_600).collect();
        assert_eq!(hours, [1, 3, 4, 5]);
    }

    #[test]
    fn an_interval_touches_the_steps_it_overlaps() {
        let calendar = Calendar::new(Step::HOUR, 0, 10, TimeZone::UTC);
        assert_eq!(calendar.range_of(3_600, 7_200), 1..2);
        assert_eq!(calendar.range_of(3_700, 7_201), 1..3);
        assert_eq!(calendar.range_of(-9_000, 1), 0..1);
        assert_eq!(calendar.range_of(40_000, 50_000), 10..10);
    }

    #[test]
    fn steps_are_read_and_written_alike() {
        for text in ["hour", "day", "week", "15 min", "2 hours", "3 days", "30 sec"] {
            assert_eq!(String::from(Step::try_from(text.to_string()).unwrap()), text);
        }
        for text in ["", "7 hours", "fortnight", "0 min", "2 weeks", "99999999999999999999 h"] {
            assert!(Step::try_from(text.to_string()).is_err(), "{text}");
        }
    }
}
