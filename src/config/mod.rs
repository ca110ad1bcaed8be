//! TOML -> a checked config, with every problem at once and each at its line and column.
//!
//! A config is the whole of an experiment: same config, seed and data give the same flags. Every
//! key has a default, unknown keys are refused, and `anomalist config show PRESET` prints the
//! shipped files, which a test reads back.

mod document;
mod matrix;
mod output;
mod presets;
mod records;
mod sections;

pub use document::{Problem, Source};
pub use matrix::{MAX_VARIANTS, Variant};
pub use output::{OutputSchema, OutputSection};
pub use presets::{PRESETS, Preset};
pub use records::{RecordForestParams, RecordLofParams, RecordOutput, RecordsSection};
pub use sections::{
    EnsembleSection, GenerateSection, LayoutName, PanelSection, PlanName, ReportSection,
    SourceSection, SplitSection,
};

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use toml_edit::DocumentMut;

use crate::{
    detectors::{
        DetectorName, change_points::ChangePointParams, isolation_forest::IsolationForestParams,
        lof::LofParams, lstm_autoencoder::LstmParams, nb2::Nb2Params, prophet::ProphetParams,
        random_cut_forest::RandomCutForestParams, rolling::RollingParams,
        seasonal_profile::SeasonalProfileParams, spectral_residual::SpectralResidualParams,
        subsequence_pca::SubsequencePcaParams, zscore::ZscoreParams,
    },
    device::DeviceChoice,
    ensemble::{CalibrationParams, DecisionParams},
    evaluation::inject::InjectParams,
};

/// A whole experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Names the run; part of the default output folder.
    pub name: String,
    /// Every random stream derives from it.
    pub seed: u64,
    /// `auto | gpu | gpu:N | cpu`.
    pub device: DeviceChoice,
    pub source: SourceSection,
    /// Without an input path, data are generated first.
    #[serde(skip_serializing_if = "GenerateSection::is_empty")]
    pub generate: GenerateSection,
    /// Makes the config one about records, which lie on no calendar and have no panel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<RecordsSection>,
    pub panel: PanelSection,
    pub split: SplitSection,
    pub ensemble: EnsembleSection,
    pub calibration: CalibrationParams,
    pub decision: DecisionParams,
    pub nb2: Nb2Params,
    pub lstm_autoencoder: LstmParams,
    pub seasonal_profile: SeasonalProfileParams,
    pub prophet: ProphetParams,
    pub change_points: ChangePointParams,
    pub zscore: ZscoreParams,
    pub rolling: RollingParams,
    pub isolation_forest: IsolationForestParams,
    pub random_cut_forest: RandomCutForestParams,
    pub lof: LofParams,
    pub spectral_residual: SpectralResidualParams,
    pub subsequence_pca: SubsequencePcaParams,
    /// What `anomalist inject` puts into a copy of the data.
    pub inject: InjectParams,
    pub report: ReportSection,
    pub output: OutputSection,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "run".into(),
            seed: 1,
            device: DeviceChoice::default(),
            source: SourceSection::default(),
            generate: GenerateSection::default(),
            records: None,
            panel: PanelSection::default(),
            split: SplitSection::default(),
            ensemble: EnsembleSection::default(),
            calibration: CalibrationParams::default(),
            decision: DecisionParams::default(),
            nb2: Nb2Params::default(),
            lstm_autoencoder: LstmParams::default(),
            seasonal_profile: SeasonalProfileParams::default(),
            prophet: ProphetParams::default(),
            change_points: ChangePointParams::default(),
            zscore: ZscoreParams::default(),
            rolling: RollingParams::default(),
            isolation_forest: IsolationForestParams::default(),
            random_cut_forest: RandomCutForestParams::default(),
            lof: LofParams::default(),
            spectral_residual: SpectralResidualParams::default(),
            subsequence_pca: SubsequencePcaParams::default(),
            inject: InjectParams::default(),
            report: ReportSection::default(),
            output: OutputSection::default(),
        }
    }
}

/// The tables that a config of records is made of: the others are about panels.
const RECORD_TABLES: &[&str] =
    &["source", "generate", "records", "calibration", "report", "output"];

/// A config that cannot be used: every problem, in the order of the file.
#[derive(Debug)]
pub struct ConfigError {
    /// The file, or the preset's name.
    pub file: String,
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            match problem.place {
                Some((line, column)) => write!(f, "{}:{line}:{column}: ", self.file)?,
                None => write!(f, "{}: ", self.file)?,
            }
            if !problem.key.is_empty() {
                write!(f, "`{}`: ", problem.key)?;
            }
            f.write_str(&problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// One `--set key=value`, or an option that stands for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    pub key: String,
    /// TOML, or a bare string.
    pub value: String,
    /// What the user typed, for messages: `--set nb2.trend=maybe`.
    pub typed: String,
}

impl Config {
    /// Reads a config file with overrides. Paths in the file are relative to the file.
    ///
    /// # Errors
    /// When the file cannot be read, or with every problem in it.
    pub fn load(path: &Path, overrides: &[Override]) -> Result<Self, ConfigError> {
        let text = read_file(path)?;
        let base = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, &path.display().to_string(), base, overrides)
    }

    /// Reads a config file that may have a `[matrix]`.
    ///
    /// # Errors
    /// As [`Config::load`], and as [`Config::parse_variants`].
    pub fn load_variants(path: &Path, overrides: &[Override]) -> Result<Vec<Variant>, ConfigError> {
        let text = read_file(path)?;
        let base = path.parent().unwrap_or(Path::new(""));
        Self::parse_variants(&text, &path.display().to_string(), base, overrides)
    }

    /// Reads config text; `base` is the folder that relative paths start from.
    ///
    /// # Errors
    /// Every problem in the text and the overrides.
    pub fn parse(
        text: &str,
        file: &str,
        base: &Path,
        overrides: &[Override],
    ) -> Result<Self, ConfigError> {
        let source = Source::parse(text)
            .map_err(|problem| ConfigError { file: file.to_string(), problems: vec![problem] })?;
        let document = source.to_mut();
        Self::parse_document(&source, document, file, base, overrides)
    }

    /// Reads a document of `source` from which entries may have been taken out.
    fn parse_document(
        source: &Source,
        mut document: DocumentMut,
        file: &str,
        base: &Path,
        overrides: &[Override],
    ) -> Result<Self, ConfigError> {
        let fail = |problems: Vec<Problem>| ConfigError { file: file.to_string(), problems };
        document::resolve_paths(&mut document, base);
        let mut problems = Vec::new();
        for entry in overrides {
            if let Err(problem) = document::set(&mut document, &entry.key, &entry.value) {
                problems.push(problem);
            }
        }
        match document::read::<Self>(&document) {
            Ok(config) => problems.extend(config.check()),
            Err(found) => problems.extend(found),
        }
        if problems.is_empty() {
            return document::read(&document).map_err(fail);
        }
        for problem in &mut problems {
            if problem.key == "matrix" {
                problem.message = matrix::MISPLACED.into();
            }
            match overrides.iter().find(|entry| entry.key == problem.key) {
                Some(entry) => {
                    problem.message = format!("{} (from {})", problem.message, entry.typed)
                }
                None => problem.place = problem.place.or_else(|| source.place_of(&problem.key)),
            }
        }
        problems.sort_by_key(|problem| problem.place.unwrap_or((usize::MAX, 0)));
        Err(fail(problems))
    }

    /// The resolved config as TOML, which [`Config::parse`] reads back.
    ///
    /// # Errors
    /// When a value has no TOML form (no config that was read has one).
    pub fn to_toml(&self) -> Result<String, toml_edit::ser::Error> {
        let text = toml_edit::ser::to_string_pretty(self)?;
        match (&self.records, text.parse::<toml_edit::DocumentMut>()) {
            (Some(_), Ok(mut document)) => {
                let about_panels = |(name, item): (&str, &toml_edit::Item)| {
                    let foreign = item.is_table_like() && !RECORD_TABLES.contains(&name);
                    foreign.then(|| name.to_string())
                };
                let dropped: Vec<String> = document.iter().filter_map(about_panels).collect();
                dropped.iter().for_each(|table| drop(document.remove(table)));
                Ok(document.to_string())
            }
            _ => Ok(text),
        }
    }

    /// The tables of this config that `other` has otherwise, by name.
    pub fn differing_tables(&self, other: &Self) -> Vec<String> {
        let tables = |config: &Self| toml_edit::ser::to_document(config).unwrap_or_default();
        let (mine, theirs) = (tables(self), tables(other));
        let mut names: Vec<&str> = mine
            .iter()
            .chain(theirs.iter())
            .filter(|(_, item)| item.is_table_like())
            .map(|(name, _)| name)
            .collect();
        names.sort_unstable();
        names.dedup();
        let text = |document: &toml_edit::DocumentMut, name: &str| {
            document.get(name).map(ToString::to_string)
        };
        names.retain(|name| text(&mine, name) != text(&theirs, name));
        names.into_iter().map(str::to_string).collect()
    }

    /// The members of the ensemble with their weights.
    pub fn members(&self) -> BTreeMap<DetectorName, f64> {
        self.ensemble
            .members
            .iter()
            .map(|name| (*name, self.ensemble.weights.get(name).copied().unwrap_or(1.0)))
            .collect()
    }

    /// Where a command writes without `--out`: `runs/NAME` and its suffix.
    pub fn default_out(&self, suffix: &str) -> PathBuf {
        Path::new("runs").join(format!("{}{suffix}", self.name))
    }

    /// Everything that the types alone do not hold.
    fn check(&self) -> Vec<Problem> {
        let mut found: Vec<(String, String)> = Vec::new();
        let records = self.records.iter().flat_map(RecordsSection::check).collect();
        let sections: [(&str, Vec<(String, String)>); 23] = [
            ("source", self.source.check()),
            ("generate", self.generate.check()),
            ("panel", self.panel.check()),
            ("split", self.split.check()),
            ("ensemble", self.ensemble.check()),
            ("calibration", self.calibration.check()),
            ("decision", self.decision.check()),
            ("nb2", self.nb2.check()),
            ("lstm_autoencoder", self.lstm_autoencoder.check()),
            ("seasonal_profile", self.seasonal_profile.check()),
            ("rolling", self.rolling.check()),
            ("isolation_forest", self.isolation_forest.check()),
            ("random_cut_forest", self.random_cut_forest.check()),
            ("lof", self.lof.check()),
            ("prophet", self.prophet.check()),
            ("change_points", self.change_points.check()),
            ("spectral_residual", self.spectral_residual.check()),
            ("subsequence_pca", self.subsequence_pca.check()),
            ("zscore", self.zscore.check()),
            ("inject", self.inject.check()),
            ("report", self.report.check()),
            ("output", self.output.check(&self.panel)),
            ("records", records),
        ];
        for (section, problems) in sections {
            found
                .extend(problems.into_iter().map(|(key, text)| (format!("{section}.{key}"), text)));
        }
        let generated = self.generate.records.is_some();
        if generated && self.records.is_none() || self.records.is_some() && self.generate.is_panel()
        {
            let text = "[generate.records] goes with a [records] table, and the others without one";
            found.push(("generate".into(), text.into()));
        }
        if self.name.is_empty() || self.name.contains(['/', '\\']) || self.name.starts_with('.') {
            found.push(("name".into(), "names a folder: letters, digits, `-` and `_`".into()));
        }
        if self.source.path.is_none() && self.generate.is_empty() {
            found.push((
                "source.path".into(),
                "there is nothing to read: set `path` (or --input PATH), or a [generate.weekly], [generate.funnel] or [generate.records] table"
                    .into(),
            ));
        }
        found.into_iter().map(|(key, message)| Problem { key, message, place: None }).collect()
    }
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    let file = path.display().to_string();
    fs::read_to_string(path).map_err(|error| ConfigError {
        problems: vec![Problem {
            key: String::new(),
            message: match Preset::nearest(&file) {
                Some(preset) => format!("{error}; did you mean the shipped config `{preset}`?"),
                None => format!(
                    "{error}; give a config file, or write a shipped one with `anomalist config show weekly > {file}`"
                ),
            },
            place: None,
        }],
        file,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, "test.toml", Path::new(""), &[])
    }

    #[test]
    fn every_shipped_config_is_read_and_written_back_the_same() {
        for preset in PRESETS {
            let config = parse(preset.text).unwrap_or_else(|e| panic!("{}: {e}", preset.name));
            let text = config.to_toml().unwrap();
            let again = parse(&text).unwrap_or_else(|e| panic!("{}: {e}\n{text}", preset.name));
            assert_eq!(config, again, "{}", preset.name);
        }
    }

    #[test]
    fn a_resolved_config_of_records_has_no_table_about_panels() {
        let preset = Preset::find("records").unwrap();
        let text = parse(preset.text).unwrap().to_toml().unwrap();
        let document: DocumentMut = text.parse().unwrap();
        let mut keys: Vec<&str> = document.iter().map(|(key, _)| key).collect();
        keys.sort_unstable();
        let expected = [
            "calibration",
            "device",
            "generate",
            "name",
            "output",
            "records",
            "report",
            "seed",
            "source",
        ];
        assert_eq!(keys, expected, "{text}");
        let panel = parse("[source]\npath = \"x.csv\"").unwrap().to_toml().unwrap();
        assert!(panel.contains("[panel") && panel.contains("[nb2]"), "{panel}");
    }

    #[test]
    fn all_problems_come_at_once_with_their_places() {
        let text = "sed = 1\n[source]\npath = \"x.csv\"\n[nb2]\ninterval_level = 2.0\n[split]\ntrain_share = \"a\"\n";
        let error = parse(text).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("test.toml:1:1"), "{text}");
        assert!(text.contains("did you mean `seed`"), "{text}");
        assert!(text.contains("test.toml:7:"), "{text}");
        let error = parse("[source]\npath = \"x.csv\"\n[nb2]\ninterval_level = 2.0\n").unwrap_err();
        assert!(error.to_string().contains("test.toml:4:1: `nb2.interval_level`"), "{error}");
    }

    #[test]
    fn an_override_wins_and_is_named_when_it_is_wrong() {
        let entry = |key: &str, value: &str| Override {
            key: key.into(),
            value: value.into(),
            typed: format!("--set {key}={value}"),
        };
        let load = |entries: &[Override]| {
            Config::parse("[source]\npath = \"x.csv\"\n", "t.toml", Path::new("/data"), entries)
        };
        let config = load(&[entry("seed", "9"), entry("source.path", "mine.csv")]).unwrap();
        assert_eq!((config.seed, config.source.path.as_deref()), (9, Some("mine.csv")));
        assert_eq!(load(&[]).unwrap().source.path.as_deref(), Some("/data/x.csv"));
        let error = load(&[entry("nb2.interval_level", "7")]).unwrap_err().to_string();
        assert!(error.contains("--set nb2.interval_level=7"), "{error}");
    }

    #[test]
    fn new_column_names_must_not_clash() {
        let rename = |pairs: &str| {
            let text = format!("[source]\npath = \"x.csv\"\n[output.rename]\n{pairs}\n");
            parse(&text).map_err(|error| error.to_string())
        };
        assert!(rename("mu_hat = \"expected\"\ncount = \"hits\"").is_ok());
        assert!(rename("mu_hat = \"x\"\npi_low = \"x\"").unwrap_err().contains("another column"));
        assert!(rename("mu_hat = \"count\"").unwrap_err().contains("column of the data"));
        assert!(rename("mu_hat = \"count\"\ncount = \"mu_hat\"").is_ok(), "a swap is fine");
    }

    #[test]
    fn tables_that_differ_are_named() {
        let a = parse("[source]\npath = \"x.csv\"").unwrap();
        let b = parse("seed = 4\n[source]\npath = \"y.csv\"\n[nb2]\ntrend = false").unwrap();
        assert_eq!(a.differing_tables(&b), ["nb2", "source"]);
        assert!(a.differing_tables(&a).is_empty());
    }

    #[test]
    fn a_config_with_nothing_to_read_says_what_to_do() {
        assert!(parse("seed = 1").unwrap_err().to_string().contains("--input PATH"));
    }
}
