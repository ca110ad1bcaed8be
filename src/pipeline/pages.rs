//! What the report draws, taken out of levels: the top series, the table of anomalies, the heat
//! map, the figures.

use std::{collections::BTreeMap, ops::Range};

use ndarray::Array2;

use super::{
    flags,
    level::{LevelRun, MemberRun},
    load::{self, Loaded},
    metrics::{LevelMetrics, ScorerMetrics},
    quality, registry,
    summary::RunSummary,
    tables,
};
use crate::{
    config::Config,
    detectors::DetectorName,
    ensemble::{AnomalyType, Direction, Severity},
    panel::{Panel, Step},
    report::{
        AnomalyRow, EvaluationCharts, Heatmap, HeatmapRow, KindRecall, LevelReport, Mark,
        ReconstructionPanel, ReportData, SeriesChart, SeriesTally, TrainingCurve, file_stem, rank,
    },
};

/// Rows of the anomaly table that a report keeps; the flags files hold all.
const MAX_ROWS: usize = 5_000;
/// Series of a heat map that a report keeps.
const MAX_HEATMAP_ROWS: usize = 60;

/// Everything that the report of a run shows.
pub fn report_data(
    config: &Config,
    loaded: &Loaded,
    levels: &[LevelRun],
    summary: &RunSummary,
) -> ReportData {
    let mut data = ReportData {
        title: summary.name.clone(),
        facts: facts(summary),
        notes: summary.warnings.clone(),
        ..ReportData::default()
    };
    for (level, told) in levels.iter().zip(&summary.levels) {
        let page = LevelPage::new(config, loaded, level);
        let mut charts = page.charts();
        let chart_of: BTreeMap<usize, String> =
            charts.iter().map(|(series, chart)| (*series, chart.id.clone())).collect();
        data.anomalies.extend(page.rows(&chart_of));
        data.charts.extend(charts.drain(..).map(|(_, chart)| chart));
        data.levels.push(page.summary());
        data.quality.extend(tables::of_level(told));
        data.evaluation.extend(evaluation_charts(&told.metrics));
        if data.training.is_none() {
            data.training = training(level);
        }
    }
    data.anomalies.sort_by(|a, b| {
        a.p_value
            .total_cmp(&b.p_value)
            .then_with(|| b.score.total_cmp(&a.score))
            .then_with(|| a.key.cmp(&b.key))
            .then_with(|| a.time_label.cmp(&b.time_label))
    });
    if data.anomalies.len() > MAX_ROWS {
        data.notes.push(format!(
            "the table holds the {MAX_ROWS} strongest of {} anomalies; the flags files hold all",
            data.anomalies.len()
        ));
        data.anomalies.truncate(MAX_ROWS);
    }
    data
}

/// One level on its way onto the page.
struct LevelPage<'a> {
    config: &'a Config,
    level: &'a LevelRun,
    panel: &'a Panel,
    known: BTreeMap<(usize, usize), String>,
    labels: Vec<(Vec<usize>, Range<usize>)>,
    known_ranges: Vec<(Vec<usize>, Range<usize>, String)>,
    /// Series with anomalies, ranked.
    order: Vec<usize>,
    tallies: Vec<SeriesTally>,
}

impl<'a> LevelPage<'a> {
    fn new(config: &'a Config, loaded: &Loaded, level: &'a LevelRun) -> Self {
        let panel = &level.panel;
        let mut series_of = Vec::new();
        let mut tallies = Vec::new();
        for s in 0..panel.n_series() {
            let flagged = flagged_steps(level, s);
            if flagged.is_empty() {
                continue;
            }
            let ratios = flagged.iter().map(|&t| level.output.deviation_ratio[[s, t]]);
            tallies.push(SeriesTally {
                label: panel.keys()[s].to_string(),
                n_anomalies: flagged.len(),
                largest_deviation_ratio: ratios.fold(f64::NAN, f64::max),
            });
            series_of.push(s);
        }
        let order = rank(&tallies).into_iter().map(|i| series_of[i]).collect();
        let labels = loaded.labels.iter().flatten().map(|i| load::places(panel, i)).collect();
        let known_ranges = loaded
            .known_events
            .iter()
            .map(|interval| {
                let (series, steps) = load::places(panel, interval);
                (series, steps, interval.kind.clone())
            })
            .collect();
        Self {
            config,
            level,
            panel,
            known: flags::known_event_names(panel, &loaded.known_events),
            labels,
            known_ranges,
            order,
            tallies,
        }
    }

    fn summary(&self) -> LevelReport {
        let output = &self.level.output;
        let count = |matches: &dyn Fn(&(usize, usize)) -> bool| {
            output
                .is_anomaly
                .indexed_iter()
                .filter(|(cell, flagged)| **flagged && matches(cell))
                .count()
        };
        LevelReport {
            name: self.panel.level().name.clone(),
            n_series: self.panel.n_series(),
            n_points: output.log_p.iter().filter(|p| !p.is_nan()).count(),
            n_anomalies: count(&|_| true),
            by_severity: Severity::ALL
                .iter()
                .map(|s| (*s, count(&|cell| output.severity[*cell] == Some(*s))))
                .collect(),
            by_type: AnomalyType::ALL
                .iter()
                .map(|k| (*k, count(&|cell| output.kind[*cell] == Some(*k))))
                .filter(|(_, n)| *n > 0)
                .collect(),
            ranking: self.tallies.clone(),
            heatmap: Some(self.heatmap()),
        }
    }

    fn heatmap(&self) -> Heatmap {
        let calendar = self.panel.calendar();
        let rows: Vec<usize> = if self.order.is_empty() {
            (0..self.panel.n_series().min(MAX_HEATMAP_ROWS)).collect()
        } else {
            self.order.iter().copied().take(MAX_HEATMAP_ROWS).collect()
        };
        Heatmap {
            times: (0..self.panel.n_times()).map(|t| calendar.start(t)).collect(),
            step_secs: calendar.step().secs(),
            clock: clock(self.panel),
            left_out: self.panel.n_series() - rows.len(),
            rows: rows
                .into_iter()
                .map(|s| HeatmapRow {
                    label: self.panel.keys()[s].to_string(),
                    n_anomalies: flagged_steps(self.level, s).len(),
                    scores: self.level.output.score.row(s).to_vec(),
                })
                .collect(),
        }
    }

    /// The charts of the top series, by their place in the panel.
    fn charts(&self) -> Vec<(usize, SeriesChart)> {
        let mut ids: BTreeMap<String, usize> = BTreeMap::new();
        self.order
            .iter()
            .take(self.config.report.top)
            .map(|&s| {
                let mut chart = self.chart(s);
                let n = ids.entry(chart.id.clone()).or_insert(0);
                *n += 1;
                if *n > 1 {
                    chart.id = format!("{}-{n}", chart.id);
                }
                (s, chart)
            })
            .collect()
    }

    fn chart(&self, s: usize) -> SeriesChart {
        let (panel, output) = (self.panel, &self.level.output);
        let metric = self.leading_metric(s);
        let line =
            |values: &ndarray::Array3<f64>| values.slice(ndarray::s![s, .., metric]).to_vec();
        let marks = flagged_steps(self.level, s)
            .into_iter()
            .filter_map(|t| {
                Some(Mark {
                    index: t,
                    severity: output.severity[[s, t]]?,
                    kind: output.kind[[s, t]]?,
                    direction: Direction::from_sign(output.direction[[s, t]]),
                })
            })
            .collect();
        let ranges = |all: &[(Vec<usize>, Range<usize>)]| {
            let mine = all.iter().filter(|(series, _)| series.contains(&s));
            mine.map(|(_, steps)| steps.clone()).filter(|r| !r.is_empty()).collect::<Vec<_>>()
        };
        let mut chart = SeriesChart {
            id: file_stem(&panel.level().name, &panel.keys()[s].to_string()),
            title: panel.keys()[s].to_string(),
            level: panel.level().name.clone(),
            metric: panel.metrics()[metric].name.clone(),
            step_secs: panel.calendar().step().secs(),
            times: (0..panel.n_times()).map(|t| panel.calendar().start(t)).collect(),
            clock: clock(panel),
            observed: panel.metric(s, metric).to_vec(),
            expected: line(&output.expected),
            lower: line(&output.lower),
            upper: line(&output.upper),
            interval_level: self.interval_level(),
            marks,
            known_events: self
                .known_ranges
                .iter()
                .filter(|(series, steps, _)| !steps.is_empty() && series.contains(&s))
                .map(|(_, steps, kind)| (steps.clone(), kind.clone()))
                .collect(),
            truth: ranges(&self.labels),
            training_until: self.level.train_until.as_ref().map(|cuts| cuts[s]),
            reconstruction: self.reconstruction(s, metric),
            log_values: false,
        };
        chart.cut_to(panel.span(s));
        chart
    }

    /// The level of the interval of whichever member's prediction is drawn.
    fn interval_level(&self) -> f64 {
        let members = self.level.members.iter().filter(|m| m.scores.expected.is_some());
        let first = members.min_by_key(|m| (m.scores.log_p.is_none(), m.scores.lower.is_none()));
        first.and_then(|m| registry::interval_level(m.name, self.config)).unwrap_or(f64::NAN)
    }

    /// The metric that leads most of the series' anomalies, the first of them on a tie.
    fn leading_metric(&self, s: usize) -> usize {
        let mut votes = vec![0_usize; self.panel.n_metrics()];
        for t in flagged_steps(self.level, s) {
            votes[usize::from(self.level.output.leading_metric[[s, t]])] += 1;
        }
        let best = votes.iter().copied().max().unwrap_or(0);
        votes.iter().position(|v| *v == best).unwrap_or(0)
    }

    fn reconstruction(&self, s: usize, metric: usize) -> Option<ReconstructionPanel> {
        let member = self.level.members.iter().find(|m| m.name == DetectorName::LstmAutoencoder)?;
        let expected = member.scores.expected.as_ref()?;
        let error = member.scores.score.row(s).to_vec();
        if error.iter().all(|e| e.is_nan()) {
            return None;
        }
        Some(ReconstructionPanel {
            unit: self.panel.metrics()[metric].name.clone(),
            observed: self.panel.metric(s, metric).to_vec(),
            reconstructed: expected.slice(ndarray::s![s, .., metric]).to_vec(),
            threshold: self.threshold(member, s, &error),
            error,
        })
    }

    /// The error whose p-value is the decision's: found by bisection on the calibration, which
    /// rises with the error.
    fn threshold(&self, member: &MemberRun, s: usize, error: &[f64]) -> f64 {
        let Some(calibration) = self.level.calibrations.get(&member.name) else { return f64::NAN };
        let out = self.level.output.members.iter().find(|out| out.name == member.name);
        // Of the newest step, where the rule has another threshold in each.
        let Some(&wanted) = out.and_then(|out| out.ln_threshold.last()) else { return f64::NAN };
        let log_p = |value: f64| {
            let raw = Array2::from_elem((1, 1), value);
            calibration.log_p_of(raw.view(), &[self.level.places[s]]).log_p[[0, 0]]
        };
        let mut high = error.iter().copied().filter(|e| e.is_finite()).fold(1e-9, f64::max);
        for _ in 0..20 {
            if log_p(high) <= wanted {
                break;
            }
            high *= 2.0;
        }
        if log_p(high) > wanted {
            return f64::NAN; // the calibration sample is too small to support this level
        }
        let mut low = 0.0;
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if log_p(middle) <= wanted { high = middle } else { low = middle }
        }
        high
    }

    fn rows(&self, chart_of: &BTreeMap<usize, String>) -> Vec<AnomalyRow> {
        let output = &self.level.output;
        let mut rows = Vec::new();
        for ((s, t), _) in output.is_anomaly.indexed_iter().filter(|(_, flagged)| **flagged) {
            let (Some(severity), Some(kind)) = (output.severity[[s, t]], output.kind[[s, t]])
            else {
                continue;
            };
            let metric = usize::from(output.leading_metric[[s, t]]);
            let flagged_by =
                output.members.iter().filter(|m| m.flagged[[s, t]]).map(|m| m.name.to_string());
            rows.push(AnomalyRow {
                level: self.panel.level().name.clone(),
                key: self.panel.keys()[s].to_string(),
                time_label: self.panel.calendar().label(t),
                metric: self.panel.metrics()[metric].name.clone(),
                observed: self.panel.values()[[s, t, metric]],
                expected: output.expected[[s, t, metric]],
                lower: output.lower[[s, t, metric]],
                upper: output.upper[[s, t, metric]],
                deviation_percent: output.deviation_percentage[[s, t]],
                score: output.score[[s, t]],
                p_value: output.log_p[[s, t]].exp(),
                confidence: output.confidence[[s, t]],
                severity,
                kind,
                direction: Direction::from_sign(output.direction[[s, t]]),
                n_models_flagged: usize::from(output.n_models_flagged[[s, t]]),
                detectors: flagged_by.collect(),
                known_event: self.known.get(&(s, t)).cloned(),
                chart: chart_of.get(&s).cloned(),
            });
        }
        rows
    }
}

fn flagged_steps(level: &LevelRun, s: usize) -> Vec<usize> {
    let row = level.output.is_anomaly.row(s);
    row.iter().enumerate().filter(|(_, flagged)| **flagged).map(|(t, _)| t).collect()
}

/// The clock that a chart's axis is on: named below a day, where it is not the reader's own.
fn clock(panel: &Panel) -> String {
    match panel.calendar().step() {
        Step::Seconds(_) => "UTC".into(),
        _ => String::new(),
    }
}

fn facts(summary: &RunSummary) -> Vec<(String, String)> {
    let fact = |name: &str, value: String| (name.to_string(), value);
    let rejected: u64 = summary.rejected.values().sum();
    let newest = summary.levels.iter().filter_map(|level| {
        let newest = level.rules.first()?.newest.as_ref()?;
        Some(fact(&format!("level {}, {}", level.level, newest.step), newest.sentence()))
    });
    let facts = vec![
        fact("version", summary.version.clone()),
        fact("device", summary.device.clone()),
        fact("seed", summary.seed.to_string()),
        fact("rows", summary.rows.to_string()),
        fact("rejected rows", rejected.to_string()),
        fact("data fingerprint", summary.data_fingerprint.chars().take(16).collect()),
    ];
    newest.chain(facts).collect()
}

fn training(level: &LevelRun) -> Option<TrainingCurve> {
    let curve = quality::lstm(level)?.curve();
    Some(TrainingCurve {
        title: format!("LSTM autoencoder, level {}", level.panel.level().name),
        train_loss: curve.epochs.iter().map(|(train, _)| *train).collect(),
        validation_loss: curve.epochs.iter().map(|(_, held_out)| *held_out).collect(),
        best_epoch: Some(curve.best_epoch),
        ended: curve.stopped.clone().unwrap_or_default(),
    })
}

/// What the charts of one level show; `None` without labels on it.
pub fn evaluation_charts(level: &LevelMetrics) -> Option<EvaluationCharts> {
    let everywhere: Vec<&ScorerMetrics> =
        level.scorers.iter().filter(|scorer| scorer.is_everywhere()).collect();
    let ensemble = everywhere.first()?;
    let figure = |scorer: &ScorerMetrics, name: &str| scorer.figures.get(name).copied().flatten();
    let kinds = ensemble.by_kind.iter().map(|(kind, (_, events))| KindRecall {
        kind: kind.clone(),
        events: *events,
        recall: everywhere
            .iter()
            .map(|scorer| match scorer.by_kind.get(kind) {
                Some((found, all)) if *all > 0 => *found as f64 / *all as f64,
                _ => 0.0,
            })
            .collect(),
    });
    Some(EvaluationCharts {
        level: level.level.clone(),
        step: level.step.clone(),
        prevalence: figure(ensemble, "prevalence").unwrap_or(0.0),
        scorers: everywhere.iter().map(|scorer| scorer.who.clone()).collect(),
        pr_curves: everywhere.iter().map(|scorer| scorer.pr_curve.clone()).collect(),
        at_work: everywhere
            .iter()
            .map(|scorer| Some((figure(scorer, "recall")?, figure(scorer, "precision")?)))
            .collect(),
        calibration: level
            .calibration
            .iter()
            .map(|row| (row.row.detector.clone(), row.curve.clone()))
            .collect(),
        clean_cells: level.calibration.iter().map(|row| row.row.cells).max().unwrap_or(0),
        delays: ensemble.delays.iter().map(|(delay, events)| (*delay, *events)).collect(),
        missed: ensemble.by_kind.values().map(|(found, all)| all - found).sum(),
        kinds: kinds.collect(),
    })
}
