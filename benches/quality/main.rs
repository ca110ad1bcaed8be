//! Detection quality over every labelled set in a folder.
//!
//!     cargo bench --bench quality -- DIR [--only univariate|multivariate|weekly|tabular]
//!                                        [--without DETECTOR] [--set KEY=VALUE] [--out FILE]
//!
//! DIR has the folders `univariate`, `multivariate`, `weekly`, `tabular` with Parquet or CSV files in
//! long form: `series_id, timestamp, <values>, label[, split]`, and tables with a column `label`
//! ([`tables`]). Every detector runs with one fixed config per kind ([`configs`]); nothing is tuned per
//! set or series. Each series is fitted by itself on its `train` or `probation` rows, else on its first
//! 40 %, and scored on the rest. Baselines live in [`baselines`]: the same split, and flags above the
//! 99 % quantile of their training scores. `--set` overrides a key of every config, for experiments.
//!
//! VUS-PR (L = 24; 8 below 500 rows; 4 for weeks) and AUC-PR are means over the series whose scored
//! rows have both classes. Event F1 (of the share of events found and the share of alerts that touch
//! one) and FPR are counted over all series of the set.

mod baselines;
mod configs;
mod measure;
mod score;
mod sets;
mod table;
mod tables;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anomalist::config::Override;
use sets::Kind;

struct Options {
    dir: PathBuf,
    only: Option<String>,
    without: Vec<String>,
    set: Vec<Override>,
    out: Option<PathBuf>,
}

fn options() -> Result<Options, String> {
    let usage = "usage: cargo bench --bench quality -- DIR [--only univariate|multivariate|weekly|tabular] [--without DETECTOR] [--set KEY=VALUE] [--out FILE]";
    let mut found = Options {
        dir: PathBuf::new(),
        only: None,
        without: Vec::new(),
        set: Vec::new(),
        out: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n{usage}"));
        match arg.as_str() {
            "--bench" => {} // what cargo adds
            "--only" => {
                let name = value()?;
                let mut folders =
                    Kind::ALL.iter().map(|kind| kind.folder()).chain([tables::FOLDER]);
                if !folders.any(|folder| folder == name) {
                    return Err(format!("no kind `{name}`\n{usage}"));
                }
                found.only = Some(name);
            }
            "--without" => found.without.push(value()?),
            "--set" => {
                let typed = value()?;
                let (key, text) = typed.split_once('=').ok_or_else(|| usage.to_string())?;
                found.set.push(Override {
                    key: key.into(),
                    value: text.into(),
                    typed: format!("--set {typed}"),
                });
            }
            "--out" => found.out = Some(value()?.into()),
            dir if !dir.starts_with("--") && found.dir.as_os_str().is_empty() => {
                found.dir = dir.into();
            }
            other => return Err(format!("`{other}` is not understood\n{usage}")),
        }
    }
    if found.dir.as_os_str().is_empty() {
        return Err(usage.into());
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
    if wanted(tables::FOLDER) {
        report.tables = tables::run(&options.dir, &mut report.notes)?;
    }
    if report.sets.is_empty() && report.tables.is_empty() {
        return Err(format!(
            "{}: no labelled series or tables in its folders",
            options.dir.display()
        ));
    }
    report.secs = since.elapsed().as_secs_f64();
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
