//! Every run that a comparison needs: found again, or made.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use super::{
    CompareJob, Contender, MAX_RUNS,
    comparison::{Failure, RunOrigin},
    data::DataSet,
    key::{self, Fingerprints},
    run_dir::RunDir,
};
use crate::{
    config::Config,
    detectors::Progress,
    pipeline::{Job, PipelineError, run},
};

/// A run of one config.
pub struct RunRef {
    /// Place of the config.
    pub config: usize,
    /// The data set as the user named it; empty for the config's own.
    pub data: String,
    pub seed: u64,
    /// Of the bytes read.
    pub fingerprint: String,
    pub dir: PathBuf,
    pub origin: RunOrigin,
}

/// One run that a config asks for.
struct Cell {
    place: usize,
    name: String,
    data: String,
    config: Config,
}

/// Every run of every contender, and those that failed.
///
/// # Errors
/// When a run directory cannot be read, too many runs are asked for, or somebody cancelled. A run
/// that fails is no error.
pub fn runs(
    job: &CompareJob,
    names: &[String],
) -> Result<(Vec<RunRef>, Vec<Failure>), PipelineError> {
    let cells = cells(job, names)?;
    let mut found = given(job)?;
    let mut failures = Vec::new();
    let mut prints = Fingerprints::default();
    let store = job.out.join("runs");
    job.progress.start("comparing", cells.len() as u64);
    for (number, cell) in cells.iter().enumerate() {
        let prefix = format!("{} of {}: {}", number + 1, cells.len(), cell.describe());
        let progress: Arc<dyn Progress> =
            Arc::new(Noted { inner: job.progress.clone(), prefix, stage: Mutex::default() });
        match cell.run(job, &store, &mut prints, progress) {
            Ok(run) => found.push(run),
            Err(error) if job.cancelled.load(Ordering::Relaxed) => return Err(error),
            Err(error) => failures.push(Failure {
                config: cell.name.clone(),
                data: cell.data.clone(),
                seed: cell.config.seed,
                error: error.to_string(),
            }),
        }
        job.progress.advance(1);
    }
    job.progress.finish();
    found.sort_by_key(|run| run.config); // stable: data and seeds stay in their order
    Ok((found, failures))
}

/// Runs that the user named.
fn given(job: &CompareJob) -> Result<Vec<RunRef>, PipelineError> {
    let mut runs = Vec::new();
    for (config, contender) in job.contenders.iter().enumerate() {
        let Contender::Run(dir) = contender else { continue };
        let (_, summary) = RunDir::describe(dir)?;
        runs.push(RunRef {
            config,
            data: summary.input.display().to_string(),
            seed: summary.seed,
            fingerprint: summary.data_fingerprint,
            dir: dir.clone(),
            origin: RunOrigin::Given,
        });
    }
    Ok(runs)
}

fn cells(job: &CompareJob, names: &[String]) -> Result<Vec<Cell>, PipelineError> {
    let sets: Vec<DataSet> = job.data.iter().map(|path| DataSet::find(path)).collect();
    let sets: Vec<Option<&DataSet>> =
        if sets.is_empty() { vec![None] } else { sets.iter().map(Some).collect() };
    let configs = job.contenders.iter().filter(|c| matches!(c, Contender::Config(_))).count();
    let seeds = job.seeds.as_ref().map_or(1, Vec::len);
    if configs * sets.len() * seeds > MAX_RUNS {
        return Err(PipelineError::Arguments(format!(
            "{configs} configs × {} data sets × {seeds} seeds are {} runs, of at most {MAX_RUNS}: compare fewer at a time",
            sets.len(),
            configs * sets.len() * seeds
        )));
    }
    let mut cells = Vec::new();
    for set in sets {
        for seed in seed_choices(job) {
            for (place, contender) in job.contenders.iter().enumerate() {
                let Contender::Config(variant) = contender else { continue };
                let mut config = variant.config.clone();
                if let Some(seed) = seed {
                    reseed(&mut config, seed);
                }
                if let Some(set) = set {
                    set.apply(&mut config);
                }
                let data = set.map(|set| set.name.clone()).unwrap_or_default();
                cells.push(Cell { place, name: names[place].clone(), data, config });
            }
        }
    }
    Ok(cells)
}

fn seed_choices(job: &CompareJob) -> Vec<Option<u64>> {
    job.seeds.as_ref().map_or(vec![None], |seeds| seeds.iter().copied().map(Some).collect())
}

/// Whoever asks for another seed expects other generated data too.
fn reseed(config: &mut Config, seed: u64) {
    config.seed = seed;
    if let Some(spec) = &mut config.generate.weekly {
        spec.seed = seed;
    }
    if let Some(spec) = &mut config.generate.funnel {
        spec.seed = seed;
    }
}

impl Cell {
    fn describe(&self) -> String {
        let mut text = format!("{}, seed {}", self.name, self.config.seed);
        if !self.data.is_empty() {
            text.push_str(&format!(", {}", self.data));
        }
        text
    }

    fn run(
        &self,
        job: &CompareJob,
        store: &Path,
        prints: &mut Fingerprints,
        progress: Arc<dyn Progress>,
    ) -> Result<RunRef, PipelineError> {
        let key = prints.key(&self.config, key::program())?;
        let earlier = key::find(store, &key);
        let (dir, origin) = match earlier {
            Some(dir) => (dir, RunOrigin::Found),
            None => {
                let out = key::folder(store, &self.config, &key);
                let config = self.config.clone();
                let job = Job { config, out, progress, cancelled: job.cancelled.clone() };
                (run(&job)?.out, RunOrigin::Ran)
            }
        };
        let (_, summary) = RunDir::describe(&dir)?;
        Ok(RunRef {
            config: self.place,
            data: self.data.clone(),
            seed: self.config.seed,
            fingerprint: summary.data_fingerprint,
            dir,
            origin,
        })
    }
}

/// A run's stages as notes on the progress of the whole.
struct Noted {
    inner: Arc<dyn Progress>,
    prefix: String,
    stage: Mutex<String>,
}

impl Progress for Noted {
    fn start(&self, stage: &str, _total: u64) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage.to_string();
        self.inner.note(&format!("{}: {stage}", self.prefix));
    }
    fn advance(&self, _units: u64) {}
    fn advance_to(&self, _units: u64) {}
    fn note(&self, text: &str) {
        let stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.inner.note(&format!("{}: {stage}, {text}", self.prefix));
    }
    fn finish(&self) {}
}
