//! The data sets of a comparison: each config's own, or those that the command names.

use std::path::{Path, PathBuf};

use crate::config::Config;

/// What `generate` calls its data.
const GENERATED: [&str; 4] = ["events.csv", "events.parquet", "funnel.csv", "funnel.parquet"];

/// Data that every config is run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSet {
    /// As the user named it.
    pub name: String,
    path: PathBuf,
    labels: Option<PathBuf>,
    known_events: Option<PathBuf>,
}

impl DataSet {
    /// A file, glob or folder. Of a folder that `generate` wrote, or a file in it, the labels and
    /// known events beside the data are taken too; of `NAME.csv`, those in `NAME_labels.csv`.
    pub fn find(path: &Path) -> Self {
        let data = GENERATED
            .iter()
            .map(|name| path.join(name))
            .find(|file| file.is_file() && path.join("labels.csv").is_file());
        let data = data.unwrap_or_else(|| path.to_path_buf());
        let folder = data.parent().unwrap_or(Path::new(""));
        let name = data.file_name().map(|name| name.to_string_lossy().into_owned());
        let generated = name.as_ref().is_some_and(|name| GENERATED.contains(&name.as_str()));
        let stem = data.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let beside = |file: &str| {
            let own = stem.as_ref().map(|stem| folder.join(format!("{stem}_{file}")));
            let shared = generated.then(|| folder.join(file));
            [own, shared].into_iter().flatten().find(|path| path.is_file())
        };
        Self {
            name: path.display().to_string(),
            labels: beside("labels.csv"),
            known_events: beside("known_events.csv"),
            path: data,
        }
    }

    /// The config on these data. Labels and known events of the config stay where none lie
    /// beside the data.
    pub fn apply(&self, config: &mut Config) {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        config.source.path = Some(text(&self.path));
        if let Some(labels) = &self.labels {
            config.source.labels = Some(text(labels));
        }
        if let Some(events) = &self.known_events {
            config.source.known_events = Some(text(events));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn labels_beside_the_data_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = dir.path().join(name);
            fs::write(&path, "x\n").unwrap();
            path
        };
        let plain = file("sales.csv");
        assert_eq!(DataSet::find(&plain).labels, None);
        let labels = file("sales_labels.csv");
        assert_eq!(DataSet::find(&plain).labels, Some(labels));

        assert_eq!(DataSet::find(dir.path()).path, dir.path());
        let (events, labels) = (file("events.csv"), file("labels.csv"));
        let folder = DataSet::find(dir.path());
        assert_eq!((&folder.path, &folder.labels), (&events, &Some(labels)));
        assert_eq!(folder.name, dir.path().display().to_string());
        assert_eq!(DataSet::find(&events).labels, folder.labels);
    }
}
