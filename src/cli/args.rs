//! The arguments, and what each stands for.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::compare::CompareArgs;
use crate::config::Override;

/// Finds, labels and draws anomalies in panels of business metrics.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    arg_required_else_help = true,
    after_help = "Start here:\n  anomalist run quickstart\n  anomalist run weekly --input my_events.csv --out out/\n\nExit codes: 0 done; 1 the run failed; 2 the arguments or the config are wrong;\n3 anomalies were found and --fail-on asked for it; 130 interrupted."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Print one JSON object on stdout instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress bars, no notes: only results and errors.
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train, detect and report in one go.
    Run(RunArgs),
    /// Fit the detectors and write a checkpoint.
    Train(TrainArgs),
    /// Score data with a checkpoint.
    Detect(DetectArgs),
    /// Put anomalies of known size into a copy of the data, and say how many are found.
    Inject(InjectArgs),
    /// Write data with known anomalies.
    Generate(GenerateArgs),
    /// Measure a run against labels: figures, metrics.json, charts.
    Evaluate(EvaluateArgs),
    /// Draw a run's charts and page again, in another format.
    Report(ReportArgs),
    /// Compare configs and finished runs: figures, intervals, and which alerts differ.
    Compare(CompareArgs),
    /// List every GPU adapter and CPU backend, and which one `auto` takes.
    Devices,
    /// Check a config file, or print a shipped one.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// A config and what overrides it. The same on every command that takes a config.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// A config file, or the name of a shipped one (`anomalist config show` lists them).
    #[arg(value_name = "CONFIG")]
    pub config: String,
    /// Data to read: a file, a glob, or a folder [config: source.path].
    #[arg(long, value_name = "PATH")]
    pub input: Option<String>,
    /// Labelled intervals to measure against [config: source.labels].
    #[arg(long, value_name = "FILE")]
    pub labels: Option<String>,
    /// Campaigns, holidays, releases: kept out of what detectors call normal [config: source.known_events].
    #[arg(long, value_name = "FILE")]
    pub known_events: Option<String>,
    /// Where to write (default: runs/NAME, train runs/NAME-checkpoint, detect runs/NAME-detect, inject runs/NAME-inject).
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Seed of every random stream [config: seed].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// auto, gpu, gpu:N or cpu [config: device].
    #[arg(long, value_name = "D")]
    pub device: Option<String>,
    /// Keep the N largest groups of the coarsest level [config: panel.max_pairs].
    #[arg(long, value_name = "N")]
    pub max_pairs: Option<usize>,
    /// Keep the N largest series of each group [config: panel.max_keys].
    #[arg(long, value_name = "N")]
    pub max_keys: Option<usize>,
    /// Override any config key; may be given many times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Exit with 3 when there is an anomaly of at least this severity.
    #[arg(long, value_name = "SEVERITY")]
    pub fail_on: Option<SeverityArg>,
}

#[derive(Debug, Args)]
pub struct TrainArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
}

#[derive(Debug, Args)]
pub struct InjectArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Runs with injections, each with a fit of its own [config: inject.repeats].
    #[arg(long, value_name = "N")]
    pub repeats: Option<usize>,
}

#[derive(Debug, Args)]
pub struct DetectArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The folder that `train` wrote, or the `checkpoint` folder of a run.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// Score with a checkpoint that failed the admission test too: to see what it does.
    #[arg(long)]
    pub allow_unready: bool,
    /// Exit with 3 when there is an anomaly of at least this severity.
    #[arg(long, value_name = "SEVERITY")]
    pub fail_on: Option<SeverityArg>,
    /// Records: write the ensemble's scores, or those of one model [config: records.output].
    #[arg(long, value_enum)]
    pub model: Option<RecordModelArg>,
}

/// What `detect --model` writes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum RecordModelArg {
    Ensemble,
    Iforest,
    Rcf,
    Lof,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SeverityArg {
    Low,
    Medium,
    High,
    Critical,
}

impl SeverityArg {
    /// The word that run summaries use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

#[derive(Debug, Args)]
pub struct GenerateArgs {
    pub kind: GenerateKind,
    /// Folder for the data, the labels and the known events.
    #[arg(long, short, value_name = "DIR", default_value = "data")]
    pub out: PathBuf,
    #[arg(long, value_enum, default_value = "csv")]
    pub format: DataFormat,
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Weekly: number of weeks.
    #[arg(long, value_name = "N")]
    pub weeks: Option<usize>,
    /// Weekly: number of target keys.
    #[arg(long, value_name = "N")]
    pub keys: Option<usize>,
    /// Funnel: number of brands.
    #[arg(long, value_name = "N")]
    pub brands: Option<usize>,
    /// Funnel: number of days.
    #[arg(long, value_name = "N")]
    pub days: Option<usize>,
    /// Records: number of rows.
    #[arg(long, value_name = "N")]
    pub rows: Option<usize>,
    /// Override any key of the kind's [generate] table; may be given many times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GenerateKind {
    /// Raw insight events, one row a hit.
    Weekly,
    /// Hourly views, carts, purchases and revenue per brand.
    Funnel,
    /// Customer-experience records, one row an interaction.
    Records,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DataFormat {
    Csv,
    Parquet,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The folder that `run` or `detect` wrote.
    #[arg(value_name = "RUN_DIR")]
    pub run_dir: PathBuf,
    /// png, svg or both (default: what the run's config says).
    #[arg(long, value_enum)]
    pub format: Option<ChartFormatArg>,
    /// Charts of the first N series of each level only.
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
}

#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// The folder that `run` or `detect` wrote.
    #[arg(value_name = "RUN_DIR")]
    pub run_dir: PathBuf,
    /// Labelled intervals: a CSV file with the id columns, start, end (exclusive), kind (default:
    /// the labels of the run).
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Where metrics.json and the charts go (default: RUN_DIR/evaluation).
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// png, svg or both (default: png).
    #[arg(long, value_enum)]
    pub format: Option<ChartFormatArg>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ChartFormatArg {
    Png,
    Svg,
    Both,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read a config file and list every problem with its line.
    Check {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Print a shipped config; without a name, list them.
    Show {
        #[arg(value_name = "PRESET")]
        preset: Option<String>,
    },
}

impl ConfigArgs {
    /// Every override on the command line, named as the user typed it. Options come after
    /// `--set`, so that `--seed 3 --set seed=4` takes 3.
    ///
    /// # Errors
    /// When a `--set` has no `=`.
    pub fn overrides(&self) -> Result<Vec<Override>, String> {
        let mut found = parse_sets(&self.set)?;
        let path = |option: &str, key: &str, value: &Option<String>| {
            value.as_ref().map(|v| option_override(option, key, v.clone(), true))
        };
        let number = |option: &str, key: &str, value: Option<String>| {
            value.map(|v| option_override(option, key, v, false))
        };
        found.extend(
            [
                path("--input", "source.path", &self.input),
                path("--labels", "source.labels", &self.labels),
                path("--known-events", "source.known_events", &self.known_events),
                path("--device", "device", &self.device),
                number("--seed", "seed", self.seed.map(|n| n.to_string())),
                number("--max-pairs", "panel.max_pairs", self.max_pairs.map(|n| n.to_string())),
                number("--max-keys", "panel.max_keys", self.max_keys.map(|n| n.to_string())),
            ]
            .into_iter()
            .flatten(),
        );
        Ok(found)
    }
}

/// `key=value` texts as overrides.
///
/// # Errors
/// When one has no `=`.
pub fn parse_sets(sets: &[String]) -> Result<Vec<Override>, String> {
    sets.iter()
        .map(|text| {
            let (key, value) = text
                .split_once('=')
                .ok_or_else(|| format!("`--set {text}` has no `=`: write --set table.key=value"))?;
            Ok(Override {
                key: key.trim().into(),
                value: value.trim().into(),
                typed: format!("--set {text}"),
            })
        })
        .collect()
}

fn option_override(option: &str, key: &str, value: String, is_text: bool) -> Override {
    let typed = format!("{option} {value}");
    // A path such as `12` or `true` must stay text.
    let value =
        if is_text { toml_edit::Value::from(value).to_string().trim().to_string() } else { value };
    Override { key: key.into(), value, typed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_stand_for_config_keys() {
        let cli = Cli::parse_from([
            "anomalist",
            "run",
            "weekly",
            "--input",
            "12",
            "--seed",
            "3",
            "--set",
            "nb2.trend=false",
        ]);
        let Command::Run(args) = cli.command else { panic!() };
        let found = args.config.overrides().unwrap();
        let pairs: Vec<(&str, &str)> =
            found.iter().map(|o| (o.key.as_str(), o.value.as_str())).collect();
        assert_eq!(pairs, [("nb2.trend", "false"), ("source.path", "\"12\""), ("seed", "3")]);
        assert!(parse_sets(&["x".into()]).unwrap_err().contains("no `=`"));
    }
}
