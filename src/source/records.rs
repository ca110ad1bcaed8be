//! Records: rows with an id, a time, numbers and words, handed on as they are.
//!
//! The rows come through the same intake as all others, so files, filters, times and rejected rows
//! behave alike. Numbers and words may be missing in a record; its id and its time may not. What
//! the file says is kept beside what it means, because the output repeats every input column.

use std::{cell::RefCell, collections::HashMap, path::Path, sync::Arc};

use polars::prelude::{DataFrame, PolarsError, StringChunked};

use super::{
    Batch, ReadSummary, RejectLog, SourceError, csv_rows,
    error::PushError,
    files::{self, FileKind},
    intake::is_missing,
    parquet_rows, read,
    spec::{Format, IdColumn, MetricColumn, SourceSpec},
};
use crate::panel::{MISSING_WORD, RecordBlock, TIME_COLUMN, WordColumn};

/// Before the name of a column as the file has it, so that it differs from what is made of it.
const WRITTEN: &str = "as written: ";

/// Which columns records have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordLayout {
    pub id_column: String,
    pub numeric: Vec<String>,
    pub categorical: Vec<String>,
    /// Columns of the file that are handed on as text.
    pub written: Vec<String>,
}

/// Rows of one file.
pub struct RecordBatch {
    pub block: RecordBlock,
    ids: StringChunked,
    /// In the order of [`RecordLayout::written`].
    written: Vec<StringChunked>,
}

impl RecordBatch {
    /// The id of a row.
    pub fn id(&self, row: usize) -> &str {
        self.ids.get(row).unwrap_or("")
    }

    /// What the file says in column `column` of [`RecordLayout::written`].
    pub fn written(&self, column: usize, row: usize) -> &str {
        self.written.get(column).and_then(|column| column.get(row)).unwrap_or("")
    }
}

/// The columns of the first file of a pattern that can be handed on as text. In Parquet files
/// these are words, numbers and truths; its times are no text.
///
/// # Errors
/// When there is no file, or it is not what it says.
pub fn input_columns(spec: &SourceSpec) -> Result<Vec<String>, SourceError> {
    let files = files::find(&spec.pattern, spec.format)?;
    let Some(file) = files.first() else { return Ok(Vec::new()) };
    let mut columns = match file.kind {
        FileKind::Csv => {
            let hasher = RefCell::new(blake3::Hasher::new());
            csv_rows::open(file, spec.delimiter, &hasher)?.header.clone()
        }
        FileKind::Parquet => parquet_rows::text_columns(file)?,
    };
    for (name, _) in &file.partitions {
        if !columns.contains(name) {
            columns.push(name.clone());
        }
    }
    Ok(columns)
}

/// Reads every record of `spec` (whose own id columns and metrics are replaced by `layout`'s) and
/// hands them to `push` in batches. `columns` says which file column stands for a name of the
/// layout that the file lacks.
///
/// # Errors
/// As [`read`], and when `push` fails.
pub fn read_records(
    spec: &SourceSpec,
    layout: &RecordLayout,
    columns: &dyn Fn(&str) -> Option<String>,
    progress: &mut dyn FnMut(u64, u64),
    rejects: &mut RejectLog,
    push: &mut dyn FnMut(RecordBatch) -> Result<(), PushError>,
) -> Result<ReadSummary, SourceError> {
    let id = |name: &String| IdColumn { column: columns(name), ..IdColumn::named(name) };
    let mut id_columns = vec![id(&layout.id_column)];
    id_columns.extend(layout.categorical.iter().map(id));
    id_columns.extend(layout.written.iter().map(|name| IdColumn {
        column: Some(name.clone()),
        ..IdColumn::named(format!("{WRITTEN}{name}"))
    }));
    let optional_ids = id_columns.iter().skip(1).map(|id| id.name.clone()).collect();
    let metric =
        |name: &String| MetricColumn { name: name.clone(), column: columns(name), count: false };
    let spec = SourceSpec {
        id_columns,
        optional_ids,
        metrics: layout.numeric.iter().map(metric).collect(),
        ..spec.clone()
    };
    let mut words: Vec<Words> = layout.categorical.iter().map(|_| Words::default()).collect();
    read(&spec, progress, rejects, &mut |batch: &Batch| {
        push(convert(batch, layout, &mut words)?)?;
        Ok(Vec::new())
    })
}

/// The words of one column that were met so far.
#[derive(Default)]
struct Words {
    vocabulary: Arc<Vec<String>>,
    codes: HashMap<String, u32>,
}

impl Words {
    fn code(&mut self, word: &str) -> u32 {
        let word = word.trim_ascii();
        if is_missing(word) {
            return MISSING_WORD;
        }
        if let Some(&code) = self.codes.get(word) {
            return code;
        }
        let code = u32::try_from(self.codes.len()).unwrap_or(MISSING_WORD);
        self.codes.insert(word.to_string(), code);
        Arc::make_mut(&mut self.vocabulary).push(word.to_string());
        code
    }
}

fn convert(
    batch: &Batch,
    layout: &RecordLayout,
    words: &mut [Words],
) -> Result<RecordBatch, PolarsError> {
    let frame = &batch.frame;
    let text = |name: &str| -> Result<StringChunked, PolarsError> {
        Ok(frame.column(name)?.str()?.clone())
    };
    let times = frame.column(TIME_COLUMN)?.i64()?.iter().map(|time| time.unwrap_or(0)).collect();
    let mut columns = Vec::with_capacity(words.len());
    for (name, words) in layout.categorical.iter().zip(words) {
        let codes = text(name)?.iter().map(|word| words.code(word.unwrap_or(""))).collect();
        columns.push(WordColumn { vocabulary: Arc::clone(&words.vocabulary), codes });
    }
    let block = RecordBlock {
        times,
        n_numbers: layout.numeric.len(),
        numbers: numbers(frame, &layout.numeric)?,
        words: columns,
    };
    let written = layout.written.iter().map(|name| text(&format!("{WRITTEN}{name}")));
    Ok(RecordBatch {
        block,
        ids: text(&layout.id_column)?,
        written: written.collect::<Result<_, _>>()?,
    })
}

/// `[row, column]`, row by row.
fn numbers(frame: &DataFrame, names: &[String]) -> Result<Vec<f64>, PolarsError> {
    let n = names.len();
    let mut numbers = vec![f64::NAN; frame.height() * n];
    for (column, name) in names.iter().enumerate() {
        for (row, x) in frame.column(name)?.f64()?.iter().enumerate() {
            numbers[row * n + column] = x.unwrap_or(f64::NAN);
        }
    }
    Ok(numbers)
}

/// Labels of records by id: the kind of anomaly that each is. The file has the column
/// `interaction_id` (or whatever `id_column` says) and may have `kind`.
///
/// # Errors
/// When the file cannot be read or has no such column.
pub fn read_record_labels(
    path: &Path,
    id_column: &str,
) -> Result<HashMap<String, String>, SourceError> {
    const KIND: &str = "kind";
    let file = files::inspect(path, Format::Csv)?;
    let hasher = RefCell::new(blake3::Hasher::new());
    let mut csv = csv_rows::open(&file, None, &hasher)?;
    let place = |name: &str| csv.header.iter().position(|column| column == name);
    let names: Vec<&str> = csv.header.iter().map(String::as_str).collect();
    let id = place(id_column)
        .ok_or_else(|| super::columns::missing(&file, id_column, "the id of a label", &names))?;
    let kind = place(KIND);
    let mut labels = HashMap::new();
    let mut record = csv::ByteRecord::new();
    while let Some(line) = csv.next(&mut record)? {
        let text = |place: usize| record.get(place).and_then(|f| std::str::from_utf8(f).ok());
        let found = text(id).map(str::trim).filter(|id| !id.is_empty());
        let found = found.ok_or_else(|| SourceError::Cell {
            path: path.to_path_buf(),
            line,
            column: id_column.to_string(),
            problem: "is empty or no UTF-8; write the id of the row that is labelled".into(),
        })?;
        let kind = kind.and_then(text).map(str::trim).filter(|kind| !kind.is_empty());
        labels.insert(found.to_string(), kind.unwrap_or("anomaly").to_string());
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::spec::Layout;

    fn layout(written: &[&str]) -> RecordLayout {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        RecordLayout {
            id_column: "id".into(),
            numeric: names(&["csat", "aht"]),
            categorical: names(&["channel"]),
            written: names(written),
        }
    }

    fn batches(text: &str, written: &[&str]) -> (Vec<RecordBatch>, RejectLog) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.csv");
        std::fs::write(&path, text).unwrap();
        let mut spec = SourceSpec::new(path.to_string_lossy(), "at", Layout::Wide);
        spec.max_rejected_share = 1.0;
        let (mut found, mut rejects) = (Vec::new(), RejectLog::counting());
        read_records(&spec, &layout(written), &|_| None, &mut |_, _| {}, &mut rejects, &mut |b| {
            found.push(b);
            Ok(())
        })
        .unwrap();
        (found, rejects)
    }

    const ROWS: &str = "id,at,csat,aht,channel,note\n\
        a,2025-01-06T10:00:00Z,4.50,,voice,\"x, y\"\n\
        b,2025-01-06T10:00:05Z,NA,300,,z\n\
        ,2025-01-06T10:00:05Z,1,300,chat,\n\
        d,never,1,300,chat,\n\
        e,2025-01-06T10:00:09Z,1,many,chat,\n\
        f,2025-01-06T10:01:00Z,3,200, chat ,\n";

    #[test]
    fn numbers_and_words_may_be_missing_and_ids_and_times_may_not() {
        let (found, rejects) = batches(ROWS, &[]);
        let batch = &found[0];
        assert_eq!(batch.block.len(), 3);
        assert_eq!((batch.id(0), batch.id(1), batch.id(2)), ("a", "b", "f"));
        let numbers = batch.block.numbers_of(0);
        assert!(numbers[0] == 4.5 && numbers[1].is_nan());
        assert!(batch.block.numbers_of(1)[0].is_nan());
        let words: Vec<&str> = (0..3).map(|row| batch.block.words[0].word(row)).collect();
        assert_eq!(words, ["voice", "", "chat"]);
        assert_eq!(batch.block.times[2] - batch.block.times[0], 60);
        assert_eq!(rejects.total(), 3);
    }

    #[test]
    fn what_the_file_says_is_handed_on_letter_by_letter() {
        let (found, _) = batches(ROWS, &["csat", "note", "at"]);
        assert_eq!(found[0].written(0, 0), "4.50");
        assert_eq!(found[0].written(1, 0), "x, y");
        assert_eq!(found[0].written(2, 1), "2025-01-06T10:00:05Z");
        assert_eq!(found[0].written(0, 1), "NA");
    }

    #[test]
    fn labels_are_read_by_id_and_an_empty_id_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.csv");
        std::fs::write(&path, "interaction_id,kind,group\na,burst,g\nb,,\n").unwrap();
        let labels = read_record_labels(&path, "interaction_id").unwrap();
        assert_eq!((labels["a"].as_str(), labels["b"].as_str()), ("burst", "anomaly"));
        std::fs::write(&path, "interaction_id,kind\n,burst\n").unwrap();
        let text = read_record_labels(&path, "interaction_id").unwrap_err().to_string();
        assert!(text.contains("line 2") && text.contains("interaction_id"), "{text}");
        assert!(read_record_labels(&path, "id").is_err());
    }
}
