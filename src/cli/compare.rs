//! `compare`: its arguments to a job, its result to text.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;

use super::{CliError, Outcome, args::parse_sets, commands, interrupt, progress::Bars, text};
use crate::{
    config::{Config, Override, Preset, Variant},
    pipeline::{
        self, AlertTotals, CompareJob, Comparison, Contender, LevelComparison, RunOrigin,
        difference_texts, figure_text, spread_text, verdict,
    },
};

/// Seeds that one comparison may ask for.
const MAX_SEEDS: u64 = 1_000;

#[derive(Debug, Args)]
#[command(
    after_help = "A config file with a [matrix] table stands for every combination of its values:\n\n  [matrix]\n  decision.level = [0.99, 0.995]\n  ensemble.members = [[\"nb2\"], [\"nb2\", \"seasonal_profile\"]]\n\nThe first config, run or combination is the baseline."
)]
pub struct CompareArgs {
    /// Config files, names of shipped ones, or folders that `run` or `detect` wrote.
    #[arg(value_name = "CONFIG|RUN_DIR", required = true)]
    pub contenders: Vec<String>,
    /// Run every config with each of these seeds: 1..5 (both ends), 1,2,7 or 1..3,9.
    #[arg(long, value_name = "SEEDS")]
    pub seeds: Option<String>,
    /// Run every config on these data (file, glob, or folder that `generate` wrote); may be given
    /// many times.
    #[arg(long, value_name = "PATH")]
    pub data: Vec<PathBuf>,
    /// Where results and runs go; runs that are there already are not run again.
    #[arg(long, short, value_name = "DIR", default_value = "runs/compare")]
    pub out: PathBuf,
    /// Override a key of every config; may be given many times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// auto, gpu, gpu:N or cpu, for every config [config: device].
    #[arg(long, value_name = "D")]
    pub device: Option<String>,
    /// Alerts that differ, with a chart each, per config.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,
}

pub fn run(args: &CompareArgs, json: bool, quiet: bool) -> Result<Outcome, CliError> {
    let mut overrides = parse_sets(&args.set).map_err(CliError::Usage)?;
    if let Some(device) = &args.device {
        overrides.push(Override {
            key: "device".into(),
            value: device.clone(),
            typed: format!("--device {device}"),
        });
    }
    let mut contenders = Vec::new();
    for name in &args.contenders {
        contenders.extend(contender(name, &overrides)?);
    }
    let job = CompareJob {
        contenders,
        seeds: args.seeds.as_deref().map(seeds).transpose().map_err(CliError::Usage)?,
        data: args.data.clone(),
        out: args.out.clone(),
        top: args.top,
        progress: Arc::new(Bars::new(quiet)),
        cancelled: interrupt::flag(),
    };
    let comparison = pipeline::compare(&job).inspect_err(|_| {
        if interrupt::is_raised() {
            let store = args.out.join("runs");
            eprintln!(
                "finished runs stay in {}: the same command goes on from there",
                store.display()
            );
        }
    })?;
    if json {
        commands::print_json(&comparison)?;
    } else {
        commands::print(&summary(&comparison, quiet))?;
    }
    if comparison.failures.is_empty() { Ok(Outcome::Done) } else { Ok(Outcome::Failed) }
}

/// A run's folder, or every config that a file stands for.
fn contender(name: &str, overrides: &[Override]) -> Result<Vec<Contender>, CliError> {
    let path = Path::new(name);
    let preset = Preset::find(name).filter(|_| !path.is_file());
    if path.is_dir() && (pipeline::is_run(path) || preset.is_none()) {
        return Ok(vec![Contender::Run(path.to_path_buf())]);
    }
    let variants: Vec<Variant> = match preset {
        Some(preset) => {
            let base = Path::new("configs");
            Config::parse_variants(preset.text, preset.name, base, overrides)?
        }
        None => Config::load_variants(path, overrides)?,
    };
    Ok(variants.into_iter().map(|variant| Contender::Config(Box::new(variant))).collect())
}

/// `1..5`, `1,2,7`, `1..3,9`: each seed once, in the order given.
fn seeds(text: &str) -> Result<Vec<u64>, String> {
    let wrong = |part: &str| {
        format!(
            "`--seeds {text}`: `{part}` is neither a seed nor a range: write 1..5, 1,2,7 or 1..3,9"
        )
    };
    let number = |part: &str| part.trim().parse::<u64>().map_err(|_| wrong(part));
    let mut found = Vec::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once("..") {
            Some((first, last)) => (number(first)?, number(last.trim_start_matches('='))?),
            None => (number(part)?, number(part)?),
        };
        if last < first {
            return Err(format!("`--seeds {text}`: `{part}` ends before it begins"));
        }
        if last - first >= MAX_SEEDS || found.len() as u64 + (last - first) >= MAX_SEEDS {
            return Err(format!("`--seeds {text}`: at most {MAX_SEEDS} seeds at a time"));
        }
        for seed in first..=last {
            if !found.contains(&seed) {
                found.push(seed);
            }
        }
    }
    Ok(found)
}

/// The comparison for people.
fn summary(comparison: &Comparison, quiet: bool) -> String {
    let mut out = runs_text(comparison);
    for failure in &comparison.failures {
        let data = if failure.data.is_empty() { "" } else { ", " };
        out.push_str(&format!(
            "failed: {}, seed {}{data}{}: {}\n",
            failure.config, failure.seed, failure.data, failure.error
        ));
    }
    out.push_str(&config_text(comparison));
    for level in &comparison.levels {
        out.push_str(&level_text(comparison, level));
    }
    out.push_str(&alerts_text(&comparison.alerts));
    for note in comparison.notes.iter().filter(|_| !quiet) {
        out.push_str(&format!("note: {note}\n"));
    }
    let file = |name: &str| comparison.out.join(name).display().to_string();
    out.push_str(&format!(
        "\npage        {}\nalerts      {}\n",
        file("compare.html"),
        file("alert_diff.csv")
    ));
    out
}

fn runs_text(comparison: &Comparison) -> String {
    let count = |origin: RunOrigin| {
        let runs = comparison.configs.iter().flat_map(|config| &config.runs);
        runs.filter(|run| run.origin == origin).count()
    };
    let parts: Vec<String> = [
        (RunOrigin::Ran, "run now"),
        (RunOrigin::Found, "found from before"),
        (RunOrigin::Given, "given"),
    ]
    .iter()
    .filter(|(origin, _)| count(*origin) > 0)
    .map(|(origin, words)| format!("{} {words}", count(*origin)))
    .collect();
    let mut text = format!("{}\n", parts.join(", "));
    if count(RunOrigin::Ran) == 0 {
        text = format!("{}: nothing was run\n", parts.join(", "));
    }
    let names: Vec<&str> = comparison.configs.iter().map(|c| c.name.as_str()).collect();
    text.push_str(&format!("baseline: {}\n", names.first().unwrap_or(&"")));
    text
}

fn config_text(comparison: &Comparison) -> String {
    if comparison.differences.is_empty() {
        return "the configs are the same in every key\n".into();
    }
    let mut rows = vec![vec!["keys that differ".to_string()]];
    rows[0].extend(comparison.configs.iter().map(|config| config.name.clone()));
    for difference in &comparison.differences {
        let mut row = vec![difference.key.clone()];
        row.extend(difference.values.iter().map(|v| v.clone().unwrap_or_else(|| "-".into())));
        rows.push(row);
    }
    format!("\n{}", text::table(&rows))
}

/// One config below the other, because their number is not known; a star where the interval of
/// the difference leaves zero out.
fn level_text(comparison: &Comparison, level: &LevelComparison) -> String {
    let mut out = format!(
        "\nlevel {}, {}: {} points, {} series\n",
        level.level, level.scope, level.cells, level.series
    );
    let mut rows = vec![vec!["figure".to_string(), comparison.configs[0].name.clone()]];
    if comparison.configs.len() == 2 {
        let percent = format!("{} % interval", 100.0 * comparison.bootstrap.level);
        rows[0].extend([
            comparison.configs[1].name.clone(),
            "difference".into(),
            percent,
            String::new(),
        ]);
        for row in &level.figures {
            let (estimate, interval) = difference_texts(row.figure, row.differences[1]);
            rows.push(vec![
                row.figure.title().into(),
                spread_text(row.figure, row.values[0]),
                spread_text(row.figure, row.values[1]),
                estimate,
                interval,
                verdict(row.figure, row.differences[1]).into(),
            ]);
        }
    } else {
        rows[0] = vec!["mean (difference, * clear)".to_string()];
        rows[0].extend(level.figures.iter().map(|row| row.figure.title().to_string()));
        for (place, config) in comparison.configs.iter().enumerate() {
            let mut cells = vec![config.name.clone()];
            for row in &level.figures {
                let mean = row.values[place].map(|spread| figure_text(row.figure, spread.mean));
                let mut cell = mean.unwrap_or_else(|| "-".into());
                if let Some(difference) = row.differences[place] {
                    let (estimate, _) = difference_texts(row.figure, Some(difference));
                    let star = if difference.is_clear() { "*" } else { "" };
                    cell.push_str(&format!(" ({estimate}{star})"));
                }
                cells.push(cell);
            }
            rows.push(cells);
        }
    }
    out.push_str(&text::table(&rows));
    out
}

fn alerts_text(alerts: &[AlertTotals]) -> String {
    let mut rows = vec![
        [
            "alerts against the baseline",
            "level",
            "kept",
            "added",
            "dropped",
            "changed",
            "agreement",
        ]
        .map(String::from)
        .to_vec(),
    ];
    let count = |n: usize, labelled: Option<usize>| match labelled {
        Some(labelled) => format!("{n} ({labelled} labelled)"),
        None => n.to_string(),
    };
    rows.extend(alerts.iter().map(|totals| {
        vec![
            totals.config.clone(),
            totals.level.clone(),
            totals.kept.to_string(),
            count(totals.added, totals.added_labelled),
            count(totals.dropped, totals.dropped_labelled),
            totals.changed.to_string(),
            totals.agreement.map_or("-".into(), |share| format!("{:.1} %", 100.0 * share)),
        ]
    }));
    format!("\n{}", text::table(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_lists_and_ranges_with_both_ends() {
        assert_eq!(seeds("1..5"), Ok(vec![1, 2, 3, 4, 5]));
        assert_eq!(seeds("1..=2, 7,2"), Ok(vec![1, 2, 7]));
        assert_eq!(seeds("3"), Ok(vec![3]));
        for text in
            ["", "a", "1..", "..3", "-1", "1,,2", "5..1", "1..2000", "0..18446744073709551615"]
        {
            let error = seeds(text).unwrap_err();
            assert!(error.contains("--seeds"), "{text}: {error}");
        }
    }
}
