//! What the report and `run.json` tell of the rows that went by: counts, a sample, the worst rows,
//! and, where there are labels, every score beside its label.

use std::collections::{BTreeMap, HashMap};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{
    fitted::{FittedRecords, Span},
    verdict::{Finding, Judged},
};
use crate::{
    ensemble::{AnomalyType, Severity},
    evaluation::{Confusion, auc_pr, auc_roc},
    math::random::stream,
    pipeline::{CalibrationRow, QualityRow},
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
    labels: Option<Labels>,
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
    scored: Vec<Labelled>,
    matched: usize,
}

/// A row outside the training part, with its label.
struct Labelled {
    scores: Vec<f32>,
    /// The ensemble's and each model's flag, as bits.
    flags: u8,
    ln_p: f32,
    kind: u8,
}

impl Collector {
    pub(super) fn new(
        labels: Option<HashMap<String, String>>,
        trained: usize,
        n_models: usize,
        seed: u64,
    ) -> Self {
        Self {
            labels: labels.map(Labels::new),
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
            scored: Vec::new(),
            matched: 0,
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
            if self.rows >= self.trained {
                self.label(batch.id(row), &scores, &flags, judged.ln_p[row]);
            }
            if let Some(labels) = &self.labels {
                self.matched += usize::from(labels.by_id.contains_key(batch.id(row)));
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

    fn label(&mut self, id: &str, scores: &[f64], flags: &[bool], ln_p: f64) {
        let Some(labels) = &self.labels else { return };
        let kind = labels.by_id.get(id).copied().unwrap_or(0);
        let bits = flags.iter().enumerate().map(|(at, flag)| u8::from(*flag) << at.min(7));
        self.scored.push(Labelled {
            scores: scores.iter().map(|score| *score as f32).collect(),
            flags: bits.fold(0, |all, bit| all | bit),
            ln_p: ln_p as f32,
            kind,
        });
    }

    /// True when there are labels and no row has one.
    pub(super) fn labels_match_nothing(&self) -> bool {
        self.labels.is_some() && self.matched == 0
    }

    /// Figures against the labels: the ensemble, each model, random scores.
    pub(super) fn quality(&self, fitted: &FittedRecords, seed: u64) -> Vec<QualityRow> {
        let Some(labels) = &self.labels else { return Vec::new() };
        if self.scored.iter().all(|row| row.kind == 0) {
            return Vec::new();
        }
        let mut who = vec!["ensemble".to_string()];
        who.extend(fitted.section.models.iter().map(ToString::to_string));
        let mut rows: Vec<QualityRow> = who
            .into_iter()
            .enumerate()
            .map(|(place, who)| {
                let scored: Vec<(f64, bool)> =
                    self.scored.iter().map(|r| (f64::from(r.scores[place]), r.kind > 0)).collect();
                let flags = |row: &Labelled| row.flags >> place.min(7) & 1 == 1;
                let mut figures = areas(scored);
                figures.extend(self.flag_figures(&labels.kinds, flags));
                QualityRow { who, scope: "all rows".into(), figures }
            })
            .collect();
        let mut rng = stream(seed, "random scores", 0);
        let random = self.scored.iter().map(|row| (rng.random::<f64>(), row.kind > 0)).collect();
        let figures = areas(random);
        rows.push(QualityRow { who: "random scores".into(), scope: "all rows".into(), figures });
        rows
    }

    fn flag_figures(
        &self,
        kinds: &[String],
        flag: impl Fn(&Labelled) -> bool,
    ) -> BTreeMap<String, Option<f64>> {
        let mut counts = Confusion::default();
        let mut by_kind = vec![(0_usize, 0_usize); kinds.len() + 1];
        for row in &self.scored {
            let flagged = flag(row);
            match (row.kind > 0, flagged) {
                (true, true) => counts.true_positive += 1,
                (false, true) => counts.false_positive += 1,
                (true, false) => counts.false_negative += 1,
                (false, false) => counts.true_negative += 1,
            }
            if let Some(counts) = by_kind.get_mut(usize::from(row.kind)) {
                counts.0 += usize::from(flagged);
                counts.1 += 1;
            }
        }
        let mut figures: BTreeMap<String, Option<f64>> = BTreeMap::from([
            ("precision".to_string(), counts.precision()),
            ("recall".into(), counts.recall()),
            ("f1".into(), counts.f1()),
            ("fpr".into(), counts.false_positive_rate()),
        ]);
        for (kind, (found, all)) in kinds.iter().zip(&by_kind[1..]) {
            let share = (*all > 0).then(|| *found as f64 / *all as f64);
            figures.insert(format!("recall_{kind}"), share);
        }
        figures
    }

    /// Shares of the clean rows outside the training part with small p-values.
    pub(super) fn calibration(&self) -> Option<CalibrationRow> {
        let clean: Vec<f32> =
            self.scored.iter().filter(|row| row.kind == 0).map(|row| row.ln_p).collect();
        let part = |p: f32| {
            let below = clean.iter().filter(|ln_p| **ln_p <= p.ln() + 1e-6).count();
            below as f64 / (clean.len() as f64).max(1.0)
        };
        (!clean.is_empty()).then(|| CalibrationRow {
            detector: "ensemble".into(),
            labelled: true,
            cells: clean.len(),
            p05: part(0.05),
            p01: part(0.01),
            p001: part(0.001),
            coverage: None,
        })
    }
}

/// Labels by id.
struct Labels {
    /// The number of the kind, from 1.
    by_id: HashMap<String, u8>,
    /// In order.
    kinds: Vec<String>,
}

impl Labels {
    fn new(labels: HashMap<String, String>) -> Self {
        let mut kinds: Vec<String> = labels.values().cloned().collect();
        kinds.sort_unstable();
        kinds.dedup();
        // More kinds than a byte can tell apart share the last number.
        kinds.truncate(usize::from(u8::MAX));
        let number = |kind: &String| {
            let place = kinds.binary_search(kind).unwrap_or(kinds.len() - 1);
            u8::try_from(place + 1).unwrap_or(u8::MAX)
        };
        let by_id = labels.iter().map(|(id, kind)| (id.clone(), number(kind))).collect();
        Self { by_id, kinds }
    }
}

fn areas(mut scored: Vec<(f64, bool)>) -> BTreeMap<String, Option<f64>> {
    scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let positives = scored.iter().filter(|(_, truth)| *truth).count();
    let prevalence = (!scored.is_empty()).then(|| positives as f64 / scored.len() as f64);
    BTreeMap::from([
        ("auc_pr".to_string(), auc_pr(&scored)),
        ("auc_roc".into(), auc_roc(&scored)),
        ("prevalence".into(), prevalence),
    ])
}
