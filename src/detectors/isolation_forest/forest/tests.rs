use ndarray::{Array2, Axis, array};
use rand_distr::{Distribution, StandardNormal};
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Reference {
    rows: Vec<Vec<f64>>,
    sample_size: usize,
    trees: Vec<Tree>,
    scores: Vec<f64>,
    fitted: Vec<f64>,
}

fn reference() -> (Reference, Array2<f64>) {
    let text = include_str!("../../../../tests/golden/iforest_reference.json");
    let reference: Reference = serde_json::from_str(text).unwrap();
    let rows = Array2::from_shape_fn((reference.rows.len(), 3), |(i, j)| reference.rows[i][j]);
    (reference, rows)
}

/// Standard normal rows; the first is far out in every column.
fn normal(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    let mut rng = stream(seed, "forest test", 0);
    let mut drawn =
        Array2::from_shape_simple_fn((rows, columns), || StandardNormal.sample(&mut rng));
    drawn.row_mut(0).fill(6.0);
    drawn
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

#[test]
fn scikit_learns_trees_give_scikit_learns_scores() {
    let (reference, rows) = reference();
    let Reference { trees, sample_size, scores, .. } = reference;
    let forest = Forest::restore(ForestState { trees, features: 3, sample_size }).unwrap();
    for (found, expected) in forest.score(rows.view()).iter().zip(&scores) {
        assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
    }
}

#[test]
fn a_fit_agrees_with_scikit_learns_within_the_noise_of_two_forests() {
    let (reference, rows) = reference();
    let forest = Forest::fit(rows.view(), 2_000, reference.sample_size, 1).unwrap();
    let found = forest.score(rows.view());
    let differences: Vec<f64> = found.iter().zip(&reference.fitted).map(|(a, b)| a - b).collect();
    let mean = differences.iter().sum::<f64>() / differences.len() as f64;
    let worst = differences.iter().fold(0.0_f64, |worst, d| worst.max(d.abs()));
    assert!(mean.abs() < 1e-3, "{mean}");
    assert!(worst < 0.01, "{worst}"); // four standard deviations of two hundred differences
}

#[test]
fn blocks_and_walks_agree_to_the_bit_with_missing_and_infinite_values() {
    let mut rows = normal(1_000, 5, 1);
    for (at, value) in rows.iter_mut().enumerate() {
        match at % 37 {
            5 => *value = f64::NAN,
            11 => *value = f64::INFINITY,
            23 => *value = f64::NEG_INFINITY,
            _ => {}
        }
    }
    let forest = Forest::fit(rows.view(), 50, 256, 3).unwrap();
    assert!(forest.banks.is_some());
    let scores = forest.score(rows.view());
    for (score, row) in scores.iter().zip(rows.axis_iter(Axis(0))) {
        assert_eq!(score.to_bits(), forest.score_row(row).to_bits());
    }
}

#[test]
fn more_thresholds_than_ranks_are_split_into_banks_and_large_trees_are_walked() {
    let rows = normal(3_000, 1, 2);
    let many = Forest::fit(rows.view(), 1_500, 256, 3).unwrap();
    let banks = many.banks.as_ref().unwrap();
    assert!(banks.len() > 1, "{}", banks.len());
    assert_eq!(many.score(rows.view())[7].to_bits(), many.score_row(rows.row(7)).to_bits());
    let even = Array2::from_shape_fn((3_000, 1), |(row, _)| row as f64);
    let large = Forest::fit(even.view(), 3, 3_000, 3).unwrap();
    assert!(large.banks.is_none());
    assert_eq!(large.score(rows.view())[7].to_bits(), large.score_row(rows.row(7)).to_bits());
}

#[test]
fn threads_and_checkpoints_change_no_bit() {
    let rows = normal(2_000, 4, 4);
    let run = |threads| {
        pool(threads).install(|| {
            let forest = Forest::fit(rows.view(), 20, 256, 5).unwrap();
            (forest.score(rows.view()), forest.state())
        })
    };
    let (one, many) = (run(1), run(3));
    assert_eq!(one, many);
    let text = serde_json::to_string(&one.1).unwrap();
    let back = Forest::restore(serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!(back.score(rows.view()), one.0);
    assert_ne!(Forest::fit(rows.view(), 20, 256, 6).unwrap().score(rows.view()), one.0);
}

#[test]
fn outliers_score_high_in_either_direction_and_normal_rows_about_a_half() {
    let mut rows = normal(2_000, 3, 6);
    rows.row_mut(1).assign(&array![0.0, -8.0, 0.0]);
    let scores = Forest::fit(rows.view(), 200, 256, 7).unwrap().score(rows.view());
    let mut sorted = scores.clone();
    sorted.sort_by(f64::total_cmp);
    assert!(scores[0] > 0.75 && scores[1] > sorted[1_900], "{} {}", scores[0], scores[1]);
    assert!((0.4..0.5).contains(&sorted[1_000]), "{}", sorted[1_000]);
}

#[test]
fn a_missing_value_is_no_evidence() {
    let rows = normal(2_000, 3, 8);
    let forest = Forest::fit(rows.view(), 200, 256, 9).unwrap();
    let score = |row: [f64; 3]| forest.score_row(ndarray::aview1(&row));
    let missing = score([f64::NAN, 0.0, 0.0]);
    assert!(missing <= score([0.0; 3]) + 0.01, "{missing}");
    assert!(score([f64::NAN, 0.0, 6.0]) > missing + 0.1);
    assert!(score([f64::NAN; 3]).is_finite());
}

#[test]
fn attribution_sums_to_the_shortening_and_names_the_feature() {
    let mut rows = normal(2_000, 4, 10);
    rows.row_mut(1).assign(&array![0.1, -0.2, 7.0, 0.0]);
    let forest = Forest::fit(rows.view(), 100, 256, 11).unwrap();
    let shares = forest.attribution(rows.view());
    let part = shares.row(1);
    assert!(part[2] > 3.0 && part[2] > 4.0 * part[0].max(part[1]).max(part[3]), "{part}");
    let scores = forest.score(rows.view());
    let roots = forest.expected.iter().map(|tree| tree[0]).sum::<f64>() / 100.0;
    for (shares, score) in shares.axis_iter(Axis(0)).zip(scores) {
        let path = -score.log2() * average_path(256);
        assert!((shares.sum() - (roots - path)).abs() < 1e-9);
    }
}

#[test]
fn a_tree_keeps_every_row_and_its_depth_limit() {
    let mut rows = normal(300, 2, 12);
    rows.row_mut(9).fill(f64::NAN);
    let tree = Tree::grow(rows.view(), 256, &mut stream(1, "isolation tree", 0));
    assert_eq!(tree.defect(2), None);
    let leaves = (0..tree.nodes()).filter(|node| tree.is_leaf(*node));
    assert_eq!(leaves.map(|node| tree.rows[node]).sum::<u32>(), 256);
    for row in rows.axis_iter(Axis(0)) {
        assert!(tree.path(|feature| row[feature]).count() <= 9);
    }
}

#[test]
fn the_average_path_is_that_of_binary_search_trees() {
    assert_eq!([average_path(0), average_path(1), average_path(2)], [0.0, 0.0, 1.0]);
    // 2 H(255) - 2 · 255/256 with H(n) = ln n + 0.5772..., as scikit-learn 1.9.1 has it.
    assert!((average_path(256) - 10.244_770_920_119_917).abs() < 1e-12);
}

#[test]
fn rows_that_nothing_tells_apart_score_a_half() {
    let rows = Array2::from_elem((50, 2), 3.0);
    let forest = Forest::fit(rows.view(), 10, 32, 1).unwrap();
    assert!(forest.score(rows.view()).iter().all(|score| (score - 0.5).abs() < 1e-12));
    assert!(Forest::fit(rows.slice(ndarray::s![..1, ..]), 10, 32, 1).is_none());
    assert!(Forest::fit(rows.slice(ndarray::s![.., ..0]), 10, 32, 1).is_none());
}

#[test]
fn contamination_takes_its_share_of_the_fitted_rows() {
    let scores: Vec<f64> = (0..1_000).map(|i| f64::from(i) / 1_000.0).collect();
    let cut = Contamination::Share(0.1).threshold(&scores).unwrap();
    assert_eq!(scores.iter().filter(|score| **score > cut).count(), 100);
    assert_eq!(Contamination::Auto.threshold(&scores), Some(0.5));
    for wrong in [0.0, 0.6, f64::NAN] {
        assert_eq!(Contamination::Share(wrong).threshold(&scores), None);
    }
}

#[test]
fn a_forged_state_is_refused() {
    let rows = normal(300, 2, 13);
    let state = Forest::fit(rows.view(), 2, 64, 1).unwrap().state();
    let forged = |forge: fn(&mut ForestState)| {
        let mut wrong = state.clone();
        forge(&mut wrong);
        Forest::restore(wrong).is_err()
    };
    assert!(forged(|s| s.trees[0].feature[0] = 2));
    assert!(forged(|s| s.trees[0].threshold[0] = f64::NAN));
    assert!(forged(|s| s.trees[0].left[0] = 0));
    assert!(forged(|s| s.trees[1].rows[1] += 1));
    assert!(forged(|s| s.trees[1].left.push(0)));
    assert!(forged(|s| s.trees.clear()));
    assert!(forged(|s| s.sample_size = 63));
    assert!(!forged(|_| {}));
}
