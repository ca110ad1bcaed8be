//! Of one batch of rows: scores, verdicts, and the words that go with the anomalies.

use ndarray::Axis;

use super::fitted::FittedRecords;
use crate::{
    ensemble::{AnomalyType, RecordVerdicts, Severity},
    features::records::{BurstState, FeatureGroup, FeatureMatrix},
    panel::RecordBlock,
};

/// Features that are named as the reasons of an anomaly, at most.
const REASONS: usize = 3;

/// What is said of an anomalous row.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) kind: AnomalyType,
    /// `csat -3.1; burst_6`: most important first, with the deviate where it has a sign.
    pub(super) reasons: String,
    /// The number column that deviates most within the context.
    pub(super) leading: usize,
}

/// Scores and verdicts of a batch.
pub(super) struct Judged {
    /// `[model][row]`.
    pub(super) scores: Vec<Vec<f64>>,
    pub(super) verdicts: RecordVerdicts,
    /// `[row]`: of the ensemble, or of the one model that is written.
    pub(super) ln_p: Vec<f64>,
    /// `[row]`: for anomalies only.
    pub(super) findings: Vec<Option<Finding>>,
    /// `[row]`: places of contexts.
    pub(super) contexts: Vec<usize>,
}

/// Scores and judges the next rows. `place` is that of the one model that is written, if it is
/// not the ensemble.
pub(super) fn judge(
    fitted: &FittedRecords,
    block: &RecordBlock,
    state: &mut BurstState,
    place: Option<usize>,
) -> Judged {
    let matrix = fitted.features.transform(block, state);
    let scores = fitted.models.score(matrix.values.view());
    let verdicts = fitted.judge.judge(&scores);
    let (is_anomaly, ln_p) = match place {
        None => (verdicts.is_anomaly.clone(), verdicts.ln_p.clone()),
        Some(place) => {
            let of_model = |score: &f64| fitted.judge.model_ln_p(place, *score);
            (verdicts.flags[place].clone(), scores[place].iter().map(of_model).collect())
        }
    };
    let findings = explain(fitted, &matrix, &is_anomaly, &ln_p, place.unwrap_or(0));
    Judged { scores, verdicts, ln_p, findings, contexts: matrix.contexts }
}

fn explain(
    fitted: &FittedRecords,
    matrix: &FeatureMatrix,
    is_anomaly: &[bool],
    ln_p: &[f64],
    place: usize,
) -> Vec<Option<Finding>> {
    let rows: Vec<usize> = (0..is_anomaly.len()).filter(|&row| is_anomaly[row]).collect();
    let flagged = matrix.values.select(Axis(0), &rows);
    let shares = fitted.models.attribution(place, flagged.view());
    let (names, groups) = (fitted.features.names(), fitted.features.groups());
    let n_context = fitted.section.features.numeric.len();
    // The features that are a number's deviate come one after the other.
    let first = groups.iter().position(|group| *group == FeatureGroup::Context);
    let mut findings = vec![None; is_anomaly.len()];
    for (at, &row) in rows.iter().enumerate() {
        let mut ranked: Vec<usize> = (0..names.len()).filter(|&f| shares[[at, f]] > 0.0).collect();
        ranked.sort_by(|&a, &b| shares[[at, b]].total_cmp(&shares[[at, a]]));
        let deviates = matrix.deviates.row(row);
        let reason = |f: &usize| match first.and_then(|first| f.checked_sub(first)) {
            Some(number) if number < n_context => {
                format!("{} {:+.1}", names[*f], deviates[number])
            }
            _ => names[*f].clone(),
        };
        let leading = (0..n_context)
            .max_by(|&a, &b| deviates[a].abs().total_cmp(&deviates[b].abs()))
            .unwrap_or(0);
        findings[row] = Some(Finding {
            severity: severity(ln_p[row], &fitted.section.severity_p),
            kind: kind(&groups, |f| shares[[at, f]].max(0.0)),
            reasons: ranked.iter().take(REASONS).map(reason).collect::<Vec<_>>().join("; "),
            leading,
        });
    }
    findings
}

/// A burst where that is the strongest feature of all, contextual where the mismatch is among the two
/// strongest, a pattern otherwise. A row that fits another context better is odd in one number too, as
/// often as not more so; what is merely extreme fits no other context.
fn kind(groups: &[FeatureGroup], share: impl Fn(usize) -> f64) -> AnomalyType {
    let strongest = |group: FeatureGroup| {
        (0..groups.len()).filter(|&f| groups[f] == group).map(&share).fold(0.0, f64::max)
    };
    let greatest = (0..groups.len()).map(&share).fold(0.0, f64::max);
    let mismatch = strongest(FeatureGroup::Mismatch);
    let ahead = (0..groups.len()).filter(|&f| share(f) > mismatch).count();
    if greatest > 0.0 && strongest(FeatureGroup::Burst) == greatest {
        AnomalyType::Burst
    } else if mismatch > 0.0 && ahead <= 1 {
        AnomalyType::Contextual
    } else {
        AnomalyType::Pattern
    }
}

/// By p alone: no record has an expected value that it could be so many times of.
fn severity(ln_p: f64, severity_p: &[f64; 4]) -> Severity {
    let reached = severity_p.iter().filter(|p| ln_p <= p.ln() + 1e-12).count();
    Severity::ALL[reached.max(1) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_feature_names_the_kind() {
        use FeatureGroup::{Burst, Context, Mismatch};
        let groups = [Context, Context, Mismatch, Burst, Burst];
        let of = |shares: [f64; 5]| kind(&groups, |f| shares[f]);
        assert_eq!(of([0.1, 0.2, 0.5, 0.3, 0.3]), AnomalyType::Contextual);
        assert_eq!(of([0.1, 0.2, 0.2, 0.1, 0.3]), AnomalyType::Burst);
        assert_eq!(of([0.1, 0.9, 0.2, 0.1, 0.3]), AnomalyType::Pattern);
        assert_eq!(of([0.1, 0.9, 0.4, 0.1, 0.3]), AnomalyType::Contextual);
        assert_eq!(of([0.1, 0.9, 0.0, 0.0, 0.0]), AnomalyType::Pattern);
        assert_eq!(of([0.0; 5]), AnomalyType::Pattern);
    }

    #[test]
    fn severity_follows_p() {
        let p = [1e-2, 1e-3, 1e-4, 1e-6];
        assert_eq!(severity(0.03_f64.ln(), &p), Severity::Low);
        assert_eq!(severity(1e-3_f64.ln(), &p), Severity::Medium);
        assert_eq!(severity(1e-7_f64.ln(), &p), Severity::Critical);
    }
}
