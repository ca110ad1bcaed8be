//! From the models' scores of records to one verdict per row.
//!
//! Each model has a threshold of its own, a percentile of its scores on the training rows, which is
//! what a user of percentile thresholds expects. Scores of different models become comparable
//! through their p-values: a model's *normalised* score is x / (x + 3) with x = -log10 p, as for
//! panels. The ensemble's score is the weighted mean of these, the greatest of them, or the
//! weighted share of models over their thresholds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{CalibrationParams, null::Null};
use crate::math::robust;

/// A model that scores records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordModel {
    /// Isolation forest.
    Iforest,
    /// Robust random cut forest.
    Rcf,
    /// Local outlier factor.
    Lof,
}

impl RecordModel {
    /// The name in files and columns.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Iforest => "iforest",
            Self::Rcf => "rcf",
            Self::Lof => "lof",
        }
    }
}

impl std::fmt::Display for RecordModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// How the models' scores become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordStrategy {
    /// Weighted mean of the normalised scores.
    #[default]
    Average,
    /// The greatest normalised score; weights do not matter.
    Max,
    /// Weighted share of the models that flag the row; more than half make an anomaly.
    Voting,
}

/// How models combine.
///
/// | Name | Default | Purpose | Range |
/// |---|---|---|---|
/// | `strategy` | `average` | see [`RecordStrategy`] | `average`, `max`, `voting` |
/// | `weights` | 1 each | of the models, by name | > 0 |
/// | `threshold_percentile` | 97 | percentile of the ensemble's scores on the training rows above which a row is anomalous; `voting` needs none | above 0, below 100 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecordEnsembleParams {
    pub strategy: RecordStrategy,
    pub weights: BTreeMap<RecordModel, f64>,
    pub threshold_percentile: f64,
}

impl Default for RecordEnsembleParams {
    fn default() -> Self {
        Self {
            strategy: RecordStrategy::Average,
            weights: BTreeMap::new(),
            threshold_percentile: 97.0,
        }
    }
}

impl RecordEnsembleParams {
    /// Every parameter that is out of its range: its key and what to write instead.
    pub fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        for (model, weight) in &self.weights {
            if !(weight.is_finite() && *weight > 0.0) {
                wrong.push((format!("weights.{model}"), "must be a positive number".into()));
            }
        }
        if let Some(text) = percentile_problem(self.threshold_percentile) {
            wrong.push(("threshold_percentile".into(), text));
        }
        wrong
    }
}

/// A quantile of the scores that are there; `None` without any.
fn quantile(scores: &[f64], share: f64) -> Option<f64> {
    let mut present: Vec<f64> = scores.iter().copied().filter(|s| !s.is_nan()).collect();
    robust::quantile(&mut present, share)
}

/// What is wrong with a percentile.
pub fn percentile_problem(percentile: f64) -> Option<String> {
    let fine = percentile > 0.0 && percentile < 100.0;
    (!fine).then(|| format!("is {percentile}, but must lie above 0 and below 100 (97 flags 3 %)"))
}

/// The distribution of a score on normal rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct RecordNull {
    median: f64,
    quartiles: f64,
    null: Null,
}

impl RecordNull {
    /// `scores` are those of the training rows, at least one finite. Those above `percentile` may be
    /// anomalies, says the user who chose it: they do not shape the law of the others.
    fn fit(scores: &[f64], percentile: f64, params: &CalibrationParams) -> Self {
        let at = |share| quantile(scores, share).unwrap_or(0.0);
        let median = at(0.5);
        let distance = at(0.75) - at(0.25);
        let quartiles = if distance > 1e-12 { distance } else { 1.0 };
        let mut standardised: Vec<f64> = scores
            .iter()
            .filter(|s| s.is_finite())
            .map(|score| (score - median) / quartiles)
            .collect();
        standardised.sort_unstable_by(f64::total_cmp);
        let null = Null::fit_censored(
            &standardised,
            params.tail_share,
            params.expected_contamination,
            1.0 - percentile / 100.0,
        );
        Self { median, quartiles, null }
    }

    fn ln_p(&self, score: f64) -> f64 {
        self.null.ln_p((score - self.median) / self.quartiles)
    }

    fn is_sound(&self) -> bool {
        self.median.is_finite() && self.quartiles > 0.0 && self.null.is_sound()
    }
}

/// x / (x + 3) with x = -log10 p.
fn normalised(ln_p: f64) -> f64 {
    let x = -ln_p / std::f64::consts::LN_10;
    x / (x + 3.0)
}

/// The x of a normalised score. Of one model on normal rows it is exponential, of several nearly so,
/// which the tail of a null fits better than what is squeezed below 1.
fn minus_log10_p(score: f64) -> f64 {
    3.0 * score / (1.0 - score).max(1e-9)
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Member {
    model: RecordModel,
    weight: f64,
    threshold: f64,
    null: RecordNull,
}

/// Thresholds and calibration of every model and of the ensemble; what a checkpoint keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordJudge {
    strategy: RecordStrategy,
    members: Vec<Member>,
    threshold: f64,
    null: RecordNull,
}

/// One model's scores of the training rows, and the percentile of its threshold.
pub struct TrainingScores<'a> {
    pub model: RecordModel,
    pub scores: &'a [f64],
    pub percentile: f64,
}

/// Verdicts of some rows.
#[derive(Clone, Debug, Default)]
pub struct RecordVerdicts {
    /// `[model][row]`: whether the row is over the model's threshold.
    pub flags: Vec<Vec<bool>>,
    pub score: Vec<f64>,
    pub is_anomaly: Vec<bool>,
    /// ln of the probability that a normal row scores at least as high; under `voting` of the mean
    /// of the models' normalised scores.
    pub ln_p: Vec<f64>,
}

impl RecordJudge {
    /// Learns thresholds and calibration. `None` without models, or where one has fewer finite
    /// scores than `calibration.min_points`.
    pub fn fit(
        training: &[TrainingScores<'_>],
        params: &RecordEnsembleParams,
        calibration: &CalibrationParams,
    ) -> Option<Self> {
        let rows = training.iter().map(|t| t.scores.len()).min()?;
        if rows < calibration.min_points.max(1) {
            return None;
        }
        let members: Vec<Member> = training
            .iter()
            .map(|t| Member {
                model: t.model,
                weight: params.weights.get(&t.model).copied().unwrap_or(1.0),
                threshold: quantile(t.scores, t.percentile / 100.0).unwrap_or(f64::INFINITY),
                null: RecordNull::fit(t.scores, t.percentile, calibration),
            })
            .collect();
        let scores: Vec<&[f64]> = training.iter().map(|t| &t.scores[..rows]).collect();
        let combined = combine(&members, params.strategy, &scores);
        let threshold = match params.strategy {
            RecordStrategy::Voting => 0.5,
            _ => quantile(&combined, params.threshold_percentile / 100.0)?,
        };
        let basis = match params.strategy {
            RecordStrategy::Voting => combine(&members, RecordStrategy::Average, &scores),
            _ => combined,
        };
        let unbent: Vec<f64> = basis.into_iter().map(minus_log10_p).collect();
        let null = RecordNull::fit(&unbent, params.threshold_percentile, calibration);
        Some(Self { strategy: params.strategy, members, threshold, null })
    }

    /// The models, in the order of the scores that [`judge`](Self::judge) takes.
    pub fn models(&self) -> impl Iterator<Item = RecordModel> + '_ {
        self.members.iter().map(|member| member.model)
    }

    /// The score above which a model flags a row.
    pub fn model_threshold(&self, place: usize) -> f64 {
        self.members.get(place).map_or(f64::NAN, |member| member.threshold)
    }

    /// The ensemble's score above which a row is anomalous.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// The verdicts of rows with these scores, `[model][row]`.
    pub fn judge(&self, scores: &[Vec<f64>]) -> RecordVerdicts {
        let slices: Vec<&[f64]> = scores.iter().map(Vec::as_slice).collect();
        let score = combine(&self.members, self.strategy, &slices);
        let basis = match self.strategy {
            RecordStrategy::Voting => combine(&self.members, RecordStrategy::Average, &slices),
            _ => score.clone(),
        };
        RecordVerdicts {
            flags: std::iter::zip(&self.members, scores)
                .map(|(member, scores)| scores.iter().map(|s| *s > member.threshold).collect())
                .collect(),
            is_anomaly: score.iter().map(|s| *s > self.threshold).collect(),
            ln_p: basis.iter().map(|s| self.null.ln_p(minus_log10_p(*s))).collect(),
            score,
        }
    }

    /// ln p of one model's scores alone.
    pub fn model_ln_p(&self, place: usize, score: f64) -> f64 {
        self.members.get(place).map_or(f64::NAN, |member| member.null.ln_p(score))
    }

    /// Whether the numbers are usable, for a judge that comes from a file.
    pub fn is_sound(&self) -> bool {
        !self.members.is_empty()
            && self.threshold.is_finite()
            && self.null.is_sound()
            && self.members.iter().all(|member| {
                member.weight > 0.0 && member.threshold.is_finite() && member.null.is_sound()
            })
    }
}

/// `[row]`: the ensemble's score.
fn combine(members: &[Member], strategy: RecordStrategy, scores: &[&[f64]]) -> Vec<f64> {
    let total: f64 = members.iter().map(|member| member.weight).sum();
    let rows = scores.iter().map(|scores| scores.len()).min().unwrap_or(0);
    let part = |member: &Member, score: f64| match strategy {
        RecordStrategy::Voting => f64::from(u8::from(score > member.threshold)),
        _ => normalised(member.null.ln_p(score)),
    };
    (0..rows)
        .map(|row| {
            let parts = std::iter::zip(members, scores).map(|(m, s)| (m.weight, part(m, s[row])));
            match strategy {
                RecordStrategy::Max => parts.map(|(_, x)| x).fold(f64::NEG_INFINITY, f64::max),
                _ => parts.map(|(weight, x)| weight * x).sum::<f64>() / total,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential(count: usize, scale: f64) -> Vec<f64> {
        // A fixed shuffle, so that two lists are not in the same order.
        let step = if scale > 1.0 { 7_919 } else { 104_729 };
        let u = |i: usize| ((i * step) % count) as f64 + 0.5;
        (0..count).map(|i| -scale * (u(i) / count as f64).ln()).collect()
    }

    fn judge(strategy: RecordStrategy, percentile: f64) -> RecordJudge {
        let (a, b) = (exponential(4_001, 1.0), exponential(4_001, 50.0));
        let training = [
            TrainingScores { model: RecordModel::Iforest, scores: &a, percentile },
            TrainingScores { model: RecordModel::Rcf, scores: &b, percentile: 97.0 },
        ];
        let params = RecordEnsembleParams { strategy, ..RecordEnsembleParams::default() };
        RecordJudge::fit(&training, &params, &CalibrationParams::default()).unwrap()
    }

    #[test]
    fn a_percentile_flags_its_share_of_the_training_rows() {
        let judge = judge(RecordStrategy::Average, 90.0);
        let verdicts = judge.judge(&[exponential(4_001, 1.0), exponential(4_001, 50.0)]);
        let share = |flags: &[bool]| flags.iter().filter(|f| **f).count() as f64 / 4_001.0;
        assert!((share(&verdicts.flags[0]) - 0.10).abs() < 0.001);
        assert!((share(&verdicts.flags[1]) - 0.03).abs() < 0.001);
        assert!((share(&verdicts.is_anomaly) - 0.03).abs() < 0.001);
    }

    #[test]
    fn each_strategy_rises_with_either_score_and_p_falls() {
        for strategy in [RecordStrategy::Average, RecordStrategy::Max] {
            let judge = judge(strategy, 97.0);
            let at = |a: f64, b: f64| {
                let verdict = judge.judge(&[vec![a], vec![b]]);
                (verdict.score[0], verdict.ln_p[0])
            };
            let (low, high) = (at(1.0, 50.0), at(9.0, 450.0));
            assert!(high.0 > low.0 && high.1 < low.1, "{strategy:?}");
            assert!(at(9.0, 50.0).0 > low.0 && at(1.0, 450.0).0 > low.0, "{strategy:?}");
        }
    }

    #[test]
    fn votes_are_counted_and_half_of_them_are_no_majority() {
        let judge = judge(RecordStrategy::Voting, 97.0);
        let verdicts = judge.judge(&[vec![0.1, 9.0, 9.0], vec![0.1, 0.1, 450.0]]);
        assert_eq!(verdicts.score, [0.0, 0.5, 1.0]);
        assert_eq!(verdicts.is_anomaly, [false, false, true]);
    }

    #[test]
    fn weights_pull_towards_their_model() {
        let (a, b) = (exponential(4_001, 1.0), exponential(4_001, 50.0));
        let training = [
            TrainingScores { model: RecordModel::Iforest, scores: &a, percentile: 97.0 },
            TrainingScores { model: RecordModel::Rcf, scores: &b, percentile: 97.0 },
        ];
        let weights = BTreeMap::from([(RecordModel::Iforest, 9.0)]);
        let params = RecordEnsembleParams { weights, ..RecordEnsembleParams::default() };
        let judge = RecordJudge::fit(&training, &params, &CalibrationParams::default()).unwrap();
        let verdicts = judge.judge(&[vec![9.0, 0.1], vec![5.0, 450.0]]);
        assert!(verdicts.score[0] > verdicts.score[1]);
    }

    #[test]
    fn too_few_scores_make_no_judge_and_json_keeps_every_bit() {
        let training =
            [TrainingScores { model: RecordModel::Lof, scores: &[1.0], percentile: 97.0 }];
        let params = RecordEnsembleParams::default();
        assert!(RecordJudge::fit(&training, &params, &CalibrationParams::default()).is_none());
        let judge = judge(RecordStrategy::Average, 97.0);
        let text = serde_json::to_string(&judge).unwrap();
        let back: RecordJudge = serde_json::from_str(&text).unwrap();
        let scores = [vec![0.3, 4.0], vec![9.0, 300.0]];
        assert_eq!(back.judge(&scores).score, judge.judge(&scores).score);
        assert!(back.is_sound());
    }
}
