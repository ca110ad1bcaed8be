//! The commands: run, train, detect, report. Each writes one directory, whole or not at all.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use super::{
    PipelineError, RunSummary, flags,
    level::{self, LevelRun},
    load::{self, Loaded},
    pages, quality,
    summary::{FallbackNote, LevelSummary},
};
use crate::{
    checkpoint::{self, Checkpoint, LevelState, Origin},
    config::Config,
    detectors::{FitContext, Progress},
    device,
    report::{self, ChartFormat, ReportData},
    sink::{PartialDir, write_csv, write_parquet},
};

/// The file that makes a folder a run.
pub const RUN_FILE: &str = "run.json";
/// What the report was drawn from.
const REPORT_FILE: &str = "report.json";

/// A config with everything that the command line adds.
pub struct Job {
    pub config: Config,
    pub out: PathBuf,
    pub progress: Arc<dyn Progress>,
    pub cancelled: Arc<AtomicBool>,
}

/// Seconds by stage, in order.
struct Clock {
    last: Instant,
    laps: Vec<(String, f64)>,
}

impl Clock {
    fn start() -> Self {
        Self { last: Instant::now(), laps: Vec::new() }
    }

    fn lap(&mut self, name: &str) {
        self.laps.push((name.to_string(), self.last.elapsed().as_secs_f64()));
        self.last = Instant::now();
    }
}

/// Fits, scores, decides, writes flags, charts, page and checkpoint.
///
/// # Errors
/// When any stage fails; no directory is left then.
pub fn run(job: &Job) -> Result<RunSummary, PipelineError> {
    let mut stage = Stage::begin(job, "run", RUN_FILE)?;
    let loaded = stage.load()?;
    let levels = stage.fit(&loaded)?;
    let config = replayable(&job.config);
    let checkpoint = checkpoint_of(&config, &stage.origin(&loaded), &levels)?;
    let folder = stage.dir.path().join("checkpoint");
    fs::create_dir(&folder).map_err(PipelineError::io(&folder))?;
    checkpoint.write_into(&folder)?;
    stage.finish(&loaded, &levels, config)
}

/// Fits and writes the checkpoint alone.
///
/// # Errors
/// As [`run`].
pub fn train(job: &Job) -> Result<RunSummary, PipelineError> {
    let mut stage = Stage::begin(job, "train", checkpoint::MANIFEST)?;
    let loaded = stage.load()?;
    let levels = stage.fit(&loaded)?;
    let config = replayable(&job.config);
    checkpoint_of(&config, &stage.origin(&loaded), &levels)?.write_into(stage.dir.path())?;
    let mut summary = stage.summary(&loaded, &levels);
    if job.config.source.path.is_none() {
        summary.input = PathBuf::from("generated");
    }
    write_json(&stage.dir.path().join("training.json"), &summary)?;
    let out = stage.dir.finish()?;
    Ok(RunSummary { out, ..summary })
}

/// Scores the job's data with a checkpoint.
///
/// Detectors, panel and calibration are the checkpoint's; source, decision, report and output are
/// the job's.
///
/// # Errors
/// As [`run`], and when the checkpoint is damaged or was made for another kind of panel.
pub fn detect(job: &Job, checkpoint: &Path) -> Result<RunSummary, PipelineError> {
    spare(&job.out, checkpoint)?;
    let kept = Checkpoint::load(checkpoint)?;
    let trained = Config::parse(&kept.config, "the checkpoint's config.toml", Path::new(""), &[])
        .map_err(|error| PipelineError::Other(error.to_string()))?;
    let mut stage = Stage::begin(job, "detect", RUN_FILE)?;
    let loaded = stage.load()?;
    let (context, _) = stage.context()?;
    let mut levels = Vec::with_capacity(loaded.panels.len());
    for panel in &loaded.panels {
        let state = matching_level(&kept, panel, checkpoint)?;
        let config = Config {
            decision: job.config.decision.clone(),
            output: job.config.output.clone(),
            ..trained.clone()
        };
        levels.push(level::score_level(
            &config,
            panel.clone(),
            &loaded.known_events,
            state,
            &context,
        )?);
    }
    stage.clock.lap("score");
    let config = replayable(&job.config);
    stage.finish(&loaded, &levels, config)
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

/// Draws a run's charts and page again.
///
/// # Errors
/// When the folder is no run, or cannot be written.
pub fn report(
    run_dir: &Path,
    format: ChartFormat,
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
        data.charts.truncate(top);
    }
    draw(&mut data, run_dir, format, progress)?;
    Ok(run_dir.join("report.html"))
}

/// Charts and page into `dir`.
fn draw(
    data: &mut ReportData,
    dir: &Path,
    format: ChartFormat,
    progress: &dyn Progress,
) -> Result<(), PipelineError> {
    let charts = dir.join("charts");
    fs::create_dir_all(&charts).map_err(PipelineError::io(&charts))?;
    progress.start("drawing", data.charts.len() as u64);
    report::write_charts(data, &charts, format, &mut |units| progress.advance(units))?;
    report::write_page(data, &dir.join("report.html"))?;
    progress.finish();
    Ok(())
}

/// One command on its way from a job to a directory.
struct Stage<'a> {
    job: &'a Job,
    command: &'static str,
    dir: PartialDir,
    clock: Clock,
    warnings: Vec<String>,
    device: Option<device::ComputeDevice>,
}

impl<'a> Stage<'a> {
    fn begin(job: &'a Job, command: &'static str, marker: &str) -> Result<Self, PipelineError> {
        let source = &job.config.source;
        for path in [&source.path, &source.labels, &source.known_events].into_iter().flatten() {
            spare(&job.out, Path::new(path))?;
        }
        Ok(Self {
            job,
            command,
            dir: PartialDir::begin(&job.out, marker)?,
            clock: Clock::start(),
            warnings: Vec::new(),
            device: None,
        })
    }

    fn load(&mut self) -> Result<Loaded, PipelineError> {
        let dir = self.dir.path();
        // Generated data are part of a run, but a checkpoint travels without them.
        let scratch = match self.command {
            "train" => Some(tempfile::tempdir().map_err(PipelineError::io(std::env::temp_dir()))?),
            _ => None,
        };
        let loaded = load::load(
            &self.job.config,
            &scratch.as_ref().map_or_else(|| dir.join("data"), |dir| dir.path().join("data")),
            &dir.join("rejected.csv"),
            &self.job.progress,
        )
        .map_err(|error| self.keep_rejected(error))?;
        self.clock.lap("read");
        Ok(loaded)
    }

    /// A run that stops over bad rows leaves no folder, but the rows it stopped over.
    fn keep_rejected(&self, error: PipelineError) -> PipelineError {
        let mut kept = self.job.out.clone().into_os_string();
        kept.push(".rejected.csv");
        match fs::copy(self.dir.path().join("rejected.csv"), &kept) {
            Ok(_) => PipelineError::Other(format!(
                "{error}\nthe rejected rows are in {}",
                Path::new(&kept).display()
            )),
            Err(_) => error, // there were none
        }
    }

    fn context(&mut self) -> Result<(FitContext, String), PipelineError> {
        let (device, warnings) = device::choose(self.job.config.device)?;
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        self.warnings.extend(warnings);
        let name = device.name().to_string();
        self.device = Some(device.clone());
        let context = FitContext {
            seed: self.job.config.seed,
            device,
            progress: self.job.progress.clone(),
            cancelled: self.job.cancelled.clone(),
        };
        Ok((context, name))
    }

    fn fit(&mut self, loaded: &Loaded) -> Result<Vec<LevelRun>, PipelineError> {
        let (context, _) = self.context()?;
        let mut levels = Vec::with_capacity(loaded.panels.len());
        for panel in &loaded.panels {
            levels.push(level::fit_level(
                &self.job.config,
                panel.clone(),
                &loaded.known_events,
                &context,
            )?);
        }
        self.clock.lap("fit and score");
        Ok(levels)
    }

    fn device_name(&self) -> String {
        self.device.as_ref().map_or_else(|| "cpu".to_string(), |device| device.name().to_string())
    }

    fn origin(&self, loaded: &Loaded) -> Origin {
        Origin {
            version: env!("CARGO_PKG_VERSION").into(),
            seed: self.job.config.seed,
            device: self.device_name(),
            data_fingerprint: loaded.summary.fingerprint.clone(),
        }
    }

    fn summary(&self, loaded: &Loaded, levels: &[LevelRun]) -> RunSummary {
        let labels = loaded.labels.as_deref();
        let summaries: Vec<LevelSummary> = levels
            .iter()
            .map(|level| quality::summarise(level, labels, self.job.config.seed))
            .collect();
        let mut warnings = self.warnings.clone();
        for level in &summaries {
            warnings.extend(level.fallbacks.iter().map(|note| fallback_text(&level.level, note)));
            warnings.extend(level.skipped.iter().map(|(detector, reason)| {
                format!("level {}: {detector} did not run: {reason}", level.level)
            }));
        }
        warnings.extend(summaries.iter().filter(|level| level.points == 0).map(|level| {
            format!("level {}: no point could be scored: the series are too short", level.level)
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
        warnings.extend(levels.iter().filter_map(|level| {
            let reason = quality::curve(level)?.stopped.as_ref()?;
            Some(format!("level {}: LSTM training stopped: {reason}", level.panel.level().name))
        }));
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
            device: self.device_name(),
            seed: self.job.config.seed,
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
    fn finish(
        mut self,
        loaded: &Loaded,
        levels: &[LevelRun],
        config: Config,
    ) -> Result<RunSummary, PipelineError> {
        let dir = self.dir.path().to_path_buf();
        self.job.progress.start("writing flags", levels.len() as u64);
        for level in levels {
            write_flags(&config, level, loaded, &dir.join("flags"))?;
            self.job.progress.advance(1);
        }
        self.job.progress.finish();
        self.clock.lap("write flags");
        let text = config.to_toml().map_err(|error| PipelineError::Other(error.to_string()))?;
        let path = dir.join("config.toml");
        fs::write(&path, text).map_err(PipelineError::io(&path))?;

        let summary = self.summary(loaded, levels);
        let mut data = pages::report_data(&config, loaded, levels, &summary);
        write_json(&dir.join(REPORT_FILE), &data)?;
        draw(&mut data, &dir, config.report.format, self.job.progress.as_ref())?;
        self.clock.lap("draw");

        let timings = self.clock.laps.iter().filter(|(n, _)| n == "draw").cloned();
        let mut summary = summary;
        summary.timings.extend(timings);
        summary.input = published(&summary.input, &dir, &self.job.out);
        write_json(&dir.join(RUN_FILE), &summary)?;
        write_log(&dir.join("run.log"), &summary)?;
        let out = self.dir.finish()?;
        Ok(RunSummary { out, ..summary })
    }
}

/// Refuses to replace a folder that holds what is about to be read.
fn spare(out: &Path, read: &Path) -> Result<(), PipelineError> {
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
fn published(path: &Path, partial: &Path, out: &Path) -> PathBuf {
    path.strip_prefix(partial).map_or_else(|_| path.to_path_buf(), |rest| out.join(rest))
}

fn fallback_text(level: &str, note: &FallbackNote) -> String {
    format!(
        "level {level}: {} stands in for {} on {} series (for one: {})",
        note.by, note.detector, note.series, note.example
    )
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

fn checkpoint_of(
    config: &Config,
    origin: &Origin,
    levels: &[LevelRun],
) -> Result<Checkpoint, PipelineError> {
    let mut states = Vec::with_capacity(levels.len());
    for level in levels {
        let mut detectors = Vec::with_capacity(level.members.len());
        for member in &level.members {
            detectors.push((member.name, member.fitted.state()?));
        }
        states.push(LevelState {
            level: level.panel.level().clone(),
            step: level.panel.calendar().step(),
            metrics: level.panel.metrics().to_vec(),
            keys: level.panel.keys().to_vec(),
            trained_until: level.trained_until(),
            detectors,
            calibrations: level.calibrations.clone(),
        });
    }
    let config = config.to_toml().map_err(|error| PipelineError::Other(error.to_string()))?;
    Ok(Checkpoint { origin: origin.clone(), config, levels: states })
}

fn write_flags(
    config: &Config,
    level: &LevelRun,
    loaded: &Loaded,
    dir: &Path,
) -> Result<(), PipelineError> {
    fs::create_dir_all(dir).map_err(PipelineError::io(dir))?;
    let known = flags::known_event_names(&level.panel, &loaded.known_events);
    let columns = flags::columns(config, level, &known);
    let panel = &level.panel;
    let stem = flags::stem(config, panel);
    let cells = (0..panel.n_series()).flat_map(|s| panel.span(s).map(move |t| (s, t)));
    write_csv(&dir.join(format!("{stem}.csv")), &columns, cells)?;
    if !config.output.parquet {
        return Ok(());
    }
    for (partition, times) in partitions(panel) {
        let folder = dir.join(&stem).join(partition);
        fs::create_dir_all(&folder).map_err(PipelineError::io(&folder))?;
        let cells: Vec<(usize, usize)> = (0..panel.n_series())
            .flat_map(|s| {
                let span = panel.span(s);
                times.iter().copied().filter(move |t| span.contains(t)).map(move |t| (s, t))
            })
            .collect();
        write_parquet(&folder.join("part-0.parquet"), &columns, &cells)?;
    }
    Ok(())
}

/// Steps by partition folder: `week=2025-01-06` for weekly panels, `day=2025-01-06` otherwise.
fn partitions(panel: &crate::panel::Panel) -> BTreeMap<String, Vec<usize>> {
    let unit = if panel.calendar().step() == crate::panel::Step::Week { "week" } else { "day" };
    let mut found: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for t in 0..panel.n_times() {
        let label = panel.calendar().label(t);
        let day = label.get(..10).unwrap_or(&label);
        found.entry(format!("{unit}={day}")).or_default().push(t);
    }
    found
}

fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<(), PipelineError> {
    let bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| PipelineError::Other(format!("{}: {error}", path.display())))?;
    fs::write(path, bytes).map_err(PipelineError::io(path))
}

/// What happened, in lines, for whoever has no JSON reader at hand.
fn write_log(path: &Path, summary: &RunSummary) -> Result<(), PipelineError> {
    let mut text = format!(
        "anomalist {} {} {}\ndevice {}\nseed {}\ninput {}\nrows {}\n",
        summary.version,
        summary.command,
        summary.name,
        summary.device,
        summary.seed,
        summary.input.display(),
        summary.rows
    );
    for (reason, count) in &summary.rejected {
        text.push_str(&format!("rejected {count} {reason}\n"));
    }
    for (stage, secs) in &summary.timings {
        text.push_str(&format!("{secs:9.3} s  {stage}\n"));
    }
    for warning in &summary.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    fs::write(path, text).map_err(PipelineError::io(path))
}
