//! One command on its way from a job to a directory: what run, train and detect share.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Instant,
};

use super::{
    Job, PipelineError, RunSummary,
    admission::{self, Admission},
    change_points, evaluate, flags,
    kept::{self, KeptLevel},
    level::{self, LevelRun},
    load::{self, Loaded},
    pages, quality, registry,
    summary::{FallbackNote, LevelSummary, SeriesEvent},
    write,
};
use crate::{
    checkpoint::{Checkpoint, Origin, Readiness},
    config::Config,
    detectors::{DetectorError, FitContext},
    device::{self, ComputeDevice},
    sink::PartialDir,
};

/// A larger share of flagged points than this is worth a word.
const MANY_ANOMALIES: f64 = 0.2;

/// Seconds by stage, in order.
pub(super) struct Clock {
    last: Instant,
    laps: Vec<(String, f64)>,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { last: Instant::now(), laps: Vec::new() }
    }

    /// Seconds by stage so far.
    pub(super) fn laps(&self) -> &[(String, f64)] {
        &self.laps
    }

    pub(super) fn lap(&mut self, name: &str) {
        self.laps.push((name.to_string(), self.last.elapsed().as_secs_f64()));
        self.last = Instant::now();
    }
}

/// One command on its way from a job to a directory.
pub(super) struct Stage<'a> {
    job: &'a Job,
    command: &'static str,
    pub(super) dir: PartialDir,
    pub(super) clock: Clock,
    pub(super) warnings: Vec<String>,
    /// What `detect` scores with.
    pub(super) checkpoint: Option<PathBuf>,
    device: ComputeDevice,
    /// What makes the detectors.
    pub(super) build: level::Build,
}

impl<'a> Stage<'a> {
    pub(super) fn begin(
        job: &'a Job,
        command: &'static str,
        marker: &str,
    ) -> Result<Self, PipelineError> {
        flags::check_names(&job.config)?;
        let source = &job.config.source;
        for path in [&source.path, &source.labels, &source.known_events].into_iter().flatten() {
            spare(&job.out, Path::new(path))?;
        }
        // Before anything is read: who asked for a device that is not there need not wait.
        let (device, warnings) = device::choose(job.config.device)?;
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        Ok(Self {
            job,
            command,
            dir: PartialDir::begin(&job.out, marker)?,
            clock: Clock::start(),
            warnings,
            checkpoint: None,
            device,
            build: registry::build,
        })
    }

    pub(super) fn load(&mut self) -> Result<Loaded, PipelineError> {
        let dir = self.dir.path();
        // Generated data are part of a run, but a checkpoint travels without them, and an injection
        // test is not about them.
        let scratch = match self.command {
            "train" | "inject" => {
                Some(tempfile::tempdir().map_err(PipelineError::io(std::env::temp_dir()))?)
            }
            _ => None,
        };
        let loaded = load::load(
            &scratch.as_ref().map_or_else(|| dir.join("data"), |dir| dir.path().join("data")),
            &dir.join("rejected.csv"),
            self.job,
        )
        .map_err(|error| self.keep_rejected(error))?;
        self.warnings.extend(loaded.notes.iter().cloned());
        self.clock.lap("read");
        Ok(loaded)
    }

    /// A run that stops over bad rows leaves no folder, but the rows it stopped over.
    fn keep_rejected(&self, error: PipelineError) -> PipelineError {
        keep_rejected(self.dir.path(), &self.job.out, error)
    }

    pub(super) fn context(&self) -> FitContext {
        FitContext {
            seed: self.job.config.seed,
            device: self.device.clone(),
            progress: self.job.progress.clone(),
            cancelled: self.job.cancelled.clone(),
            ..FitContext::new(self.job.config.seed)
        }
    }

    pub(super) fn fit(&mut self, loaded: &Loaded) -> Result<Vec<LevelRun>, PipelineError> {
        let context = self.context();
        let mut levels = Vec::with_capacity(loaded.panels.len());
        for panel in &loaded.panels {
            levels.push(level::fit_level_with(
                self.build,
                &self.job.config,
                panel.clone(),
                &loaded.known_events,
                &context,
            )?);
        }
        level::decide_levels(&self.job.config, &mut levels)?;
        self.clock.lap("fit and score");
        Ok(levels)
    }

    /// The checkpoint of the levels, with the verdict of the admission test.
    pub(super) fn checkpoint(
        &mut self,
        config: &Config,
        loaded: &Loaded,
        levels: &[LevelRun],
    ) -> Result<Checkpoint, PipelineError> {
        let context = self.context();
        let mut found = Admission::default();
        let mut states = Vec::with_capacity(levels.len());
        for level in levels {
            let state = level.state()?;
            let here = admission::test(self.build, config, level, &state, &context)?;
            found.refused.extend(here.refused);
            found.untested.extend(here.untested);
            states.push(state);
        }
        self.clock.lap("admission test");
        self.warnings.extend(
            found
                .refused
                .iter()
                .map(|reason| format!("{reason}: the checkpoint is not marked as ready")),
        );
        self.warnings.extend(found.untested.iter().cloned());
        Ok(Checkpoint {
            origin: self.origin(loaded),
            readiness: Readiness {
                ready: found.refused.is_empty(),
                not_ready_because: found.refused,
                untested: found.untested,
            },
            config: config.to_toml().map_err(|error| PipelineError::Other(error.to_string()))?,
            levels: states,
        })
    }

    fn check_cancelled(&self) -> Result<(), DetectorError> {
        if self.job.cancelled.load(Ordering::Relaxed) {
            Err(DetectorError::Cancelled)
        } else {
            Ok(())
        }
    }

    fn origin(&self, loaded: &Loaded) -> Origin {
        Origin {
            version: env!("CARGO_PKG_VERSION").into(),
            seed: self.job.config.seed,
            device: self.device.name().to_string(),
            data_fingerprint: loaded.summary.fingerprint.clone(),
        }
    }

    pub(super) fn summary(
        &self,
        loaded: &Loaded,
        levels: &[LevelRun],
        kept: &[KeptLevel],
    ) -> RunSummary {
        let labels = loaded.labels.as_deref();
        let summaries: Vec<LevelSummary> = levels
            .iter()
            .zip(kept)
            .map(|(level, kept)| quality::summarise(level, kept, labels, self.job.config.seed))
            .collect();
        let mut warnings = self.warnings.clone();
        for level in &summaries {
            warnings.extend(level.fallbacks.iter().map(|note| fallback_text(&level.level, note)));
            warnings.extend(level.notes.first().map(|note| notes_text(level, note)));
            warnings.extend(level.skipped.iter().map(|(detector, reason)| {
                format!("level {}: {detector} did not run: {reason}", level.level)
            }));
        }
        warnings.extend(levels.iter().flat_map(|level| level.rule_notes.iter().cloned()));
        warnings.extend(summaries.iter().filter(|level| level.points == 0).map(|level| {
            format!("level {}: no point could be scored: the series are too short", level.level)
        }));
        warnings.extend(summaries.iter().filter_map(|level| {
            let share = level.anomalies as f64 / (level.points as f64).max(1.0);
            (share > MANY_ANOMALIES).then(|| {
                format!(
                    "level {}: {:.0} % of the points are flagged: the data may differ as a whole from what the detectors learnt from",
                    level.level,
                    100.0 * share
                )
            })
        }));
        for (what, intervals) in
            [("labels", labels.unwrap_or_default()), ("known events", &loaded.known_events[..])]
        {
            let lost = intervals.iter().filter(|i| load::lies_nowhere(&loaded.panels, i)).count();
            if lost > 0 {
                warnings.push(format!(
                    "{lost} of {} {what} match no series or no step of the data: check their id columns and times",
                    intervals.len()
                ));
            }
        }
        for level in levels {
            let stopped = quality::lstm(level).map(|lstm| lstm.stopped()).unwrap_or_default();
            let name = &level.panel.level().name;
            let text = |reason| format!("level {name}: LSTM training stopped, {reason}");
            warnings.extend(stopped.into_iter().map(text));
        }
        let mut timings = self.clock.laps.clone();
        for level in levels {
            timings.extend(
                level
                    .timings
                    .iter()
                    .map(|(stage, secs)| (format!("{}: {stage}", level.panel.level().name), *secs)),
            );
        }
        RunSummary {
            name: self.job.config.name.clone(),
            command: self.command.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            device: self.device.name().to_string(),
            seed: self.job.config.seed,
            checkpoint: self.checkpoint.clone(),
            input: loaded.input.clone(),
            data_fingerprint: loaded.summary.fingerprint.clone(),
            rows: loaded.summary.rows,
            rejected: loaded
                .summary
                .rejected
                .iter()
                .map(|(reason, count)| (reason.name().to_string(), *count))
                .collect(),
            levels: summaries,
            warnings,
            timings,
            out: self.job.out.clone(),
        }
    }

    /// Flags, charts, page, config and `run.json`, then the directory gets its name.
    pub(super) fn finish(
        mut self,
        loaded: &Loaded,
        levels: &[LevelRun],
        config: Config,
    ) -> Result<RunSummary, PipelineError> {
        let dir = self.dir.path().to_path_buf();
        self.check_cancelled()?;
        self.job.progress.start("writing flags", levels.len() as u64);
        let mut unknown = None;
        for level in levels {
            let here = write::write_flags(&config, level, loaded, &dir.join("flags"))?;
            // A name is unknown when no level's file has it.
            let before: Vec<String> = unknown.take().unwrap_or_else(|| here.clone());
            unknown = Some(before.into_iter().filter(|name| here.contains(name)).collect());
            self.job.progress.advance(1);
        }
        self.job.progress.finish();
        self.warnings.extend(unknown.unwrap_or_default().into_iter().map(|name| {
            format!("[output.rename] names `{name}`, a column that no flags file has")
        }));
        let changes = change_points::write(levels, &dir)?;
        self.clock.lap("write flags");
        let text = config.to_toml().map_err(|error| PipelineError::Other(error.to_string()))?;
        let path = dir.join("config.toml");
        fs::write(&path, text).map_err(PipelineError::io(&path))?;

        let kept: Vec<KeptLevel> = levels.iter().map(|run| KeptLevel::of(&config, run)).collect();
        kept::write_scores(&kept, &dir)?;
        let summary = self.summary(loaded, levels, &kept);
        drop(kept);
        evaluate::write_metrics(&summary, &dir)?;
        self.clock.lap("measure");
        let mut data = pages::report_data(&config, loaded, levels, &summary);
        data.quality.extend(changes);
        write::write_json(&dir.join(write::REPORT_FILE), &data)?;
        write::draw(&mut data, &dir, config.report.format, self.job.progress.as_ref())?;
        self.clock.lap("draw");

        let late = ["measure", "draw"];
        let timings = self.clock.laps.iter().filter(|(n, _)| late.contains(&n.as_str())).cloned();
        let mut summary = summary;
        summary.timings.extend(timings);
        summary.input = published(&summary.input, &dir, &self.job.out);
        write::write_json(&dir.join(write::RUN_FILE), &summary)?;
        write::write_log(&dir.join("run.log"), &summary)?;
        let out = self.dir.finish()?;
        Ok(RunSummary { out, ..summary })
    }
}

/// Copies the rejected rows of an unfinished directory beside its place, and says so.
pub(super) fn keep_rejected(partial: &Path, out: &Path, error: PipelineError) -> PipelineError {
    let mut kept = out.to_path_buf().into_os_string();
    kept.push(".rejected.csv");
    match fs::copy(partial.join("rejected.csv"), &kept) {
        Ok(_) => PipelineError::Other(format!(
            "{error}\nthe rejected rows are in {}",
            Path::new(&kept).display()
        )),
        Err(_) => error, // there were none
    }
}

/// Refuses to replace a folder that holds what is about to be read.
pub(super) fn spare(out: &Path, read: &Path) -> Result<(), PipelineError> {
    match (fs::canonicalize(out), fs::canonicalize(read)) {
        (Ok(out), Ok(read)) if read.starts_with(&out) => Err(PipelineError::Other(format!(
            "{} lies in {}, which this command would replace: choose another folder with --out",
            read.display(),
            out.display()
        ))),
        _ => Ok(()),
    }
}

/// A path inside the unfinished directory as it will be called when that is finished.
pub(super) fn published(path: &Path, partial: &Path, out: &Path) -> PathBuf {
    path.strip_prefix(partial).map_or_else(|_| path.to_path_buf(), |rest| out.join(rest))
}

fn notes_text(level: &LevelSummary, first: &SeriesEvent) -> String {
    let at = first.at.as_ref().map_or(String::new(), |at| format!(" at {at}"));
    format!(
        "level {}: notes on single series: {} (`notes` in run.json); the first: {}, {}{at}: {}",
        level.level,
        level.notes.len(),
        first.detector,
        first.series,
        first.text
    )
}

fn fallback_text(level: &str, note: &FallbackNote) -> String {
    format!(
        "level {level}: {} stands in for {} on {} series (for one: {})",
        note.by, note.detector, note.series, note.example
    )
}
