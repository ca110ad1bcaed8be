//! Labelled sets from a folder: which files, which columns, which rows train.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use ndarray::Array2;
use polars::prelude::{DataFrame, DataType, ParquetReader, SerReader};

/// The folders that hold series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Univariate,
    Multivariate,
    Weekly,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Univariate, Kind::Multivariate, Kind::Weekly];

    pub fn folder(self) -> &'static str {
        match self {
            Kind::Univariate => "univariate",
            Kind::Multivariate => "multivariate",
            Kind::Weekly => "weekly",
        }
    }
}

/// Columns that are no metric.
const NO_METRIC: [&str; 9] = [
    "series_id",
    "timestamp",
    "label",
    "label_point",
    "split",
    "changepoint",
    "step",
    "domain",
    "disease",
];

/// Share of a series that is fitted on where the set has no split of its own.
pub const TRAIN_SHARE: f64 = 0.4;

/// Sets whose time is a bare row number, and the seconds of a row that their publishers state.
const STATED_STEPS: [(&str, i64); 2] = [("smd", 60), ("asd", 300)];
/// For the others: no daily season can be told, so any step does.
const UNKNOWN_STEP: i64 = 60;

pub struct Set {
    pub name: String,
    pub kind: Kind,
    pub metrics: Vec<String>,
    pub series: Vec<Series>,
}

pub struct Series {
    pub id: String,
    /// `[row][metric]`.
    pub rows: Vec<Vec<f64>>,
    /// `None`: not labelled, and not scored.
    pub label: Vec<Option<bool>>,
    pub train_rows: usize,
    /// UTC seconds by row; rising, but for a few repeats.
    pub times: Vec<i64>,
}

impl Series {
    /// Rows after the training part that have a label.
    pub fn judged(&self) -> Vec<usize> {
        (self.train_rows..self.rows.len()).filter(|&row| self.label[row].is_some()).collect()
    }
}

/// A file of series without labels; `metrics` are the columns that are taken.
pub fn read_unlabelled(path: &Path, metrics: &[&str]) -> Result<Set, String> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let columns = Columns::read(path)?;
    for column in ["series_id", "timestamp"].iter().chain(metrics) {
        if columns.get(column).is_none() {
            return Err(format!("{}: no column `{column}`", path.display()));
        }
    }
    let metrics = metrics.iter().map(ToString::to_string).collect();
    let mut set = Set { name, kind: Kind::Multivariate, metrics, series: Vec::new() };
    columns.add_series(&mut set)?;
    Ok(set)
}

/// Every labelled set of a kind, files of one family (`smd_machine-1-2`, …) together, in the order
/// of their names.
pub fn read(dir: &Path, kind: Kind, notes: &mut Vec<String>) -> Result<Vec<Set>, String> {
    let mut families: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let folder = dir.join(kind.folder());
    let Ok(entries) = fs::read_dir(&folder) else {
        notes.push(format!("no folder `{}`", kind.folder()));
        return Ok(Vec::new());
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        if path.extension().is_some_and(|e| e == "parquet" || e == "csv") {
            let family = stem.split_once("_machine").map_or(stem.as_str(), |(family, _)| family);
            families.entry(family.to_string()).or_default().push(path);
        }
    }
    let mut sets = Vec::new();
    for (name, mut paths) in families {
        paths.sort();
        let mut set = Set { name, kind, metrics: Vec::new(), series: Vec::new() };
        for path in paths {
            let columns = Columns::read(&path)?;
            if columns.is_labelled_series() {
                columns.into_set(&mut set, notes)?;
            }
        }
        if set.series.iter().any(|series| series.label.contains(&Some(true))) {
            sets.push(set);
        }
    }
    Ok(sets)
}

/// A file's columns as text, whatever they were.
pub struct Columns {
    path: PathBuf,
    header: Vec<String>,
    /// `[column][row]`; empty for missing.
    cells: Vec<Vec<String>>,
}

impl Columns {
    /// # Errors
    /// When the file cannot be read, with its path.
    pub fn read(path: &Path) -> Result<Self, String> {
        let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        if path.extension().is_some_and(|e| e == "csv") {
            let mut reader = csv::Reader::from_path(path).map_err(|e| fail(&e))?;
            let header: Vec<String> =
                reader.headers().map_err(|e| fail(&e))?.iter().map(String::from).collect();
            let mut cells = vec![Vec::new(); header.len()];
            for record in reader.records() {
                let record = record.map_err(|e| fail(&e))?;
                cells.iter_mut().zip(&record).for_each(|(column, cell)| column.push(cell.into()));
            }
            Ok(Self { path: path.into(), header, cells })
        } else {
            let file = File::open(path).map_err(|e| fail(&e))?;
            let frame = ParquetReader::new(file).finish().map_err(|e| fail(&e))?;
            Self::of(path, &frame).map_err(|e| fail(&e))
        }
    }

    fn is_labelled_series(&self) -> bool {
        ["series_id", "timestamp", "label"].iter().all(|name| self.get(name).is_some())
    }

    /// Rows `[row, column]` and their labels; `None` without labels or with words.
    pub fn table(&self) -> Option<(Array2<f64>, Vec<bool>)> {
        let labels = self.get("label")?.iter().map(|cell| cell.parse::<f64>().ok());
        let labels: Vec<bool> = labels.map(|label| Some(label? > 0.0)).collect::<Option<_>>()?;
        let mut columns: Vec<Vec<f64>> = Vec::new();
        for (_, cells) in self.header.iter().zip(&self.cells).filter(|(name, _)| *name != "label") {
            columns.push(cells.iter().map(|cell| cell.parse().ok()).collect::<Option<_>>()?);
        }
        let rows = Array2::from_shape_fn((labels.len(), columns.len()), |(r, c)| columns[c][r]);
        Some((rows, labels))
    }

    fn of(path: &Path, frame: &DataFrame) -> Result<Self, polars::prelude::PolarsError> {
        let mut cells = Vec::with_capacity(frame.width());
        let header: Vec<String> =
            frame.get_column_names().iter().map(|name| name.to_string()).collect();
        for name in &header {
            let column = frame.column(name)?.cast(&DataType::String)?;
            let text = column.str()?;
            cells.push(text.iter().map(|cell| cell.unwrap_or("").to_string()).collect());
        }
        Ok(Self { path: path.into(), header, cells })
    }

    fn get(&self, name: &str) -> Option<&[String]> {
        let place = self.header.iter().position(|column| column == name)?;
        Some(&self.cells[place])
    }

    /// Adds the file's series to its set.
    fn into_set(self, set: &mut Set, notes: &mut Vec<String>) -> Result<(), String> {
        if self.get("n_annotators").is_some() {
            notes.push(format!(
                "`{}` marks change points by several people, no anomalous points: left out",
                set.name
            ));
            return Ok(());
        }
        let metrics: Vec<String> = self
            .header
            .iter()
            .filter(|name| !NO_METRIC.contains(&name.as_str()))
            .cloned()
            .collect();
        if set.metrics.is_empty() {
            set.metrics = metrics.clone();
        } else if set.metrics != metrics {
            return Err(format!("{}: its columns differ from its family's", self.path.display()));
        }
        self.add_series(set)
    }

    fn add_series(&self, set: &mut Set) -> Result<(), String> {
        let ids = self.get("series_id").unwrap_or_default();
        let mut rows_of: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (row, id) in ids.iter().enumerate() {
            rows_of.entry(id).or_default().push(row);
        }
        for (id, rows) in rows_of {
            set.series.push(self.series(id, &rows, set)?);
        }
        Ok(())
    }

    fn series(&self, id: &str, rows: &[usize], set: &Set) -> Result<Series, String> {
        let numbers: Vec<&[String]> =
            set.metrics.iter().filter_map(|metric| self.get(metric)).collect();
        let cell = |column: &[String], row: usize| column[row].parse::<f64>().unwrap_or(f64::NAN);
        let label = self.get("label").unwrap_or_default();
        let split = self.get("split");
        let n_train = match split {
            Some(split) => rows.iter().take_while(|row| split[**row] != "test").count(),
            None => 0,
        };
        let has_split = n_train > 0 && n_train < rows.len();
        let times = self.get("timestamp").unwrap_or_default();
        Ok(Series {
            id: id.into(),
            rows: rows
                .iter()
                .map(|&row| numbers.iter().map(|column| cell(column, row)).collect())
                .collect(),
            label: rows
                .iter()
                .map(|&row| Some(label.get(row)?.parse::<f64>().ok()? > 0.0))
                .collect(),
            train_rows: if has_split {
                n_train
            } else {
                (TRAIN_SHARE * rows.len() as f64) as usize
            },
            times: seconds(&rows.iter().map(|&row| times[row].as_str()).collect::<Vec<_>>(), set)
                .map_err(|text| format!("{}: `{text}` is no time", self.path.display()))?,
        })
    }
}

/// Row numbers, ISO times, ISO dates or ISO weeks as seconds.
fn seconds(texts: &[&str], set: &Set) -> Result<Vec<i64>, String> {
    let stated = STATED_STEPS.iter().find(|(name, _)| *name == set.name);
    let step = stated.map_or(UNKNOWN_STEP, |(_, step)| *step);
    texts
        .iter()
        .map(|text| {
            let row = text.parse::<i64>().ok().map(|row| row * step);
            row.or_else(|| week(text)).or_else(|| instant(text)).ok_or_else(|| text.to_string())
        })
        .collect()
}

/// `2001-W01`: its Monday.
fn week(text: &str) -> Option<i64> {
    let (year, week) = text.split_once("-W")?;
    let date = jiff::civil::ISOWeekDate::new(
        year.parse().ok()?,
        week.parse().ok()?,
        jiff::civil::Weekday::Monday,
    );
    let midnight = date.ok()?.date().to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(midnight.timestamp().as_second())
}

fn instant(text: &str) -> Option<i64> {
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}
