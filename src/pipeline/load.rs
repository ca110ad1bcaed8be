//! From a config to panels: generate if there is nothing to read, read, aggregate, mark intervals.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use ndarray::Array2;

use super::{Job, PipelineError};
use crate::{
    config::{Config, LayoutName},
    detectors::{DetectorError, KnownEvents, Progress},
    panel::{AggregationPlan, Aggregator, Calendar, Edges, Level, Panel, SeriesKey, clock_secs},
    source::{
        GeneratedSummary, Interval, IntervalSpec, ReadSummary, RejectLog, SourceError,
        generate_funnel, generate_records, generate_weekly, read, read_intervals,
    },
};

/// What was read.
pub struct Loaded {
    /// One panel per level of the config, in its order.
    pub panels: Vec<Panel>,
    /// Labelled intervals, if there are any labels.
    pub labels: Option<Vec<Interval>>,
    pub known_events: Vec<Interval>,
    pub summary: ReadSummary,
    /// The input as the run's config should name it to be replayed.
    pub input: PathBuf,
    /// What a reader of the run must know of how the data were read.
    pub notes: Vec<String>,
}

/// File names of generated data.
#[derive(Clone, Debug)]
pub struct GeneratedFiles {
    pub data: PathBuf,
    pub labels: PathBuf,
    /// Funnels only.
    pub known_events: Option<PathBuf>,
}

/// Writes the data that `[generate]` asks for into `dir`.
///
/// # Errors
/// When a file cannot be written, or nothing is asked for.
pub fn generate(
    config: &Config,
    dir: &Path,
    extension: &str,
    progress: &dyn Progress,
) -> Result<(GeneratedFiles, GeneratedSummary), PipelineError> {
    fs::create_dir_all(dir).map_err(PipelineError::io(dir))?;
    let labels = dir.join("labels.csv");
    let mut started = false;
    let mut tick = |done: u64, total: u64| {
        if !started {
            progress.start("generating", total);
            started = true;
        }
        progress.advance_to(done);
    };
    let result = if let Some(spec) = &config.generate.weekly {
        let data = dir.join(format!("events.{extension}"));
        let summary = generate_weekly(spec, &data, &labels, &mut tick)?;
        (GeneratedFiles { data, labels, known_events: None }, summary)
    } else if let Some(spec) = &config.generate.funnel {
        let data = dir.join(format!("funnel.{extension}"));
        let events = dir.join("known_events.csv");
        let summary = generate_funnel(spec, &data, &labels, &events, &mut tick)?;
        (GeneratedFiles { data, labels, known_events: Some(events) }, summary)
    } else if let Some(spec) = &config.generate.records {
        let data = dir.join(format!("records.{extension}"));
        let summary = generate_records(spec, &data, &labels, &mut tick)?;
        (GeneratedFiles { data, labels, known_events: None }, summary)
    } else {
        return Err(PipelineError::Other(
            "the config has no [generate.weekly], [generate.funnel] or [generate.records] table: add one, or give --input".into(),
        ));
    };
    progress.finish();
    Ok(result)
}

/// Reads everything that the job's config names. `rejected` is where refused rows go; `data_dir` is
/// where data are generated when there is no input.
///
/// # Errors
/// When the input cannot be read or makes no panel, or somebody cancelled.
pub fn load(data_dir: &Path, rejected: &Path, job: &Job) -> Result<Loaded, PipelineError> {
    let (config, progress) = (&job.config, job.progress.as_ref());
    let mut labels = config.source.labels.as_ref().map(PathBuf::from);
    let mut known_events = config.source.known_events.as_ref().map(PathBuf::from);
    let input = match &config.source.path {
        Some(path) => PathBuf::from(path),
        None => {
            let (files, _) = generate(config, data_dir, "csv", progress)?;
            labels = labels.or(Some(files.labels));
            known_events = known_events.or(files.known_events);
            files.data
        }
    };
    let (aggregator, summary) = aggregate(job, &input, rejected)?;
    let groups = config.panel.groups();
    let panels = config
        .panel
        .levels
        .iter()
        .map(|level| aggregator.build(level, &groups, config.panel.scope()))
        .collect::<Result<Vec<_>, _>>()?;
    let intervals = |path: &PathBuf| read_labels(config, path);
    let labels = labels.as_ref().map(intervals).transpose()?;
    let known_events = known_events.as_ref().map(intervals).transpose()?.unwrap_or_default();
    let notes = aggregator.cut_edges().iter().map(ToString::to_string).collect();
    Ok(Loaded { panels, labels, known_events, summary, input, notes })
}

/// How the config's labels and known events are written.
pub fn interval_spec(config: &Config) -> IntervalSpec {
    IntervalSpec {
        id_columns: config.panel.id_columns(),
        delimiter: None,
        time_format: config.source.time_format.clone(),
        time_zone: config.source.zone(),
        ambiguous_time: config.source.ambiguous_time,
    }
}

fn aggregate(
    job: &Job,
    input: &Path,
    rejected: &Path,
) -> Result<(Aggregator, ReadSummary), PipelineError> {
    let (config, progress) = (&job.config, job.progress.as_ref());
    let spec = config.source.spec(&input.to_string_lossy(), &config.panel);
    let mut aggregator = Aggregator::new(AggregationPlan {
        step: config.panel.step,
        time_zone: config.source.zone(),
        id_columns: config.panel.id_columns(),
        metrics: config.panel.metrics.clone(),
        duplicates: config.panel.duplicates,
        spans: config.panel.spans,
        edges: match config.source.layout {
            LayoutName::Events => config.panel.edges,
            // Rows that were counted elsewhere stand for whole steps.
            LayoutName::Wide | LayoutName::Long => Edges::Keep,
        },
        blank_is_missing: config.source.layout != LayoutName::Long,
    });
    let mut rejects = RejectLog::writing_to(rejected);
    let mut started = false;
    let mut tick = |done: u64, total: u64| {
        if !started {
            progress.start("reading", total);
            started = true;
        }
        progress.advance_to(done);
    };
    let summary = read(&spec, &mut tick, &mut rejects, &mut |batch| {
        if job.cancelled.load(Ordering::Relaxed) {
            return Err(DetectorError::Cancelled.into());
        }
        aggregator.push(&batch.frame).map_err(Into::into)
    });
    progress.finish();
    rejects.flush()?;
    Ok((aggregator, summary?))
}

/// Reads labels or known events as the config's source would be read.
///
/// # Errors
/// As [`read_intervals`].
pub fn read_labels(config: &Config, path: &Path) -> Result<Vec<Interval>, SourceError> {
    read_intervals(path, &interval_spec(config))
}

/// Where an interval lies on a panel: the series that it names, and its steps.
///
/// An interval that names an id column which the level does not have (a key's label, at the level
/// of pairs) lies nowhere on it.
pub fn places(panel: &Panel, interval: &Interval) -> (Vec<usize>, std::ops::Range<usize>) {
    places_on(panel.level(), panel.keys(), panel.calendar(), interval)
}

/// As [`places`], for a level whose panel is not at hand.
pub fn places_on(
    level: &Level,
    keys: &[SeriesKey],
    calendar: &Calendar,
    interval: &Interval,
) -> (Vec<usize>, std::ops::Range<usize>) {
    let clock = |secs| clock_secs(calendar.step(), secs, calendar.time_zone());
    let steps = calendar.range_of(clock(interval.start), clock(interval.end));
    let covered = keys.iter().enumerate().filter(|(_, key)| interval.covers(level, key));
    (covered.map(|(i, _)| i).collect(), steps)
}

/// True when no panel has a cell that the interval covers.
pub fn lies_nowhere(panels: &[Panel], interval: &Interval) -> bool {
    panels.iter().all(|panel| {
        let (series, steps) = places(panel, interval);
        series.is_empty() || steps.is_empty()
    })
}

/// Which of the intervals cover which steps of the panel's series, by kind.
pub fn known_events(panel: &Panel, intervals: &[Interval]) -> KnownEvents {
    let mut known = KnownEvents::new(panel.n_series());
    for interval in intervals {
        let (series, steps) = places(panel, interval);
        for s in series {
            known.add(s, &interval.kind, steps.clone());
        }
    }
    known
}

/// The cells `[series, time]` that any of the intervals covers.
pub fn cells(panel: &Panel, intervals: &[Interval]) -> Array2<bool> {
    let mut covered = Array2::from_elem((panel.n_series(), panel.n_times()), false);
    for interval in intervals {
        let (series, steps) = places(panel, interval);
        for s in series {
            covered.slice_mut(ndarray::s![s, steps.clone()]).fill(true);
        }
    }
    covered
}
