//! What a run keeps so that it can be measured later, against other labels and without fitting:
//! every scorer's p-values and decisions, exactly, in `scores/`.
//!
//! `levels.json` says what the rows of each level's Parquet file stand for; series and steps are
//! places in its lists. The flags files cannot serve: they are rounded, and have no detector's own p.

use std::{fs, path::Path};

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::{PipelineError, level::LevelRun, registry, write};
use crate::{
    config::Config,
    panel::{Calendar, Level, SeriesKey, Step},
    sink::{Column, Kind, Value, write_parquet},
    source::Table,
};

/// The folder in a run's directory.
pub const SCORES_DIR: &str = "scores";
const HEADERS: &str = "levels.json";

/// One level of a run, as evaluation sees it. Arrays are `[series, time]`.
pub struct KeptLevel {
    pub level: Level,
    pub keys: Vec<SeriesKey>,
    pub calendar: Calendar,
    /// The cell was fitted on.
    pub in_training: Array2<bool>,
    /// A known event covers the cell.
    pub known: Array2<bool>,
    /// Of the ensemble; NaN where nothing was scored.
    pub log_p: Array2<f64>,
    pub is_anomaly: Array2<bool>,
    pub members: Vec<KeptMember>,
}

/// One detector of a level.
pub struct KeptMember {
    pub name: String,
    /// What its prediction interval promises, where it does.
    pub interval_level: Option<f64>,
    pub log_p: Array2<f64>,
    pub flagged: Array2<bool>,
    /// Whether the observation lies in the interval; `None` where there is no interval.
    pub inside: Array2<Option<bool>>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    level: Level,
    keys: Vec<SeriesKey>,
    step: Step,
    /// Start of the first step, on the calendar's clock.
    origin: i64,
    steps: usize,
    members: Vec<MemberHeader>,
}

#[derive(Serialize, Deserialize)]
struct MemberHeader {
    name: String,
    interval_level: Option<f64>,
}

impl KeptLevel {
    pub fn of(config: &Config, run: &LevelRun) -> Self {
        let shape = run.output.log_p.dim();
        let members = run.members.iter().zip(&run.output.members).map(|(member, output)| {
            let interval = member.scores.lower.as_ref().zip(member.scores.upper.as_ref());
            KeptMember {
                name: member.name.to_string(),
                interval_level: registry::interval_level(member.name, config),
                log_p: member.log_p.clone(),
                flagged: output.flagged.clone(),
                inside: Array2::from_shape_fn(shape, |(s, t)| {
                    let (lower, upper) = interval?;
                    // With several metrics the first stands for all: a joint interval is nobody's
                    // promise.
                    let (low, high) = (lower[[s, t, 0]], upper[[s, t, 0]]);
                    let observed = run.panel.values()[[s, t, 0]];
                    let known = !low.is_nan() && !high.is_nan() && !observed.is_nan();
                    known.then_some((low..=high).contains(&observed))
                }),
            }
        });
        Self {
            level: run.panel.level().clone(),
            keys: run.panel.keys().to_vec(),
            calendar: run.panel.calendar().clone(),
            in_training: Array2::from_shape_fn(shape, |(s, t)| run.in_training(s, t)),
            known: run.known.clone(),
            log_p: run.output.log_p.clone(),
            is_anomaly: run.output.is_anomaly.clone(),
            members: members.collect(),
        }
    }

    fn header(&self) -> Header {
        Header {
            level: self.level.clone(),
            keys: self.keys.clone(),
            step: self.calendar.step(),
            origin: self.calendar.origin(),
            steps: self.calendar.len(),
            members: self
                .members
                .iter()
                .map(|m| MemberHeader { name: m.name.clone(), interval_level: m.interval_level })
                .collect(),
        }
    }

    fn columns(&self) -> Vec<Column<'_>> {
        let whole = |x: usize| Value::Int(i64::try_from(x).unwrap_or(i64::MAX));
        let mut columns = vec![
            Column::new("series", Kind::Int, move |s, _| whole(s)),
            Column::new("step", Kind::Int, move |_, t| whole(t)),
            truth_column("in_training", &self.in_training),
            truth_column("known_event", &self.known),
            float_column("log_p", &self.log_p),
            truth_column("is_anomaly", &self.is_anomaly),
        ];
        for member in &self.members {
            let name = &member.name;
            columns.push(float_column(&format!("{name}_log_p"), &member.log_p));
            columns.push(truth_column(&format!("{name}_flagged"), &member.flagged));
            columns.push(Column::new(format!("{name}_inside"), Kind::Bool, |s, t| {
                member.inside[[s, t]].map_or(Value::Empty, Value::Bool)
            }));
        }
        columns
    }

    /// The cells that anybody scored; the others are not kept.
    fn cells(&self) -> Vec<(usize, usize)> {
        let scored = |cell: &(usize, usize)| {
            !self.log_p[*cell].is_nan() || self.members.iter().any(|m| !m.log_p[*cell].is_nan())
        };
        let (n_series, n_times) = self.log_p.dim();
        (0..n_series).flat_map(|s| (0..n_times).map(move |t| (s, t))).filter(scored).collect()
    }

    fn read(header: Header, config: &Config, path: &Path) -> Result<Self, PipelineError> {
        let table = Table::read(path)?;
        let shape = (header.keys.len(), header.steps);
        let places = Places::read(&table, shape, path)?;
        let mut members = Vec::with_capacity(header.members.len());
        for MemberHeader { name, interval_level } in header.members {
            members.push(KeptMember {
                log_p: places.spread(table.floats(&format!("{name}_log_p"))?, f64::NAN),
                flagged: places.truths(&table, &format!("{name}_flagged"))?,
                inside: places.spread(table.truths(&format!("{name}_inside"))?, None),
                interval_level,
                name,
            });
        }
        Ok(Self {
            level: header.level,
            calendar: Calendar::new(header.step, header.origin, header.steps, config.source.zone()),
            keys: header.keys,
            in_training: places.truths(&table, "in_training")?,
            known: places.truths(&table, "known_event")?,
            log_p: places.spread(table.floats("log_p")?, f64::NAN),
            is_anomaly: places.truths(&table, "is_anomaly")?,
            members,
        })
    }
}

fn float_column<'a>(name: &str, values: &'a Array2<f64>) -> Column<'a> {
    Column::new(name, Kind::Float, |s, t| Value::Float(values[[s, t]]))
}

fn truth_column<'a>(name: &str, values: &'a Array2<bool>) -> Column<'a> {
    Column::new(name, Kind::Bool, |s, t| Value::Bool(values[[s, t]]))
}

/// The cell of every row.
struct Places {
    shape: (usize, usize),
    cells: Vec<(usize, usize)>,
}

impl Places {
    fn read(table: &Table, shape: (usize, usize), path: &Path) -> Result<Self, PipelineError> {
        let series = table.places("series")?;
        let cells: Vec<(usize, usize)> = series.into_iter().zip(table.places("step")?).collect();
        match cells.iter().find(|(s, t)| *s >= shape.0 || *t >= shape.1) {
            None => Ok(Self { shape, cells }),
            Some((s, t)) => Err(PipelineError::Other(format!(
                "{}: series {s}, step {t} is not in {HEADERS}: the files do not belong together; run again",
                path.display()
            ))),
        }
    }

    /// Row values on their cells; `empty` elsewhere.
    fn spread<T: Clone>(&self, values: Vec<T>, empty: T) -> Array2<T> {
        let mut spread = Array2::from_elem(self.shape, empty);
        for (cell, value) in self.cells.iter().zip(values) {
            spread[*cell] = value;
        }
        spread
    }

    fn truths(&self, table: &Table, name: &str) -> Result<Array2<bool>, PipelineError> {
        let values = table.truths(name)?.into_iter().map(|value| value.unwrap_or(false));
        Ok(self.spread(values.collect(), false))
    }
}

/// Writes `scores/` into a run's directory.
///
/// # Errors
/// When a file cannot be written.
pub fn write_scores(levels: &[KeptLevel], run_dir: &Path) -> Result<(), PipelineError> {
    let dir = run_dir.join(SCORES_DIR);
    fs::create_dir_all(&dir).map_err(PipelineError::io(&dir))?;
    for level in levels {
        let path = dir.join(format!("{}.parquet", level.level.name));
        write_parquet(&path, &level.columns(), &level.cells())?;
    }
    let headers: Vec<Header> = levels.iter().map(KeptLevel::header).collect();
    write::write_json(&dir.join(HEADERS), &headers)
}

/// Reads what [`write_scores`] wrote.
///
/// # Errors
/// When the folder is missing or damaged.
pub fn read_scores(config: &Config, run_dir: &Path) -> Result<Vec<KeptLevel>, PipelineError> {
    let dir = run_dir.join(SCORES_DIR);
    let path = dir.join(HEADERS);
    let fail = |reason: String| {
        PipelineError::Other(format!(
            "{}: {reason}; `anomalist run` and `detect` keep it since they can be evaluated: run again",
            path.display()
        ))
    };
    let bytes = fs::read(&path).map_err(|error| fail(error.to_string()))?;
    let headers: Vec<Header> =
        serde_json::from_slice(&bytes).map_err(|error| fail(error.to_string()))?;
    headers
        .into_iter()
        .map(|header| {
            let file = dir.join(format!("{}.parquet", header.level.name));
            KeptLevel::read(header, config, &file)
        })
        .collect()
}
