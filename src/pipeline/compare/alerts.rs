//! The alerts that a config adds, drops or changes: totals, rows, and charts of the strongest.

use std::{cmp::Ordering, collections::BTreeMap};

use super::{
    align::OnGrid,
    comparison::{AlertRow, AlertSideRow, AlertTotals},
    measure::Block,
};
use crate::{
    ensemble::{AnomalyType, Direction, Severity},
    evaluation::{AlertChange, AlertSide, Change, alert_diff},
    panel::Step,
    report::{FlagLane, FlagLanesChart, Mark, SeriesChart, file_stem},
};

/// Alerts of every config against the baseline's.
pub struct AlertDiffs {
    names: Vec<String>,
    /// Alerts of each change that a config shows on the page.
    top: usize,
    pub totals: Vec<AlertTotals>,
    flagged: BTreeMap<(String, String), (usize, usize)>,
    /// Every alert that differs, by data, seed, level, config, series and time.
    pub rows: Vec<AlertRow>,
    shown: BTreeMap<(usize, Change), Vec<Shown>>,
}

/// A row with its chart.
pub struct Shown {
    strength: f64,
    pub row: AlertRow,
    pub chart: FlagLanesChart,
}

/// Data and seed of a block, as rows name them.
#[derive(Clone, Copy)]
pub struct BlockName<'a> {
    pub data: &'a str,
    pub seed: u64,
}

impl AlertDiffs {
    pub fn new(names: &[String], top: usize) -> Self {
        Self {
            names: names.to_vec(),
            top,
            totals: Vec::new(),
            flagged: BTreeMap::new(),
            rows: Vec::new(),
            shown: BTreeMap::new(),
        }
    }

    /// Adds the runs of one block at one level.
    pub fn add(&mut self, name: BlockName<'_>, block: &Block<'_>) {
        let Some(baseline) = &block.aligned.runs[0] else { return };
        for (config, run) in block.aligned.runs.iter().enumerate().skip(1) {
            let Some(run) = run else { continue };
            let changes = alert_diff(baseline.verdicts(), run.verdicts(), &block.aligned.scope);
            let names = [self.names[0].clone(), self.names[config].clone()];
            let pair = Pair { names, name, block, runs: [baseline, run] };
            self.count(&pair, &changes);
            for change in changes.iter().filter(|change| change.change() != Change::Kept) {
                let row = pair.row(change);
                self.show(config, &pair, change, &row);
                self.rows.push(row);
            }
        }
    }

    fn count(&mut self, pair: &Pair<'_>, changes: &[AlertChange]) {
        let level = &pair.block.base.panel.level().name;
        let config = &pair.names[1];
        let found = self.totals.iter().position(|t| t.config == *config && t.level == *level);
        let at = found.unwrap_or_else(|| {
            self.totals.push(AlertTotals {
                config: config.to_string(),
                level: level.clone(),
                ..AlertTotals::default()
            });
            self.totals.len() - 1
        });
        let totals = &mut self.totals[at];
        let truth = pair.block.truth;
        for change in changes {
            let labelled = !truth.kinds(change.series, &change.steps).is_empty();
            let tally = |count: &mut Option<usize>| {
                if truth.labelled {
                    *count = Some(count.unwrap_or(0) + usize::from(labelled));
                }
            };
            match change.change() {
                Change::Added => {
                    totals.added += 1;
                    tally(&mut totals.added_labelled);
                }
                Change::Dropped => {
                    totals.dropped += 1;
                    tally(&mut totals.dropped_labelled);
                }
                Change::Changed => totals.changed += 1,
                Change::Kept => totals.kept += 1,
            }
            totals.severity_changed += usize::from(change.differs(|side| side.severity));
            totals.type_changed += usize::from(change.differs(|side| side.kind));
            totals.direction_changed += usize::from(change.differs(|side| side.direction));
        }
        let (both, either) = self.flagged.entry((config.to_string(), level.clone())).or_default();
        for (cell, _) in pair.block.aligned.scope.indexed_iter().filter(|(_, counts)| **counts) {
            let (a, b) = (pair.runs[0].flags[cell], pair.runs[1].flags[cell]);
            *both += usize::from(a && b);
            *either += usize::from(a || b);
        }
        totals.agreement = (*either > 0).then(|| *both as f64 / *either as f64);
    }

    /// Keeps the chart of an alert if it is among the strongest of its change so far.
    fn show(&mut self, config: usize, pair: &Pair<'_>, change: &AlertChange, row: &AlertRow) {
        let kept = self.shown.entry((config, change.change())).or_default();
        let strength = change.strength();
        let place = kept.partition_point(|other| other.strength >= strength);
        if place >= self.top {
            return;
        }
        kept.insert(place, Shown { strength, row: row.clone(), chart: pair.chart(change, row) });
        kept.truncate(self.top);
    }

    /// The strongest alerts of each config, added, dropped and changed in turn.
    pub fn top(&mut self) -> Vec<Shown> {
        let mut found = Vec::new();
        for config in 1..self.names.len() {
            let mut ranked: Vec<(usize, Change, Shown)> = Vec::new();
            for change in [Change::Added, Change::Dropped, Change::Changed] {
                let kept = self.shown.remove(&(config, change)).unwrap_or_default();
                ranked.extend(kept.into_iter().enumerate().map(|(rank, s)| (rank, change, s)));
            }
            ranked.sort_by_key(|a| (a.0, a.1));
            found.extend(ranked.into_iter().take(self.top).map(|(_, _, shown)| shown));
        }
        found
    }
}

/// The baseline and another config in one block at one level.
struct Pair<'a> {
    names: [String; 2],
    name: BlockName<'a>,
    block: &'a Block<'a>,
    runs: [&'a OnGrid; 2],
}

impl Pair<'_> {
    /// The run whose view of an alert counts: the other one where it has the alert.
    fn viewer<'c>(&self, change: &'c AlertChange) -> Option<(usize, &'c AlertSide)> {
        let other = change.other.as_ref().map(|side| (1, side));
        other.or_else(|| change.baseline.as_ref().map(|side| (0, side)))
    }

    fn metric(&self, change: &AlertChange) -> usize {
        self.viewer(change)
            .map_or(0, |(run, side)| self.runs[run].leading_metric(change.series, side.peak))
    }

    fn row(&self, change: &AlertChange) -> AlertRow {
        let panel = &self.block.base.panel;
        let s = change.series;
        let metric = self.metric(change);
        let at = self.viewer(change).map(|(run, side)| (run, [s, side.peak]));
        let observed = at.map(|(_, [s, t])| panel.values()[[s, t, metric]]);
        let expected = at.map(|(run, cell)| self.runs[run].expected[cell]);
        let side = |run: usize, side: &Option<AlertSide>| {
            side.as_ref().map(|side| self.side_row(run, s, side))
        };
        AlertRow {
            config: self.names[1].clone(),
            data: self.name.data.to_string(),
            seed: self.name.seed,
            level: panel.level().name.clone(),
            series: panel.keys()[s].to_string(),
            change: change.change(),
            start: panel.calendar().label(change.steps.start),
            end: panel.calendar().label(change.steps.end.saturating_sub(1)),
            steps: change.steps.len(),
            baseline: side(0, &change.baseline),
            other: side(1, &change.other),
            metric: panel.metrics()[metric].name.clone(),
            observed: observed.filter(|x| x.is_finite()),
            expected: expected.filter(|x| x.is_finite()),
            labelled: self
                .block
                .truth
                .labelled
                .then(|| self.block.truth.kinds(s, &change.steps).join(";")),
        }
    }

    fn side_row(&self, run: usize, series: usize, side: &AlertSide) -> AlertSideRow {
        let finite = |x: f64| x.is_finite().then_some(x);
        AlertSideRow {
            severity: side.severity.map_or("", Severity::as_str).into(),
            kind: side.kind.map_or("", AnomalyType::as_str).into(),
            direction: side.direction.as_str().into(),
            score: finite(side.score),
            p_value: finite(self.runs[run].p_value[[series, side.peak]]),
        }
    }

    fn chart(&self, change: &AlertChange, row: &AlertRow) -> FlagLanesChart {
        let (panel, s) = (&self.block.base.panel, change.series);
        let metric = self.metric(change);
        let viewer = self.runs[self.viewer(change).map_or(0, |(run, _)| run)];
        // The flags files hold what is expected of the leading metric alone.
        let line = |values: &ndarray::Array2<f64>| {
            if panel.n_metrics() == 1 { values.row(s).to_vec() } else { Vec::new() }
        };
        let lanes: Vec<FlagLane> = self
            .names
            .iter()
            .zip(self.runs)
            .map(|(name, run)| FlagLane { name: name.to_string(), marks: self.marks(run, s) })
            .collect();
        let calendar = panel.calendar();
        let series = SeriesChart {
            id: file_stem(&row.level, &row.series),
            title: row.series.clone(),
            level: row.level.clone(),
            metric: row.metric.clone(),
            step_secs: calendar.step().secs(),
            times: (0..panel.n_times()).map(|t| calendar.start(t)).collect(),
            clock: match calendar.step() {
                Step::Seconds(_) => "UTC".into(),
                _ => String::new(),
            },
            observed: panel.metric(s, metric).to_vec(),
            expected: line(&viewer.expected),
            lower: line(&viewer.lower),
            upper: line(&viewer.upper),
            interval_level: f64::NAN,
            marks: worst(&lanes),
            known_events: self.known_events(s),
            truth: self
                .block
                .truth
                .events
                .iter()
                .filter(|event| event.series == s)
                .map(|event| event.steps.clone())
                .collect(),
            ..SeriesChart::default()
        };
        let mut chart = FlagLanesChart { series, lanes, focus: change.steps.clone() };
        chart.cut_to(panel.span(s));
        chart
    }

    fn marks(&self, run: &OnGrid, s: usize) -> Vec<Mark> {
        (0..self.block.aligned.scope.ncols())
            .filter(|t| self.block.aligned.scope[[s, *t]] && run.flags[[s, *t]])
            .filter_map(|index| {
                Some(Mark {
                    index,
                    severity: run.severity[[s, index]]?,
                    kind: run.kind[[s, index]]?,
                    direction: run.direction[[s, index]],
                })
            })
            .collect()
    }

    /// Runs of steps that the same known event covers.
    fn known_events(&self, s: usize) -> Vec<(std::ops::Range<usize>, String)> {
        let mut found: Vec<(std::ops::Range<usize>, String)> = Vec::new();
        let cells = self.block.base.known_events.range((s, 0)..(s + 1, 0));
        for ((_, t), name) in cells {
            match found.last_mut() {
                Some((range, last)) if range.end == *t && last == name => range.end = t + 1,
                _ => found.push((*t..t + 1, name.clone())),
            }
        }
        found
    }
}

/// The marks of all lanes, the worst where several have one.
fn worst(lanes: &[FlagLane]) -> Vec<Mark> {
    let mut marks: BTreeMap<usize, Mark> = BTreeMap::new();
    for mark in lanes.iter().flat_map(|lane| &lane.marks) {
        let best = marks.entry(mark.index).or_insert(*mark);
        if mark.severity.cmp(&best.severity) == Ordering::Greater {
            *best = *mark;
        }
    }
    marks.into_values().collect()
}

/// The words of a direction that is known.
pub fn direction_words(direction: &str) -> &str {
    if direction == Direction::Unknown.as_str() { "" } else { direction }
}
