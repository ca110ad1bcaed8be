//! Every scorer over one set.

use std::{collections::BTreeMap, path::Path};

use anomalist::{
    config::{Config, Override},
    detectors::FitContext,
    panel::{Calendar, Level, Metric, MetricKind, Panel, SeriesKey, Step},
    pipeline::{LevelRun, decide_levels, fit_level},
};
use jiff::tz::TimeZone;
use ndarray::Array3;
use rayon::prelude::*;

use crate::{
    baselines, configs,
    measure::Tally,
    sets::{Kind, Series, Set},
};

const SEED: u64 = 1;

/// A set with the figures of every scorer, in the order of the table.
pub struct SetResult {
    pub name: String,
    pub kind: Kind,
    pub n_series: usize,
    pub scorers: Vec<(String, Tally)>,
    /// One reason each.
    pub failures: Vec<String>,
}

/// Runs detectors and baselines on every series.
pub fn run_set(set: &Set, without: &[String], overrides: &[Override]) -> Result<SetResult, String> {
    let config = config(configs::of(set.kind), without, overrides)?;
    let mut order: Vec<String> = vec!["ensemble".into()];
    order.extend(config.ensemble.members.iter().map(ToString::to_string));
    let parts: Vec<(Tallies, Option<String>)> = set
        .series
        .par_iter()
        .map(|series| {
            let mut tallies = Tallies::default();
            let failure = detectors(set, series, &config, &order, &mut tallies).err();
            run_baselines(set, series, &mut tallies);
            (tallies, failure.map(|reason| format!("{} / {}: {reason}", set.name, series.id)))
        })
        .collect();
    let mut all = Tallies::default();
    let mut failures = Vec::new();
    for (part, failure) in parts {
        failures.extend(failure);
        all.merge(part);
    }
    order.extend(baselines::NAMES.map(String::from));
    Ok(SetResult {
        name: set.name.clone(),
        kind: set.kind,
        n_series: set.series.len(),
        scorers: all.in_order(order),
        failures,
    })
}

/// Tallies by scorer.
#[derive(Default)]
pub struct Tallies(BTreeMap<String, Tally>);

impl Tallies {
    pub fn of(&mut self, name: &str) -> &mut Tally {
        self.0.entry(name.to_string()).or_default()
    }

    pub fn merge(&mut self, other: Self) {
        other.0.into_iter().for_each(|(name, tally)| self.of(&name).merge(tally));
    }

    /// The tallies of these names; empty ones where nothing was added.
    pub fn in_order(mut self, names: Vec<String>) -> Vec<(String, Tally)> {
        let taken = |name: String| {
            let tally = self.0.remove(&name).unwrap_or_default();
            (name, tally)
        };
        names.into_iter().map(taken).collect()
    }
}

/// A config of the bench without the members that are left out.
pub fn config(text: &str, without: &[String], overrides: &[Override]) -> Result<Config, String> {
    let mut config = Config::parse(text, "quality", Path::new(""), overrides)
        .map_err(|error| error.to_string())?;
    config.ensemble.members.retain(|member| !without.contains(&member.to_string()));
    if config.ensemble.members.is_empty() {
        return Err("--without left no detector".into());
    }
    Ok(config)
}

fn detectors(
    set: &Set,
    series: &Series,
    config: &Config,
    order: &[String],
    tallies: &mut Tallies,
) -> Result<(), String> {
    let placed = Placed::new(set, series);
    let mut config = config.clone();
    config.split.train_share = placed.train_share;
    let run = fit_level(&config, placed.panel.clone(), &[], &FitContext::new(SEED));
    let decided = run.and_then(|mut run| {
        decide_levels(&config, std::slice::from_mut(&mut run))?;
        Ok(run)
    });
    match decided {
        Ok(run) => {
            add_run(set, series, &placed, &run, order, tallies);
            Ok(())
        }
        Err(error) => {
            order.iter().for_each(|name| tallies.of(name).failed += 1);
            Err(error.to_string())
        }
    }
}

fn add_run(
    set: &Set,
    series: &Series,
    placed: &Placed,
    run: &LevelRun,
    order: &[String],
    tallies: &mut Tallies,
) {
    let rows = |cells: &dyn Fn(usize) -> f64| placed.step_of.iter().map(|&t| cells(t)).collect();
    let flags = |cells: &dyn Fn(usize) -> bool| placed.step_of.iter().map(|&t| cells(t)).collect();
    let score: Vec<f64> = rows(&|t| -run.output.log_p[[0, t]]);
    let flagged: Vec<bool> = flags(&|t| run.output.is_anomaly[[0, t]]);
    tallies.of("ensemble").add(set, series, &score, &flagged);
    for (member, output) in run.members.iter().zip(&run.output.members) {
        let score: Vec<f64> = rows(&|t| -member.log_p[[0, t]]);
        let flagged: Vec<bool> = flags(&|t| output.flagged[[0, t]]);
        tallies.of(member.name.as_str()).add(set, series, &score, &flagged);
    }
    for (name, secs) in &run.timings {
        tallies.of(name).secs += secs;
    }
    for name in &order[1..] {
        if !run.members.iter().any(|member| member.name.as_str() == name) {
            tallies.of(name).failed += 1;
        }
    }
}

/// Adds every baseline's figures on a series.
fn run_baselines(set: &Set, series: &Series, tallies: &mut Tallies) {
    for (name, score) in baselines::all(set, series) {
        let flags = baselines::flags(series, &score);
        tallies.of(name).add(set, series, &score, &flags);
    }
}

/// A series on a calendar, and where each of its rows went.
struct Placed {
    panel: Panel,
    step_of: Vec<usize>,
    train_share: f64,
}

impl Placed {
    fn new(set: &Set, series: &Series) -> Self {
        let (step, step_of, first) = places(&series.times);
        let n_steps = step_of.iter().max().map_or(0, |last| last + 1);
        let shape = (1, n_steps, set.metrics.len());
        let (mut sums, mut counts) = (Array3::<f64>::zeros(shape), Array3::<f64>::zeros(shape));
        for (row, &t) in series.rows.iter().zip(&step_of) {
            for (m, x) in row.iter().enumerate().filter(|(_, x)| x.is_finite()) {
                sums[[0, t, m]] += x;
                counts[[0, t, m]] += 1.0;
            }
        }
        // 0 / 0 is the NaN of a missing step.
        let values = sums / counts;
        let kind = match set.kind {
            Kind::Weekly => MetricKind::Count,
            _ => MetricKind::Measure,
        };
        let metric = |name: &String| Metric { name: name.clone(), kind: kind.clone() };
        let panel = Panel::new(
            Level { name: "series".into(), id_columns: vec!["series".into()] },
            Calendar::new(step, first, n_steps, TimeZone::UTC),
            set.metrics.iter().map(metric).collect(),
            vec![SeriesKey(vec![series.id.clone()])],
            std::iter::once(0..n_steps).collect(),
            values,
        );
        let last_training = series.train_rows.checked_sub(1).and_then(|row| step_of.get(row));
        let train_steps = last_training.map_or(1, |step| step + 1);
        Self {
            panel: panel.expect("the shape is that of the values"),
            step_of,
            train_share: train_steps as f64 / n_steps as f64,
        }
    }
}

/// The calendar's step, the step of each row, and the first step's second. Where the times make no
/// regular calendar (steps that do not divide a day, large holes), rows are steps.
fn places(times: &[i64]) -> (Step, Vec<usize>, i64) {
    let first = times.first().copied().unwrap_or(0);
    let mut gaps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    let secs = gaps.get(gaps.len() / 2).copied().unwrap_or(60).max(1);
    let step = match secs {
        604_800 => Step::Week,
        secs if secs % 86_400 == 0 => Step::Days(secs / 86_400),
        secs if 86_400 % secs == 0 => Step::Seconds(secs),
        _ => return (Step::Seconds(60), (0..times.len()).collect(), first),
    };
    let calendar = Calendar::new(step, first, 1, TimeZone::UTC);
    let offsets: Vec<i64> = times.iter().map(|&time| calendar.offset_of(time)).collect();
    let last = offsets.iter().max().copied().unwrap_or(0);
    let sound = offsets.iter().all(|o| *o >= 0) && last < 2 * times.len() as i64;
    if sound {
        (step, offsets.into_iter().map(|o| o as usize).collect(), first)
    } else {
        (step, (0..times.len()).collect(), first)
    }
}
