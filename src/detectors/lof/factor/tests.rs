use ndarray::Array2;
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use serde::Deserialize;

use super::*;
use crate::math::random::stream;

#[derive(Deserialize)]
struct Reference {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    neighbours: usize,
    rows: Vec<Vec<f64>>,
    others: Vec<Vec<f64>>,
    /// Of the fitted rows among themselves.
    fitted: Vec<f64>,
    /// Of the other rows against the fitted ones.
    novel: Vec<f64>,
}

fn matrix(rows: &[Vec<f64>]) -> Array2<f64> {
    Array2::from_shape_fn((rows.len(), rows[0].len()), |(i, j)| rows[i][j])
}

fn normal(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    let mut rng = stream(seed, "lof test", 0);
    Array2::from_shape_simple_fn((rows, columns), || StandardNormal.sample(&mut rng))
}

#[test]
fn factors_are_those_of_scikit_learn() {
    let text = include_str!("../../../../tests/golden/lof_reference.json");
    let reference: Reference = serde_json::from_str(text).unwrap();
    for case in &reference.cases {
        let (factor, fitted) =
            LocalOutlierFactor::fit_score(matrix(&case.rows).view(), case.neighbours).unwrap();
        let novel = factor.score(matrix(&case.others).view());
        let pairs = fitted.iter().zip(&case.fitted).chain(novel.iter().zip(&case.novel));
        for (found, expected) in pairs {
            let error = (found - expected).abs() / expected;
            assert!(error < 1e-9, "{}: {found} is not {expected}", case.name);
        }
    }
}

#[test]
fn the_tree_finds_what_comparing_with_every_row_finds() {
    let mut rng = stream(1, "lof test", 1);
    for (n, width) in [(1, 1), (17, 2), (500, 3), (400, 9)] {
        // Whole numbers, so that many distances are equal.
        let rows: Vec<f64> = (0..n * width).map(|_| f64::from(rng.random_range(0..6))).collect();
        let tree = Neighbours::new(&rows, width);
        let mut found = Vec::new();
        for number in 0..n.min(60) {
            let point = &rows[number * width..][..width];
            tree.nearest(point, 7, Some(number as u32), &mut found);
            let mut all: Vec<Neighbour> = rows
                .chunks(width)
                .enumerate()
                .filter(|(row, _)| *row != number)
                .map(|(row, other)| Neighbour {
                    square: point.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum(),
                    row: row as u32,
                })
                .collect();
            all.sort_by(|a, b| a.square.total_cmp(&b.square).then(a.row.cmp(&b.row)));
            all.truncate(7);
            assert_eq!(found, all);
        }
    }
}

#[test]
fn many_copies_of_a_row_neither_blow_up_nor_hide_an_outlier() {
    let mut rows = normal(400, 2, 2);
    for row in 0..300 {
        rows.row_mut(row).fill(0.0);
    }
    rows.row_mut(399).fill(9.0);
    let (factor, scores) = LocalOutlierFactor::fit_score(rows.view(), 20).unwrap();
    assert!(scores.iter().all(|score| score.is_finite() && *score < 1e3));
    assert!(scores[..399].iter().all(|score| *score < scores[399]), "{}", scores[399]);
    assert!(factor.state().rows.len() < 2 * 120);
    let near = factor.score(ndarray::aview2(&[[0.001, 0.0]]))[0];
    assert!(near < scores[399], "{near}");
}

#[test]
fn outliers_score_high_in_either_direction_and_their_feature_is_named() {
    let factor = LocalOutlierFactor::fit(normal(1_000, 3, 3).view(), 20).unwrap();
    let score = |row: [f64; 3]| factor.score(ndarray::aview2(&[row]))[0];
    for outlier in [[0.0, 6.0, 0.0], [0.0, -6.0, 0.0]] {
        assert!(score(outlier) > 2.0 * score([0.0; 3]));
        assert!(factor.attribution(ndarray::aview2(&[outlier]))[[0, 1]] > 0.8);
    }
    assert!(score([f64::NAN, 0.0, 0.0]) < 1.5);
}

#[test]
fn threads_and_checkpoints_change_no_bit() {
    let rows = normal(600, 4, 4);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| LocalOutlierFactor::fit_score(rows.view(), 15).unwrap())
    };
    let ((factor, one), (_, many)) = (run(1), run(3));
    assert_eq!(one, many);
    let text = serde_json::to_string(factor.state()).unwrap();
    let back = LocalOutlierFactor::restore(serde_json::from_str(&text).unwrap()).unwrap();
    let others = normal(100, 4, 5);
    assert_eq!(back.score(others.view()), factor.score(others.view()));
}

#[test]
fn too_little_has_no_factor_and_a_forged_state_is_refused() {
    let rows = normal(30, 2, 6);
    assert!(LocalOutlierFactor::fit(rows.slice(ndarray::s![..1, ..]), 5).is_none());
    assert!(LocalOutlierFactor::fit(rows.slice(ndarray::s![.., ..0]), 5).is_none());
    assert!(LocalOutlierFactor::fit(Array2::zeros((9, 2)).view(), 5).is_none());
    assert!(LocalOutlierFactor::fit(rows.view(), 0).is_none());
    let state = LocalOutlierFactor::fit(rows.view(), 5).unwrap().state().clone();
    let forged = |forge: fn(&mut FactorState)| {
        let mut wrong = state.clone();
        forge(&mut wrong);
        LocalOutlierFactor::restore(wrong).is_err()
    };
    assert!(forged(|s| s.rows.truncate(7)));
    assert!(forged(|s| s.rows[0] = f64::NAN));
    assert!(forged(|s| s.medians.clear()));
    assert!(forged(|s| s.rows.fill(1.0)));
    assert!(forged(|s| s.neighbours = 0));
    assert!(!forged(|_| {}));
}
