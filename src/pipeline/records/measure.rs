//! Scored rows against their labels. Records have no calendar, so nothing here is counted by event.

use std::collections::{BTreeMap, HashMap};

use ndarray::Array2;
use rand::RngExt;

use super::RECORDS_LEVEL;
use crate::{
    evaluation::{Confusion, auc_pr, auc_roc, calibration_curve, calibration_figures, pr_curve},
    math::random::stream,
    pipeline::{CalibrationMetrics, CalibrationRow, LevelMetrics, ScorerMetrics},
};

/// Points of a drawn precision-recall curve.
const CURVE_POINTS: usize = 500;
/// The scope of every figure.
const SCOPE: &str = "all rows";

/// Rows outside the training part, with their labels.
pub(super) struct ScoredRows {
    /// The ensemble first, then the models: who scored, at most eight.
    who: Vec<String>,
    labels: Labels,
    rows: Vec<ScoredRow>,
    matched: usize,
}

struct ScoredRow {
    scores: Vec<f32>,
    /// The flag of each scorer, as bits.
    flags: u8,
    ln_p: f32,
    kind: u8,
}

impl ScoredRows {
    pub(super) fn new(who: Vec<String>, labels: HashMap<String, String>) -> Self {
        Self { who, labels: Labels::new(labels), rows: Vec::new(), matched: 0 }
    }

    /// Takes a row; one that was fitted on is only looked up among the labels.
    pub(super) fn take(
        &mut self,
        id: &str,
        trained: bool,
        scores: &[f64],
        flags: &[bool],
        ln_p: f64,
    ) {
        let kind = self.labels.by_id.get(id).copied();
        self.matched += usize::from(kind.is_some());
        if trained {
            return;
        }
        let bits = flags.iter().enumerate().map(|(at, flag)| u8::from(*flag) << at.min(7));
        self.rows.push(ScoredRow {
            scores: scores.iter().map(|score| *score as f32).collect(),
            flags: bits.fold(0, |all, bit| all | bit),
            ln_p: ln_p as f32,
            kind: kind.unwrap_or(0),
        });
    }

    /// True when no row has a label, fitted on or not.
    pub(super) fn match_nothing(&self) -> bool {
        self.matched == 0
    }

    /// Figures of the ensemble, each model and random scores; without a labelled row outside the
    /// training part, the calibration alone.
    pub(super) fn measure(&self, seed: u64) -> LevelMetrics {
        let labelled = self.rows.iter().filter(|row| row.kind > 0).count();
        let scorers = if labelled == 0 { Vec::new() } else { self.scorers(seed) };
        LevelMetrics {
            level: RECORDS_LEVEL.into(),
            step: "record".into(),
            cells: self.rows.len(),
            labelled_events: labelled,
            scorers,
            calibration: self.calibration().into_iter().collect(),
            ..LevelMetrics::default()
        }
    }

    fn scorers(&self, seed: u64) -> Vec<ScorerMetrics> {
        let mut found: Vec<ScorerMetrics> = self
            .who
            .iter()
            .enumerate()
            .map(|(place, who)| {
                self.scorer(
                    who,
                    |row| f64::from(row.scores[place]),
                    |row, _| row.flags >> place.min(7) & 1 == 1,
                )
            })
            .collect();
        // Flagged as often as the ensemble flags: what luck would reach.
        let flagged = self.rows.iter().filter(|row| row.flags & 1 == 1).count();
        let share = flagged as f64 / (self.rows.len() as f64).max(1.0);
        let mut rng = stream(seed, "random scores", 0);
        found.push(self.scorer("random scores", |_| rng.random(), |_, score| score > 1.0 - share));
        found
    }

    fn scorer(
        &self,
        who: &str,
        mut score: impl FnMut(&ScoredRow) -> f64,
        flag: impl Fn(&ScoredRow, f64) -> bool,
    ) -> ScorerMetrics {
        let mut confusion = Confusion::default();
        let mut by_kind = vec![(0_usize, 0_usize); self.labels.kinds.len() + 1];
        let mut scored = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let score = score(row);
            let flagged = flag(row, score);
            match (row.kind > 0, flagged) {
                (true, true) => confusion.true_positive += 1,
                (false, true) => confusion.false_positive += 1,
                (true, false) => confusion.false_negative += 1,
                (false, false) => confusion.true_negative += 1,
            }
            if let Some((found, all)) = by_kind.get_mut(usize::from(row.kind)) {
                *found += usize::from(flagged);
                *all += 1;
            }
            scored.push((score, row.kind > 0));
        }
        scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let by_kind: BTreeMap<String, (usize, usize)> =
            self.labels.kinds.iter().cloned().zip(by_kind.into_iter().skip(1)).collect();
        ScorerMetrics {
            who: who.into(),
            scope: SCOPE.into(),
            figures: figures(&scored, confusion, &by_kind),
            confusion,
            by_kind,
            delays: BTreeMap::from([(0, confusion.true_positive)]),
            pr_curve: pr_curve(&scored, CURVE_POINTS),
        }
    }

    /// What the p-values of clean rows keep of what they promise.
    fn calibration(&self) -> Option<CalibrationMetrics> {
        let clean: Vec<f64> =
            self.rows.iter().filter(|row| row.kind == 0).map(|row| f64::from(row.ln_p)).collect();
        let ln_p = Array2::from_shape_vec((1, clean.len()), clean).ok()?;
        let all = Array2::from_elem(ln_p.dim(), true);
        let found = calibration_figures(&ln_p, &all, |_, _| None);
        (found.cells > 0).then(|| CalibrationMetrics {
            row: CalibrationRow {
                detector: "ensemble".into(),
                labelled: true,
                cells: found.cells,
                p05: found.p05,
                p01: found.p01,
                p001: found.p001,
                coverage: None,
            },
            nominal_coverage: None,
            curve: calibration_curve(&ln_p, &all),
        })
    }
}

/// `scored` is sorted by score downwards.
fn figures(
    scored: &[(f64, bool)],
    confusion: Confusion,
    by_kind: &BTreeMap<String, (usize, usize)>,
) -> BTreeMap<String, Option<f64>> {
    let share = |part: usize, all: usize| (all > 0).then(|| part as f64 / all as f64);
    let positives = confusion.true_positive + confusion.false_negative;
    let mut figures: BTreeMap<String, Option<f64>> = BTreeMap::from([
        ("precision".to_string(), confusion.precision()),
        ("recall".into(), confusion.recall()),
        ("f1".into(), confusion.f1()),
        ("fpr".into(), confusion.false_positive_rate()),
        ("auc_pr".into(), auc_pr(scored)),
        ("auc_roc".into(), auc_roc(scored)),
        ("prevalence".into(), share(positives, scored.len())),
    ]);
    for (kind, (found, all)) in by_kind {
        figures.insert(format!("recall_{kind}"), share(*found, *all));
    }
    figures
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

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> ScoredRows {
        let labels = [("a", "burst"), ("b", "point")].map(|(id, kind)| (id.into(), kind.into()));
        let who = vec!["ensemble".to_string(), "iforest".into()];
        let mut rows = ScoredRows::new(who, HashMap::from(labels));
        rows.take("a", true, &[0.9, 0.9], &[true, true], -9.0);
        rows.take("b", false, &[0.8, 0.1], &[true, false], -7.0);
        rows.take("c", false, &[0.2, 0.5], &[false, true], -0.1);
        rows.take("d", false, &[0.1, 0.2], &[false, false], -0.5);
        rows
    }

    #[test]
    fn rows_that_were_fitted_on_are_left_out() {
        let found = rows().measure(0);
        assert_eq!((found.cells, found.labelled_events), (3, 1));
        let who: Vec<&str> = found.scorers.iter().map(|scorer| scorer.who.as_str()).collect();
        assert_eq!(who, ["ensemble", "iforest", "random scores"]);
        let [ensemble, iforest, _] = &found.scorers[..] else { panic!() };
        assert_eq!(ensemble.figures["f1"], Some(1.0));
        assert_eq!(ensemble.figures["auc_pr"], Some(1.0));
        assert_eq!(iforest.figures["recall"], Some(0.0));
        assert_eq!(iforest.figures["fpr"], Some(0.5));
        assert_eq!(iforest.figures["auc_pr"], Some(1.0 / 3.0));
        assert_eq!(ensemble.by_kind["point"], (1, 1));
        assert_eq!(ensemble.by_kind["burst"], (0, 0));
        assert_eq!(found.calibration[0].row.cells, 2);
    }

    #[test]
    fn labels_of_the_training_part_alone_give_no_figures_but_match() {
        let labels = HashMap::from([("a".to_string(), "point".to_string())]);
        let mut rows = ScoredRows::new(vec!["ensemble".into()], labels);
        assert!(rows.match_nothing());
        rows.take("a", true, &[0.9], &[true], -9.0);
        rows.take("b", false, &[0.1], &[false], -0.1);
        assert!(!rows.match_nothing() && rows.measure(0).scorers.is_empty());
    }
}
