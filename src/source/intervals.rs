//! Labels and known events: intervals of time for some or all series, from a CSV file.
//!
//! Both kinds of file look alike: id columns, `start`, `end`, `kind`, perhaps `factor` and
//! `metric`. They are small and written with care, so a bad row is an error and not a reject.

use std::{cell::RefCell, path::Path};

use csv::ByteRecord;
use jiff::tz::TimeZone;

use super::{
    SourceError,
    columns::missing,
    csv_rows,
    files::{self, InputFile},
    intake::number,
    spec::{AmbiguousTime, Format, TimeFormat},
    time::Clock,
};
use crate::panel::{Level, SeriesKey};

/// The word for "every value of this column".
const ANY: &str = "*";

/// Something that happened to some series for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// For each id column asked for its value; `None` means any.
    pub key: Vec<(String, Option<String>)>,
    /// UTC epoch seconds.
    pub start: i64,
    /// UTC epoch seconds, exclusive. A date alone is its midnight.
    pub end: i64,
    /// `spike`, `campaign`, …
    pub kind: String,
    /// By how much the values were multiplied, where that is known.
    pub factor: Option<f64>,
    /// The metric that it is about, where it is about one.
    pub metric: Option<String>,
}

impl Interval {
    /// True when the interval covers the series `key` of `level`. An interval that names a column
    /// the level does not have is about a part of the series only, and does not.
    pub fn covers(&self, level: &Level, key: &SeriesKey) -> bool {
        self.key.iter().all(|(column, wanted)| {
            wanted.as_ref().is_none_or(|wanted| {
                let place = level.id_columns.iter().position(|name| name == column);
                place.and_then(|place| key.0.get(place)) == Some(wanted)
            })
        })
    }
}

/// How to read a file of intervals.
#[derive(Clone, Debug)]
pub struct IntervalSpec {
    /// The id columns to look for, by their panel names.
    pub id_columns: Vec<String>,
    pub delimiter: Option<u8>,
    pub time_format: TimeFormat,
    /// The clock of times that carry no offset.
    pub time_zone: TimeZone,
    pub ambiguous_time: AmbiguousTime,
}

/// Reads intervals. An id column that the file lacks means any.
///
/// # Errors
/// When the file is missing, is no CSV file, lacks `start`, `end` or `kind`, or has a bad row.
pub fn read_intervals(path: &Path, spec: &IntervalSpec) -> Result<Vec<Interval>, SourceError> {
    if !path.is_file() {
        return Err(SourceError::NoFiles(format!(
            "`{}` is not a file; check the path of the labels or known events",
            path.display()
        )));
    }
    let file = files::inspect(path, Format::Csv)?;
    let hasher = RefCell::new(blake3::Hasher::new());
    let mut csv = csv_rows::open(&file, spec.delimiter, &hasher)?;
    let header = std::mem::take(&mut csv.header);
    let places = Places::find(&file, &header, &spec.id_columns)?;
    let mut reader = RowReader {
        file: &file,
        header: &header,
        line: 0,
        clock: Clock::new(spec.time_format.clone(), spec.time_zone.clone(), spec.ambiguous_time),
    };
    let mut record = ByteRecord::new();
    let mut intervals = Vec::new();
    while let Some(line) = csv.next(&mut record)? {
        reader.line = line;
        intervals.push(reader.interval(&record, &places, &spec.id_columns)?);
    }
    Ok(intervals)
}

/// The fields of a row.
struct Places {
    ids: Vec<Option<usize>>,
    start: usize,
    end: usize,
    kind: usize,
    factor: Option<usize>,
    metric: Option<usize>,
}

impl Places {
    fn find(file: &InputFile, header: &[String], ids: &[String]) -> Result<Self, SourceError> {
        let place = |column: &str| header.iter().position(|name| name == column);
        let names: Vec<&str> = header.iter().map(String::as_str).collect();
        let needed = |column: &str| {
            place(column).ok_or_else(|| missing(file, column, "every interval has one", &names))
        };
        for id in ids.iter().filter(|id| place(id).is_none()) {
            // Without this, `Brand` for `brand` would apply every row to every series.
            if header.iter().any(|name| name.eq_ignore_ascii_case(id)) {
                return Err(missing(file, id, "an id column", &names));
            }
        }
        Ok(Self {
            ids: ids.iter().map(|id| place(id)).collect(),
            start: needed("start")?,
            end: needed("end")?,
            kind: needed("kind")?,
            factor: place("factor"),
            metric: place("metric"),
        })
    }
}

struct RowReader<'a> {
    file: &'a InputFile,
    header: &'a [String],
    line: u64,
    clock: Clock,
}

impl RowReader<'_> {
    fn interval(
        &mut self,
        record: &ByteRecord,
        places: &Places,
        ids: &[String],
    ) -> Result<Interval, SourceError> {
        if record.len() != self.header.len() {
            let problem = format!(
                "the row has {} fields, the header {}; check the delimiter and the quotes",
                record.len(),
                self.header.len()
            );
            return Err(self.error(0, problem));
        }
        let mut key = Vec::with_capacity(ids.len());
        for (column, place) in ids.iter().zip(&places.ids) {
            let value = match place {
                Some(place) => match self.text(record, *place)? {
                    ANY => None,
                    text => Some(text.to_string()),
                },
                None => None,
            };
            key.push((column.clone(), value));
        }
        let (start, end) = (self.time(record, places.start)?, self.time(record, places.end)?);
        if end <= start {
            let problem = "is not after the start; the end is exclusive, so a day ends on the next";
            return Err(self.error(places.end, problem.into()));
        }
        let kind = self.text(record, places.kind)?.to_string();
        let factor = match places.factor {
            Some(place) => self.factor(record, place)?,
            None => None,
        };
        let metric = match places.metric {
            Some(place) => {
                Some(self.cell(record, place)?).filter(|text| !text.is_empty() && *text != ANY)
            }
            None => None,
        };
        Ok(Interval { key, start, end, kind, factor, metric: metric.map(str::to_string) })
    }

    fn cell<'r>(&self, record: &'r ByteRecord, place: usize) -> Result<&'r str, SourceError> {
        match std::str::from_utf8(record.get(place).unwrap_or_default()) {
            Ok(text) => Ok(text.trim()),
            Err(_) => Err(self.error(place, "is not UTF-8; convert the file to UTF-8".into())),
        }
    }

    fn text<'r>(&self, record: &'r ByteRecord, place: usize) -> Result<&'r str, SourceError> {
        match self.cell(record, place)? {
            "" => Err(self.error(place, "is empty; fill it in (an id may be `*`)".into())),
            text => Ok(text),
        }
    }

    fn time(&mut self, record: &ByteRecord, place: usize) -> Result<i64, SourceError> {
        let text = self.text(record, place)?;
        self.clock.read(text).map_err(|reason| {
            self.error(place, format!("`{text}`: {}; {}", reason.name(), reason.remedy()))
        })
    }

    fn factor(&self, record: &ByteRecord, place: usize) -> Result<Option<f64>, SourceError> {
        let text = self.cell(record, place)?;
        match number(text) {
            Ok(factor) if factor.is_infinite() => {}
            Ok(factor) => return Ok((!factor.is_nan()).then_some(factor)),
            Err(_) => {}
        }
        Err(self.error(place, format!("`{text}` is no number; correct it or leave it empty")))
    }

    fn error(&self, place: usize, problem: String) -> SourceError {
        SourceError::Cell {
            path: self.file.path.clone(),
            line: self.line,
            column: self.header.get(place).cloned().unwrap_or_default(),
            problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, ids: &[&str]) -> Result<Vec<Interval>, SourceError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.csv");
        std::fs::write(&path, text).unwrap();
        let spec = IntervalSpec {
            id_columns: ids.iter().map(|id| id.to_string()).collect(),
            delimiter: None,
            time_format: TimeFormat::Auto,
            time_zone: TimeZone::get("Europe/Berlin").unwrap(),
            ambiguous_time: AmbiguousTime::Reject,
        };
        read_intervals(&path, &spec)
    }

    #[test]
    fn stars_and_missing_columns_mean_any() {
        let text = "brand,start,end,kind,factor,metric\n\
                    a,2025-01-06,2025-01-08,drop,0.25,views\n\
                    *,2025-01-06T10:00Z,2025-01-06T12:00Z,campaign,,\n";
        let found = read_text(text, &["brand", "shop"]).unwrap();
        assert_eq!(found[0].key, [("brand".into(), Some("a".into())), ("shop".into(), None)]);
        assert_eq!((found[0].start, found[0].end), (1_736_118_000, 1_736_290_800)); // Berlin midnights
        assert_eq!((found[0].factor, found[0].metric.as_deref()), (Some(0.25), Some("views")));
        assert_eq!(found[1].key[0].1, None);
        assert_eq!((found[1].factor, &found[1].metric), (None, &None));

        let level = Level { name: "brand".into(), id_columns: vec!["brand".into()] };
        let key = |name: &str| SeriesKey(vec![name.into()]);
        assert!(found[0].covers(&level, &key("a")) && !found[0].covers(&level, &key("b")));
        assert!(found[1].covers(&level, &key("b")));
        let other = Level { name: "shop".into(), id_columns: vec!["shop".into()] };
        assert!(!found[0].covers(&other, &key("a")), "a part of the series is not the series");
    }

    #[test]
    fn a_bad_row_is_an_error_that_names_line_and_column() {
        let cases = [
            ("a,2025-01-06,2025-01-06,drop", "line 3: column `end`: is not after the start"),
            ("a,soon,2025-01-06,drop", "line 3: column `start`: `soon`: unparsable_time"),
            ("a,2025-01-06,2025-01-07,", "line 3: column `kind`: is empty"),
            (",2025-01-06,2025-01-07,drop", "line 3: column `brand`: is empty"),
            ("a,2025-01-06,2025-01-07", "line 3: column `brand`: the row has 3 fields"),
            ("a,2025-10-26 02:30,2025-10-27,drop", "ambiguous_time"),
        ];
        for (row, expected) in cases {
            let good = "a,2025-01-06,2025-01-08,drop";
            let text = format!("brand,start,end,kind\n{good}\n{row}\n");
            let error = read_text(&text, &["brand"]).unwrap_err().to_string();
            assert!(error.contains("labels.csv") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_id_column_in_other_letters_is_not_taken_for_any() {
        let text = "Brand,start,end,kind\na,2025-01-06,2025-01-08,drop\n";
        let error = read_text(text, &["brand"]).unwrap_err().to_string();
        assert!(error.contains("did you mean `Brand`?"), "{error}");
        let error = read_text("brand,start,stop,kind\n", &["brand"]).unwrap_err().to_string();
        assert!(error.contains("no column `end`"), "{error}");
        assert_eq!(read_text("brand,start,end,kind\n", &["brand"]).unwrap(), []);
    }
}
