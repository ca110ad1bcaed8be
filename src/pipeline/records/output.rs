//! The files of scored records: every input column, then the ensemble's and each model's score,
//! flag and threshold, then what this program adds.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{PipelineError, fitted::FittedRecords, verdict::Judged};
use crate::{
    ensemble::RecordModel,
    sink::{Column, Kind, TableStream, Value},
    source::{RecordBatch, rfc3339},
};

/// Columns that follow the scores.
const EXTRA: [(&str, Kind); 6] = [
    ("p_value", Kind::Float),
    ("anomaly_severity", Kind::Text),
    ("anomaly_type", Kind::Text),
    ("context", Kind::Text),
    ("top_features", Kind::Text),
    ("in_training", Kind::Bool),
];

/// Which columns are written.
pub(super) struct Schema {
    input: Vec<Input>,
    /// The models whose columns are written, by place.
    models: Vec<(usize, RecordModel)>,
    ensemble: bool,
}

/// Where an input column's cells come from.
struct Input {
    name: String,
    /// Its place among the columns that are handed on as written; `None` for a time that is no
    /// text in the file.
    written: Option<usize>,
    /// Its place among the number columns.
    number: Option<usize>,
}

impl Schema {
    /// `written` are the input columns that are handed on as text. A time column that is none of
    /// them comes after the id, in UTC.
    ///
    /// # Errors
    /// When the input has a column that the output adds.
    pub(super) fn new(
        written: &[String],
        time_column: &str,
        fitted: &FittedRecords,
        place: Option<usize>,
    ) -> Result<Self, PipelineError> {
        let section = &fitted.section;
        let number = |name: &String| section.features.numeric.iter().position(|n| n == name);
        let mut input: Vec<Input> = written
            .iter()
            .enumerate()
            .map(|(at, name)| Input { name: name.clone(), written: Some(at), number: number(name) })
            .collect();
        if !written.iter().any(|name| name == time_column) {
            let id = written.iter().position(|name| *name == section.id_column);
            let time = Input { name: time_column.into(), written: None, number: None };
            input.insert(id.map_or(0, |id| id + 1), time);
        }
        let models = section.models.iter().copied().enumerate();
        let models = models.filter(|(at, _)| place.is_none_or(|place| place == *at)).collect();
        let schema = Self { input, models, ensemble: place.is_none() };
        let added: Vec<String> = schema.added().into_iter().map(|(name, _)| name).collect();
        match written.iter().find(|name| added.contains(name)) {
            None => Ok(schema),
            Some(name) => Err(PipelineError::Other(format!(
                "the input has a column `{name}`, which the output adds: rename or drop it (is the input an output of this program?)"
            ))),
        }
    }

    fn scored(&self) -> Vec<&'static str> {
        let ensemble = self.ensemble.then_some("ensemble");
        ensemble.into_iter().chain(self.models.iter().map(|(_, model)| model.as_str())).collect()
    }

    fn added(&self) -> Vec<(String, Kind)> {
        let mut added = Vec::new();
        for name in self.scored() {
            added.push((format!("{name}_score"), Kind::Float));
            added.push((format!("{name}_anomaly"), Kind::Bool));
            added.push((format!("{name}_threshold"), Kind::Float));
        }
        added.extend(EXTRA.map(|(name, kind)| (name.to_string(), kind)));
        added
    }

    /// Names and kinds of all columns.
    fn header(&self) -> Vec<(String, Kind)> {
        let kind = |input: &Input| if input.number.is_some() { Kind::Float } else { Kind::Text };
        let input = self.input.iter().map(|input| (input.name.clone(), kind(input)));
        input.chain(self.added()).collect()
    }

    /// The columns of a batch, with numbers as text or as numbers. `trained` are the rows of the
    /// batch that were fitted on, its first.
    fn columns<'a>(
        &'a self,
        batch: &'a RecordBatch,
        judged: &'a Judged,
        fitted: &'a FittedRecords,
        trained: usize,
        typed: bool,
    ) -> Vec<Column<'a>> {
        let mut columns: Vec<Column<'a>> =
            self.input.iter().map(|input| input_column(input, batch, typed)).collect();
        let judge = &fitted.judge;
        if self.ensemble {
            let verdicts = &judged.verdicts;
            columns.extend(scored(
                "ensemble",
                &verdicts.score,
                &verdicts.is_anomaly,
                judge.threshold(),
            ));
        }
        for &(place, model) in &self.models {
            let (scores, flags) = (&judged.scores[place], &judged.verdicts.flags[place]);
            columns.extend(scored(model.as_str(), scores, flags, judge.model_threshold(place)));
        }
        let finding = |row: usize| judged.findings[row].as_ref();
        let text = |name: &str, value: Box<dyn Fn(usize) -> Value<'a> + Sync + 'a>| {
            Column::new(name, Kind::Text, move |_, row| value(row))
        };
        let word =
            |word: Option<&'static str>| word.map_or(Value::Empty, |w| Value::Text(w.into()));
        columns.push(Column::new("p_value", Kind::Float, |_, row| {
            Value::Float(judged.ln_p[row].exp())
        }));
        columns.push(text(
            "anomaly_severity",
            Box::new(move |row| word(finding(row).map(|f| f.severity.as_str()))),
        ));
        columns.push(text(
            "anomaly_type",
            Box::new(move |row| word(finding(row).map(|f| f.kind.as_str()))),
        ));
        columns.push(text(
            "context",
            Box::new(move |row| {
                Value::Text(fitted.features.context_name(judged.contexts[row]).into())
            }),
        ));
        columns.push(text(
            "top_features",
            Box::new(move |row| {
                finding(row).map_or(Value::Empty, |f| Value::Text(f.reasons.as_str().into()))
            }),
        ));
        columns
            .push(Column::new("in_training", Kind::Bool, move |_, row| Value::Bool(row < trained)));
        columns
    }
}

fn input_column<'a>(input: &Input, batch: &'a RecordBatch, typed: bool) -> Column<'a> {
    let name = input.name.as_str();
    match (input.written, input.number) {
        (Some(_), Some(number)) if typed => Column::new(name, Kind::Float, move |_, row| {
            Value::Float(batch.block.numbers_of(row)[number])
        }),
        (Some(written), _) => Column::new(name, Kind::Text, move |_, row| {
            Value::Text(batch.written(written, row).into())
        }),
        (None, _) => Column::new(name, Kind::Text, move |_, row| {
            Value::Text(rfc3339(batch.block.times[row]).into())
        }),
    }
}

fn scored<'a>(name: &str, scores: &'a [f64], flags: &'a [bool], threshold: f64) -> [Column<'a>; 3] {
    [
        Column::new(format!("{name}_score"), Kind::Float, |_, row| Value::Float(scores[row])),
        Column::new(format!("{name}_anomaly"), Kind::Bool, |_, row| Value::Bool(flags[row])),
        Column::new(format!("{name}_threshold"), Kind::Float, move |_, _| Value::Float(threshold)),
    ]
}

/// The files while they grow. Their names hold the time of the newest record, so they get them
/// last.
pub(super) struct Files {
    table: TableStream,
    dir: PathBuf,
    parquet: bool,
}

const UNNAMED: &str = "anomalies";

impl Files {
    pub(super) fn create(
        dir: &Path,
        schema: &Schema,
        parquet: bool,
    ) -> Result<Self, PipelineError> {
        fs::create_dir_all(dir).map_err(PipelineError::io(dir))?;
        let parquet_path = dir.join(format!("{UNNAMED}.parquet"));
        let table = TableStream::create(
            &dir.join(format!("{UNNAMED}.csv")),
            parquet.then_some(parquet_path.as_path()),
            &schema.header(),
        )?;
        Ok(Self { table, dir: dir.to_path_buf(), parquet })
    }

    pub(super) fn write(
        &mut self,
        schema: &Schema,
        batch: &RecordBatch,
        judged: &Judged,
        fitted: &FittedRecords,
        trained: usize,
    ) -> Result<(), PipelineError> {
        let columns = schema.columns(batch, judged, fitted, trained, false);
        let typed = match self.parquet {
            true => schema.columns(batch, judged, fitted, trained, true),
            false => Vec::new(),
        };
        Ok(self.table.write(&columns, &typed, batch.block.len())?)
    }

    /// Ends the files and gives them the names `STEM.csv` and `STEM.parquet`.
    pub(super) fn finish(self, stem: &str) -> Result<(), PipelineError> {
        self.table.finish()?;
        let extensions: &[&str] = if self.parquet { &["csv", "parquet"] } else { &["csv"] };
        for extension in extensions {
            let name = |stem: &str| self.dir.join(format!("{stem}.{extension}"));
            fs::rename(name(UNNAMED), name(stem)).map_err(PipelineError::io(name(stem)))?;
        }
        Ok(())
    }
}

/// A time in a file's name: `20250126T235812Z`.
pub(super) fn compact(epoch_secs: i64) -> String {
    rfc3339(epoch_secs).replace(['-', ':'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_a_file_name_has_no_colons() {
        assert_eq!(compact(1_737_935_892), "20250126T235812Z");
    }
}
