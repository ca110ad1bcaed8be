//! A run's figures from any multiset of its series: everything that a figure needs is kept per
//! series, or, for the areas, per cell in the order of the scores.

use serde::{Deserialize, Serialize};

use super::super::{EvaluationInput, alert_diff::alerts};

/// A figure that two runs are compared by. Those of the first group need labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    Precision,
    Recall,
    F1,
    Fpr,
    EventRecall,
    AlertPrecision,
    FalseAlertsPerSeriesYear,
    MeanDelaySteps,
    AucPr,
    AucRoc,
    AlertsPerSeriesYear,
    FlaggedShare,
}

impl Figure {
    /// Every figure, in the order of tables.
    pub const ALL: &'static [Self] = &[
        Self::Precision,
        Self::Recall,
        Self::F1,
        Self::Fpr,
        Self::EventRecall,
        Self::AlertPrecision,
        Self::FalseAlertsPerSeriesYear,
        Self::MeanDelaySteps,
        Self::AucPr,
        Self::AucRoc,
        Self::AlertsPerSeriesYear,
        Self::FlaggedShare,
    ];

    /// The name that files use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Precision => "precision",
            Self::Recall => "recall",
            Self::F1 => "f1",
            Self::Fpr => "fpr",
            Self::EventRecall => "event_recall",
            Self::AlertPrecision => "alert_precision",
            Self::FalseAlertsPerSeriesYear => "false_alerts_per_series_year",
            Self::MeanDelaySteps => "mean_delay_steps",
            Self::AucPr => "auc_pr",
            Self::AucRoc => "auc_roc",
            Self::AlertsPerSeriesYear => "alerts_per_series_year",
            Self::FlaggedShare => "flagged_share",
        }
    }

    /// The words of a table's head.
    pub fn title(self) -> &'static str {
        match self {
            Self::Precision => "precision",
            Self::Recall => "recall",
            Self::F1 => "F1",
            Self::Fpr => "FPR",
            Self::EventRecall => "event recall",
            Self::AlertPrecision => "alert precision",
            Self::FalseAlertsPerSeriesYear => "false alerts per series-year",
            Self::MeanDelaySteps => "mean delay (steps)",
            Self::AucPr => "AUC-PR",
            Self::AucRoc => "AUC-ROC",
            Self::AlertsPerSeriesYear => "alerts per series-year",
            Self::FlaggedShare => "share flagged",
        }
    }

    /// Whether the figure is measured against labels.
    pub fn needs_labels(self) -> bool {
        !matches!(self, Self::AlertsPerSeriesYear | Self::FlaggedShare)
    }

    /// Whether more is better; `None` where neither is.
    pub fn higher_is_better(self) -> Option<bool> {
        match self {
            Self::Fpr | Self::FalseAlertsPerSeriesYear | Self::MeanDelaySteps => Some(false),
            Self::AlertsPerSeriesYear | Self::FlaggedShare => None,
            _ => Some(true),
        }
    }
}

/// What one series adds to the figures.
#[derive(Clone, Copy, Debug, Default)]
struct SeriesTally {
    true_positive: f64,
    false_positive: f64,
    false_negative: f64,
    true_negative: f64,
    events: f64,
    found: f64,
    /// Steps from the first step in scope to the first flag, over the events found.
    delay: f64,
    alerts: f64,
    false_alerts: f64,
}

impl SeriesTally {
    fn add(&mut self, other: &Self, times: f64) {
        self.true_positive += times * other.true_positive;
        self.false_positive += times * other.false_positive;
        self.false_negative += times * other.false_negative;
        self.true_negative += times * other.true_negative;
        self.events += times * other.events;
        self.found += times * other.found;
        self.delay += times * other.delay;
        self.alerts += times * other.alerts;
        self.false_alerts += times * other.false_alerts;
    }
}

/// A labelled cell in the order of falling scores.
#[derive(Clone, Copy, Debug)]
struct RankedCell {
    series: u32,
    truth: bool,
    /// The next cell has a lower score, or there is none.
    ends_tie: bool,
}

/// One run, ready to be resampled by series.
#[derive(Clone, Debug)]
pub struct RunSample {
    /// The data set whose series its series are.
    pub data_set: usize,
    tallies: Vec<SeriesTally>,
    ranked: Vec<RankedCell>,
    labelled: bool,
    steps_per_year: f64,
}

impl RunSample {
    /// Counts a run. `place[row]` is the number, in data set `data_set` of `n_series` series, of
    /// the series in row `row` of the input. Without labels the input's truth is all false.
    pub fn new(
        input: &EvaluationInput<'_>,
        labelled: bool,
        data_set: usize,
        place: &[usize],
        n_series: usize,
    ) -> Self {
        let mut tallies = vec![SeriesTally::default(); n_series];
        for (row, place) in place.iter().enumerate() {
            tallies[*place] = count_series(input, row);
        }
        for event in input.events {
            count_event(
                input,
                event.series,
                event.steps.clone(),
                &mut tallies[place[event.series]],
            );
        }
        let ranked = if labelled { rank(input, place) } else { Vec::new() };
        Self { data_set, tallies, ranked, labelled, steps_per_year: input.step.per_year() }
    }

    /// Every figure of [`Figure::ALL`] with each series counted `weights[series]` times; `None`
    /// where it is not defined.
    pub fn figures(&self, weights: &[u32]) -> Vec<Option<f64>> {
        let mut sum = SeriesTally::default();
        for (tally, weight) in self.tallies.iter().zip(weights).filter(|(_, weight)| **weight > 0) {
            sum.add(tally, f64::from(*weight));
        }
        let (auc_pr, auc_roc) = self.areas(weights);
        let cells = sum.true_positive + sum.false_positive + sum.false_negative + sum.true_negative;
        let years = cells / self.steps_per_year;
        let flagged = sum.true_positive + sum.false_positive;
        Figure::ALL
            .iter()
            .map(|figure| {
                if figure.needs_labels() && !self.labelled {
                    return None;
                }
                match figure {
                    Figure::Precision => ratio(sum.true_positive, flagged),
                    Figure::Recall => {
                        ratio(sum.true_positive, sum.true_positive + sum.false_negative)
                    }
                    Figure::F1 => ratio(
                        2.0 * sum.true_positive,
                        2.0 * sum.true_positive + sum.false_positive + sum.false_negative,
                    ),
                    Figure::Fpr => {
                        ratio(sum.false_positive, sum.false_positive + sum.true_negative)
                    }
                    Figure::EventRecall => ratio(sum.found, sum.events),
                    Figure::AlertPrecision => ratio(sum.alerts - sum.false_alerts, sum.alerts),
                    Figure::FalseAlertsPerSeriesYear => ratio(sum.false_alerts, years),
                    Figure::MeanDelaySteps => ratio(sum.delay, sum.found),
                    Figure::AucPr => auc_pr,
                    Figure::AucRoc => auc_roc,
                    Figure::AlertsPerSeriesYear => ratio(sum.alerts, years),
                    Figure::FlaggedShare => ratio(flagged, cells),
                }
            })
            .collect()
    }

    /// (AUC-PR, AUC-ROC): the sums of [`auc_pr`](super::super::auc_pr) and
    /// [`auc_roc`](super::super::auc_roc) with weighted cells.
    fn areas(&self, weights: &[u32]) -> (Option<f64>, Option<f64>) {
        let weight = |cell: &RankedCell| f64::from(weights[cell.series as usize]);
        let (mut positives, mut all) = (0.0, 0.0);
        for cell in &self.ranked {
            all += weight(cell);
            positives += if cell.truth { weight(cell) } else { 0.0 };
        }
        let negatives = all - positives;
        let (mut precision_sum, mut pairs) = (0.0, 0.0);
        let (mut hits, mut seen) = (0.0, 0.0);
        let (mut tie_hits, mut tie_seen) = (0.0, 0.0);
        for cell in &self.ranked {
            tie_seen += weight(cell);
            tie_hits += if cell.truth { weight(cell) } else { 0.0 };
            if cell.ends_tie && tie_seen > 0.0 {
                // A tie counts half of its own pairs.
                pairs += (tie_seen - tie_hits) * (hits + 0.5 * tie_hits);
                hits += tie_hits;
                seen += tie_seen;
                precision_sum += tie_hits * hits / seen;
                (tie_hits, tie_seen) = (0.0, 0.0);
            }
        }
        (ratio(precision_sum, positives), ratio(pairs, positives * negatives))
    }
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

fn count_series(input: &EvaluationInput<'_>, row: usize) -> SeriesTally {
    let mut tally = SeriesTally::default();
    for t in (0..input.scope.ncols()).filter(|t| input.scope[[row, *t]]) {
        let count = match (input.truth[[row, t]], input.flags[[row, t]]) {
            (true, true) => &mut tally.true_positive,
            (false, true) => &mut tally.false_positive,
            (true, false) => &mut tally.false_negative,
            (false, false) => &mut tally.true_negative,
        };
        *count += 1.0;
    }
    for alert in alerts(input.flags.row(row), input.scope.row(row)) {
        tally.alerts += 1.0;
        if !alert.into_iter().any(|t| input.truth[[row, t]]) {
            tally.false_alerts += 1.0;
        }
    }
    tally
}

fn count_event(
    input: &EvaluationInput<'_>,
    row: usize,
    steps: std::ops::Range<usize>,
    tally: &mut SeriesTally,
) {
    let mut inside = steps.filter(|t| input.scope[[row, *t]]);
    let Some(first) = inside.next() else { return };
    tally.events += 1.0;
    let hit = std::iter::once(first).chain(inside).find(|t| input.flags[[row, *t]]);
    if let Some(hit) = hit {
        tally.found += 1.0;
        tally.delay += (hit - first) as f64;
    }
}

/// The cells of the scope by falling score; NaN is lowest.
fn rank(input: &EvaluationInput<'_>, place: &[usize]) -> Vec<RankedCell> {
    let mut cells: Vec<(f64, usize, bool)> = Vec::new();
    for ((row, t), _) in input.scope.indexed_iter().filter(|(_, counts)| **counts) {
        let score = input.score[[row, t]];
        let score = if score.is_nan() { f64::NEG_INFINITY } else { score };
        cells.push((score, place[row], input.truth[[row, t]]));
    }
    cells.sort_by(|a, b| b.0.total_cmp(&a.0));
    let ends_tie = |i: usize| cells.get(i + 1).is_none_or(|next| next.0 < cells[i].0);
    (0..cells.len())
        .map(|i| RankedCell { series: cells[i].1 as u32, truth: cells[i].2, ends_tie: ends_tie(i) })
        .collect()
}
