//! What the report and `run.json` tell of the rows that went by: counts, a sample, the worst rows,
//! and, where there are labels, every score beside its label.

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{
    fitted::{FittedRecords, Span},
    measure::ScoredRows,
    verdict::{Finding, Judged},
};
use crate::{
    ensemble::{AnomalyType, Severity},
    math::random::stream,
    source::RecordBatch,
};

/// Rows whose scores are kept for the charts.
const SAMPLE_ROWS: usize = 5_000;
/// Rows of the table of the worst.
const WORST_ROWS: usize = 5_000;

/// One of the worst rows.
#[derive(Clone, Debug)]
pub(super) struct Worst {
    pub(super) id: String,
    pub(super) time: i64,
    pub(super) context: String,
    pub(super) value: f64,
    pub(super) score: f64,
    pub(super) ln_p: f64,
    pub(super) n_flags: usize,
    /// Names of the models that flag it.
    pub(super) models: Vec<String>,
    pub(super) finding: Finding,
}

/// A row of the sample.
#[derive(Clone, Debug)]
pub(super) struct Sampled {
    /// The ensemble's, then each model's.
    pub(super) scores: Vec<f64>,
    pub(super) flags: Vec<bool>,
}

/// Gathers over all batches of one scoring.
pub(super) struct Collector {
    /// Where there are labels.
    pub(super) scored: Option<ScoredRows>,
    /// Rows that were fitted on and come first.
    trained: usize,
    rng: ChaCha8Rng,
    pub(super) rows: usize,
    pub(super) first: Option<i64>,
    pub(super) last: Option<i64>,
    /// Rows whose time is before that of the row ahead of them.
    pub(super) out_of_order: usize,
    pub(super) anomalies: usize,
    pub(super) by_severity: BTreeMap<Severity, usize>,
    pub(super) by_type: BTreeMap<&'static str, (AnomalyType, usize)>,
    pub(super) by_context: BTreeMap<String, usize>,
    /// Of the ensemble and of each model, with the rows over its threshold apart.
    pub(super) histograms: Vec<Vec<usize>>,
    pub(super) sample: Vec<Sampled>,
    pub(super) worst: Vec<Worst>,
}

impl Collector {
    pub(super) fn new(
        scored: Option<ScoredRows>,
        trained: usize,
        n_models: usize,
        seed: u64,
    ) -> Self {
        Self {
            scored,
            trained,
            rng: stream(seed, "records sample", 0),
            rows: 0,
            first: None,
            last: None,
            out_of_order: 0,
            anomalies: 0,
            by_severity: BTreeMap::new(),
            by_type: BTreeMap::new(),
            by_context: BTreeMap::new(),
            histograms: vec![vec![0; Span::bins()]; n_models + 1],
            sample: Vec::new(),
            worst: Vec::new(),
        }
    }

    /// Rows of the next batch that were fitted on.
    pub(super) fn trained_ahead(&self) -> usize {
        self.trained.saturating_sub(self.rows)
    }

    /// Takes a batch.
    pub(super) fn take(&mut self, batch: &RecordBatch, judged: &Judged, fitted: &FittedRecords) {
        for row in 0..batch.block.len() {
            let time = batch.block.times[row];
            self.out_of_order += usize::from(self.last.is_some_and(|last| time < last));
            self.first = Some(self.first.map_or(time, |first| first.min(time)));
            self.last = Some(self.last.map_or(time, |last| last.max(time)));
            let scores: Vec<f64> = std::iter::once(judged.verdicts.score[row])
                .chain(judged.scores.iter().map(|scores| scores[row]))
                .collect();
            let flags: Vec<bool> = std::iter::once(judged.verdicts.is_anomaly[row])
                .chain(judged.verdicts.flags.iter().map(|flags| flags[row]))
                .collect();
            for ((histogram, span), score) in
                self.histograms.iter_mut().zip(&fitted.spans).zip(&scores)
            {
                histogram[span.bin(*score)] += 1;
            }
            if let Some(finding) = &judged.findings[row] {
                self.count(batch, judged, fitted, row, finding, &flags);
            }
            if let Some(labelled) = &mut self.scored {
                let trained = self.rows < self.trained;
                labelled.take(batch.id(row), trained, &scores, &flags, judged.ln_p[row]);
            }
            self.keep(Sampled { scores, flags });
            self.rows += 1;
        }
    }

    fn count(
        &mut self,
        batch: &RecordBatch,
        judged: &Judged,
        fitted: &FittedRecords,
        row: usize,
        finding: &Finding,
        flags: &[bool],
    ) {
        self.anomalies += 1;
        *self.by_severity.entry(finding.severity).or_default() += 1;
        self.by_type.entry(finding.kind.as_str()).or_insert((finding.kind, 0)).1 += 1;
        let context = fitted.features.context_name(judged.contexts[row]);
        *self.by_context.entry(context.clone()).or_default() += 1;
        let models = fitted.section.models.iter().zip(&flags[1..]);
        let models: Vec<String> =
            models.filter(|(_, flag)| **flag).map(|(model, _)| model.to_string()).collect();
        self.worst.push(Worst {
            id: batch.id(row).to_string(),
            time: batch.block.times[row],
            context,
            value: batch.block.numbers_of(row)[finding.leading],
            score: judged.verdicts.score[row],
            ln_p: judged.ln_p[row],
            n_flags: models.len(),
            models,
            finding: finding.clone(),
        });
        if self.worst.len() >= 2 * WORST_ROWS {
            self.cut_worst();
        }
    }

    /// Keeps the worst, in order.
    pub(super) fn cut_worst(&mut self) {
        self.worst.sort_by(|a, b| {
            a.ln_p
                .total_cmp(&b.ln_p)
                .then_with(|| b.score.total_cmp(&a.score))
                .then_with(|| a.id.cmp(&b.id))
        });
        self.worst.truncate(WORST_ROWS);
    }

    /// A uniform sample of all rows so far (algorithm R of Vitter 1985).
    fn keep(&mut self, row: Sampled) {
        if self.sample.len() < SAMPLE_ROWS {
            self.sample.push(row);
            return;
        }
        let place = self.rng.random_range(0..=self.rows);
        if let Some(kept) = self.sample.get_mut(place) {
            *kept = row;
        }
    }

    /// True when there are labels and no row has one.
    pub(super) fn labels_match_nothing(&self) -> bool {
        self.scored.as_ref().is_some_and(ScoredRows::match_nothing)
    }
}
