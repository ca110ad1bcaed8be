//! Records from a file to a run: fit on the first rows, score all of them batch by batch.
//!
//! ```text
//! models    forests and neighbours behind one face
//! fitted    features + models + thresholds, into a checkpoint and back
//! verdict   a batch -> scores, flags, severity, type, reasons
//! output    verdicts -> anomalies_<model>_<timestamp>.csv and .parquet
//! collect   what the report tells of rows that have gone by
//! measure   scored rows against labels
//! evaluate  a finished run against labels
//! page      the same -> what the report draws
//! ```
//!
//! The file is read twice by `run`: once for the training rows, of which at most
//! `records.max_train_rows` are kept, and once to score. Nothing else grows with the number of rows
//! but, where there are labels, the scores beside them.

mod collect;
mod evaluate;
mod fitted;
mod measure;
mod models;
mod output;
mod page;
mod verdict;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

pub(super) use self::evaluate::{id_column, measure_run};
use self::{
    collect::Collector,
    fitted::FittedRecords,
    measure::ScoredRows,
    output::{Files, Schema, compact},
};
use super::{
    Job, LevelSummary, PipelineError, RUN_FILE, RunSummary, evaluate as evaluation,
    load::generate,
    run::replayable,
    stage::{Clock, keep_rejected, published, spare},
    write,
};
use crate::{
    checkpoint::{self, Origin, RecordsCheckpoint},
    config::{Config, RecordsSection},
    detectors::DetectorError,
    panel::RecordBlock,
    sink::PartialDir,
    source::{
        Layout, ReadSummary, RecordBatch, RejectLog, SourceSpec, input_columns, read_record_labels,
        read_records, rfc3339,
    },
};

/// The name that a run of records has where others have levels.
pub const RECORDS_LEVEL: &str = "records";
/// A larger share of flagged rows than this is worth a word.
const MANY_ANOMALIES: f64 = 0.2;

/// One command on its way from a job to a directory.
struct Stage<'a> {
    job: &'a Job,
    command: &'static str,
    dir: PartialDir,
    clock: Clock,
    warnings: Vec<String>,
    input: PathBuf,
    labels: Option<PathBuf>,
    checkpoint: Option<PathBuf>,
}

/// Fits on the first rows, scores all, writes scores, charts, page and checkpoint.
///
/// # Errors
/// When any stage fails; no directory is left then.
pub(super) fn run(job: &Job) -> Result<RunSummary, PipelineError> {
    let section = section(&job.config)?;
    let mut stage = Stage::begin(job, "run", RUN_FILE, job.out.join("data"))?;
    let (mut training, read) = stage.read_training(section)?;
    let wanted = (section.train_share * read.rows as f64).round() as usize;
    training = training.head(wanted);
    stage.clock.lap("read");
    let mut fitted = stage.fit(section, &training)?;
    drop(training);
    // Scoring starts over at the first row, with nothing behind it.
    fitted.state = crate::features::records::BurstState::default();
    let trained = fitted.rows;
    let scored = stage.score(&mut fitted, trained, RejectLog::counting())?;
    let config = replayable(&job.config);
    let folder = stage.dir.path().join("checkpoint");
    fs::create_dir(&folder).map_err(PipelineError::io(&folder))?;
    fitted.checkpoint(&config, stage.origin(&read))?.write_into(&folder)?;
    stage.finish(&fitted, &scored, &read, &config)
}

/// Fits on all rows (the first `max_train_rows`) and writes the checkpoint alone.
///
/// # Errors
/// As [`run`].
pub(super) fn train(job: &Job) -> Result<RunSummary, PipelineError> {
    let section = section(&job.config)?;
    let scratch = tempfile::tempdir().map_err(PipelineError::io(std::env::temp_dir()))?;
    let mut stage = Stage::begin(job, "train", checkpoint::MANIFEST, scratch.path().join("data"))?;
    let (training, read) = stage.read_training(section)?;
    stage.clock.lap("read");
    let fitted = stage.fit(section, &training)?;
    if (fitted.rows as u64) < read.rows {
        stage.warnings.push(format!(
            "fitted on the first {} of {} rows: records.max_train_rows allows no more",
            fitted.rows, read.rows
        ));
    }
    let config = replayable(&job.config);
    fitted.checkpoint(&config, stage.origin(&read))?.write_into(stage.dir.path())?;
    let level = LevelSummary {
        series: fitted.features.n_contexts() - 1,
        steps: fitted.rows,
        first: training.times.iter().min().map_or_else(String::new, |&t| rfc3339(t)),
        last: training.times.iter().max().map_or_else(String::new, |&t| rfc3339(t)),
        ..level_summary()
    };
    let mut summary = stage.summary(&read, level);
    if job.config.source.path.is_none() {
        summary.input = PathBuf::from("generated");
    }
    write::write_json(&stage.dir.path().join("training.json"), &summary)?;
    let out = stage.dir.finish()?;
    Ok(RunSummary { out, ..summary })
}

/// Scores the job's records with a checkpoint: features, models and thresholds are the
/// checkpoint's, source, output and report the job's.
///
/// # Errors
/// As [`run`], and when the checkpoint is damaged or has not the model that is asked for.
pub(super) fn detect(job: &Job, dir: &Path) -> Result<RunSummary, PipelineError> {
    spare(&job.out, dir)?;
    let asked = section(&job.config)?;
    let kept = RecordsCheckpoint::load(dir)?;
    let other = |error: String| PipelineError::Other(format!("{}: {error}", dir.display()));
    let trained = Config::parse(&kept.config, "the checkpoint's config.toml", Path::new(""), &[])
        .map_err(|error| other(error.to_string()))?;
    let learnt = section(&trained)?;
    let in_force = RecordsSection {
        id_column: asked.id_column.clone(),
        output: asked.output,
        timestamp: asked.timestamp.clone(),
        severity_p: asked.severity_p,
        ..learnt.clone()
    };
    let mut stage = Stage::begin(job, "detect", RUN_FILE, job.out.join("data"))?;
    stage.checkpoint = std::path::absolute(dir).ok();
    let differs = RecordsSection { train_share: learnt.train_share, ..asked.clone() } != in_force;
    if differs {
        stage.warnings.push(
            "[records] of the config differs from what the checkpoint was trained with, and has no effect but for id_column, output, timestamp and severity_p: train again to change it".into(),
        );
    }
    if let Some(model) = in_force.output.model().filter(|model| !in_force.models.contains(model)) {
        return Err(other(format!(
            "the checkpoint has no model `{model}`, only {}: train again with it in records.models, or take another --model",
            in_force.models.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        )));
    }
    let mut fitted = FittedRecords::restore(&kept, learnt, dir)?;
    fitted.section = in_force.clone();
    stage.clock.lap("restore");
    let rejects = RejectLog::writing_to(stage.dir.path().join("rejected.csv"));
    let scored = stage.score(&mut fitted, 0, rejects)?;
    let config = Config { records: Some(in_force), ..replayable(&job.config) };
    let read = scored.read.clone();
    stage.finish(&fitted, &scored, &read, &config)
}

fn section(config: &Config) -> Result<&RecordsSection, PipelineError> {
    config.records.as_ref().ok_or_else(|| {
        PipelineError::Other("the config has no [records] table: name one about records".into())
    })
}

/// What a scoring leaves behind beside its files.
struct Scored {
    collector: Collector,
    read: ReadSummary,
    stem: String,
}

impl<'a> Stage<'a> {
    fn begin(
        job: &'a Job,
        command: &'static str,
        marker: &str,
        data: PathBuf,
    ) -> Result<Self, PipelineError> {
        let source = &job.config.source;
        for path in [&source.path, &source.labels].into_iter().flatten() {
            spare(&job.out, Path::new(path))?;
        }
        let dir = PartialDir::begin(&job.out, marker)?;
        let mut labels = source.labels.as_ref().map(PathBuf::from);
        let input = match &source.path {
            Some(path) => PathBuf::from(path),
            None => {
                // Generated data are part of a run, but a checkpoint travels without them.
                let data = match data.strip_prefix(&job.out) {
                    Ok(inside) => dir.path().join(inside),
                    Err(_) => data,
                };
                let (files, _) = generate(&job.config, &data, "csv", job.progress.as_ref())?;
                labels = labels.or(Some(files.labels));
                files.data
            }
        };
        let warnings = Vec::new();
        Ok(Self {
            job,
            command,
            dir,
            clock: Clock::start(),
            warnings,
            input,
            labels,
            checkpoint: None,
        })
    }

    fn spec(&self) -> SourceSpec {
        let source = &self.job.config.source;
        SourceSpec {
            format: source.format,
            delimiter: source.delimiter.and_then(|c| u8::try_from(c).ok()),
            time_format: source.time_format.clone(),
            time_zone: source.zone(),
            ambiguous_time: source.ambiguous_time,
            filters: source.filters.clone(),
            max_rejected_share: source.max_rejected_share,
            ..SourceSpec::new(
                self.input.to_string_lossy(),
                source.time_column.clone(),
                Layout::Wide,
            )
        }
    }

    /// Reads every record; `take` gets them batch by batch.
    fn read(
        &self,
        what: &str,
        section: &RecordsSection,
        written: Vec<String>,
        rejects: &mut RejectLog,
        take: &mut dyn FnMut(RecordBatch) -> Result<(), PipelineError>,
    ) -> Result<ReadSummary, PipelineError> {
        let (job, progress) = (self.job, self.job.progress.as_ref());
        let mut started = false;
        let mut tick = |done: u64, total: u64| {
            if !started {
                progress.start(what, total);
                started = true;
            }
            progress.advance_to(done);
        };
        let column = |name: &str| job.config.source.columns.get(name).cloned();
        let layout = section.layout(written);
        let summary =
            read_records(&self.spec(), &layout, &column, &mut tick, rejects, &mut |batch| {
                if job.cancelled.load(Ordering::Relaxed) {
                    return Err(DetectorError::Cancelled.into());
                }
                take(batch).map_err(Into::into)
            });
        progress.finish();
        rejects.flush()?;
        summary.map_err(|error| keep_rejected(self.dir.path(), &job.out, error.into()))
    }

    /// The first rows, at most as many as may be fitted on.
    fn read_training(
        &self,
        section: &RecordsSection,
    ) -> Result<(RecordBlock, ReadSummary), PipelineError> {
        let mut rejects = RejectLog::writing_to(self.dir.path().join("rejected.csv"));
        let mut training =
            RecordBlock { n_numbers: section.features.numeric.len(), ..RecordBlock::default() };
        let mut take = |batch: RecordBatch| {
            let room = section.max_train_rows.saturating_sub(training.len());
            match (room, training.words.is_empty()) {
                (0, _) => {}
                (_, true) if training.is_empty() => training = batch.block.head(room),
                _ => training.append(&batch.block.head(room)),
            }
            Ok(())
        };
        let read = self.read("reading", section, Vec::new(), &mut rejects, &mut take)?;
        Ok((training, read))
    }

    fn fit(
        &mut self,
        section: &RecordsSection,
        training: &RecordBlock,
    ) -> Result<FittedRecords, PipelineError> {
        let config = &self.job.config;
        let fitted = FittedRecords::fit(section, &config.calibration, training, config.seed)?;
        self.clock.lap("fit");
        Ok(fitted)
    }

    /// Scores every record and writes the files of flags. `trained` rows come first that were
    /// fitted on.
    fn score(
        &mut self,
        fitted: &mut FittedRecords,
        trained: usize,
        mut rejects: RejectLog,
    ) -> Result<Scored, PipelineError> {
        let config = &self.job.config;
        let id_column = id_column(config, &fitted.section);
        let labels: Option<HashMap<String, String>> =
            self.labels.as_ref().map(|path| read_record_labels(path, id_column)).transpose()?;
        let who = std::iter::once("ensemble".to_string())
            .chain(fitted.section.models.iter().map(ToString::to_string));
        let scored = labels.map(|labels| ScoredRows::new(who.collect(), labels));
        let output = fitted.section.output;
        let place = output
            .model()
            .and_then(|model| fitted.section.models.iter().position(|known| *known == model));
        let written = input_columns(&self.spec())?;
        let schema = Schema::new(&written, &config.source.time_column, fitted, place)?;
        let flags = self.dir.path().join("flags");
        let mut files = Files::create(&flags, &schema, config.output.parquet)?;
        let n_models = fitted.section.models.len();
        let mut collector = Collector::new(scored, trained, n_models, config.seed);
        let section = fitted.section.clone();
        let mut state = std::mem::take(&mut fitted.state);
        let shared: &FittedRecords = fitted;
        let mut take = |batch: RecordBatch| {
            let judged = verdict::judge(shared, &batch.block, &mut state, place);
            files.write(&schema, &batch, &judged, shared, collector.trained_ahead())?;
            collector.take(&batch, &judged, shared);
            Ok(())
        };
        let read = self.read("scoring", &section, written, &mut rejects, &mut take)?;
        fitted.state = state;
        collector.cut_worst();
        let newest = collector.last.unwrap_or(0);
        let timestamp = section.timestamp.unwrap_or_else(|| compact(newest));
        let stem = format!("anomalies_{}_{timestamp}", output.as_str());
        files.finish(&stem)?;
        self.clock.lap("score");
        self.warn(&collector);
        Ok(Scored { collector, read, stem })
    }

    fn warn(&mut self, collector: &Collector) {
        if collector.out_of_order > 0 {
            self.warnings.push(format!(
                "{} rows are older than the row before them: bursts are looked for in the order of the file, so sort it by time",
                collector.out_of_order
            ));
        }
        let share = collector.anomalies as f64 / (collector.rows as f64).max(1.0);
        if share > MANY_ANOMALIES {
            self.warnings.push(format!(
                "{:.0} % of the rows are flagged: the data may differ as a whole from what the models learnt from",
                100.0 * share
            ));
        }
        if collector.labels_match_nothing() {
            self.warnings.push("no label matches a row: check the ids of the labels".into());
        }
    }

    fn origin(&self, read: &ReadSummary) -> Origin {
        Origin {
            version: env!("CARGO_PKG_VERSION").into(),
            seed: self.job.config.seed,
            device: "cpu".into(),
            data_fingerprint: read.fingerprint.clone(),
        }
    }

    fn summary(&self, read: &ReadSummary, level: LevelSummary) -> RunSummary {
        let rejected = read.rejected.iter();
        RunSummary {
            name: self.job.config.name.clone(),
            command: self.command.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            device: "cpu".into(),
            seed: self.job.config.seed,
            checkpoint: self.checkpoint.clone(),
            input: self.input.clone(),
            data_fingerprint: read.fingerprint.clone(),
            rows: read.rows,
            rejected: rejected.map(|(reason, n)| (reason.name().to_string(), *n)).collect(),
            levels: vec![level],
            warnings: self.warnings.clone(),
            timings: self.clock.laps().to_vec(),
            out: self.job.out.clone(),
        }
    }

    /// Charts, page, config and `run.json`, then the directory gets its name.
    fn finish(
        mut self,
        fitted: &FittedRecords,
        scored: &Scored,
        read: &ReadSummary,
        config: &Config,
    ) -> Result<RunSummary, PipelineError> {
        let dir = self.dir.path().to_path_buf();
        let text = config.to_toml().map_err(|error| PipelineError::Other(error.to_string()))?;
        let path = dir.join("config.toml");
        fs::write(&path, text).map_err(PipelineError::io(&path))?;
        let level = page::level_summary(fitted, &scored.collector, config.seed);
        let mut summary = self.summary(read, level);
        let mut data = page::report_data(fitted, &scored.collector, &summary, &scored.stem);
        write::write_json(&dir.join(write::REPORT_FILE), &data)?;
        write::draw(&mut data, &dir, config.report.format, self.job.progress.as_ref())?;
        evaluation::write_metrics(&summary, &dir)?;
        self.clock.lap("draw");
        summary.timings = self.clock.laps().to_vec();
        summary.input = published(&summary.input, &dir, &self.job.out);
        write::write_json(&dir.join(RUN_FILE), &summary)?;
        write::write_log(&dir.join("run.log"), &summary)?;
        let out = self.dir.finish()?;
        Ok(RunSummary { out, ..summary })
    }
}

/// A summary of nothing, to be filled in.
fn level_summary() -> LevelSummary {
    LevelSummary {
        level: RECORDS_LEVEL.into(),
        series: 0,
        steps: 0,
        first: String::new(),
        last: String::new(),
        points: 0,
        anomalies: 0,
        by_severity: Default::default(),
        by_type: Default::default(),
        fallbacks: Vec::new(),
        notes: Vec::new(),
        skipped: Default::default(),
        training: None,
        rules: Vec::new(),
        calibration: Vec::new(),
        quality: Vec::new(),
        metrics: Default::default(),
    }
}
