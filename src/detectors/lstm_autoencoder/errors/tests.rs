use ndarray::s;
use rand_distr::{Distribution, StandardNormal};

use super::*;
use crate::math::random::stream;

/// Errors of one series: two metrics with a correlation of 0.8, the first around 1 with a spread of
/// 2, and a third on its own.
fn errors(n: usize) -> Array3<f64> {
    let mut rng = stream(3, "errors", 0);
    let mut out = Array3::zeros((1, n, 3));
    for time in 0..n {
        let [a, b, c]: [f64; 3] = std::array::from_fn(|_| StandardNormal.sample(&mut rng));
        out[[0, time, 0]] = 2.0 * a + 1.0;
        out[[0, time, 1]] = 0.8 * a + 0.6 * b;
        out[[0, time, 2]] = c;
    }
    out
}

fn model(errors: &Array3<f64>, distance: Distance, widths: &[usize]) -> ErrorModel {
    let allowed = Array2::from_elem((1, errors.dim().1), true);
    let params = LstmParams { distance, shrinkage: 0.0, ..LstmParams::default() };
    ErrorModel::fit(errors, allowed.view(), &params, widths)
}

fn judge(model: &ErrorModel, row: [f64; 3]) -> Option<Judged> {
    model.judge(ndarray::arr2(&[row]).view(), Some(0)).remove(0)
}

fn score(model: &ErrorModel, row: [f64; 3]) -> f64 {
    judge(model, row).unwrap().score
}

#[test]
fn mahalanobis_is_the_distance_per_metric() {
    let (a, b, c) = (2.0, -1.0, 0.5);
    let model = model(&errors(4_000), Distance::Mahalanobis, &[1]);
    let judged = judge(&model, [2.0 * a + 1.0, b, c]).unwrap();
    // Closed form for a correlation of 0.8 between the first two.
    let squared = (a * a - 2.0 * 0.8 * a * b + b * b) / (1.0 - 0.64) + c * c;
    // In units of the 95 % quantile: that of chi-squared with 3 degrees of freedom is 7.815.
    let expected = (squared / 7.815f64).sqrt();
    assert!((judged.score / expected - 1.0).abs() < 0.05, "{judged:?} against {expected}");
    let shares = judged.shares();
    assert!((shares.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    assert!(shares[0] > shares[2]);
    assert_eq!(judged.direction(), 1);
}

#[test]
fn breaking_a_correlation_is_worse_than_following_it_for_mahalanobis_alone() {
    let errors = errors(4_000);
    let ratio = |distance| {
        let model = model(&errors, distance, &[1]);
        score(&model, [5.0, -2.0, 0.0]) / score(&model, [5.0, 2.0, 0.0])
    };
    assert!(ratio(Distance::Mahalanobis) > 2.0);
    assert!((ratio(Distance::MeanDeviation) - 1.0).abs() < 0.05);
}

#[test]
fn the_mean_deviation_is_that_of_the_metrics_in_spreads() {
    let mut errors = errors(20_000);
    // Without the correlation, so that the quantile below is that of independent ones.
    let mut rng = stream(4, "errors", 0);
    errors.slice_mut(s![0, .., 1]).mapv_inplace(|_| StandardNormal.sample(&mut rng));
    let model = model(&errors, Distance::MeanDeviation, &[1]);
    let judged = judge(&model, [5.0, -1.0, 0.0]).unwrap();
    // (2 + 1 + 0) / 3 over the 95 % quantile of the mean of three half-normal variables, 1.425 from
    // six million draws of numpy.
    assert!((judged.score * 1.425 - 1.0).abs() < 0.03, "{judged:?}");
    for (share, expected) in judged.shares().iter().zip([2.0 / 3.0, 1.0 / 3.0, 0.0]) {
        assert!((share - expected).abs() < 0.02, "{judged:?}");
    }
}

#[test]
fn no_single_metric_says_more_than_thirty_spreads() {
    for distance in [Distance::Mahalanobis, Distance::MeanDeviation] {
        let model = model(&errors(4_000), distance, &[1]);
        assert_eq!(score(&model, [0.0, 0.0, 1e3]), score(&model, [0.0, 0.0, 1e9]));
        assert!(score(&model, [0.0, 0.0, 1e3]) > 1.4 * score(&model, [0.0, 0.0, 20.0]));
    }
}

#[test]
fn a_missing_metric_leaves_the_score_of_the_others() {
    let model = model(&errors(4_000), Distance::Mahalanobis, &[1]);
    let judged = judge(&model, [f64::NAN, f64::NAN, -3.0]).unwrap();
    let expected = 3.0 / (7.815f64 / 3.0).sqrt();
    assert!((judged.score / expected - 1.0).abs() < 0.05, "{judged:?} against {expected}");
    assert_eq!(judged.shares(), [0.0, 0.0, 1.0]);
    assert_eq!(judged.direction(), -1);
    assert!(judge(&model, [f64::NAN; 3]).is_none());
}

#[test]
fn a_wide_window_finds_what_lasts_and_a_narrow_one_what_does_not() {
    let mut late = errors(400);
    late.slice_mut(s![0, 300..320, ..]).mapv_inplace(|error| error + 1.2);
    late[[0, 350, 2]] = 25.0;
    let past = errors(4_000);
    let score = |widths: &[usize], time: usize| {
        let model = model(&past, Distance::MeanDeviation, widths);
        model.judge(late.slice(s![0, .., ..]), Some(0))[time].as_ref().unwrap().score
    };
    assert!(score(&[12], 315) > 1.2 * score(&[1], 315));
    assert!(score(&[1], 350) > 1.2 * score(&[12], 350));
    for time in [315, 350] {
        assert_eq!(score(&[1, 12], time), score(&[1], time).max(score(&[12], time)));
    }
}

#[test]
fn anomalies_among_the_training_errors_hardly_widen_the_spread() {
    let clean = model(&errors(4_000), Distance::Mahalanobis, &[1]);
    let mut errors = errors(4_000);
    errors.slice_mut(s![0, ..100, ..]).fill(50.0);
    let dirty = model(&errors, Distance::Mahalanobis, &[1]);
    let ratio = score(&dirty, [1.0, 0.0, 4.0]) / score(&clean, [1.0, 0.0, 4.0]);
    // 2.5 % of the errors are wild, so that the spread is taken at the 97.5 % quantile.
    assert!((0.75..1.05).contains(&ratio), "{ratio}");
}

#[test]
fn smoothing_weighs_the_newest_most_and_skips_gaps() {
    let errors = ndarray::arr2(&[[0.0], [0.0], [6.0], [f64::NAN], [0.0]]);
    let smoothed = smooth(errors.view(), 3);
    assert_eq!(smoothed[[1, 0]], 0.0);
    assert_eq!(smoothed[[2, 0]], 3.0);
    assert!(smoothed[[3, 0]].is_nan());
    assert_eq!(smoothed[[4, 0]], 1.5);
    assert_eq!(smooth(errors.view(), 1)[[2, 0]], 6.0);
}
