//! `inject`: how much of known anomalies, put into a copy of the data, a config finds.
//!
//! ```text
//! run without injections -> judged cells that nobody calls anomalous, usual levels, thresholds
//! repeat                 -> inject into the panels, fit and decide as a run does, count
//! smallest               -> score changed panels with the fitted detectors, by bisection
//! ```

mod smallest;
mod summary;
mod write;

pub use summary::{InjectLevel, InjectSummary, SmallestSummary};

use ndarray::Array2;

use super::{
    Job, PipelineError,
    kept::KeptLevel,
    level::{self, LevelRun},
    load::{self, Loaded},
    stage::Stage,
};
use crate::{
    config::Config,
    detectors::{DetectorName, FitContext},
    evaluation::inject::{Flags, InjectParams, Injection, Tally, Treatment, Usual, plan},
    panel::{MetricKind, Panel},
};
use smallest::{SeriesReach, reach};

/// The file that makes a folder an injection test.
pub const INJECT_FILE: &str = "inject.json";

/// Levels of one repeat draw from streams that are this far apart.
const LEVELS_APART: u64 = 1 << 16;

/// Runs the config with and without injections and says what it found of them.
///
/// # Errors
/// As [`super::run`], and when the config names a metric that cannot be changed.
pub fn inject(job: &Job) -> Result<InjectSummary, PipelineError> {
    if job.config.records.is_some() {
        return Err(PipelineError::Arguments(
            "the config is about records, and injection tests are for panels: `anomalist generate records` makes records with labelled anomalies of every kind to test on".into(),
        ));
    }
    let mut stage = Stage::begin(job, "inject", INJECT_FILE)?;
    let loaded = stage.load()?;
    let context = stage.context();
    let config = &job.config;
    let base = fit(config, loaded.panels.clone(), &loaded, &context)?;
    stage.clock.lap("without injections");
    let mut tests = base
        .iter()
        .map(|level| LevelTest::new(config, level, &loaded))
        .collect::<Result<Vec<_>, _>>()?;
    let seed = config.inject.seed.unwrap_or(config.seed);
    for repeat in 0..config.inject.repeats as u64 {
        run_repeat(config, &loaded, &context, &mut tests, (seed, repeat))?;
    }
    stage.clock.lap("repeats");
    let reaches = tests
        .iter()
        .map(|test| reach(config, test, &loaded.known_events, &context))
        .collect::<Result<Vec<_>, _>>()?;
    stage.clock.lap("smallest spikes and drops");
    let kept: Vec<KeptLevel> = base.iter().map(|run| KeptLevel::of(config, run)).collect();
    let mut told = stage.summary(&loaded, &base, &kept);
    if config.source.path.is_none() {
        told.input = "generated".into();
    }
    let levels = tests.iter().zip(&reaches).map(|(t, reach)| summary::level(t, reach)).collect();
    let summary = InjectSummary::new(&told, config, seed, levels);
    write::write(&stage, config, &tests, &reaches, &summary)?;
    let out = stage.dir.finish()?;
    Ok(InjectSummary { out, ..summary })
}

/// Every level fitted and decided, as a run does it.
fn fit(
    config: &Config,
    panels: Vec<Panel>,
    loaded: &Loaded,
    context: &FitContext,
) -> Result<Vec<LevelRun>, PipelineError> {
    let mut levels = panels
        .into_iter()
        .map(|panel| level::fit_level(config, panel, &loaded.known_events, context))
        .collect::<Result<Vec<_>, _>>()?;
    level::decide_levels(config, &mut levels)?;
    Ok(levels)
}

/// One level under test.
struct LevelTest<'a> {
    base: &'a LevelRun,
    usual: Usual<'a>,
    treatments: Vec<Treatment>,
    /// `[series, time]`: cells that injections may change.
    free: Array2<bool>,
    /// The ensemble's, then each member's.
    tallies: Vec<Tally>,
    by_series: Vec<SeriesCount>,
}

/// Injections into one series over all repeats, and how many the ensemble found.
#[derive(Clone, Copy, Debug, Default)]
struct SeriesCount {
    injected: usize,
    found: usize,
}

impl<'a> LevelTest<'a> {
    fn new(config: &Config, base: &'a LevelRun, loaded: &Loaded) -> Result<Self, PipelineError> {
        let params = &config.inject;
        let changed = changed_metrics(config, &base.panel, &params.metrics);
        let usual = Usual::new(&base.panel, &base.output.expected, &changed)
            .map_err(|name| unknown_metric(&name, &base.panel))?;
        let labelled = load::cells(&base.panel, loaded.labels.as_deref().unwrap_or_default());
        let free = Array2::from_shape_fn(base.known.dim(), |cell| {
            !base.output.log_p[cell].is_nan()
                && !base.in_training(cell.0, cell.1)
                && !base.known[cell]
                && !labelled[cell]
        });
        let treatments = treatments(params, config, &base.panel, &usual);
        let mut tallies = vec![Tally::new("ensemble", &treatments)];
        let members = base.output.members.iter();
        tallies.extend(members.map(|member| Tally::new(member.name.as_str(), &treatments)));
        let by_series = vec![SeriesCount::default(); base.panel.n_series()];
        Ok(Self { base, usual, treatments, free, tallies, by_series })
    }

    fn count(&mut self, run: &LevelRun, injections: &[Injection]) {
        let mut clean = self.free.clone();
        for injection in injections {
            let row = ndarray::s![injection.series, injection.steps.clone()];
            clean.slice_mut(row).fill(false);
            let count = &mut self.by_series[injection.series];
            let flagged = &run.output.is_anomaly;
            count.injected += 1;
            count.found +=
                usize::from(injection.steps.clone().any(|t| flagged[[injection.series, t]]));
        }
        let ensemble =
            Flags { with: &run.output.is_anomaly, without: &self.base.output.is_anomaly };
        self.tallies[0].add(injections, ensemble, &clean);
        for (member, tally) in self.base.output.members.iter().zip(&mut self.tallies[1..]) {
            // A member that could not run on the changed panel found nothing of it.
            let with = run.output.members.iter().find(|with| with.name == member.name);
            let nothing = Array2::from_elem(clean.dim(), false);
            let with = with.map_or(&nothing, |with| &with.flagged);
            tally.add(injections, Flags { with, without: &member.flagged }, &clean);
        }
    }
}

fn unknown_metric(name: &str, panel: &Panel) -> PipelineError {
    let names: Vec<&str> = panel
        .metrics()
        .iter()
        .enumerate()
        .filter(|(m, _)| panel.ratio_parts(*m).is_none())
        .map(|(_, metric)| metric.name.as_str())
        .collect();
    PipelineError::Other(format!(
        "inject.metrics: `{name}` is no metric that can be changed (ratios follow from their parts): take of {}",
        names.join(", ")
    ))
}

/// What is injected at a level: what changes its metrics, in a direction that is looked for.
fn treatments(
    params: &InjectParams,
    config: &Config,
    panel: &Panel,
    usual: &Usual<'_>,
) -> Vec<Treatment> {
    let wanted = |treatment: &Treatment| {
        let sign = if treatment.factor > 1.0 { 1 } else { -1 };
        usual.admits(treatment) && config.decision.direction.admits(sign)
    };
    params.treatments(panel.calendar().step()).into_iter().filter(wanted).collect()
}

/// One repeat: every level injected, fitted, decided and counted.
fn run_repeat(
    config: &Config,
    loaded: &Loaded,
    context: &FitContext,
    tests: &mut [LevelTest<'_>],
    (seed, repeat): (u64, u64),
) -> Result<(), PipelineError> {
    let shares = (config.inject.series_share, config.inject.max_share);
    let mut planned = Vec::with_capacity(tests.len());
    let mut panels = Vec::with_capacity(tests.len());
    for (number, test) in (0_u64..).zip(tests.iter()) {
        let stream = repeat * LEVELS_APART + number;
        let injections = plan(test.free.view(), &test.treatments, shares, seed, stream);
        panels.push(test.base.panel.with_values(test.usual.inject(&injections, seed, stream))?);
        planned.push(injections);
    }
    let runs = fit(config, panels, loaded, context)?;
    for ((test, run), injections) in tests.iter_mut().zip(&runs).zip(&planned) {
        test.count(run, injections);
    }
    Ok(())
}

/// The metrics that an injection changes: those that are `asked` for, or all but ratios and what
/// NB2 takes the counts per unit of, which would grow along and hide the change. Empty = all.
pub(super) fn changed_metrics(config: &Config, panel: &Panel, asked: &[String]) -> Vec<String> {
    let is_member = config.members().contains_key(&DetectorName::Nb2);
    let Some(exposure) = config.nb2.exposure.as_ref().filter(|_| is_member && asked.is_empty())
    else {
        return asked.to_vec();
    };
    let others = panel.metrics().iter().filter(|metric| {
        !matches!(metric.kind, MetricKind::Ratio { .. }) && metric.name != *exposure
    });
    others.map(|metric| metric.name.clone()).collect()
}
