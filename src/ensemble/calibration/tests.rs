//! Calibration against nulls that are known, with anomalies that are known.

use ndarray::Array2;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{ChiSquared, Distribution, StandardNormal, StudentT};

use super::*;
use crate::math::random::stream;

#[derive(Clone, Copy, Debug)]
enum Shape {
    HalfNormal,
    ChiSquare,
    LogNormal,
    HeavyT,
}

const SHAPES: [Shape; 4] = [Shape::HalfNormal, Shape::ChiSquare, Shape::LogNormal, Shape::HeavyT];

impl Shape {
    fn draw(self, rng: &mut ChaCha8Rng) -> f64 {
        let normal: f64 = StandardNormal.sample(rng);
        match self {
            Self::HalfNormal => normal.abs(),
            Self::ChiSquare => ChiSquared::new(5.0).unwrap().sample(rng),
            Self::LogNormal => normal.exp(),
            Self::HeavyT => f64::abs(StudentT::new(3.0).unwrap().sample(rng)),
        }
    }

    /// The 99 % point (scipy 1.17.1).
    fn oracle(self) -> f64 {
        match self {
            Self::HalfNormal => 2.575_829,
            Self::ChiSquare => 15.086_272,
            Self::LogNormal => 10.240_474,
            Self::HeavyT => 5.840_909,
        }
    }
}

fn scores(score: Array2<f64>) -> Scores {
    let direction = Array2::zeros(score.dim());
    Scores {
        detector: DetectorName::Zscore,
        score,
        log_p: None,
        direction,
        expected: None,
        lower: None,
        upper: None,
        metric_share: None,
        failures: Vec::new(),
        notes: Vec::new(),
    }
}

/// What a panel of simulated scores looks like.
#[derive(Clone, Debug)]
struct Setting {
    dim: (usize, usize),
    /// Range of the series' scales.
    scale: std::ops::Range<f64>,
    /// Share of anomalies; each adds 0.5 to 3 times the 99 % point to a score.
    share: f64,
}

/// Scores, which of them are anomalous, and the scores in units of their series' scale.
fn contaminated(shape: Shape, setting: &Setting, seed: u64) -> (Scores, Array2<bool>, Array2<f64>) {
    let Setting { dim, scale, share } = setting.clone();
    let unusual = shape.oracle();
    let mut rng = stream(seed, "contaminated", 0);
    let scales: Vec<f64> = (0..dim.0).map(|_| rng.random_range(scale.clone())).collect();
    let labels = Array2::from_shape_simple_fn(dim, || rng.random_bool(share));
    let raw = labels.mapv(|label| {
        let extra = if label { unusual * rng.random_range(0.5..3.0) } else { 0.0 };
        shape.draw(&mut rng) + extra
    });
    let scaled = Array2::from_shape_fn(dim, |(s, t)| raw[[s, t]] * scales[s]);
    (scores(scaled), labels, raw)
}

struct Outcome {
    /// Share of clean cells with p <= 0.01.
    alarms: f64,
    recall: f64,
    /// Recall of the true 99 % point.
    oracle_recall: f64,
}

fn outcome(shape: Shape, setting: &Setting, seeds: std::ops::Range<u64>) -> Outcome {
    let unusual = shape.oracle();
    let (mut clean, mut alarms, mut anomalies, mut found, mut oracle) = (0, 0, 0, 0, 0);
    for seed in seeds {
        let (scores, labels, raw) = contaminated(shape, setting, seed);
        let usable = Array2::from_elem(setting.dim, true);
        let fit = Calibration::fit(&scores, usable.view(), &CalibrationParams::default()).unwrap();
        let log_p = fit.log_p(&scores).unwrap().log_p;
        for ((label, lp), raw) in labels.iter().zip(&log_p).zip(&raw) {
            let flagged = usize::from(*lp <= 0.01_f64.ln());
            if *label {
                anomalies += 1;
                found += flagged;
                oracle += usize::from(*raw >= unusual);
            } else {
                clean += 1;
                alarms += flagged;
            }
        }
    }
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    Outcome {
        alarms: share(alarms, clean),
        recall: share(found, anomalies),
        oracle_recall: share(oracle, anomalies),
    }
}

fn fit(scores: &Scores) -> Calibration {
    let usable = Array2::from_elem(scores.score.dim(), true);
    Calibration::fit(scores, usable.view(), &CalibrationParams::default()).unwrap()
}

#[test]
fn about_one_percent_of_clean_points_have_p_below_one_percent_whatever_the_contamination() {
    // A scale that is known from 52 points only costs recall that an oracle does not lose.
    let settings =
        [((60, 52), 1.0..1.1, 0.05), ((60, 52), 0.5..20.0, 0.10), ((24, 860), 0.5..20.0, 0.05)];
    let own = ((2, 3_000), 0.5..20.0, 0.05);
    for (dim, scale, allowed_loss) in settings.into_iter().chain([own]) {
        let seeds = if dim.0 == 60 { 12 } else { 8 };
        for shape in SHAPES {
            for share in [0.0, 0.02, 0.05] {
                let setting = Setting { dim, scale: scale.clone(), share };
                let got = outcome(shape, &setting, 1_000..1_000 + seeds);
                let place = format!("{shape:?} {setting:?}");
                assert!((0.005..=0.015).contains(&got.alarms), "{place}: {}", got.alarms);
                let loss = got.oracle_recall - got.recall;
                assert!(loss <= allowed_loss, "{place}: recall loss {loss}");
            }
        }
    }
}

#[test]
fn a_tiny_panel_supports_no_small_p_but_still_ranks() {
    let mut alarms = 0;
    for seed in 0..100 {
        let setting = Setting { dim: (3, 40), scale: 1.0..1.1, share: 0.0 };
        let (mut scores, _, _) = contaminated(Shape::HalfNormal, &setting, seed);
        scores.score[[0, 3]] = 40.0;
        scores.score[[0, 7]] = 50.0;
        let calibrated = fit(&scores).log_p(&scores).unwrap();
        let log_p = calibrated.log_p;
        assert!(log_p.iter().all(|&lp| lp >= calibrated.floor[0].ln()));
        assert!(log_p[[0, 7]] < log_p[[0, 3]], "{} {}", log_p[[0, 7]], log_p[[0, 3]]);
        assert!((1.0 / 121.0..0.04).contains(&calibrated.floor[0]), "{}", calibrated.floor[0]);
        alarms += log_p.iter().filter(|&&lp| lp <= 0.05_f64.ln()).count() - 2;
    }
    let share = alarms as f64 / 11_800.0;
    assert!((0.02..=0.06).contains(&share), "{share}");
}

#[test]
fn a_series_is_judged_without_its_own_scores() {
    // One series is twice as wild in the tail as the others; judged by itself it would look normal.
    let setting = Setting { dim: (10, 200), scale: 1.0..1.001, share: 0.0 };
    let (mut scores, _, _) = contaminated(Shape::HalfNormal, &setting, 3);
    scores.score.row_mut(4).mapv_inplace(|s| if s > 1.3 { 1.3 + (s - 1.3) * 4.0 } else { s });
    let alarms = |folds| {
        let usable = Array2::from_elem(scores.score.dim(), true);
        let params = CalibrationParams { folds, ..CalibrationParams::default() };
        let fitted = Calibration::fit(&scores, usable.view(), &params).unwrap();
        let log_p = fitted.log_p(&scores).unwrap().log_p;
        log_p.row(4).iter().filter(|&&lp| lp <= 0.01_f64.ln()).count()
    };
    assert!(alarms(5) > alarms(1), "{} {}", alarms(5), alarms(1));
}

#[test]
fn smoothed_scores_support_less_than_independent_ones() {
    let setting = Setting { dim: (30, 200), scale: 1.0..1.1, share: 0.0 };
    let (independent, _, _) = contaminated(Shape::ChiSquare, &setting, 1);
    let rough = fit(&independent).summary();
    let mut smooth = independent.clone();
    for t in 0..200_usize {
        for series in 0..30 {
            let window = independent.score.slice(ndarray::s![series, t.saturating_sub(4)..=t]);
            smooth.score[[series, t]] = window.mean().unwrap();
        }
    }
    let smooth = fit(&smooth).summary();
    assert!(rough.n_effective > 0.9 * 6_000.0, "{rough:?}");
    // A mean of five repeats itself about five times.
    assert!((900.0..2_200.0).contains(&smooth.n_effective), "{smooth:?}");
    assert!((smooth.floor * (smooth.n_effective + 1.0) - 1.0).abs() < 1e-9);
}

#[test]
fn constant_tied_and_missing_scores_give_no_alarm_and_no_panic() {
    let constant = scores(Array2::from_elem((4, 50), 3.0));
    assert!(fit(&constant).log_p(&constant).unwrap().log_p.iter().all(|&lp| lp == 0.0));

    let mut tied = scores(Array2::from_shape_fn((5, 80), |(s, t)| ((s + t) % 3) as f64));
    tied.score[[2, 9]] = f64::NAN;
    let log_p = fit(&tied).log_p(&tied).unwrap().log_p;
    assert!(log_p[[2, 9]].is_nan());
    assert!(log_p.iter().filter(|lp| !lp.is_nan()).all(|&lp| lp > 0.05_f64.ln()));

    let missing = scores(Array2::from_elem((4, 50), f64::NAN));
    let usable = Array2::from_elem((4, 50), true);
    let error = Calibration::fit(&missing, usable.view(), &CalibrationParams::default());
    assert!(matches!(error, Err(EnsembleError::TooFewScores { found: 0, .. })));
}

#[test]
fn infinite_scores_do_not_calibrate_but_are_judged() {
    let setting = Setting { dim: (10, 60), scale: 1.0..1.1, share: 0.0 };
    let (mut scores, _, _) = contaminated(Shape::HalfNormal, &setting, 1);
    scores.score[[0, 0]] = f64::INFINITY;
    let calibrated = fit(&scores).log_p(&scores).unwrap();
    assert!((calibrated.log_p[[0, 0]] - calibrated.floor[0].ln()).abs() < 1e-9);
}

#[test]
fn cells_that_are_not_usable_do_not_calibrate() {
    let setting = Setting { dim: (20, 100), scale: 1.0..1.1, share: 0.0 };
    let (mut scores, _, _) = contaminated(Shape::HalfNormal, &setting, 1);
    let mut usable = Array2::from_elem((20, 100), true);
    usable.slice_mut(ndarray::s![.., ..50]).fill(false);
    let params = CalibrationParams::default();
    let before = Calibration::fit(&scores, usable.view(), &params).unwrap();
    scores.score.slice_mut(ndarray::s![.., ..50]).fill(1e6);
    assert_eq!(Calibration::fit(&scores, usable.view(), &params).unwrap(), before);
}

#[test]
fn a_calibration_survives_json_and_a_damaged_one_is_refused() {
    let setting = Setting { dim: (10, 60), scale: 1.0..10.0, share: 0.02 };
    let (scores, _, _) = contaminated(Shape::LogNormal, &setting, 1);
    let fitted = fit(&scores);
    let text = serde_json::to_string(&fitted).unwrap();
    let back: Calibration = serde_json::from_str(&text).unwrap();
    back.validate().unwrap();
    let (a, b) = (fitted.log_p(&scores).unwrap(), back.log_p(&scores).unwrap());
    assert!(std::iter::zip(&a.log_p, &b.log_p).all(|(x, y)| (x - y).abs() < 1e-9));

    let damaged = text.replacen("\"scale\":", "\"scale\":-", 1);
    assert!(serde_json::from_str::<Calibration>(&damaged).unwrap().validate().is_err());
}

#[test]
fn a_series_that_is_new_is_judged_by_the_pool() {
    let setting = Setting { dim: (10, 60), scale: 1.0..1.1, share: 0.0 };
    let (scores, _, _) = contaminated(Shape::HalfNormal, &setting, 1);
    let fitted = fit(&scores);
    let raw = ndarray::arr2(&[[0.1, 9.0], [0.1, 9.0]]);
    let got = fitted.log_p_of(raw.view(), &[None, Some(3)]);
    assert!(got.log_p[[0, 0]] > -1.0 && got.log_p[[0, 1]] < 0.01_f64.ln());
    assert_eq!(got.floor.len(), 2);
}

#[test]
fn parameters_out_of_range_are_all_named() {
    assert!(CalibrationParams::default().check().is_empty());
    let wrong = CalibrationParams {
        tail_share: f64::NAN,
        expected_contamination: 0.0,
        folds: 0,
        own_null_points: 10,
        min_points: 1,
    };
    assert_eq!(wrong.check().len(), 5);
}
