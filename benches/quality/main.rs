//! Detection quality over every labelled set in a folder.
//!
//!     cargo bench --bench quality -- DIR [--only univariate|multivariate|weekly|hourly|tabular]
//!                                        [--without DETECTOR] [--set KEY=VALUE] [--seeds A..B]
//!                                        [--out FILE] [--series FILE]
//!
//! DIR has the folders `univariate`, `multivariate`, `weekly`, `tabular` with Parquet or CSV files in
//! long form: `series_id, timestamp, <values>, label[, split]`, and tables with a column `label`
//! ([`tables`]). Every detector runs with one fixed config per kind ([`configs`]); nothing is tuned per
//! set or series. Each series is fitted by itself on its `train` or `probation` rows, else on its first
//! 40 %, and scored on the rest. Baselines live in [`baselines`]: the same split, and flags above the
//! 99 % quantile of their training scores. `--set` overrides a key of every config, for experiments.
//!
//! The folder `hourly` has no labels: anomalies are injected ([`hourly`]), with every seed of `--seeds`
//! (1000..1005, both ends counted).
//!
//! VUS-PR (L = 24; 8 below 500 rows; 4 for weeks) and AUC-PR are means over the series whose scored
//! rows have both classes. Event F1 (of the share of events found and the share of alerts that touch
//! one) and FPR are counted over all series of the set. POD is the share of a series' events that hold
//! a score above the lowest threshold that at most 0.3 % of its clean judged rows pass, whatever the
//! detector's own flags say; the mean over series.
//!
//! `--series FILE` writes the figures of every series as CSV, of which `benches/quality/paired.py`
//! makes paired differences with bootstrap intervals.

mod baselines;
mod configs;
mod hourly;
mod measure;
mod pca;
mod score;
mod series;
mod sets;
mod table;
mod tables;

use std::{ops::RangeInclusive, path::PathBuf, process::ExitCode, time::Instant};

use anomalist::config::Override;
use sets::Kind;

struct Options {
    dir: PathBuf,
    only: Option<String>,
    without: Vec<String>,
    set: Vec<Override>,
    seeds: RangeInclusive<u64>,
    out: Option<PathBuf>,
    series: Option<PathBuf>,
}

const USAGE: &str = "usage: cargo bench --bench quality -- DIR [--only univariate|multivariate|weekly|hourly|tabular] [--without DETECTOR] [--set KEY=VALUE] [--seeds A..B] [--out FILE] [--series FILE]";

fn options() -> Result<Options, String> {
    let mut found = Options {
        dir: PathBuf::new(),
        only: None,
        without: Vec::new(),
        set: Vec::new(),
        seeds: hourly::SEEDS,
        out: None,
        series: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n{USAGE}"));
        match arg.as_str() {
            "--bench" => {} // what cargo adds
            "--only" => {
                let name = value()?;
                let mut folders = Kind::ALL
                    .iter()
                    .map(|kind| kind.folder())
                    .chain([hourly::FOLDER, tables::FOLDER]);
                if !folders.any(|folder| folder == name) {
                    return Err(format!("no kind `{name}`\n{USAGE}"));
                }
                found.only = Some(name);
            }
            "--without" => found.without.push(value()?),
            "--set" => {
                let typed = value()?;
                let (key, text) = typed.split_once('=').ok_or_else(|| USAGE.to_string())?;
                found.set.push(Override {
                    key: key.into(),
                    value: text.into(),
                    typed: format!("--set {typed}"),
                });
            }
            "--seeds" => {
                let text = value()?;
                let ends = text.split_once("..").map(|(a, b)| (a.parse(), b.parse()));
                match ends {
                    Some((Ok(first), Ok(last))) if first <= last => found.seeds = first..=last,
                    _ => return Err(format!("--seeds {text}: take A..B\n{USAGE}")),
                }
            }
            "--out" => found.out = Some(value()?.into()),
            "--series" => found.series = Some(value()?.into()),
            dir if !dir.starts_with("--") && found.dir.as_os_str().is_empty() => {
                found.dir = dir.into();
            }
            other => return Err(format!("`{other}` is not understood\n{USAGE}")),
        }
    }
    if found.dir.as_os_str().is_empty() {
        return Err(USAGE.into());
    }
    Ok(found)
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let since = Instant::now();
    let mut report = table::Report::default();
    let wanted = |folder: &str| options.only.as_deref().is_none_or(|only| only == folder);
    for kind in Kind::ALL.into_iter().filter(|kind| wanted(kind.folder())) {
        for set in sets::read(&options.dir, kind, &mut report.notes)? {
            let started = Instant::now();
            let result = score::run_set(&set, &options.without, &options.set)?;
            eprintln!(
                "{:12} {:28} {:3} series {:7.1} s",
                kind.folder(),
                set.name,
                set.series.len(),
                started.elapsed().as_secs_f64()
            );
            report.sets.push(result);
        }
    }
    if wanted(hourly::FOLDER) {
        let plan = hourly::Plan {
            seeds: options.seeds.clone(),
            without: &options.without,
            overrides: &options.set,
        };
        report.hourly = hourly::run(&options.dir, &plan, &mut report.notes)?;
    }
    if wanted(tables::FOLDER) {
        report.tables = tables::run(&options.dir, &mut report.notes)?;
    }
    if report.sets.is_empty() && report.hourly.is_empty() && report.tables.is_empty() {
        return Err(format!(
            "{}: no labelled series or tables in its folders",
            options.dir.display()
        ));
    }
    report.secs = since.elapsed().as_secs_f64();
    if let Some(path) = &options.series {
        series::write(path, &report).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let text = report.markdown();
    match &options.out {
        Some(path) => {
            std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
        }
        None => {
            print!("{text}");
            Ok(())
        }
    }
}
