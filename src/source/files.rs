//! From a file, glob or folder to a list of files that are what they say they are.
//!
//! The first bytes are looked at before anything is parsed: a Parquet file read as CSV gives
//! thousands of baffling row errors, and a compressed or UTF-16 file gives one column with an
//! unreadable name. Such files are refused with what they are and what to do.

use std::{
    fs::{self, File},
    io::Read,
    path::{Component, Path, PathBuf},
};

use super::{SourceError, spec::Format};

/// What a file is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Csv,
    Parquet,
}

/// One file to read.
#[derive(Clone, Debug)]
pub(super) struct InputFile {
    pub(super) path: PathBuf,
    pub(super) kind: FileKind,
    pub(super) bytes: u64,
    /// Columns that its `column=value` folders add; an empty value is a missing one.
    pub(super) partitions: Vec<(String, String)>,
}

const CSV_NAMES: [&str; 4] = ["csv", "tsv", "txt", "psv"];
const PARQUET_NAMES: [&str; 3] = ["parquet", "pq", "parq"];
const PACKED_NAMES: [&str; 5] = ["gz", "zst", "bz2", "xz", "zip"];

/// Hive's name for a missing partition value.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// Beginnings of files that are neither CSV nor Parquet, what they are, and what to do.
const FOREIGN: [(&[u8], &str, &str); 12] = [
    (b"\x1f\x8b", "is compressed with gzip", "unpack it first (`gunzip FILE`)"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", "unpack it first (`unzstd FILE`)"),
    (b"BZh", "is compressed with bzip2", "unpack it first (`bunzip2 FILE`)"),
    (b"\xfd7zXZ", "is compressed with xz", "unpack it first (`unxz FILE`)"),
    (b"PK\x03\x04", "is a ZIP archive or an Excel workbook", "unpack it, or export it as CSV"),
    (b"\xd0\xcf\x11\xe0", "is an old Office file", "export it as CSV"),
    (b"\xff\xfe", "is UTF-16 text", "convert it (`iconv -f utf-16 -t utf-8`)"),
    (b"\xfe\xff", "is UTF-16 text", "convert it (`iconv -f utf-16 -t utf-8`)"),
    (b"PARE", "is an encrypted Parquet file", "write it without encryption"),
    (b"ARROW1", "is an Arrow (Feather) file", "write it as Parquet"),
    (b"Obj\x01", "is an Avro file", "write it as Parquet or CSV"),
    (b"ORC", "is an ORC file", "write it as Parquet or CSV"),
];

/// Finds the files of a pattern, sorted by path.
pub(super) fn find(pattern: &str, format: Format) -> Result<Vec<InputFile>, SourceError> {
    let paths = list(pattern, format)?;
    let mut files = Vec::with_capacity(paths.len());
    let mut empty = None;
    for path in paths {
        match inspect(&path, format) {
            Ok(file) => files.push(file),
            // Writers of partitioned data leave empty parts behind; alone, one is a mistake.
            Err(SourceError::EmptyFile(path)) => empty = Some(path),
            Err(other) => return Err(other),
        }
    }
    if let (true, Some(path)) = (files.is_empty(), empty) {
        return Err(SourceError::EmptyFile(path));
    }
    let of_kind = |kind| files.iter().find(|file| file.kind == kind);
    if let (Some(csv), Some(parquet)) = (of_kind(FileKind::Csv), of_kind(FileKind::Parquet)) {
        return Err(SourceError::WrongKind {
            path: pattern.into(),
            found: format!(
                "holds CSV files ({}) and Parquet files ({})",
                csv.path.display(),
                parquet.path.display()
            ),
            remedy: "say which to read with format = \"csv\" or format = \"parquet\"".into(),
        });
    }
    Ok(files)
}

fn list(pattern: &str, format: Format) -> Result<Vec<PathBuf>, SourceError> {
    let root = Path::new(pattern);
    if root.is_file() {
        return Ok(vec![root.to_path_buf()]);
    }
    let mut paths = Vec::new();
    if root.is_dir() {
        walk(root, format, &mut paths)?;
        if paths.is_empty() {
            return Err(SourceError::NoFiles(format!(
                "the folder `{pattern}` has no {} file, nor has any folder in it; give the right folder, or name the files with a glob",
                wanted(format)
            )));
        }
    } else if pattern.contains(['*', '?', '[']) {
        let matches = glob::glob(pattern).map_err(|error| {
            SourceError::NoFiles(format!("`{pattern}` is no glob ({error}); correct it"))
        })?;
        for path in matches {
            let path = path.map_err(|error| {
                let path = error.path().to_path_buf();
                SourceError::read(path, error.into())
            })?;
            if path.is_dir() {
                walk(&path, format, &mut paths)?;
            } else {
                paths.push(path);
            }
        }
        if paths.is_empty() {
            return Err(SourceError::NoFiles(format!(
                "nothing matches `{pattern}`; check the folder and the quotes around the glob"
            )));
        }
    } else {
        return Err(SourceError::NoFiles(format!(
            "`{pattern}` does not exist{}",
            neighbours(root)
        )));
    }
    paths.sort();
    Ok(paths)
}

/// Files below a folder whose names fit, without hidden ones and those that start with `_`
/// (writers of partitioned data leave `_SUCCESS` and `_metadata` there).
fn walk(folder: &Path, format: Format, paths: &mut Vec<PathBuf>) -> Result<(), SourceError> {
    let failed = |error| SourceError::read(folder, error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(['.', '_']) {
            continue;
        }
        // A linked folder is not followed: it could lead back here.
        if entry.file_type().map_err(failed)?.is_dir() {
            walk(&entry.path(), format, paths)?;
        } else if fits(&name, format) {
            paths.push(entry.path());
        }
    }
    Ok(())
}

fn extension(name: &str) -> String {
    Path::new(name).extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default()
}

fn named_kind(name: &str) -> Option<FileKind> {
    match extension(name).as_str() {
        e if CSV_NAMES.contains(&e) => Some(FileKind::Csv),
        e if PARQUET_NAMES.contains(&e) => Some(FileKind::Parquet),
        // `a.csv.gz` is looked at, so that its error says what to do.
        e if PACKED_NAMES.contains(&e) => named_kind(name.rsplit_once('.')?.0),
        _ => None,
    }
}

fn fits(name: &str, format: Format) -> bool {
    match (format, named_kind(name)) {
        (_, None) => false,
        (Format::Auto, _) => true,
        (Format::Csv, Some(kind)) => kind == FileKind::Csv,
        (Format::Parquet, Some(kind)) => kind == FileKind::Parquet,
    }
}

fn wanted(format: Format) -> &'static str {
    match format {
        Format::Auto => "CSV or Parquet",
        Format::Csv => "CSV",
        Format::Parquet => "Parquet",
    }
}

/// What lies where the missing file should be.
fn neighbours(path: &Path) -> String {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let Ok(entries) = fs::read_dir(parent) else {
        return format!(", nor does its folder `{}`; check the path", parent.display());
    };
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| named_kind(name).is_some())
        .collect();
    names.sort();
    names.truncate(5);
    if names.is_empty() {
        "; check the path".into()
    } else {
        format!("; check the path (there are: {})", names.join(", "))
    }
}

/// One file, looked at.
pub(super) fn inspect(path: &Path, format: Format) -> Result<InputFile, SourceError> {
    let failed = |error| SourceError::read(path, error);
    let mut file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let mut head = Vec::new();
    Read::by_ref(&mut file).take(512).read_to_end(&mut head).map_err(failed)?;
    if head.is_empty() {
        return Err(SourceError::EmptyFile(path.to_path_buf()));
    }
    let kind = kind_of(path, &head, format)?;
    Ok(InputFile { path: path.to_path_buf(), kind, bytes, partitions: partitions(path) })
}

fn kind_of(path: &Path, head: &[u8], format: Format) -> Result<FileKind, SourceError> {
    let wrong = |found: &str, remedy: &str| SourceError::WrongKind {
        path: path.to_path_buf(),
        found: found.into(),
        remedy: remedy.into(),
    };
    if let Some((_, found, remedy)) = FOREIGN.iter().find(|(magic, ..)| head.starts_with(magic)) {
        return Err(wrong(found, remedy));
    }
    let by_name = named_kind(&path.to_string_lossy());
    let expected = match format {
        Format::Auto => by_name,
        Format::Csv => Some(FileKind::Csv),
        Format::Parquet => Some(FileKind::Parquet),
    };
    let found = if head.starts_with(b"PAR1") { FileKind::Parquet } else { FileKind::Csv };
    match (found, expected) {
        (FileKind::Parquet, Some(FileKind::Csv)) => Err(wrong(
            "is a Parquet file, though it is to be read as CSV",
            "name it .parquet, or set format = \"parquet\"",
        )),
        (FileKind::Csv, Some(FileKind::Parquet)) => Err(wrong(
            "is no Parquet file, though it is to be read as one",
            "write it as Parquet, or name it .csv (format = \"csv\") if it is text",
        )),
        (FileKind::Csv, _) if head.contains(&0) => {
            Err(wrong("is a binary file", "give a CSV or a Parquet file"))
        }
        (FileKind::Csv, None)
            if ["json", "jsonl", "ndjson"]
                .contains(&extension(&path.to_string_lossy()).as_str()) =>
        {
            Err(wrong("is a JSON file", "convert it to CSV or Parquet"))
        }
        (kind, _) => Ok(kind),
    }
}

/// The `column=value` folders of a path.
fn partitions(path: &Path) -> Vec<(String, String)> {
    let Some(folder) = path.parent() else { return Vec::new() };
    folder
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => {
                let (column, value) = name.to_str()?.split_once('=')?;
                let value = if value == HIVE_NULL { String::new() } else { unescape(value) };
                (!column.is_empty()).then(|| (unescape(column), value))
            }
            _ => None,
        })
        .collect()
}

/// Hive writes characters that a path must not hold as `%XX`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, code.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, name: &str, bytes: &[u8]) -> String {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    }

    fn error(pattern: &str, format: Format) -> String {
        find(pattern, format).unwrap_err().to_string()
    }

    #[test]
    fn a_partitioned_folder_gives_its_files_with_their_columns() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "t/brand=a%20b/day=1/part-1.csv", b"x\n1\n");
        put(folder.path(), "t/brand=__HIVE_DEFAULT_PARTITION__/part-0.csv", b"x\n1\n");
        put(folder.path(), "t/_SUCCESS", b"");
        put(folder.path(), "t/.hidden.csv", b"x");
        put(folder.path(), "t/notes.md", b"x");
        let files = find(&folder.path().join("t").to_string_lossy(), Format::Auto).unwrap();
        let columns: Vec<_> = files.iter().map(|file| file.partitions.clone()).collect();
        assert_eq!(columns[0], [("brand".to_string(), String::new())]);
        assert_eq!(columns[1], [("brand".into(), "a b".into()), ("day".into(), "1".to_string())]);
        assert_eq!(files.len(), 2);
    }

    #[test]
    fn a_file_that_is_not_what_its_name_says_is_refused_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let cases: [(&str, &[u8], &str); 6] = [
            ("a.csv", b"PAR1xxxx", "format = \"parquet\""),
            ("b.parquet", b"a,b\n1,2\n", "format = \"csv\""),
            ("c.csv.gz", b"\x1f\x8b\x08", "gunzip"),
            ("d.csv", b"\xff\xfea\0", "utf-8"),
            ("e.xlsx", b"PK\x03\x04", "export it as CSV"),
            ("f.csv", b"a\0b", "binary"),
        ];
        for (name, bytes, remedy) in cases {
            let path = put(folder.path(), name, bytes);
            let text = error(&path, Format::Auto);
            assert!(text.contains(name) && text.contains(remedy), "{text}");
        }
        let path = put(folder.path(), "g.csv", b"PAR1xxxx");
        assert_eq!(find(&path, Format::Parquet).unwrap()[0].kind, FileKind::Parquet);
    }

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "events.csv", b"x\n1\n");
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        assert!(error(&at("event.csv"), Format::Auto).contains("there are: events.csv"));
        assert!(error(&at("*.parquet"), Format::Auto).contains("nothing matches"));
        assert!(error(&at(""), Format::Parquet).contains("no Parquet file"));
        assert!(error(&at("no/such.csv"), Format::Auto).contains("nor does its folder"));
        let empty = put(folder.path(), "sub/empty.csv", b"");
        assert!(error(&empty, Format::Auto).contains("is empty"));
    }

    #[test]
    fn an_empty_part_among_full_ones_is_passed_over_and_mixed_formats_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_string_lossy().into_owned();
        put(folder.path(), "a.csv", b"x\n1\n");
        put(folder.path(), "b.csv", b"");
        assert_eq!(find(&root, Format::Auto).unwrap().len(), 1);
        put(folder.path(), "c.parquet", b"PAR1");
        assert!(error(&root, Format::Auto).contains("say which to read"));
        assert_eq!(find(&root, Format::Csv).unwrap().len(), 1);
    }
}
