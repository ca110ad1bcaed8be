//! Real hourly panels, which nobody has labelled, with anomalies of known kind and size.
//!
//! The project's own [`inject`] puts spikes of one hour, drops of three and level shifts of a day into
//! the judged part, at the sizes of `[inject]`'s defaults; the training part stays as it is. Spikes and
//! drops go where the first metric's usual level is at least [`SPARSE_LEVEL`]: a third of no order is
//! no order. The usual level is what a seasonal profile expects of the panel as it is. Injections that
//! changed no value are none, and what the data hold of their own counts as clean.
//!
//! A panel is fitted as one, anew for every seed, with an LSTM over windows of a week that is small and
//! trained for few epochs, like that of the other kinds; its series are measured one by one. A panel of
//! several series is run once more as their total, because counts of one an hour show little of what
//! was injected.

use std::{collections::BTreeMap, ops::RangeInclusive, path::Path, time::Instant};

use anomalist::{
    config::{Config, EnsembleSection, Override},
    detectors::{DetectorName, FitContext},
    evaluation::inject::{InjectParams, Injection, Kind as Injected, Treatment, Usual, plan},
    panel::{Calendar, Level, Metric, MetricKind, Panel, SeriesKey, Step},
    pipeline::{LevelRun, decide_levels, fit_level},
};
use jiff::tz::TimeZone;
use ndarray::{Array2, Array3, s};
use rayon::prelude::*;

use crate::{
    baselines, configs,
    measure::threshold,
    score::{SetResult, Tallies, config},
    sets::{self, Series, Set, TRAIN_SHARE},
};

pub const FOLDER: &str = "hourly";
/// The seeds of places, sizes and fits.
pub const SEEDS: RangeInclusive<u64> = 1000..=1005;

/// Files and the columns that are judged. Sums of other columns are left out: injections into the
/// parts would not add up to the one into the sum.
const PANELS: [(&str, &[(&str, MetricKind)]); 2] = [
    (
        "online_retail_family_hourly",
        &[
            ("orders", MetricKind::Count),
            ("lines", MetricKind::Count),
            ("units", MetricKind::Count),
            ("revenue", MetricKind::Amount),
            ("customers", MetricKind::Count),
        ],
    ),
    ("bike_sharing_hourly", &[("casual", MetricKind::Count), ("registered", MetricKind::Count)]),
];

/// A count below this shows no drop, and its multiples say little.
const SPARSE_LEVEL: f64 = 1.0;
/// Share of a series' judged hours that level shifts cover, and that spikes and drops do.
const MAX_SHARE: f64 = 0.04;
/// Hours around an injection that stay as they are.
const GUARD_HOURS: usize = 2;

/// A panel's figures over all seeds.
pub struct HourlyResult {
    /// A series comes once a seed.
    pub set: SetResult,
    /// By scorer and kind: injections with a score above the series' threshold for
    /// [`POD_FPR`](crate::measure::POD_FPR), and all.
    pub by_kind: BTreeMap<(String, Injected), (usize, usize)>,
    pub hours: usize,
    pub seeds: usize,
    pub secs: f64,
}

/// What is run on every panel.
pub struct Plan<'a> {
    pub seeds: RangeInclusive<u64>,
    pub without: &'a [String],
    pub overrides: &'a [Override],
}

/// Every panel of the folder that is there.
pub fn run(
    dir: &Path,
    plan: &Plan<'_>,
    notes: &mut Vec<String>,
) -> Result<Vec<HourlyResult>, String> {
    let mut results = Vec::new();
    for (name, metrics) in PANELS {
        let path = dir.join(FOLDER).join(format!("{name}.parquet"));
        if !path.is_file() {
            notes.push(format!("no file `{FOLDER}/{name}.parquet`"));
            continue;
        }
        let columns: Vec<&str> = metrics.iter().map(|(name, _)| *name).collect();
        let set = sets::read_unlabelled(&path, &columns)?;
        for set in [total(&set), Some(set)].into_iter().flatten() {
            let result = run_panel(&set, metrics, plan)?;
            let (n_series, secs) = (result.set.n_series, result.secs);
            eprintln!("{FOLDER:12} {:28} {n_series:3} series {secs:7.1} s", set.name);
            results.push(result);
        }
    }
    Ok(results)
}

/// The sum of a set's series; `None` for a single one, or where their hours differ.
fn total(set: &Set) -> Option<Set> {
    let (first, others) = set.series.split_first()?;
    if others.is_empty() || others.iter().any(|series| series.times != first.times) {
        return None;
    }
    let sum = |row: usize, metric: usize| set.series.iter().map(|s| s.rows[row][metric]).sum();
    let n_metrics = set.metrics.len();
    let rows: Vec<Vec<f64>> =
        (0..first.rows.len()).map(|row| (0..n_metrics).map(|m| sum(row, m)).collect()).collect();
    let series = Series {
        id: "total".into(),
        rows,
        label: first.label.clone(),
        train_rows: first.train_rows,
        times: first.times.clone(),
    };
    Some(Set {
        name: format!("{}_total", set.name),
        kind: set.kind,
        metrics: set.metrics.clone(),
        series: vec![series],
    })
}

fn run_panel(
    set: &Set,
    metrics: &[(&str, MetricKind)],
    plan: &Plan<'_>,
) -> Result<HourlyResult, String> {
    let since = Instant::now();
    let mut config = config(configs::HOURLY, plan.without, plan.overrides)?;
    let panel = panel_of(set, metrics)?;
    let train_hours = (TRAIN_SHARE * panel.n_times() as f64) as usize;
    config.split.train_share = train_hours as f64 / panel.n_times() as f64;
    let profile_alone =
        EnsembleSection { members: vec![DetectorName::SeasonalProfile], ..Default::default() };
    let base = Config { ensemble: profile_alone, ..config.clone() };
    let base = fitted(&base, panel, *plan.seeds.start())?;
    let mut found = Found::default();
    for seed in plan.seeds.clone() {
        let injected = InjectedPanel::new(&base, train_hours, seed)?;
        let run = fitted(&config, injected.panel.clone(), seed)?;
        let parts: Vec<Found> =
            (0..set.series.len()).into_par_iter().map(|s| injected.measure(set, &run, s)).collect();
        parts.into_iter().for_each(|part| found.merge(part));
        run.timings.iter().for_each(|(name, secs)| found.tallies.of(name).secs += secs);
    }
    let mut order: Vec<String> = vec!["ensemble".into()];
    order.extend(config.ensemble.members.iter().map(ToString::to_string));
    order.extend(baselines::NAMES.map(String::from));
    Ok(HourlyResult {
        set: SetResult {
            name: set.name.clone(),
            kind: set.kind,
            n_series: set.series.len(),
            scorers: found.tallies.in_order(order),
            failures: Vec::new(),
        },
        by_kind: found.by_kind,
        hours: base.panel.n_times(),
        seeds: plan.seeds.clone().count(),
        secs: since.elapsed().as_secs_f64(),
    })
}

/// All series on one calendar; an hour without a row is missing.
fn panel_of(set: &Set, metrics: &[(&str, MetricKind)]) -> Result<Panel, String> {
    let times = || set.series.iter().flat_map(|series| series.times.iter().copied());
    let (first, last) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    let calendar =
        Calendar::new(Step::HOUR, first, ((last - first) / 3600 + 1) as usize, TimeZone::UTC);
    let n_hours = calendar.len();
    let mut values = Array3::from_elem((set.series.len(), n_hours, metrics.len()), f64::NAN);
    for (number, series) in set.series.iter().enumerate() {
        for (row, time) in series.rows.iter().zip(&series.times) {
            let hour = calendar.offset_of(*time) as usize;
            values.slice_mut(s![number, hour, ..]).assign(&ndarray::aview1(row));
        }
    }
    let metric =
        |(name, kind): &(&str, MetricKind)| Metric { name: name.to_string(), kind: kind.clone() };
    Panel::new(
        Level { name: "series".into(), id_columns: vec!["series".into()] },
        calendar,
        metrics.iter().map(metric).collect(),
        set.series.iter().map(|series| SeriesKey(vec![series.id.clone()])).collect(),
        vec![0..n_hours; set.series.len()],
        values,
    )
    .map_err(|error| format!("{}: {error}", set.name))
}

fn fitted(config: &Config, panel: Panel, seed: u64) -> Result<LevelRun, String> {
    let mut run =
        fit_level(config, panel, &[], &FitContext::new(seed)).map_err(|e| e.to_string())?;
    decide_levels(config, std::slice::from_mut(&mut run)).map_err(|e| e.to_string())?;
    match run.skipped.first() {
        Some((name, reason)) => Err(format!("{name}: {reason}")),
        None => Ok(run),
    }
}

/// A copy of a panel with the injections of one seed.
struct InjectedPanel {
    panel: Panel,
    injections: Vec<Injection>,
    /// `[series, time]`: in an injection.
    truth: Array2<bool>,
    train_hours: usize,
}

impl InjectedPanel {
    fn new(base: &LevelRun, train_hours: usize, seed: u64) -> Result<Self, String> {
        let panel = &base.panel;
        let usual = Usual::new(panel, &base.output.expected, &[])?;
        let mut free = Array2::from_shape_fn(base.known.dim(), |cell| {
            cell.1 >= train_hours && base.output.log_p[cell].is_finite()
        });
        let params = InjectParams {
            spike_steps: Some(1),
            drift_factors: Vec::new(),
            outages: false,
            ..InjectParams::default()
        };
        let (long, short): (Vec<Treatment>, Vec<Treatment>) = params
            .treatments(Step::HOUR)
            .into_iter()
            .partition(|treatment| treatment.kind == Injected::LevelShift);
        let mut injections = plan(free.view(), &long, (1.0, MAX_SHARE), seed, 0);
        for injection in &injections {
            let end = (injection.steps.end + GUARD_HOURS).min(panel.n_times());
            let around = injection.steps.start - GUARD_HOURS..end;
            free.slice_mut(s![injection.series, around]).fill(false);
        }
        for ((series, hour), free) in free.indexed_iter_mut() {
            *free &= usual.typical(series, hour) >= SPARSE_LEVEL;
        }
        injections.extend(plan(free.view(), &short, (1.0, MAX_SHARE), seed, 1));
        let values = usual.inject(&injections, seed, 0);
        let differs = |injection: &Injection| {
            let cells = s![injection.series, injection.steps.clone(), ..];
            let (old, new) = (panel.values().slice(cells), values.slice(cells));
            old.iter().zip(new).any(|(old, new)| !old.is_nan() && old != new)
        };
        injections.retain(differs);
        let mut truth = Array2::from_elem(free.dim(), false);
        for injection in &injections {
            truth.slice_mut(s![injection.series, injection.steps.clone()]).fill(true);
        }
        let panel = panel.with_values(values).map_err(|error| error.to_string())?;
        Ok(Self { panel, injections, truth, train_hours })
    }

    /// A series' rows by hour, as the other kinds have them.
    fn series(&self, number: usize) -> Series {
        let values = self.panel.series(number);
        let calendar = self.panel.calendar();
        let label = |hour: usize| {
            let there = values.row(hour).iter().any(|x| x.is_finite());
            there.then_some(self.truth[[number, hour]])
        };
        Series {
            id: self.panel.keys()[number].to_string(),
            rows: values.outer_iter().map(|row| row.to_vec()).collect(),
            label: (0..calendar.len()).map(label).collect(),
            train_rows: self.train_hours,
            times: (0..calendar.len()).map(|hour| calendar.start(hour)).collect(),
        }
    }

    /// The figures of every scorer on a series.
    fn measure(&self, set: &Set, run: &LevelRun, number: usize) -> Found {
        let series = self.series(number);
        let hours = 0..series.rows.len();
        let negative =
            |log_p: &Array2<f64>| hours.clone().map(|t| -log_p[[number, t]]).collect::<Vec<_>>();
        let flagged = |of: &Array2<bool>| hours.clone().map(|t| of[[number, t]]).collect();
        let mut scorers: Vec<(&str, Vec<f64>, Vec<bool>)> =
            vec![("ensemble", negative(&run.output.log_p), flagged(&run.output.is_anomaly))];
        for (member, output) in run.members.iter().zip(&run.output.members) {
            let (score, flags) = (negative(&member.log_p), flagged(&output.flagged));
            scorers.push((member.name.as_str(), score, flags));
        }
        for (name, score) in baselines::all(set, &series) {
            let flags = baselines::flags(&series, &score);
            scorers.push((name, score, flags));
        }
        let mut found = Found::default();
        for (name, score, flags) in scorers {
            found.tallies.of(name).add(set, &series, &score, &flags);
            self.count_by_kind(&series, number, (name, &score), &mut found);
        }
        found
    }

    fn count_by_kind(
        &self,
        series: &Series,
        number: usize,
        (name, score): (&str, &[f64]),
        found: &mut Found,
    ) {
        let judged = series.judged();
        let clean = judged.into_iter().filter(|&hour| series.label[hour] == Some(false));
        let threshold = threshold(clean.map(|hour| score[hour]).collect());
        for injection in self.injections.iter().filter(|injection| injection.series == number) {
            let key = (name.to_string(), injection.treatment.kind);
            let count = found.by_kind.entry(key).or_default();
            count.0 += usize::from(injection.steps.clone().any(|hour| score[hour] > threshold));
            count.1 += 1;
        }
    }
}

/// What was measured of some series.
#[derive(Default)]
struct Found {
    tallies: Tallies,
    by_kind: BTreeMap<(String, Injected), (usize, usize)>,
}

impl Found {
    fn merge(&mut self, other: Self) {
        self.tallies.merge(other.tallies);
        for (key, (found, all)) in other.by_kind {
            let count = self.by_kind.entry(key).or_default();
            count.0 += found;
            count.1 += all;
        }
    }
}
