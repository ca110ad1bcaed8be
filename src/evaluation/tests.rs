//! Figures against independent packages, and by properties that hold for every score.

use ndarray::{Array2, array};
use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[test]
fn the_four_counts_give_the_four_rates() {
    let truth = array![[true, true, false, false, false]];
    let flags = array![[true, false, true, false, true]];
    let scope = array![[true, true, true, true, false]];
    let counts = Confusion::count(&truth, &flags, &scope);
    assert_eq!(counts.precision(), Some(0.5));
    assert_eq!(counts.recall(), Some(0.5));
    assert_eq!(counts.f1(), Some(0.5));
    assert_eq!(counts.false_positive_rate(), Some(0.5));
    assert_eq!(Confusion::default().precision(), None);
}

/// The figures of one series whose labelled runs are its events.
fn measure(truth: &[bool], score: &[f64], flags: &[bool]) -> Evaluation {
    let row = |cells: &[bool]| Array2::from_shape_fn((1, cells.len()), |(_, t)| cells[t]);
    let (truth_row, flags) = (row(truth), row(flags));
    let score = Array2::from_shape_fn((1, truth.len()), |(_, t)| score[t]);
    let events: Vec<Event> = super::lanes::runs(truth)
        .into_iter()
        .map(|steps| Event { series: 0, steps, kind: "spike".into() })
        .collect();
    evaluate(&EvaluationInput {
        truth: &truth_row,
        events: &events,
        scope: &Array2::from_elem(truth_row.dim(), true),
        flags: &flags,
        score: &score,
        step: Step::HOUR,
    })
}

/// Figures that are 1 for a score that is the label itself.
const BEST: [&str; 13] = [
    "precision",
    "recall",
    "f1",
    "event_recall",
    "pod_first_week",
    "ppv",
    "event_f1",
    "auc_pr",
    "auc_roc",
    "vus_pr",
    "vus_roc",
    "affiliation_precision",
    "affiliation_recall",
];

#[derive(Deserialize)]
struct Golden {
    cases: Vec<GoldenCase>,
}

#[derive(Deserialize)]
struct GoldenCase {
    name: String,
    steps: usize,
    /// Half-open.
    labels: Vec<(usize, usize)>,
    score: Vec<f64>,
    flags: Vec<(usize, usize)>,
    buffer: usize,
    vus_pr: f64,
    vus_roc: f64,
    average_precision: f64,
    roc_auc: f64,
    affiliation_precision: f64,
    affiliation_recall: f64,
}

fn cells(runs: &[(usize, usize)], n: usize) -> Vec<bool> {
    (0..n).map(|t| runs.iter().any(|run| (run.0..run.1).contains(&t))).collect()
}

/// `vus` 0.0.6 asked for as many thresholds as points, the affiliation code of TSB-AD 1.5 and
/// scikit-learn, on labelled series of NAB and of Microsoft's set (`tests/golden/evaluation.py`).
/// All are exact sums: 1e-9 allows for the order of addition over a thousand points.
#[test]
fn figures_agree_with_the_public_packages() {
    let golden: Golden =
        serde_json::from_str(include_str!("../../tests/golden/evaluation.json")).unwrap();
    assert!(golden.cases.len() >= 6);
    for case in &golden.cases {
        let lane = Lane {
            truth: cells(&case.labels, case.steps),
            flags: cells(&case.flags, case.steps),
            score: case.score.clone(),
        };
        let lanes = [lane];
        let volume = volume_under_surface(&lanes, case.buffer).unwrap();
        let near = affiliation(&lanes).unwrap();
        let mut scored: Vec<(f64, bool)> =
            lanes[0].score.iter().copied().zip(lanes[0].truth.iter().copied()).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (what, ours, theirs) in [
            ("VUS-PR", volume.pr, case.vus_pr),
            ("VUS-ROC", volume.roc, case.vus_roc),
            ("average precision", auc_pr(&scored).unwrap(), case.average_precision),
            ("ROC AUC", auc_roc(&scored).unwrap(), case.roc_auc),
            (
                "affiliation precision",
                near.precision.unwrap_or(f64::NAN),
                case.affiliation_precision,
            ),
            ("affiliation recall", near.recall, case.affiliation_recall),
        ] {
            assert!((ours - theirs).abs() < 1e-9, "{}: {what} {ours} {theirs}", case.name);
        }
    }
}

#[test]
fn pooled_series_of_one_scale_are_one_ranking_with_slopes_of_their_own() {
    // An event at a lane's end must not slope into the next lane.
    let lane = |truth: &[bool]| Lane {
        truth: truth.to_vec(),
        flags: vec![false; truth.len()],
        score: vec![1.0; truth.len()],
    };
    let lanes = [lane(&[false, false, false, true]), lane(&[false; 4])];
    let volume = volume_under_surface(&lanes, 2).unwrap();
    // Buffers 0, 1 and 2: one labelled point in eight, with one slope point of sqrt(1/2) at 2.
    let expected = (0.125 + 0.125 + (1.0 + 0.5_f64.sqrt()) / 8.0) / 3.0;
    assert!((volume.pr - expected).abs() < 1e-12, "{volume:?}");
    let mean = mean_volume(&lanes, 2).unwrap();
    assert!(mean.pr > volume.pr, "the lane without events has no part in the mean");
}

#[test]
fn vus_of_100_000_points_takes_less_than_a_second() {
    use rand::RngExt;
    let mut rng = crate::math::random::stream(1, "vus", 0);
    let n = 100_000;
    let lane = Lane {
        truth: (0..n).map(|t| t % 1_000 < 20).collect(),
        flags: vec![false; n],
        score: (0..n).map(|_| rng.random::<f64>()).collect(),
    };
    let since = std::time::Instant::now();
    let volume = volume_under_surface(&[lane], 24).unwrap();
    let secs = since.elapsed().as_secs_f64();
    println!("{secs:.4} s, {volume:?}");
    assert!(secs < 1.0, "{secs} s");
    // Slopes lift the prevalence of 0.02 a little, and the volume under the ROC more: see the module.
    assert!((0.02..0.04).contains(&volume.pr), "{volume:?}");
    assert!((0.5..0.7).contains(&volume.roc), "{volume:?}");
}

/// Labels with one labelled and one clean step at least.
fn labels() -> impl Strategy<Value = Vec<bool>> {
    prop::collection::vec((any::<bool>(), 1..12_usize), 2..14).prop_map(|runs| {
        let mut truth: Vec<bool> =
            runs.into_iter().flat_map(|(label, length)| vec![label; length]).collect();
        truth.extend([true, false]);
        truth
    })
}

proptest! {
    #[test]
    fn a_perfect_score_is_perfect_everywhere(truth in labels()) {
        let score: Vec<f64> = truth.iter().map(|&label| f64::from(u8::from(label))).collect();
        let result = measure(&truth, &score, &truth);
        let figures = result.figures();
        for name in BEST {
            let value = figures[name].unwrap();
            prop_assert!((value - 1.0).abs() < 1e-12, "{} is {}", name, value);
        }
        prop_assert_eq!(figures["fpr"], Some(0.0));
        prop_assert_eq!(figures["mean_delay_steps"], Some(0.0));
        prop_assert_eq!(figures["median_delay_steps"], Some(0.0));
        prop_assert_eq!(figures["false_alerts_per_series_year"], Some(0.0));
    }

    #[test]
    fn no_shift_of_the_labels_beats_the_perfect_score(truth in labels(), shift in 1..40_usize) {
        let n = truth.len();
        let shifted: Vec<bool> = (0..n).map(|t| truth[(t + shift) % n]).collect();
        let score: Vec<f64> = truth.iter().map(|&label| f64::from(u8::from(label))).collect();
        let figures = measure(&shifted, &score, &truth).figures();
        for name in BEST {
            let value = figures[name].unwrap_or(0.0);
            prop_assert!((-1e-12..=1.0 + 1e-12).contains(&value), "{} is {}", name, value);
        }
    }

    #[test]
    fn a_constant_score_gets_the_random_rows_figures(truth in labels(), constant in -5.0..5.0_f64) {
        let n = truth.len();
        let result = measure(&truth, &vec![constant; n], &vec![false; n]);
        prop_assert_eq!(result.auc_pr, result.prevalence);
        prop_assert_eq!(result.auc_roc, Some(0.5));
        // Everything is predicted at once: precision is the mean weight, slopes included.
        let lane = Lane { truth: truth.clone(), flags: vec![false; n], score: vec![0.0; n] };
        let flat = volume_under_surface(std::slice::from_ref(&lane), 0).unwrap();
        prop_assert!((flat.pr - result.prevalence.unwrap()).abs() < 1e-12);
        prop_assert!((flat.roc - 0.5).abs() < 1e-12);
        prop_assert!(result.figures()["vus_pr"].unwrap() >= flat.pr - 1e-12);
    }

    #[test]
    fn what_was_not_scored_ranks_below_everything(truth in labels(), hole in 0..200_usize) {
        let n = truth.len();
        let mut score: Vec<f64> = (0..n).map(|t| -1e9 - (t % 5) as f64).collect();
        score[hole % n] = f64::NAN;
        let mut filled = score.clone();
        filled[hole % n] = f64::MIN;
        let flags = vec![false; n];
        prop_assert_eq!(
            measure(&truth, &score, &flags).figures(),
            measure(&truth, &filled, &flags).figures()
        );
    }

    #[test]
    fn only_the_order_of_scores_counts(truth in labels(), seed in any::<u64>()) {
        use rand::RngExt;
        let mut rng = crate::math::random::stream(seed, "order", 0);
        let score: Vec<f64> =
            truth.iter().map(|_| f64::from(rng.random_range(0..9_u8))).collect();
        let flags = vec![false; truth.len()];
        let other: Vec<f64> = score.iter().map(|s| (s * 0.3).exp()).collect();
        prop_assert_eq!(
            measure(&truth, &score, &flags).figures(),
            measure(&truth, &other, &flags).figures()
        );
    }
}

/// Over many draws, random scores get the prevalence and one half.
#[test]
fn random_scores_get_their_known_figures() {
    use rand::RngExt;
    let truth: Vec<bool> = (0..4_000).map(|t| t % 100 < 10).collect();
    let draws = 40;
    let mut sums = [0.0; 4];
    for draw in 0..draws {
        let mut rng = crate::math::random::stream(2, "draws", draw);
        let score: Vec<f64> = truth.iter().map(|_| rng.random::<f64>()).collect();
        let flags: Vec<bool> = score.iter().map(|s| *s > 0.95).collect();
        let figures = measure(&truth, &score, &flags).figures();
        for (sum, name) in sums.iter_mut().zip(["auc_pr", "auc_roc", "fpr", "recall"]) {
            *sum += figures[name].unwrap() / f64::from(u32::try_from(draws).unwrap());
        }
    }
    let [pr, roc, fpr, recall] = sums;
    assert!((pr - 0.1).abs() < 0.01, "{pr}");
    assert!((roc - 0.5).abs() < 0.01, "{roc}");
    assert!((fpr - 0.05).abs() < 0.005, "{fpr}");
    assert!((recall - 0.05).abs() < 0.01, "{recall}");
}
