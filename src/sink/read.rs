//! Reads back what was written here, row by row.

use std::path::Path;

use super::SinkError;

/// Hands the fields of `columns`, in this order, of every row of a CSV file to `take`.
///
/// # Errors
/// When the file cannot be read, lacks a column, or `take` refuses a row: its reason is passed on
/// with the file and the line.
pub fn read_csv(
    path: &Path,
    columns: &[String],
    take: &mut dyn FnMut(&[&str]) -> Result<(), String>,
) -> Result<(), SinkError> {
    let refuse = |reason: String| SinkError::Format { path: path.to_path_buf(), reason };
    let damaged = |error: csv::Error| refuse(format!("{error}; the file was changed: run again"));
    let mut reader = csv::Reader::from_path(path).map_err(|error| match error.into_kind() {
        csv::ErrorKind::Io(source) => SinkError::io(path)(source),
        other => refuse(format!("{other:?}")),
    })?;
    let header = reader.headers().map_err(damaged)?.clone();
    let places = columns
        .iter()
        .map(|column| {
            header.iter().position(|name| name == column).ok_or_else(|| {
                refuse(format!("no column `{column}`; the file was changed, or written by another version: run again"))
            })
        })
        .collect::<Result<Vec<usize>, _>>()?;
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(damaged)? {
        let fields: Vec<&str> = places.iter().map(|&i| record.get(i).unwrap_or("")).collect();
        take(&fields).map_err(|reason| {
            let line = record.position().map_or(0, csv::Position::line);
            refuse(format!("line {line}: {reason}; the file was changed: run again"))
        })?;
    }
    Ok(())
}

/// A number as tables have it; an empty field is missing, NaN.
///
/// # Errors
/// What is there instead.
pub fn parse_number(text: &str) -> Result<f64, String> {
    if text.is_empty() {
        return Ok(f64::NAN);
    }
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

/// A flag as tables have it; an empty field is false.
///
/// # Errors
/// What is there instead.
pub fn parse_boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" | "" => Ok(false),
        other => Err(format!("`{other}` is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_in_the_order_of_the_columns_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        std::fs::write(&path, "a,b,c\n1,\"x, y\",3\n4,,6\n").unwrap();
        let mut rows = Vec::new();
        let columns = ["c".to_string(), "b".to_string()];
        read_csv(&path, &columns, &mut |fields| {
            rows.push(fields.join("|"));
            Ok(())
        })
        .unwrap();
        assert_eq!(rows, ["3|x, y", "6|"]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        std::fs::write(&path, "a,b\n1,2\n3,4\n").unwrap();
        let error = read_csv(&path, &["z".into()], &mut |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("t.csv") && error.contains("no column `z`"), "{error}");
        let mut n = 0;
        let error = read_csv(&path, &["a".into()], &mut |_| {
            n += 1;
            if n == 2 { Err("no".into()) } else { Ok(()) }
        });
        assert!(error.unwrap_err().to_string().contains("line 3: no"));
        let error = read_csv(&dir.path().join("none.csv"), &[], &mut |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("none.csv"), "{error}");
    }
}
