//! Whole or not at all: folders and files that appear under their name only when complete.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use super::SinkError;

/// A folder that is being written beside its final place. Dropped before [`PartialDir::finish`],
/// it is removed.
pub struct PartialDir {
    partial: Option<PathBuf>,
    target: PathBuf,
}

impl PartialDir {
    /// Begins a folder that will become `target`. `marker` is a file that tells a folder of the
    /// same kind: an existing `target` is replaced only if it is empty or holds the marker.
    ///
    /// # Errors
    /// When `target` holds something else, or the folder cannot be made.
    pub fn begin(target: &Path, marker: &str) -> Result<Self, SinkError> {
        let refuse = |reason: &str| SinkError::Format {
            path: target.to_path_buf(),
            reason: reason.to_string(),
        };
        if target.exists() {
            let mut entries = fs::read_dir(target).map_err(SinkError::io(target))?;
            if entries.next().is_some() && !target.join(marker).exists() {
                return Err(refuse(&format!(
                    "the folder exists and is none of ours (it has no {marker}): choose another with --out, or empty it"
                )));
            }
        }
        let name = target.file_name().ok_or_else(|| refuse("is no name for a folder"))?;
        let parent = target.parent().filter(|p| !p.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(SinkError::io(parent))?;
        let partial =
            parent.join(format!(".{}.partial-{}", name.to_string_lossy(), std::process::id()));
        clear_stale(parent, &name.to_string_lossy());
        fs::create_dir(&partial).map_err(SinkError::io(&partial))?;
        Ok(Self { partial: Some(partial), target: target.to_path_buf() })
    }

    /// Where to write meanwhile.
    pub fn path(&self) -> &Path {
        self.partial.as_deref().unwrap_or(&self.target)
    }

    /// Gives the folder its name, replacing what was there.
    ///
    /// # Errors
    /// When renaming fails; the former folder is then put back.
    pub fn finish(mut self) -> Result<PathBuf, SinkError> {
        let Some(partial) = self.partial.take() else { return Ok(self.target.clone()) };
        let replace = || {
            if !self.target.exists() {
                return fs::rename(&partial, &self.target);
            }
            let mut old = partial.clone().into_os_string();
            old.push(".old");
            let old = PathBuf::from(old);
            fs::rename(&self.target, &old)?;
            if let Err(error) = fs::rename(&partial, &self.target) {
                let _ = fs::rename(&old, &self.target);
                return Err(error);
            }
            // The run is complete: what it replaced may linger under its telling name.
            let _ = fs::remove_dir_all(&old);
            Ok(())
        };
        replace().map_err(SinkError::io(&self.target))?;
        Ok(self.target.clone())
    }
}

impl Drop for PartialDir {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // Nothing to report to: the folder has a telling name and the next run clears it.
            let _ = fs::remove_dir_all(partial);
        }
    }
}

/// Removes what killed processes left of `name`; a folder whose process lives is being written.
fn clear_stale(parent: &Path, name: &str) {
    let prefix = format!(".{name}.partial-");
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let file_name = entry.file_name();
        let Some(pid) = file_name.to_str().and_then(|n| n.strip_prefix(&prefix)) else { continue };
        // `.old` is a whole former run between two renames: never ours to remove.
        let Ok(pid) = pid.parse::<u32>() else { continue };
        if pid == std::process::id() || is_gone(pid) {
            // What cannot be removed is in nobody's way.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// True when it is certain that no process has this id; only Linux can tell.
fn is_gone(pid: u32) -> bool {
    Path::new("/proc/self").exists() && !Path::new("/proc").join(pid.to_string()).exists()
}

/// Writes a file under a temporary name and renames it.
///
/// # Errors
/// When the folder is not writable.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), SinkError> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(SinkError::io(parent))?;
    let mut file = tempfile::NamedTempFile::new_in(parent).map_err(SinkError::io(path))?;
    file.write_all(bytes).map_err(SinkError::io(path))?;
    file.persist(path).map_err(|error| SinkError::io(path)(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_folder_leaves_nothing_and_a_finished_one_replaces() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("run");
        drop(PartialDir::begin(&target, "run.json").unwrap());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);

        for text in ["1", "2"] {
            let dir = PartialDir::begin(&target, "run.json").unwrap();
            fs::write(dir.path().join("run.json"), text).unwrap();
            dir.finish().unwrap();
        }
        assert_eq!(fs::read_to_string(target.join("run.json")).unwrap(), "2");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_process_left_is_cleared_by_the_next() {
        let root = tempfile::tempdir().unwrap();
        let (stale, alive) =
            (root.path().join(".run.partial-4294967294"), root.path().join(".run.partial-1"));
        for dir in [&stale, &alive] {
            fs::create_dir(dir).unwrap();
        }
        drop(PartialDir::begin(&root.path().join("run"), "run.json").unwrap());
        assert!(!Path::new("/proc/self").exists() || !stale.exists());
        assert!(alive.exists());
    }

    #[test]
    fn a_strangers_folder_is_never_replaced() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("thesis.txt"), "x").unwrap();
        assert!(PartialDir::begin(root.path(), "run.json").is_err());
    }

    #[test]
    fn a_file_appears_whole() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep/er/file.json");
        write_file(&path, b"{}").unwrap();
        assert_eq!(fs::read(path).unwrap(), b"{}");
    }
}
