//! By what a run is found again: everything that its flags follow from.

use std::{
    collections::HashMap,
    env, fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::{
    config::{Config, ReportSection},
    pipeline::{PipelineError, RUN_FILE},
    source::{Format, fingerprint},
};

/// Digits of a key in the name of a run's folder.
const KEY_DIGITS: usize = 16;

/// Fingerprints of files, each read once.
#[derive(Default)]
pub struct Fingerprints(HashMap<String, String>);

impl Fingerprints {
    fn of(&mut self, path: &str, format: Format) -> Result<String, PipelineError> {
        if let Some(known) = self.0.get(path) {
            return Ok(known.clone());
        }
        let found = fingerprint(path, format)?;
        self.0.insert(path.to_string(), found.clone());
        Ok(found)
    }

    /// The key of the run that `config` stands for. Data are named by their content and not by
    /// their path; the run's name and what its report shows do not count. Generated data follow
    /// from the config itself.
    ///
    /// # Errors
    /// When an input file cannot be read.
    pub fn key(&mut self, config: &Config, program: &str) -> Result<String, PipelineError> {
        let source = &config.source;
        let mut parts = vec![program.to_string()];
        for (name, path, format) in [
            ("data", &source.path, source.format),
            ("labels", &source.labels, Format::Csv),
            ("known events", &source.known_events, Format::Csv),
        ] {
            let print = path.as_ref().map(|path| self.of(path, format)).transpose()?;
            parts.push(format!("{name} {}", print.unwrap_or_default()));
        }
        let mut config = config.clone();
        config.name = String::new();
        config.report = ReportSection::default();
        config.source.path = None;
        config.source.labels = None;
        config.source.known_events = None;
        parts.push(config.to_toml().map_err(|error| PipelineError::Other(error.to_string()))?);
        let hash = blake3::hash(parts.join("\n").as_bytes()).to_hex();
        Ok(hash.chars().take(KEY_DIGITS).collect())
    }
}

/// The program's version with a fingerprint of its file: between two releases the version alone
/// would take runs of a changed detector for runs of this one.
pub fn program() -> &'static str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let version = env!("CARGO_PKG_VERSION");
        let mut hasher = blake3::Hasher::new();
        let file = env::current_exe().and_then(fs::File::open);
        match file.and_then(|file| hasher.update_reader(file).map(|_| ())) {
            Ok(()) => format!("{version} {}", hasher.finalize().to_hex()),
            Err(_) => version.to_string(),
        }
    })
}

/// The folder of the run with this key in `store`, if it is there.
pub fn find(store: &Path, key: &str) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(store)
        .ok()?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            name.is_some_and(|name| !name.starts_with('.') && name.ends_with(&format!("-{key}")))
                && path.join(RUN_FILE).is_file()
        })
        .collect();
    found.sort();
    found.into_iter().next()
}

/// The folder that a run with this key gets.
pub fn folder(store: &Path, config: &Config, key: &str) -> PathBuf {
    store.join(format!("{}-seed{}-{key}", config.name, config.seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, "t.toml", Path::new(""), &[]).unwrap()
    }

    fn key(config: &Config) -> String {
        Fingerprints::default().key(config, "1.0").unwrap()
    }

    #[test]
    fn the_key_follows_the_content_and_not_the_names() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            format!("[source]\npath = '{}'\n", path.display())
        };
        let here = write("a.csv", "x,y\n1,2\n");
        let copy = write("b.csv", "x,y\n1,2\n");
        let other = write("c.csv", "x,y\n1,3\n");
        let base = key(&config(&here));
        assert_eq!(base, key(&config(&here)));
        assert_eq!(base, key(&config(&copy)));
        assert_eq!(base, key(&config(&format!("name = \"z\"\n{here}\n[report]\ntop = 3\n"))));
        assert_ne!(base, key(&config(&other)));
        assert_ne!(base, key(&config(&format!("seed = 2\n{here}"))));
        assert_ne!(base, key(&config(&format!("{here}\n[decision]\nlevel = 0.995\n"))));
        assert_ne!(base, Fingerprints::default().key(&config(&here), "1.1").unwrap());
    }

    #[test]
    fn only_a_finished_run_is_found() {
        let store = tempfile::tempdir().unwrap();
        let config = config("name = \"weekly\"\n[generate.weekly]\nkeys = 3\n");
        let key = key(&config);
        let dir = folder(store.path(), &config, &key);
        fs::create_dir(&dir).unwrap();
        assert_eq!(find(store.path(), &key), None);
        fs::write(dir.join(RUN_FILE), "{}").unwrap();
        assert_eq!(find(store.path(), &key), Some(dir));
        assert_eq!(find(store.path(), "0123"), None);
    }

    #[test]
    fn the_program_is_named_by_version_and_content() {
        assert!(program().starts_with(env!("CARGO_PKG_VERSION")) && program().len() > 20);
    }
}
