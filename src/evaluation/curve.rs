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

/// (recall, precision) after each distinct threshold, the highest first, at most about `limit` points:
/// where there are more, those that gain the least recall are left out. `scored` as in [`auc_pr`].
pub fn pr_curve(scored: &[(f64, bool)], limit: usize) -> Vec<(f64, f64)> {
    let positives = scored.iter().filter(|(_, truth)| *truth).count();
    if positives == 0 {
        return Vec::new();
    }
    let (mut seen, mut found) = (0_usize, 0_usize);
    let mut curve: Vec<(f64, f64)> = Vec::new();
    let mut kept_recall = f64::NEG_INFINITY;
    for group in scored.chunk_by(|a, b| a.0 == b.0) {
        seen += group.len();
        found += group.iter().filter(|(_, truth)| *truth).count();
        let point = (found as f64 / positives as f64, found as f64 / seen as f64);
        if point.0 - kept_recall >= 1.0 / limit.max(1) as f64 || seen == scored.len() {
            kept_recall = point.0;
            curve.push(point);
        }
    }
    curve
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

    #[test]
    fn the_curve_ends_at_full_recall_and_stays_short() {
        let cells = sorted((0..10_000).map(|i| (f64::from(i), i % 7 == 0)).collect());
        let curve = pr_curve(&cells, 100);
        assert!(curve.len() <= 102, "{}", curve.len());
        let last = curve[curve.len() - 1];
        assert_eq!(last.0, 1.0);
        assert!((last.1 - 1.0 / 7.0).abs() < 1e-3);
        assert!(curve.windows(2).all(|pair| pair[0].0 <= pair[1].0));
        assert!(pr_curve(&[(1.0, false)], 10).is_empty());
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
