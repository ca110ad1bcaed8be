//! Versioned save and load of everything that scoring needs: weights as bytes, parameters,
//! scalers, calibration, config, seed and the fingerprint of the data.
//!
//! ```text
//! checkpoint/
//!   manifest.json                     format, version, seed, device, data, whether it is ready for
//!                                     use, and the hash of every other file
//!   config.toml                       the resolved config
//!   <level>/<detector>.json           parameters and statistics
//!   <level>/<detector>.safetensors    weights, where there are any
//!   <level>/keys.json                 the series, in the order of the fit
//!   <level>/calibration.json          raw scores -> p-values
//!   <level>/agreement.json            how alike the detectors' p-values are
//!   <level>/references.json           scores of the training part, for the rule `percentile`
//! ```
//!
//! A folder is written beside its place and renamed, so a checkpoint is whole or not there. On
//! load every file is checked against its hash before anything is parsed.

mod records;

pub use records::RecordsCheckpoint;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    detectors::{DetectorName, DetectorState},
    ensemble::{Agreement, Calibration, References},
    panel::{Level, Metric, SeriesKey, Step},
};

/// The layout that this version reads and writes. A change that older versions cannot read
/// raises it.
pub const FORMAT: u32 = 3;

/// The file that makes a folder a checkpoint.
pub const MANIFEST: &str = "manifest.json";

/// Why a checkpoint could not be saved or loaded.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error(
        "{path} is no checkpoint (it has no {MANIFEST}): name the folder that `anomalist train` wrote"
    )]
    NotACheckpoint { path: PathBuf },
    #[error(
        "{path} has checkpoint format {found}, this version reads {FORMAT}: train again with this version, or use anomalist {version}"
    )]
    Format { path: PathBuf, found: u32, version: String },
    #[error(
        "{path} is a checkpoint of {found}, but {wanted} are to be scored: name the config that it was trained with, or another checkpoint"
    )]
    OtherKind { path: PathBuf, found: &'static str, wanted: &'static str },
    #[error(
        "{path} is damaged: {reason}; copy the checkpoint again from its source, or train anew"
    )]
    Damaged { path: PathBuf, reason: String },
}

/// What is known of where a checkpoint comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The version of this program that trained it.
    pub version: String,
    pub seed: u64,
    /// The device it was trained on, as text.
    pub device: String,
    /// A hash of the training data's bytes.
    pub data_fingerprint: String,
}

/// Whether a checkpoint passed the admission test, and what that test has to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// False when a detector scores backwards: the checkpoint is kept to be looked at, not used.
    pub ready: bool,
    /// Why not.
    pub not_ready_because: Vec<String>,
    /// What could not be tested.
    pub untested: Vec<String>,
}

/// Everything that was fitted at one level.
pub struct LevelState {
    pub level: Level,
    pub step: Step,
    pub metrics: Vec<Metric>,
    /// The series in the order of the fit, which calibrations refer to.
    pub keys: Vec<SeriesKey>,
    /// For each key, the end of what was fitted, in seconds on the calendar's clock.
    pub trained_until: Vec<i64>,
    pub detectors: Vec<(DetectorName, DetectorState)>,
    pub calibrations: BTreeMap<DetectorName, Calibration>,
    pub agreement: Agreement,
    /// What percentiles are taken of.
    pub references: References,
}

/// A whole checkpoint in memory.
pub struct Checkpoint {
    pub origin: Origin,
    pub readiness: Readiness,
    /// The resolved config, as TOML.
    pub config: String,
    pub levels: Vec<LevelState>,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    format: u32,
    #[serde(flatten)]
    origin: Origin,
    #[serde(flatten)]
    readiness: Readiness,
    levels: Vec<ManifestLevel>,
    /// Relative path -> blake3 of the bytes.
    files: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Keys {
    keys: Vec<SeriesKey>,
    trained_until: Vec<i64>,
}

#[derive(Serialize, Deserialize)]
struct ManifestLevel {
    level: Level,
    step: Step,
    metrics: Vec<Metric>,
    detectors: Vec<DetectorName>,
}

impl Checkpoint {
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
        for level in &self.levels {
            let folder = &level.level.name;
            for (name, state) in &level.detectors {
                put(format!("{folder}/{name}.json"), &to_json(dir, &state.json)?)?;
                if let Some(weights) = &state.weights {
                    put(format!("{folder}/{name}.safetensors"), weights)?;
                }
            }
            let keys =
                Keys { keys: level.keys.clone(), trained_until: level.trained_until.clone() };
            put(format!("{folder}/keys.json"), &to_json(dir, &keys)?)?;
            put(format!("{folder}/calibration.json"), &to_json(dir, &level.calibrations)?)?;
            put(format!("{folder}/agreement.json"), &to_json(dir, &level.agreement)?)?;
            put(format!("{folder}/references.json"), &to_json(dir, &level.references)?)?;
        }
        let manifest = Manifest {
            format: FORMAT,
            origin: self.origin.clone(),
            readiness: self.readiness.clone(),
            levels: self
                .levels
                .iter()
                .map(|level| ManifestLevel {
                    level: level.level.clone(),
                    step: level.step,
                    metrics: level.metrics.clone(),
                    detectors: level.detectors.iter().map(|(name, _)| *name).collect(),
                })
                .collect(),
            files,
        };
        write(&dir.join(MANIFEST), &to_json(dir, &manifest)?)
    }

    /// Reads a checkpoint, every file checked against its hash.
    ///
    /// # Errors
    /// When the folder is no checkpoint, of another format, or any file is missing, cut or changed.
    pub fn load(dir: &Path) -> Result<Self, CheckpointError> {
        let path = dir.join(MANIFEST);
        if !path.is_file() {
            return Err(CheckpointError::NotACheckpoint { path: dir.to_path_buf() });
        }
        let bytes = read(&path)?;
        let damaged = |reason: String| CheckpointError::Damaged { path: path.clone(), reason };
        // The format first: a later format may have another manifest.
        let value: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        let found = value.get("format").and_then(serde_json::Value::as_u64);
        let found = found.ok_or_else(|| damaged("it has no format number".into()))?;
        if found != u64::from(FORMAT) {
            return Err(CheckpointError::Format {
                path: dir.to_path_buf(),
                found: u32::try_from(found).unwrap_or(u32::MAX),
                version: value["version"].as_str().unwrap_or("of its time").to_string(),
            });
        }
        if value["kind"].as_str() == Some(records::KIND) {
            return Err(CheckpointError::OtherKind {
                path: dir.to_path_buf(),
                found: "records",
                wanted: "panels",
            });
        }
        let manifest: Manifest =
            serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
        let files = Files { dir, hashes: &manifest.files };
        let mut levels = Vec::with_capacity(manifest.levels.len());
        for entry in manifest.levels {
            let folder = entry.level.name.clone();
            let mut detectors = Vec::with_capacity(entry.detectors.len());
            for name in entry.detectors {
                let json = files.json(&format!("{folder}/{name}.json"))?;
                let weights = format!("{folder}/{name}.safetensors");
                let weights = match manifest.files.contains_key(&weights) {
                    true => Some(files.bytes(&weights)?),
                    false => None,
                };
                detectors.push((name, DetectorState { json, weights }));
            }
            let Keys { keys, trained_until } = files.json(&format!("{folder}/keys.json"))?;
            if keys.len() != trained_until.len() {
                return Err(damaged(format!("{folder}/keys.json: its two lists differ in length")));
            }
            let agreement: Agreement = files.json(&format!("{folder}/agreement.json"))?;
            if !agreement.is_sound() {
                return Err(damaged(format!(
                    "{folder}/agreement.json: a number is no correlation"
                )));
            }
            let references: References = files.json(&format!("{folder}/references.json"))?;
            if !references.is_sound() {
                return Err(damaged(format!(
                    "{folder}/references.json: its numbers make no sense"
                )));
            }
            levels.push(LevelState {
                level: entry.level,
                step: entry.step,
                metrics: entry.metrics,
                keys,
                trained_until,
                detectors,
                calibrations: files.json(&format!("{folder}/calibration.json"))?,
                agreement,
                references,
            });
        }
        let config = String::from_utf8(files.bytes("config.toml")?)
            .map_err(|error| damaged(format!("config.toml: {error}")))?;
        Ok(Self { origin: manifest.origin, readiness: manifest.readiness, config, levels })
    }

    /// The level of that name.
    pub fn level(&self, name: &str) -> Option<&LevelState> {
        self.levels.iter().find(|level| level.level.name == name)
    }
}

/// The files of a manifest, read only through their hashes.
struct Files<'a> {
    dir: &'a Path,
    hashes: &'a BTreeMap<String, String>,
}

impl Files<'_> {
    fn bytes(&self, name: &str) -> Result<Vec<u8>, CheckpointError> {
        let path = self.dir.join(name);
        let damaged =
            |reason: &str| CheckpointError::Damaged { path: path.clone(), reason: reason.into() };
        let expected =
            self.hashes.get(name).ok_or_else(|| damaged("the manifest does not list it"))?;
        let bytes = read(&path)?;
        if blake3::hash(&bytes).to_hex().as_str() != expected {
            return Err(damaged("its hash is not the one in the manifest"));
        }
        Ok(bytes)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, CheckpointError> {
        serde_json::from_slice(&self.bytes(name)?).map_err(|error| CheckpointError::Damaged {
            path: self.dir.join(name),
            reason: error.to_string(),
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    fs::read(path).map_err(|source| CheckpointError::Io { path: path.to_path_buf(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let io = |source| CheckpointError::Io { path: path.to_path_buf(), source };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io)?;
    }
    fs::write(path, bytes).map_err(io)
}

fn to_json<T: Serialize>(dir: &Path, value: &T) -> Result<Vec<u8>, CheckpointError> {
    serde_json::to_vec(value).map_err(|error| CheckpointError::Damaged {
        path: dir.to_path_buf(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Checkpoint {
        let state = DetectorState {
            json: serde_json::json!({ "a": [1.0, 2.5] }),
            weights: Some(vec![1, 2, 3]),
        };
        Checkpoint {
            origin: Origin {
                version: "0.1.0".into(),
                seed: 7,
                device: "cpu".into(),
                data_fingerprint: "abc".into(),
            },
            readiness: Readiness {
                ready: false,
                not_ready_because: vec!["it scores backwards".into()],
                untested: vec![],
            },
            config: "seed = 7\n".into(),
            levels: vec![LevelState {
                level: Level { name: "key".into(), id_columns: vec!["key".into()] },
                step: Step::Week,
                metrics: vec![],
                keys: vec![SeriesKey(vec!["a".into()])],
                trained_until: vec![0],
                detectors: vec![(DetectorName::LstmAutoencoder, state)],
                calibrations: BTreeMap::new(),
                agreement: Agreement::default(),
                references: References::default(),
            }],
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        sample().write_into(dir.path()).unwrap();
        let loaded = Checkpoint::load(dir.path()).unwrap();
        assert_eq!(loaded.origin, sample().origin);
        assert_eq!(loaded.readiness, sample().readiness);
        let level = loaded.level("key").unwrap();
        assert_eq!(level.detectors[0].1.weights, Some(vec![1, 2, 3]));
        assert_eq!(level.detectors[0].1.json["a"][1], 2.5);
    }

    #[test]
    fn a_changed_or_cut_file_is_refused_by_name() {
        for name in ["config.toml", "key/lstm_autoencoder.safetensors", "key/calibration.json"] {
            let dir = tempfile::tempdir().unwrap();
            sample().write_into(dir.path()).unwrap();
            fs::write(dir.path().join(name), "x").unwrap();
            let error = Checkpoint::load(dir.path()).err().unwrap().to_string();
            assert!(error.contains(name) && error.contains("damaged"), "{error}");
            fs::remove_file(dir.path().join(name)).unwrap();
            assert!(Checkpoint::load(dir.path()).is_err());
        }
    }

    #[test]
    fn another_format_and_no_checkpoint_say_so() {
        let dir = tempfile::tempdir().unwrap();
        let error = Checkpoint::load(dir.path()).err().unwrap().to_string();
        assert!(error.contains("no checkpoint"), "{error}");
        sample().write_into(dir.path()).unwrap();
        let path = dir.path().join(MANIFEST);
        let text = fs::read_to_string(&path)
            .unwrap()
            .replace(&format!("\"format\":{FORMAT}"), "\"format\":9");
        fs::write(&path, text).unwrap();
        let error = Checkpoint::load(dir.path()).err().unwrap().to_string();
        assert!(error.contains("format 9") && error.contains("0.1.0"), "{error}");
        fs::write(&path, "{").unwrap();
        assert!(matches!(Checkpoint::load(dir.path()), Err(CheckpointError::Damaged { .. })));
    }
}
