//! A checkpoint of models of records: the same folder, hashes and refusals as for panels.
//!
//! ```text
//! checkpoint/
//!   manifest.json      format, kind = "records", version, seed, device, data, and every file's hash
//!   config.toml        the resolved config
//!   <part>.json        features, models, calibration, and the last rows of every context
//! ```

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use super::{CheckpointError, FORMAT, Files, MANIFEST, Origin, read, to_json, write};

/// Tells the manifest from that of panels.
pub(super) const KIND: &str = "records";

/// A whole checkpoint in memory.
#[derive(Clone, Debug)]
pub struct RecordsCheckpoint {
    pub origin: Origin,
    /// The resolved config, as TOML.
    pub config: String,
    /// What was fitted, by name.
    pub parts: BTreeMap<String, serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    format: u32,
    kind: String,
    #[serde(flatten)]
    origin: Origin,
    parts: Vec<String>,
    files: BTreeMap<String, String>,
}

impl RecordsCheckpoint {
    /// Writes the checkpoint's files into an existing, empty folder.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_into(&self, dir: &Path) -> Result<(), CheckpointError> {
        let mut files = BTreeMap::new();
        let mut put = |name: String, bytes: &[u8]| {
            write(&dir.join(&name), bytes)?;
            files.insert(name, blake3::hash(bytes).to_hex().to_string());
            Ok::<(), CheckpointError>(())
        };
        put("config.toml".into(), self.config.as_bytes())?;
        for (name, part) in &self.parts {
            put(format!("{name}.json"), &to_json(dir, part)?)?;
        }
        let manifest = Manifest {
            format: FORMAT,
            kind: KIND.into(),
            origin: self.origin.clone(),
            parts: self.parts.keys().cloned().collect(),
            files,
        };
        write(&dir.join(MANIFEST), &to_json(dir, &manifest)?)
    }

    /// Reads a checkpoint, every file checked against its hash.
    ///
    /// # Errors
    /// When the folder is no checkpoint of records, of another format, or any file is missing, cut
    /// or changed.
    pub fn load(dir: &Path) -> Result<Self, CheckpointError> {
        let path = dir.join(MANIFEST);
        if !path.is_file() {
            return Err(CheckpointError::NotACheckpoint { path: dir.to_path_buf() });
        }
        let damaged = |reason: String| CheckpointError::Damaged { path: path.clone(), reason };
        let value: serde_json::Value =
            serde_json::from_slice(&read(&path)?).map_err(|error| damaged(error.to_string()))?;
        let found = value["format"].as_u64().ok_or_else(|| damaged("it has no format".into()))?;
        if found != u64::from(FORMAT) {
            return Err(CheckpointError::Format {
                path: dir.to_path_buf(),
                found: u32::try_from(found).unwrap_or(u32::MAX),
                version: value["version"].as_str().unwrap_or("of its time").to_string(),
            });
        }
        if value["kind"].as_str() != Some(KIND) {
            return Err(CheckpointError::OtherKind {
                path: dir.to_path_buf(),
                found: "a panel",
                wanted: "records",
            });
        }
        let manifest: Manifest =
            serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
        let files = Files { dir, hashes: &manifest.files };
        let parts = manifest
            .parts
            .into_iter()
            .map(|name| Ok((name.clone(), files.json(&format!("{name}.json"))?)))
            .collect::<Result<_, CheckpointError>>()?;
        let config = String::from_utf8(files.bytes("config.toml")?)
            .map_err(|error| damaged(format!("config.toml: {error}")))?;
        Ok(Self { origin: manifest.origin, config, parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;

    fn sample() -> RecordsCheckpoint {
        RecordsCheckpoint {
            origin: Origin {
                version: "0.1.0".into(),
                seed: 7,
                device: "cpu".into(),
                data_fingerprint: "abc".into(),
            },
            config: "seed = 7\n".into(),
            parts: BTreeMap::from([("features".into(), serde_json::json!({ "a": [0.1, 2.5] }))]),
        }
    }

    #[test]
    fn what_is_saved_is_loaded_and_a_changed_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        sample().write_into(dir.path()).unwrap();
        let loaded = RecordsCheckpoint::load(dir.path()).unwrap();
        assert_eq!((loaded.origin, loaded.parts), (sample().origin, sample().parts));
        std::fs::write(dir.path().join("features.json"), "{}").unwrap();
        let error = RecordsCheckpoint::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("features.json") && error.contains("damaged"), "{error}");
    }

    #[test]
    fn a_checkpoint_of_the_other_kind_says_so() {
        let dir = tempfile::tempdir().unwrap();
        sample().write_into(dir.path()).unwrap();
        let error = Checkpoint::load(dir.path()).err().unwrap().to_string();
        assert!(error.contains("records"), "{error}");
        assert!(RecordsCheckpoint::load(&dir.path().join("none")).is_err());
    }
}
