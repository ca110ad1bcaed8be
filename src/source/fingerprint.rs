//! A name for the content of files, without reading them as tables.

use std::{fs::File, path::Path};

use super::{SourceError, files, spec::Format};

/// BLAKE3 of all bytes of all files that `pattern` names (a file, a glob or a folder), in the
/// order of their paths, and of the values that their folders add, in hex.
///
/// # Errors
/// When nothing is found, or a file is unreadable or not of its format.
pub fn fingerprint(pattern: &str, format: Format) -> Result<String, SourceError> {
    let mut hasher = blake3::Hasher::new();
    for file in files::find(pattern, format)? {
        for (column, value) in &file.partitions {
            hasher.update(column.as_bytes()).update(b"=").update(value.as_bytes()).update(b"/");
        }
        hash(&file.path, &mut hasher)?;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn hash(path: &Path, hasher: &mut blake3::Hasher) -> Result<(), SourceError> {
    let file = File::open(path).map_err(|source| SourceError::read(path, source))?;
    hasher.update_reader(file).map_err(|source| SourceError::read(path, source))?;
    Ok(())
}
