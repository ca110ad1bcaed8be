//! Times as people write them -> UTC epoch seconds.
//!
//! A time column is most of the work of reading events, so the common ISO forms have a parser of
//! their own that looks at bytes; everything else goes through `jiff`. A time without an offset
//! is a time on a wall clock. Looking up the clock's offset for each row would cost more than the
//! parsing, so the stretch between two changes of the clocks is remembered.

use jiff::{
    Timestamp, Zoned,
    civil::{self, Weekday},
    fmt::strtime,
    tz::{AmbiguousOffset, TimeZone},
};

use super::{
    rejects::RejectReason,
    spec::{AmbiguousTime, TimeFormat},
};

const DAY_SECS: i64 = 86_400;

/// What a text said: a moment, or a reading of a wall clock (civil date × 86,400 + time of day).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Instant(i64),
    Wall(i64),
}

/// Reads times under one format and time zone.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    format: TimeFormat,
    zone: TimeZone,
    ambiguous: AmbiguousTime,
    /// Wall seconds from .0 up to .1 are `.2` seconds ahead of UTC.
    stretch: (i64, i64, i64),
}

impl Clock {
    pub(super) fn new(format: TimeFormat, zone: TimeZone, ambiguous: AmbiguousTime) -> Self {
        Self { format, zone, ambiguous, stretch: (0, 0, 0) }
    }

    pub(super) fn format(&self) -> &TimeFormat {
        &self.format
    }

    /// UTC epoch seconds of a text.
    #[inline]
    pub(super) fn read(&mut self, text: &str) -> Result<i64, RejectReason> {
        let text = text.trim_ascii();
        if text.is_empty() {
            return Err(RejectReason::MissingTime);
        }
        let reading = match &self.format {
            TimeFormat::Auto => iso(text.as_bytes()).or_else(|| by_jiff(text)),
            TimeFormat::EpochSeconds => epoch(text, 1),
            TimeFormat::EpochMillis => epoch(text, 1_000),
            TimeFormat::Custom(pattern) => by_pattern(pattern, text),
        };
        match reading.ok_or(RejectReason::UnparsableTime)? {
            Reading::Instant(secs) => Ok(secs),
            Reading::Wall(secs) => self.wall_time(secs),
        }
    }

    /// UTC epoch seconds of a reading of the wall clock.
    #[inline]
    pub(super) fn wall_time(&mut self, wall: i64) -> Result<i64, RejectReason> {
        let (from, to, ahead) = self.stretch;
        if from <= wall && wall < to { Ok(wall - ahead) } else { self.look_up(wall) }
    }

    fn look_up(&mut self, wall: i64) -> Result<i64, RejectReason> {
        let instant = Timestamp::from_second(wall).map_err(|_| RejectReason::UnparsableTime)?;
        let ambiguous = self.zone.to_ambiguous_timestamp(TimeZone::UTC.to_datetime(instant));
        let resolved = match (ambiguous.offset(), self.ambiguous) {
            (AmbiguousOffset::Unambiguous { offset }, _) => {
                let secs = wall - i64::from(offset.seconds());
                self.remember(secs, i64::from(offset.seconds()));
                return Ok(secs);
            }
            (_, AmbiguousTime::Reject) => return Err(RejectReason::AmbiguousTime),
            (_, AmbiguousTime::Earlier) => ambiguous.earlier(),
            (_, AmbiguousTime::Later) => ambiguous.later(),
        };
        resolved.map(Timestamp::as_second).map_err(|_| RejectReason::UnparsableTime)
    }

    /// Keeps the stretch around `secs` in which the clock stands still, less a day at each end so
    /// that no reading near a change is ever taken from it.
    fn remember(&mut self, secs: i64, ahead: i64) {
        let Ok(instant) = Timestamp::from_second(secs) else { return };
        let before = self.zone.preceding(instant).next();
        let after = self.zone.following(instant).next();
        let from =
            before.map_or(i64::MIN, |change| change.timestamp().as_second() + ahead + DAY_SECS);
        let to = after.map_or(i64::MAX, |change| change.timestamp().as_second() + ahead - DAY_SECS);
        self.stretch = (from, to, ahead);
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, `None` where there is no such date.
fn day_number(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let in_month = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year == 0 || !(1..=in_month).contains(&day) {
        return None;
    }
    // Years that start in March put the leap day last, so a month's start is a linear formula.
    let shifted = if month > 2 { year } else { year - 1 };
    let from_march = (month + 9) % 12;
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let leap_days = shifted.div_euclid(4) - shifted.div_euclid(100) + shifted.div_euclid(400);
    Some(365 * shifted + leap_days + day_of_year - 719_468)
}

#[inline]
fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0_i64, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
    })
}

/// `YYYY-MM-DD` or `YYYY/MM/DD`, then perhaps `[T ]HH:MM[:SS[.fff]]`, then perhaps an offset.
fn iso(text: &[u8]) -> Option<Reading> {
    // The year first, so that no day can be taken for a month.
    if text.len() < 10 || !matches!((text[4], text[7]), (b'-', b'-') | (b'/', b'/')) {
        return week(text);
    }
    let (year, month, day) = (digits(&text[..4])?, digits(&text[5..7])?, digits(&text[8..10])?);
    let midnight = day_number(year, month, day)? * DAY_SECS;
    if text.len() == 10 {
        return Some(Reading::Wall(midnight));
    }
    if text.len() < 16 || !matches!(text[10], b'T' | b't' | b' ') || text[13] != b':' {
        return None;
    }
    let (hour, minute) = (digits(&text[11..13])?, digits(&text[14..16])?);
    let mut rest = &text[16..];
    let mut second = 0;
    if let [b':', tens, ones, after @ ..] = rest {
        second = digits(&[*tens, *ones])?;
        rest = after;
        if let [b'.' | b',', fraction @ ..] = rest {
            let n = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if n == 0 {
                return None;
            }
            rest = &fraction[n..];
        }
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let wall = midnight + hour * 3_600 + minute * 60 + second;
    if rest.is_empty() {
        Some(Reading::Wall(wall))
    } else {
        Some(Reading::Instant(wall - offset(rest)?))
    }
}

/// `Z`, `UTC`, `+HH`, `+HHMM` or `+HH:MM`, perhaps after a space, in seconds ahead of UTC.
fn offset(text: &[u8]) -> Option<i64> {
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let (sign, text) = match text {
        b"Z" | b"z" | b"UTC" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match text.len() {
        2 => (digits(text)?, 0),
        4 => (digits(&text[..2])?, digits(&text[2..])?),
        5 if text[2] == b':' => (digits(&text[..2])?, digits(&text[3..])?),
        _ => return None,
    };
    (hours <= 25 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// The Monday of an ISO week: `2025-W07` or `2025W07`.
fn week(text: &[u8]) -> Option<Reading> {
    let number = match text.len() {
        8 if text.get(4..6) == Some(b"-W") => &text[6..],
        7 if text.get(4) == Some(&b'W') => &text[5..],
        _ => return None,
    };
    let year = i16::try_from(digits(&text[..4])?).ok()?;
    let week = i8::try_from(digits(number)?).ok()?;
    let monday = civil::ISOWeekDate::new(year, week, Weekday::Monday).ok()?.date();
    wall_of(monday.to_datetime(civil::Time::midnight()))
}

fn wall_of(time: civil::DateTime) -> Option<Reading> {
    let days = day_number(time.year().into(), time.month().into(), time.day().into())?;
    let secs = i64::from(time.hour()) * 3_600 + i64::from(time.minute()) * 60;
    Some(Reading::Wall(days * DAY_SECS + secs + i64::from(time.second())))
}

/// The rarer ISO forms: basic format, a zone in brackets, a leap second.
fn by_jiff(text: &str) -> Option<Reading> {
    // A bare number is never a date here: 20250106 is more likely an id or a count of seconds.
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if let Ok(zoned) = text.parse::<Zoned>() {
        return Some(Reading::Instant(zoned.timestamp().as_second()));
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(Reading::Instant(instant.as_second()));
    }
    text.parse::<civil::DateTime>().ok().and_then(wall_of)
}

fn by_pattern(pattern: &str, text: &str) -> Option<Reading> {
    let parts = strtime::parse(pattern, text).ok()?;
    if let Ok(instant) = parts.to_timestamp() {
        return Some(Reading::Instant(instant.as_second()));
    }
    if let Ok(time) = parts.to_datetime() {
        return wall_of(time);
    }
    let date = parts.to_date().ok()?;
    wall_of(date.to_datetime(civil::Time::midnight()))
}

fn epoch(text: &str, per_second: i64) -> Option<Reading> {
    let secs = match text.parse::<i64>() {
        Ok(number) => number.div_euclid(per_second),
        Err(_) => {
            let number = text.parse::<f64>().ok()? / per_second as f64;
            // Beyond this no calendar goes, and NaN fails the comparison too.
            if number.abs() < 1e12 { number.floor() as i64 } else { return None }
        }
    };
    Timestamp::from_second(secs).ok()?;
    Some(Reading::Instant(secs))
}

/// UTC epoch seconds of a number in an epoch format, or `None` when no calendar goes so far.
pub(super) fn epoch_number(number: i64, per_second: i64) -> Option<i64> {
    let secs = number.div_euclid(per_second);
    Timestamp::from_second(secs).ok().map(|_| secs)
}

/// An RFC 3339 text in UTC, to the second.
pub fn rfc3339(epoch_secs: i64) -> String {
    Timestamp::from_second(epoch_secs).map_or_else(|_| epoch_secs.to_string(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clock(zone: &str, ambiguous: AmbiguousTime) -> Clock {
        Clock::new(TimeFormat::Auto, TimeZone::get(zone).unwrap(), ambiguous)
    }

    fn utc(text: &str) -> Result<i64, RejectReason> {
        clock("UTC", AmbiguousTime::Earlier).read(text)
    }

    #[test]
    fn the_common_iso_forms_mean_the_same_moment() {
        let moment = 1_736_143_391; // 2025-01-06T06:03:11Z
        for text in [
            "2025-01-06T06:03:11Z",
            "2025-01-06 06:03:11",
            " 2025-01-06 06:03:11 ",
            "2025-01-06T06:03:11.987654Z",
            "2025-01-06t06:03:11z",
            "2025-01-06 06:03:11 UTC",
            "2025-01-06T07:03:11+01:00",
            "2025-01-06T07:03:11 +0100",
            "2025-01-06T00:33:11-0530",
            "2025-01-06T07:03:11+01",
            "2025-01-06T07:03:11+01:00[Europe/Berlin]",
            "20250106T060311Z",
        ] {
            assert_eq!(utc(text), Ok(moment), "{text}");
        }
        assert_eq!(utc("2025-01-06 06:03"), Ok(moment - 11));
        assert_eq!(utc("2025-01-06"), Ok(moment - 6 * 3_600 - 191));
        assert_eq!(utc("2025/01/06 06:03:11"), Ok(moment));
        assert_eq!(utc("2025/01/06"), utc("2025-01-06"));
        assert_eq!(utc("2025-W02"), utc("2025-01-06"));
        assert_eq!(utc("2025W02"), utc("2025-01-06"));
        assert_eq!(utc("2020-W53"), utc("2020-12-28"));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "yesterday",
            "2025-02-29",
            "2025-13-01",
            "2025-00-10",
            "2025-01-32",
            "0000-01-01",
            "2025-01-06T24:00",
            "2025-01-06T06:60",
            "2025-01-06T06:03:11.",
            "2025-01-06T06:03:11+99:00",
            "2025-01-06X06:03",
            "2025-W54",
            "2025-W00",
            "2021-W53",
            "20250106",
            "1736143391",
            "2025-01-0١",
            "06.01.2025",
            "01/06/2025",
            "2025/01-06",
            "-",
            "2025-01-06T06:03:1",
        ] {
            assert_eq!(utc(text), Err(RejectReason::UnparsableTime), "{text}");
        }
        assert_eq!(utc("  "), Err(RejectReason::MissingTime));
    }

    #[test]
    fn a_wall_clock_time_is_read_in_its_zone_in_winter_and_summer() {
        let mut berlin = clock("Europe/Berlin", AmbiguousTime::Earlier);
        assert_eq!(berlin.read("2025-01-06 07:00"), utc("2025-01-06 06:00"));
        assert_eq!(berlin.read("2025-07-07 08:00"), utc("2025-07-07 06:00"));
        assert_eq!(berlin.read("2025-01-06 07:00"), utc("2025-01-06 06:00"));
        assert_eq!(berlin.read("2025-07-07T08:00Z"), utc("2025-07-07 08:00"));
    }

    #[test]
    fn the_hour_that_comes_twice_is_resolved_as_asked() {
        let twice = "2025-10-26 02:30";
        let read = |rule| clock("Europe/Berlin", rule).read(twice);
        assert_eq!(read(AmbiguousTime::Earlier), utc("2025-10-26 00:30"));
        assert_eq!(read(AmbiguousTime::Later), utc("2025-10-26 01:30"));
        assert_eq!(read(AmbiguousTime::Reject), Err(RejectReason::AmbiguousTime));
        let never = "2025-03-30 02:30";
        assert_eq!(
            clock("Europe/Berlin", AmbiguousTime::Reject).read(never),
            Err(RejectReason::AmbiguousTime)
        );
        assert!(clock("Europe/Berlin", AmbiguousTime::Earlier).read(never).is_ok());
    }

    #[test]
    fn patterns_and_epochs_are_read() {
        let read = |format: &str, text: &str| {
            let format = TimeFormat::try_from(format.to_string()).unwrap();
            Clock::new(format, TimeZone::UTC, AmbiguousTime::Earlier).read(text)
        };
        let moment = utc("2025-01-06 06:03");
        assert_eq!(read("%d.%m.%Y %H:%M", "06.01.2025 06:03"), moment);
        assert_eq!(read("%d.%m.%Y", "06.01.2025"), utc("2025-01-06"));
        assert_eq!(read("%Y-%m-%d %H:%M %z", "2025-01-06 07:03 +0100"), moment);
        assert_eq!(read("epoch_seconds", "1736143380"), moment);
        assert_eq!(read("epoch_seconds", "1736143380.75"), moment);
        assert_eq!(read("epoch_millis", "1736143380999"), moment);
        for text in ["nan", "inf", "1e300", "x"] {
            assert_eq!(read("epoch_seconds", text), Err(RejectReason::UnparsableTime), "{text}");
        }
        assert!(TimeFormat::try_from("iso".to_string()).is_err());
    }

    proptest! {
        #[test]
        fn the_fast_parser_agrees_with_jiff(secs in -60_000_000_000_i64..250_000_000_000) {
            let instant = Timestamp::from_second(secs).unwrap();
            prop_assert_eq!(iso(instant.to_string().as_bytes()), Some(Reading::Instant(secs)));
            let wall = TimeZone::UTC.to_datetime(instant);
            prop_assert_eq!(iso(wall.to_string().as_bytes()), Some(Reading::Wall(secs)));
        }

        #[test]
        fn the_remembered_stretch_never_gives_another_answer(
            // Any time, and the days around the changes of March and November 2025.
            walls in prop::collection::vec(prop_oneof![
                1_000_000_000_i64..2_000_000_000,
                1_741_305_600_i64..1_741_651_200,
                1_761_868_800_i64..1_762_214_400,
            ], 1..40)
        ) {
            let mut one = clock("America/New_York", AmbiguousTime::Reject);
            for wall in walls {
                let fresh = clock("America/New_York", AmbiguousTime::Reject).wall_time(wall);
                prop_assert_eq!(one.wall_time(wall), fresh);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,30}") {
            let _ = utc(&text);
        }
    }
}
