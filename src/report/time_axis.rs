//! The time axis: calendar ticks whose labels never touch.
//!
//! A tick has a label of its own (`06:00`, `12 Mar`, `Mar`, `2025`) and, at the first tick and
//! wherever it changes, a second line with what the first leaves out (the date, the year). So
//! long labels are rare and every tick can still be read without counting.

use jiff::{Timestamp, civil, tz::TimeZone};

const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

/// One tick of a time axis.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeTick {
    /// On the same clock as the series' times.
    pub secs: i64,
    pub label: String,
    pub second_line: Option<String>,
}

/// The grid that ticks lie on, from fine to coarse.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Grid {
    /// Fixed seconds that divide a day.
    Seconds(i64),
    /// Days counted from a Monday, so that 7 and 14 are Mondays.
    Days(i64),
    Months(i16),
    Years(i16),
}

const GRIDS: [Grid; 24] = [
    Grid::Seconds(1),
    Grid::Seconds(5),
    Grid::Seconds(15),
    Grid::Seconds(60),
    Grid::Seconds(300),
    Grid::Seconds(900),
    Grid::Seconds(1_800),
    Grid::Seconds(HOUR),
    Grid::Seconds(3 * HOUR),
    Grid::Seconds(6 * HOUR),
    Grid::Seconds(12 * HOUR),
    Grid::Days(1),
    Grid::Days(2),
    Grid::Days(7),
    Grid::Days(14),
    Grid::Months(1),
    Grid::Months(2),
    Grid::Months(3),
    Grid::Months(6),
    Grid::Years(1),
    Grid::Years(2),
    Grid::Years(5),
    Grid::Years(20),
    Grid::Years(100),
];

/// Pixels that one label needs, air included.
const LABEL_PIXELS: f64 = 62.0;

impl Grid {
    fn secs(self) -> i64 {
        match self {
            Grid::Seconds(secs) => secs,
            Grid::Days(days) => days * DAY,
            Grid::Months(months) => i64::from(months) * 30 * DAY,
            Grid::Years(years) => i64::from(years) * 365 * DAY,
        }
    }

    fn fits_a_step_of(self, step_secs: i64) -> bool {
        self.secs() >= step_secs.min(DAY)
    }
}

/// Wall-clock date and time of `secs`; `None` outside the calendar's years.
fn wall(secs: i64) -> Option<civil::DateTime> {
    Timestamp::from_second(secs).ok().map(|t| TimeZone::UTC.to_datetime(t))
}

fn secs_of(date: civil::Date) -> Option<i64> {
    TimeZone::UTC
        .to_timestamp(date.to_datetime(civil::Time::midnight()))
        .ok()
        .map(|t| t.as_second())
}

/// Ticks inside `from..=to` for an axis of `pixels`, for data with a step of `step_secs`.
pub fn ticks(from: i64, to: i64, step_secs: i64, pixels: f64) -> Vec<TimeTick> {
    let (Some(first), Some(last)) = (wall(from), wall(to)) else { return Vec::new() };
    let room = (pixels / LABEL_PIXELS).max(1.0);
    let span = to.saturating_sub(from) as f64;
    let grid = GRIDS
        .into_iter()
        .filter(|grid| grid.fits_a_step_of(step_secs))
        .find(|grid| span / grid.secs() as f64 <= room)
        .unwrap_or(Grid::Years(1_000));
    let places = match grid {
        Grid::Seconds(secs) => multiples(from, to, secs, 0),
        // 1970-01-05 was a Monday.
        Grid::Days(days) => multiples(from, to, days * DAY, 4 * DAY),
        Grid::Months(months) => month_starts(first.date(), last.date(), months),
        Grid::Years(years) => year_starts(first.year(), last.year(), years),
    };
    let mut inside: Vec<i64> =
        places.into_iter().filter(|secs| (from..=to).contains(secs)).take(200).collect();
    // An axis without any tick says nothing: name its middle.
    let grid = if inside.is_empty() {
        inside.push(from + (to - from) / 2);
        if step_secs < DAY { Grid::Seconds(60) } else { Grid::Days(1) }
    } else {
        grid
    };
    label(grid, &inside)
}

fn multiples(from: i64, to: i64, step: i64, anchor: i64) -> Vec<i64> {
    let first = (from - anchor).div_euclid(step);
    let last = (to - anchor).div_euclid(step);
    (first..=last).map(|i| i * step + anchor).collect()
}

fn month_starts(first: civil::Date, last: civil::Date, stride: i16) -> Vec<i64> {
    let number = |date: civil::Date| date.year() * 12 + i16::from(date.month()) - 1;
    (number(first) / stride * stride..=number(last))
        .step_by(stride.unsigned_abs().into())
        .filter_map(|month| {
            let place = i8::try_from(month.rem_euclid(12) + 1).ok()?;
            secs_of(civil::Date::new(month.div_euclid(12), place, 1).ok()?)
        })
        .collect()
}

fn year_starts(first: i16, last: i16, stride: i16) -> Vec<i64> {
    (first.div_euclid(stride) * stride..=last)
        .step_by(stride.unsigned_abs().into())
        .filter_map(|year| secs_of(civil::Date::new(year, 1, 1).ok()?))
        .collect()
}

fn label(grid: Grid, places: &[i64]) -> Vec<TimeTick> {
    let mut previous = None;
    places
        .iter()
        .filter_map(|&secs| {
            let at = wall(secs)?;
            let (label, context) = match grid {
                Grid::Seconds(s) if s < 60 => (clock(at, true), Some(day_month_year(at))),
                Grid::Seconds(_) => (clock(at, false), Some(day_month_year(at))),
                Grid::Days(_) => (day_month(at), Some(at.year().to_string())),
                Grid::Months(_) => (month_name(at).to_string(), Some(at.year().to_string())),
                Grid::Years(_) => (at.year().to_string(), None),
            };
            let second_line = if context == previous { None } else { context.clone() };
            previous = context;
            Some(TimeTick { secs, label, second_line })
        })
        .collect()
}

fn clock(at: civil::DateTime, seconds: bool) -> String {
    let text = format!("{:02}:{:02}", at.hour(), at.minute());
    if seconds { format!("{text}:{:02}", at.second()) } else { text }
}

fn month_name(at: civil::DateTime) -> &'static str {
    const NAMES: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    usize::try_from(at.month() - 1).ok().and_then(|i| NAMES.get(i).copied()).unwrap_or("")
}

fn day_month(at: civil::DateTime) -> String {
    format!("{} {}", at.day(), month_name(at))
}

fn day_month_year(at: civil::DateTime) -> String {
    format!("{} {}", day_month(at), at.year())
}

/// One instant in words: `12 Mar 2025`, below a day `12 Mar 2025 06:00`.
pub fn instant(secs: i64, step_secs: i64) -> String {
    match wall(secs) {
        None => secs.to_string(),
        Some(at) if step_secs >= DAY => day_month_year(at),
        Some(at) => format!("{} {}", day_month_year(at), clock(at, false)),
    }
}

/// The step in words: `by week`, `by hour`, `every 15 min`.
pub fn step_words(step_secs: i64) -> String {
    match step_secs {
        604_800 => "by week".into(),
        DAY => "by day".into(),
        HOUR => "by hour".into(),
        60 => "by minute".into(),
        s if s > 0 && s % DAY == 0 => format!("every {} days", s / DAY),
        s if s > 0 && s % HOUR == 0 => format!("every {} hours", s / HOUR),
        s if s > 0 && s % 60 == 0 => format!("every {} min", s / 60),
        s => format!("every {s} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    fn labels(from: &str, to: &str, step: i64) -> Vec<String> {
        ticks(secs(from), secs(to), step, 1_100.0)
            .into_iter()
            .map(|t| match t.second_line {
                Some(second) => format!("{}|{second}", t.label),
                None => t.label,
            })
            .collect()
    }

    #[test]
    fn a_year_of_weeks_is_labelled_by_months() {
        let found = labels("2025-01-06T00:00:00Z", "2025-12-29T00:00:00Z", 7 * DAY);
        assert_eq!(found.first().map(String::as_str), Some("Feb|2025"));
        assert_eq!(found.last().map(String::as_str), Some("Dec"));
        assert_eq!(found.len(), 11);
    }

    #[test]
    fn a_new_year_is_named_where_it_begins() {
        let found = labels("2024-11-01T00:00:00Z", "2025-03-01T00:00:00Z", DAY);
        let years: Vec<&String> = found.iter().filter(|l| l.contains('|')).collect();
        assert_eq!(years.len(), 2, "{found:?}");
        assert!(years[1].contains("Jan|2025"), "{found:?}");
    }

    #[test]
    fn two_days_of_hours_show_the_clock_and_name_the_day_at_midnight() {
        let found = labels("2026-03-01T00:00:00Z", "2026-03-02T23:00:00Z", HOUR);
        assert_eq!(found[0], "00:00|1 Mar 2026");
        assert!(found.contains(&"00:00|2 Mar 2026".to_string()), "{found:?}");
    }

    #[test]
    fn labels_have_room_whatever_the_span() {
        for step in [1, 60, HOUR, DAY, 7 * DAY] {
            for n in [1, 10, 100, 2_160, 100_000] {
                let from = secs("2020-02-03T00:00:00Z");
                let found = ticks(from, from + n * step, step, 1_100.0);
                assert!(!found.is_empty() && found.len() <= 19, "{step} {n}: {}", found.len());
                assert!(found.is_sorted_by_key(|t| t.secs));
            }
        }
    }

    #[test]
    fn times_outside_the_calendar_give_no_ticks_and_no_panic() {
        assert!(ticks(i64::MIN, i64::MAX, 1, 1_000.0).is_empty());
        assert_eq!(instant(i64::MAX, 1), i64::MAX.to_string());
        assert!(!ticks(-377_705_000_000, 253_402_200_000, DAY, 1_000.0).is_empty());
    }
}
