//! The commands: run, train, detect, report. Each writes one directory, whole or not at all.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use super::{
    PipelineError, RunSummary,
    kept::KeptLevel,
    level::{self, Build},
    records, registry,
    stage::{Stage, spare},
    write::{self, REPORT_FILE, RUN_FILE},
};
use crate::{
    checkpoint::{self, Checkpoint, LevelState},
    config::Config,
    detectors::Progress,
    report::{ChartFormat, ReportData},
};

/// A config with everything that the command line adds.
pub struct Job {
    pub config: Config,
    pub out: PathBuf,
    pub progress: Arc<dyn Progress>,
    pub cancelled: Arc<AtomicBool>,
}

/// Fits, scores, decides, writes flags, charts, page and checkpoint.
///
/// # Errors
/// When any stage fails; no directory is left then.
pub fn run(job: &Job) -> Result<RunSummary, PipelineError> {
    if job.config.records.is_some() {
        return records::run(job);
    }
    let mut stage = Stage::begin(job, "run", RUN_FILE)?;
    let loaded = stage.load()?;
    let levels = stage.fit(&loaded)?;
    let config = replayable(&job.config);
    let checkpoint = stage.checkpoint(&config, &loaded, &levels)?;
    let folder = stage.dir.path().join("checkpoint");
    fs::create_dir(&folder).map_err(PipelineError::io(&folder))?;
    checkpoint.write_into(&folder)?;
    stage.finish(&loaded, &levels, config)
}

/// Fits and writes the checkpoint alone.
///
/// # Errors
/// As [`run`], and when a detector scores backwards: the checkpoint is then written for whoever
/// looks for the reason, but not marked as ready, and `detect` refuses it.
pub fn train(job: &Job) -> Result<RunSummary, PipelineError> {
    if job.config.records.is_some() {
        return records::train(job);
    }
    train_with(job, registry::build)
}

/// [`train`] with detectors made by `build`.
pub(super) fn train_with(job: &Job, build: Build) -> Result<RunSummary, PipelineError> {
    let mut stage = Stage::begin(job, "train", checkpoint::MANIFEST)?;
    stage.build = build;
    let loaded = stage.load()?;
    let levels = stage.fit(&loaded)?;
    let config = replayable(&job.config);
    let checkpoint = stage.checkpoint(&config, &loaded, &levels)?;
    checkpoint.write_into(stage.dir.path())?;
    let kept: Vec<KeptLevel> = levels.iter().map(|run| KeptLevel::of(&config, run)).collect();
    let mut summary = stage.summary(&loaded, &levels, &kept);
    if job.config.source.path.is_none() {
        summary.input = PathBuf::from("generated");
    }
    write::write_json(&stage.dir.path().join("training.json"), &summary)?;
    let out = stage.dir.finish()?;
    if checkpoint.readiness.ready {
        Ok(RunSummary { out, ..summary })
    } else {
        Err(PipelineError::NotReady { path: out, reasons: checkpoint.readiness.not_ready_because })
    }
}

/// Scores the job's data with a checkpoint.
///
/// Detectors, ensemble and calibration are the checkpoint's; source, panel, decision, report and
/// output are the job's. The directory's `config.toml` says what was in force.
///
/// # Errors
/// As [`run`], and when the checkpoint is damaged, was made for another kind of panel, or is not
/// marked as ready (unless `allow_unready`).
pub fn detect(
    job: &Job,
    checkpoint: &Path,
    allow_unready: bool,
) -> Result<RunSummary, PipelineError> {
    if job.config.records.is_some() {
        return records::detect(job, checkpoint);
    }
    spare(&job.out, checkpoint)?;
    let kept = Checkpoint::load(checkpoint)?;
    let reasons = kept.readiness.not_ready_because.clone();
    if !kept.readiness.ready && !allow_unready {
        return Err(PipelineError::NotReady { path: checkpoint.to_path_buf(), reasons });
    }
    let trained = Config::parse(&kept.config, "the checkpoint's config.toml", Path::new(""), &[])
        .map_err(|error| PipelineError::Other(error.to_string()))?;
    let mut stage = Stage::begin(job, "detect", RUN_FILE)?;
    stage.checkpoint = std::path::absolute(checkpoint).ok();
    if !kept.readiness.ready {
        stage.warnings.push(format!("the checkpoint is not ready for use: {}", reasons.join("; ")));
    }
    stage.warnings.extend(overruled(&trained, &job.config));
    let loaded = stage.load()?;
    let config = in_force(trained, &job.config);
    let context = stage.context();
    let mut levels = Vec::with_capacity(loaded.panels.len());
    for panel in &loaded.panels {
        let state = matching_level(&kept, panel, checkpoint)?;
        let known = &loaded.known_events;
        levels.push(level::score_level(&config, panel.clone(), known, state, &context)?);
    }
    level::decide_levels(&config, &mut levels)?;
    stage.clock.lap("score");
    stage.finish(&loaded, &levels, replayable(&config))
}

/// What a detection goes by: what was learnt is the checkpoint's, the rest the job's.
fn in_force(trained: Config, job: &Config) -> Config {
    Config {
        name: job.name.clone(),
        seed: job.seed,
        device: job.device,
        source: job.source.clone(),
        generate: job.generate.clone(),
        panel: job.panel.clone(),
        decision: job.decision.clone(),
        inject: job.inject.clone(),
        report: job.report.clone(),
        output: job.output.clone(),
        ..trained
    }
}

/// A sentence about the job's settings that a checkpoint overrules, if there are any.
fn overruled(trained: &Config, job: &Config) -> Option<String> {
    let tables = job.differing_tables(&in_force(trained.clone(), job));
    (!tables.is_empty()).then(|| {
        format!(
            "{} of the config differ from what the checkpoint was trained with, and have no effect: train again to change them",
            tables.iter().map(|table| format!("[{table}]")).collect::<Vec<_>>().join(", ")
        )
    })
}

fn matching_level<'a>(
    kept: &'a Checkpoint,
    panel: &crate::panel::Panel,
    path: &Path,
) -> Result<&'a LevelState, PipelineError> {
    let name = &panel.level().name;
    let refuse = |reason: String| {
        PipelineError::Other(format!(
            "{}: {reason}: detect with the config that it was trained with, or train again",
            path.display()
        ))
    };
    let state =
        kept.level(name).ok_or_else(|| refuse(format!("the checkpoint has no level `{name}`")))?;
    if state.level != *panel.level() {
        return Err(refuse(format!("its level `{name}` has other id columns")));
    }
    if state.step != panel.calendar().step() {
        return Err(refuse(format!(
            "its step is {}, the data's {}",
            String::from(state.step),
            String::from(panel.calendar().step())
        )));
    }
    if state.metrics != panel.metrics() {
        return Err(refuse("its metrics differ from the config's".into()));
    }
    Ok(state)
}

/// Draws a run's charts and page again: in `format`, or else in the one that the run's config asks
/// for, with the first `top` series of each level.
///
/// # Errors
/// When the folder is no run, or cannot be written.
pub fn report(
    run_dir: &Path,
    format: Option<ChartFormat>,
    top: Option<usize>,
    progress: &dyn Progress,
) -> Result<PathBuf, PipelineError> {
    let path = run_dir.join(REPORT_FILE);
    let bytes = fs::read(&path).map_err(|error| {
        PipelineError::Other(format!(
            "{}: {error}; name the folder that `anomalist run` or `detect` wrote",
            path.display()
        ))
    })?;
    let mut data: ReportData = serde_json::from_slice(&bytes).map_err(|error| {
        PipelineError::Other(format!("{} is damaged: {error}; run again", path.display()))
    })?;
    if let Some(top) = top {
        data.keep_top(top);
    }
    let format = format.unwrap_or_else(|| {
        let config = Config::load(&run_dir.join("config.toml"), &[]);
        config.map(|config| config.report.format).unwrap_or_default()
    });
    write::draw(&mut data, run_dir, format, progress)?;
    Ok(run_dir.join("report.html"))
}

/// The config with absolute input paths, so that it can be run again from anywhere. Generated
/// data are generated again rather than named.
pub(super) fn replayable(config: &Config) -> Config {
    let mut config = config.clone();
    let absolute = |path: &mut Option<String>| {
        if let Some(text) = path
            && let Ok(full) = std::path::absolute(&*text)
        {
            *text = full.to_string_lossy().into_owned();
        }
    };
    absolute(&mut config.source.path);
    absolute(&mut config.source.labels);
    absolute(&mut config.source.known_events);
    config
}
