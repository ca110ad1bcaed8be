//! Areas under the precision-recall and the ROC curve, with ties taken as one threshold.

/// Average precision: the sum over distinct thresholds of precision × the recall gained there
/// (no interpolation). `scored` is (score, labelled), sorted by score downwards. `None` without a
/// labelled cell.
pub fn auc_pr(scored: &[(f64, bool)]) -> Option<f64> {
    let positives = scored.iter().filter(|(_, truth)| *truth).count();
    if positives == 0 {
        return None;
    }
    let (mut seen, mut found, mut area) = (0_usize, 0_usize, 0.0);
    for group in scored.chunk_by(|a, b| a.0 == b.0) {
        let gained = group.iter().filter(|(_, truth)| *truth).count();
        seen += group.len();
        found += gained;
        area += gained as f64 / positives as f64 * found as f64 / seen as f64;
    }
    Some(area)
}

/// Probability that a labelled cell scores above a clean one, ties counting half. `scored` as in
/// [`auc_pr`]. `None` when one of the two kinds is missing.
pub fn auc_roc(scored: &[(f64, bool)]) -> Option<f64> {
    let positives = scored.iter().filter(|(_, truth)| *truth).count();
    let negatives = scored.len() - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    let (mut above, mut wins) = (0_usize, 0.0);
    for group in scored.chunk_by(|a, b| a.0 == b.0) {
        let hits = group.iter().filter(|(_, truth)| *truth).count();
        let misses = group.len() - hits;
        wins += misses as f64 * (above as f64 + 0.5 * hits as f64);
        above += hits;
    }
    Some(wins / positives as f64 / negatives as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sorted(mut cells: Vec<(f64, bool)>) -> Vec<(f64, bool)> {
        cells.sort_by(|a, b| b.0.total_cmp(&a.0));
        cells
    }

    /// scikit-learn 1.9.1, average_precision_score and roc_auc_score on the same vectors
    /// (`tests/golden/auc.py`); both are exact sums, so 1e-12 allows for the order of addition.
    #[test]
    fn areas_agree_with_scikit_learn() {
        let score = [0.1, 0.4, 0.35, 0.8, 0.4, 0.05, 0.8, 0.2];
        let truth = [false, false, true, true, true, false, false, false];
        let cells = sorted(score.into_iter().zip(truth).collect());
        assert!((auc_pr(&cells).unwrap() - 0.533_333_333_333_333_3).abs() < 1e-12);
        assert!((auc_roc(&cells).unwrap() - 0.733_333_333_333_333_3).abs() < 1e-12);
    }

    #[test]
    fn constant_scores_give_prevalence_and_one_half() {
        let cells = [(1.0, true), (1.0, false), (1.0, false), (1.0, false)];
        assert_eq!(auc_pr(&cells), Some(0.25));
        assert_eq!(auc_roc(&cells), Some(0.5));
        assert_eq!(auc_pr(&[(1.0, false)]), None);
        assert_eq!(auc_roc(&[(1.0, true)]), None);
    }

    proptest! {
        #[test]
        fn reversed_scores_mirror_the_roc(cells in prop::collection::vec((0u8..6, any::<bool>()), 2..60)) {
            let up = sorted(cells.iter().map(|&(s, t)| (f64::from(s), t)).collect());
            let down = sorted(cells.iter().map(|&(s, t)| (-f64::from(s), t)).collect());
            if let (Some(a), Some(b)) = (auc_roc(&up), auc_roc(&down)) {
                prop_assert!((a + b - 1.0).abs() < 1e-9);
            }
        }
    }
}
