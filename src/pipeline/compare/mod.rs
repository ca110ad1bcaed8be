//! Compares configs and finished runs: figures with intervals, and alerts one by one.
//!
//! ```text
//! sweep    configs x data x seeds -> runs, found again by key or made
//! run_dir  a run's directory -> its verdicts; nothing is fitted
//! align    runs of the same data and seed -> the cells that all of them have
//! measure  cells + labels -> figures, differences with a paired bootstrap interval
//! alerts   cells -> alerts added, dropped, changed; charts of the strongest
//! page     all of it -> what `compare.html` shows
//! ```
//!
//! The first config or run is the baseline. Everything is computed from what runs leave on disk,
//! so a run made today and one made last year are compared alike.

mod alerts;
mod align;
mod comparison;
mod data;
mod differences;
mod files;
mod key;
mod measure;
mod notes;
mod page;
mod run_dir;
mod sweep;

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

pub use comparison::{
    AlertRow, AlertSideRow, AlertTotals, BootstrapFacts, Comparison, ConfigSummary, Failure,
    FigureRow, KeyDifference, LevelComparison, RunOrigin, RunSummaryRef, Spread,
};

pub use page::{difference_texts, figure_text, spread_text, verdict};

use alerts::{AlertDiffs, BlockName};
use measure::{Block, Measures, Truth};
use notes::Notes;
use run_dir::{LevelDir, RunDir};
use sweep::RunRef;

use super::{PipelineError, run::replayable};
use crate::{
    config::{Config, Variant},
    detectors::Progress,
    evaluation::Bootstrap,
};

/// Runs that one comparison may ask for.
pub const MAX_RUNS: usize = 1_000;
const RESAMPLES: usize = 2_000;
const INTERVAL_LEVEL: f64 = 0.95;

/// What to compare.
pub struct CompareJob {
    /// The first is the baseline.
    pub contenders: Vec<Contender>,
    /// Every config is run with each; without them, with its own.
    pub seeds: Option<Vec<u64>>,
    /// Every config is run on each; without them, on its own.
    pub data: Vec<PathBuf>,
    /// Page, JSON, alerts, and the runs that are made.
    pub out: PathBuf,
    /// Alerts that each config shows on the page.
    pub top: usize,
    pub progress: Arc<dyn Progress>,
    pub cancelled: Arc<AtomicBool>,
}

/// A config to run, or a run to read.
pub enum Contender {
    Config(Box<Variant>),
    /// The folder that `run` or `detect` wrote.
    Run(PathBuf),
}

/// Runs what has not been run, compares, and writes the results.
///
/// # Errors
/// When the arguments do not fit together, a run directory cannot be read, or the results cannot
/// be written. A run that fails is no error: it is in [`Comparison::failures`].
pub fn compare(job: &CompareJob) -> Result<Comparison, PipelineError> {
    let names = names(&job.contenders);
    let configs = configs(&job.contenders)?;
    check(job, &names, &configs)?;
    let (runs, failures) = sweep::runs(job, &names)?;
    let bootstrap =
        Bootstrap { resamples: RESAMPLES, level: INTERVAL_LEVEL, seed: configs[0].seed };
    let mut found = Collected {
        measures: Measures::new(names.len()),
        alerts: AlertDiffs::new(&names, job.top),
        notes: Notes::new(&names),
    };
    let blocks = blocks(&runs, names.len(), &mut found.notes);
    if blocks.is_empty() {
        return Err(nothing(&failures));
    }
    job.progress.start("reading runs", blocks.len() as u64);
    for (number, block) in blocks.iter().enumerate() {
        found.add(number, block)?;
        job.progress.advance(1);
    }
    job.progress.finish();
    if let Some(stranger) = found.notes.stranger() {
        return Err(PipelineError::Arguments(format!(
            "`{stranger}` and `{}` have no series and no step in common: compare runs over the same series and the same time",
            names[0]
        )));
    }
    let levels = found.measures.finish(&bootstrap);
    found.notes.figures(&levels);
    let shown = found.alerts.top();
    let comparison = Comparison {
        version: env!("CARGO_PKG_VERSION").into(),
        configs: summaries(&names, &runs),
        failures,
        differences: differences::differences(&configs.iter().collect::<Vec<_>>(), ignored(job)),
        levels,
        alerts: found.alerts.totals,
        top_alerts: shown.iter().map(|shown| shown.row.clone()).collect(),
        notes: found.notes.sentences(),
        bootstrap: BootstrapFacts {
            resamples: bootstrap.resamples,
            level: bootstrap.level,
            seed: bootstrap.seed,
        },
        out: job.out.clone(),
    };
    files::write(&comparison, &found.alerts.rows, shown)?;
    Ok(comparison)
}

/// What has been learnt from the blocks so far.
struct Collected {
    measures: Measures,
    alerts: AlertDiffs,
    notes: Notes,
}

impl Collected {
    fn add(&mut self, number: usize, block: &[Option<&RunRef>]) -> Result<(), PipelineError> {
        let runs = block
            .iter()
            .map(|run| run.map(|run| RunDir::open(&run.dir)).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        let (Some(base), Some(run)) = (&runs[0], block[0]) else { return Ok(()) };
        let labels = runs.iter().flatten().find_map(|run| run.labels.as_deref());
        self.notes.labels(&runs);
        for level in &base.levels {
            let name = &level.panel.level().name;
            let others: Vec<Option<&LevelDir>> = runs
                .iter()
                .map(|run| {
                    let found = run.as_ref()?.level(name)?;
                    (found.panel.level() == level.panel.level()).then_some(found)
                })
                .collect();
            let aligned = align::align(level, &others);
            let truth = Truth::new(&level.panel, labels);
            let block = Block {
                number,
                fingerprint: &run.fingerprint,
                base: level,
                aligned: &aligned,
                truth: &truth,
            };
            self.notes.sharing(name, &aligned);
            self.measures.add(&block);
            self.alerts.add(BlockName { data: &run.data, seed: run.seed }, &block);
        }
        Ok(())
    }
}

/// True for a folder that `run` or `detect` wrote.
pub fn is_run(dir: &std::path::Path) -> bool {
    RunDir::is_one(dir)
}

/// A name for each contender; a name that comes twice is numbered.
fn names(contenders: &[Contender]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(contenders.len());
    for contender in contenders {
        let name = match contender {
            Contender::Config(variant) => variant.label(),
            Contender::Run(dir) => dir
                .file_name()
                .map_or_else(|| dir.display().to_string(), |n| n.to_string_lossy().into_owned()),
        };
        let mut unique = name.clone();
        let mut number = 2;
        while names.contains(&unique) {
            unique = format!("{name} ({number})");
            number += 1;
        }
        names.push(unique);
    }
    names
}

/// The config of each contender, with absolute paths.
fn configs(contenders: &[Contender]) -> Result<Vec<Config>, PipelineError> {
    contenders
        .iter()
        .map(|contender| match contender {
            Contender::Config(variant) => Ok(replayable(&variant.config)),
            Contender::Run(dir) => RunDir::describe(dir).map(|(config, _)| replayable(&config)),
        })
        .collect()
}

/// Refuses what cannot be compared before anything is run.
fn check(job: &CompareJob, names: &[String], configs: &[Config]) -> Result<(), PipelineError> {
    let refuse = |text: String| Err(PipelineError::Arguments(text));
    if names.len() < 2 {
        return refuse(
            "there is one config to compare: name another one, a run directory, or give the config a [matrix] with several values".into(),
        );
    }
    let runs_only = job.contenders.iter().all(|c| matches!(c, Contender::Run(_)));
    for (option, given) in [("--seeds", job.seeds.is_some()), ("--data", !job.data.is_empty())] {
        if runs_only && given {
            return refuse(format!(
                "{option} is for configs, and these are finished runs: leave it out, or name the configs"
            ));
        }
    }
    if let Some((name, _)) = names.iter().zip(configs).find(|(_, c)| c.records.is_some()) {
        return refuse(format!(
            "`{name}` is about records, and panels alone are compared point by point: run each config on the same records with labels, and set the tables of `anomalist evaluate` side by side"
        ));
    }
    for (name, config) in names.iter().zip(configs).skip(1) {
        let (ours, theirs) = (&configs[0].panel, &config.panel);
        let shared = ours.levels.iter().any(|level| theirs.levels.contains(level));
        if ours.step != theirs.step || !shared {
            return refuse(format!(
                "`{}` and `{name}` are about different kinds of data: {} against {}; compare configs with the same step and at least one level alike",
                names[0],
                kind(&configs[0]),
                kind(config)
            ));
        }
    }
    Ok(())
}

/// `week, levels key (target_type, insight_type)`.
fn kind(config: &Config) -> String {
    let levels: Vec<String> = config
        .panel
        .levels
        .iter()
        .map(|level| format!("{} ({})", level.name, level.id_columns.join(", ")))
        .collect();
    format!("step {}, level {}", String::from(config.panel.step), levels.join(" and "))
}

/// Keys that differ by design: what the command line sets for every config.
fn ignored(job: &CompareJob) -> &'static [&'static str] {
    const SEEDS: [&str; 3] = ["seed", "generate.weekly.seed", "generate.funnel.seed"];
    const DATA: [&str; 3] = ["source.path", "source.labels", "source.known_events"];
    const BOTH: [&str; 6] = [SEEDS[0], SEEDS[1], SEEDS[2], DATA[0], DATA[1], DATA[2]];
    match (job.seeds.is_some(), job.data.is_empty()) {
        (true, true) => &SEEDS,
        (false, false) => &DATA,
        (true, false) => &BOTH,
        (false, true) => &[],
    }
}

/// Runs that belong together: for each run of the baseline, one of every other config on the same
/// data with the same seed. Two single runs always belong together.
fn blocks<'a>(
    runs: &'a [RunRef],
    configs: usize,
    notes: &mut Notes,
) -> Vec<Vec<Option<&'a RunRef>>> {
    let of = |config: usize| runs.iter().filter(move |run| run.config == config);
    let single = |config: usize| of(config).count() == 1;
    let mut used = vec![0; configs];
    let blocks: Vec<Vec<Option<&RunRef>>> = of(0)
        .map(|baseline| {
            (0..configs)
                .map(|config| {
                    if config == 0 {
                        return Some(baseline);
                    }
                    let lone = of(config).next().filter(|_| single(0) && single(config));
                    let same_bytes = |run: &&RunRef| {
                        run.fingerprint == baseline.fingerprint && run.seed == baseline.seed
                    };
                    let same_name =
                        |run: &&RunRef| run.data == baseline.data && run.seed == baseline.seed;
                    let found = lone
                        .or_else(|| of(config).find(same_bytes))
                        .or_else(|| of(config).find(same_name));
                    used[config] += usize::from(found.is_some());
                    found
                })
                .collect()
        })
        .collect();
    for (config, used) in used.iter().enumerate().skip(1) {
        notes.unpaired(config, of(config).count().saturating_sub(*used));
    }
    blocks
}

fn nothing(failures: &[Failure]) -> PipelineError {
    let reasons: Vec<String> = failures
        .iter()
        .map(|failure| format!("{}, seed {}: {}", failure.config, failure.seed, failure.error))
        .collect();
    PipelineError::Other(format!(
        "no run of the baseline succeeded, so there is nothing to compare with:\n{}",
        reasons.join("\n")
    ))
}

fn summaries(names: &[String], runs: &[RunRef]) -> Vec<ConfigSummary> {
    let of = |config: usize| runs.iter().filter(move |run| run.config == config);
    names
        .iter()
        .enumerate()
        .map(|(config, name)| ConfigSummary {
            name: name.clone(),
            runs: of(config)
                .map(|run| RunSummaryRef {
                    data: run.data.clone(),
                    seed: run.seed,
                    dir: run.dir.clone(),
                    origin: run.origin,
                })
                .collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(config: usize, data: &str, seed: u64, fingerprint: &str) -> RunRef {
        RunRef {
            config,
            data: data.into(),
            seed,
            fingerprint: fingerprint.into(),
            dir: PathBuf::new(),
            origin: RunOrigin::Given,
        }
    }

    fn paired(runs: &[RunRef], configs: usize) -> Vec<Vec<Option<(u64, String)>>> {
        let names = vec![String::new(); configs];
        blocks(runs, configs, &mut Notes::new(&names))
            .into_iter()
            .map(|block| {
                let seen = |run: Option<&RunRef>| run.map(|r| (r.seed, r.data.clone()));
                block.into_iter().map(seen).collect()
            })
            .collect()
    }

    #[test]
    fn runs_are_paired_by_data_and_seed() {
        let some = |seed: u64, data: &str| Some((seed, data.to_string()));
        let runs = [
            run(0, "", 1, "a"),
            run(0, "", 2, "b"),
            run(1, "", 2, "x"),
            run(2, "elsewhere", 1, "a"),
            run(3, "", 9, "c"),
        ];
        assert_eq!(
            paired(&runs, 4),
            [
                vec![some(1, ""), None, some(1, "elsewhere"), None],
                vec![some(2, ""), some(2, ""), None, None],
            ]
        );
        // Two single runs are what the user wants compared, whatever their seeds.
        let two = [run(0, "p", 1, "a"), run(1, "q", 7, "b")];
        assert_eq!(paired(&two, 2), [vec![some(1, "p"), some(7, "q")]]);
    }
}
