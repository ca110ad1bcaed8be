use ndarray::{Array2, Axis, array};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Reference {
    rows: Vec<Vec<f64>>,
    stages: Vec<Stage>,
    probes: Vec<Probe>,
}

#[derive(Deserialize)]
struct Stage {
    action: String,
    slot: usize,
    dimension: Vec<u32>,
    cut: Vec<f64>,
    leaf_slot: Vec<u32>,
    points: Vec<u32>,
    codisp: Vec<(usize, f64, usize)>,
}

#[derive(Deserialize)]
struct Probe {
    point: Vec<f64>,
    mean: f64,
    error: f64,
}

impl Stage {
    fn state(&self) -> TreeState {
        TreeState {
            dimension: self.dimension.clone(),
            cut: self.cut.clone(),
            slot: self.leaf_slot.clone(),
            points: self.points.clone(),
        }
    }
}

fn reference() -> (Reference, Points) {
    let text = include_str!("../../../../tests/golden/rrcf_reference.json");
    let reference: Reference = serde_json::from_str(text).unwrap();
    let points = points_of(&reference.rows);
    (reference, points)
}

fn points_of(rows: &[Vec<f64>]) -> Points {
    let mut points = Points::new(rows[0].len(), rows.len());
    for (slot, row) in rows.iter().enumerate() {
        points.set(slot, row.iter().copied());
    }
    points
}

fn normal(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    let mut rng = random::stream(seed, "random cut test", 0);
    Array2::from_shape_simple_fn((rows, columns), || StandardNormal.sample(&mut rng))
}

#[test]
fn displacements_are_those_of_rrcf_in_its_own_trees() {
    let (reference, points) = reference();
    for stage in &reference.stages {
        let tree = Tree::restore(&stage.state(), &points, 40).unwrap();
        for &(slot, expected, dimension) in &stage.codisp {
            if !stage.leaf_slot.contains(&(slot as u32)) {
                continue; // the second of two equal points has no leaf of its own
            }
            let (found, of) = tree.codisp(slot);
            assert!((found - expected).abs() < 1e-12, "{slot}: {found} is not {expected}");
            // Two subtrees may tie for the greatest; then either cut is right.
            assert!(of == Some(dimension) || tied(&tree, slot, found), "{slot}: {of:?}");
        }
    }
}

/// Whether two cuts above a point give the greatest displacement.
fn tied(tree: &Tree, slot: usize, most: f64) -> bool {
    tree.displacements(slot).filter(|(beside, _)| (beside - most).abs() < 1e-12).count() > 1
}

#[test]
fn forgetting_leaves_the_tree_that_rrcf_is_left_with() {
    let (reference, points) = reference();
    let mut forgotten = 0;
    for pair in reference.stages.windows(2).filter(|pair| pair[1].action == "forget") {
        let mut tree = Tree::restore(&pair[0].state(), &points, 40).unwrap();
        let leaf_is_shared = pair[1].leaf_slot.contains(&(pair[1].slot as u32));
        if leaf_is_shared || !pair[0].leaf_slot.contains(&(pair[1].slot as u32)) {
            continue;
        }
        tree.forget(pair[1].slot, &points);
        assert_eq!(tree.state(), pair[1].state());
        tree.assert_sound(&points);
        forgotten += 1;
    }
    assert!(forgotten >= 4, "{forgotten}");
}

#[test]
fn expected_displacements_are_the_mean_of_rrcfs_random_insertions() {
    let (reference, points) = reference();
    let last = reference.stages.last().unwrap();
    let tree = Tree::restore(&last.state(), &points, 40).unwrap();
    for Probe { point, mean, error } in reference.probes {
        let probe = points_of(std::slice::from_ref(&point));
        let found = tree.expected_codisp(probe.get(0), &points);
        // Four standard errors of the simulation.
        assert!((found - mean).abs() <= 4.0 * error + 1e-9, "{point:?}: {found} is not {mean}");
    }
}

#[test]
fn insertions_displace_as_expected_on_average() {
    let rows = normal(200, 3, 1);
    let forest = Forest::fit(rows.view(), 1, 100, 2).unwrap();
    let mut points = Points::new(3, 201);
    for slot in 0..200 {
        points.set(slot, forest.points.get(slot).as_flattened()[..3].iter().copied());
    }
    let tree = Tree::restore(&forest.trees[0].state(), &points, 201).unwrap();
    let mut rng = random::stream(3, "random cut test", 0);
    for probe in [[0.0, 0.5, -0.5], [0.0, 3.0, 0.0], [5.0, -5.0, 0.0]] {
        points.set(200, probe);
        let mut sum = (0.0, 0.0);
        const ROUNDS: f64 = 20_000.0;
        let mut expected = 0.0;
        for _ in 0..ROUNDS as usize {
            let mut grown = tree.clone();
            expected = grown.insert(200, &points, rng.random());
            let found = grown.codisp(200).0;
            sum = (sum.0 + found, sum.1 + found * found);
        }
        let mean = sum.0 / ROUNDS;
        let error = ((sum.1 / ROUNDS - mean * mean) / ROUNDS).sqrt();
        assert!((mean - expected).abs() < 4.0 * error, "{probe:?}: {mean} is not {expected}");
    }
}

#[test]
fn a_tree_stays_sound_through_thousands_of_points_and_duplicates() {
    let mut rng = random::stream(4, "random cut test", 0);
    let mut points = Points::new(5, 64);
    let mut tree = Tree::new(&points, 64);
    let mut held: Vec<usize> = Vec::new();
    for round in 0..6_000 {
        let slot = rng.random_range(0..64);
        if let Some(place) = held.iter().position(|other| *other == slot) {
            tree.forget(slot, &points);
            held.swap_remove(place);
        } else {
            // Few distinct values, so that equal points and ties in single dimensions come often.
            points
                .set(slot, std::array::from_fn::<f64, 5, _>(|_| f64::from(rng.random_range(0..3))));
            tree.insert(slot, &points, rng.random());
            held.push(slot);
        }
        assert_eq!(tree.size(), held.len());
        if round % 10 == 0 {
            tree.assert_sound(&points);
        }
    }
}

#[test]
fn an_outlier_scores_high_in_every_order_of_the_dimensions() {
    let mut rows = normal(600, 4, 5);
    rows.row_mut(17).assign(&array![0.3, 0.0, 6.0, -0.2]);
    for order in permutations(4) {
        let turned = Array2::from_shape_fn(rows.dim(), |(row, column)| rows[[row, order[column]]]);
        let forest = Forest::fit(turned.view(), 100, 256, 6).unwrap();
        let scores = forest.score(turned.view());
        let higher = scores.iter().filter(|score| **score > scores[17]).count();
        assert!(higher <= 2, "{order:?}: {higher} of 600 score higher");
        let shares = forest.attribution(turned.select(Axis(0), &[17]).view());
        let at = order.iter().position(|column| *column == 2).unwrap();
        assert!(shares[[0, at]] > 0.6 * scores[17], "{order:?}: {shares}");
        assert!((shares.sum() - scores[17]).abs() < 1e-9 * scores[17]);
    }
}

fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(n - 1);
    let insert = |order: &Vec<usize>, at: usize| {
        let mut order = order.clone();
        order.insert(at, n - 1);
        order
    };
    shorter.iter().flat_map(|order| (0..n).map(move |at| insert(order, at))).collect()
}

#[test]
fn spikes_and_drops_both_stand_out_of_a_stream_and_one_by_one_is_the_same() {
    let mut values = normal(1_500, 1, 7);
    values.mapv_inplace(|v| 0.2 * v);
    for (time, value) in values.iter_mut().enumerate() {
        *value += (time as f64 / 24.0 * std::f64::consts::TAU).sin();
    }
    values[[900, 0]] += 3.0;
    values[[1_200, 0]] -= 3.0;
    let rows = shingled(values.view(), 4).slice(ndarray::s![3.., ..]).to_owned();
    let mut all = SlidingForest::new(4, 50, 256, 8).unwrap();
    let scores = all.push_all(rows.view());
    let mut sorted = scores[300..].to_vec();
    sorted.sort_by(f64::total_cmp);
    let high = sorted[sorted.len() - 12];
    assert!(scores[897] > high && scores[1_197] > high, "{} {}", scores[897], scores[1_197]);
    let mut single = SlidingForest::new(4, 50, 256, 8).unwrap();
    let one_by_one: Vec<f64> = rows.rows().into_iter().map(|row| single.push(row)).collect();
    assert_eq!(scores, one_by_one);
    assert_eq!((single.len(), single.is_empty()), (256, false));
}

#[test]
fn threads_and_checkpoints_change_no_bit() {
    let rows = normal(2_000, 5, 9);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let forest = Forest::fit(rows.view(), 20, 64, 10).unwrap();
            let mut sliding = SlidingForest::new(5, 20, 64, 10).unwrap();
            (forest.score(rows.view()), forest.state(), sliding.push_all(rows.view()))
        })
    };
    let (one, many) = (run(1), run(3));
    assert_eq!(one, many);
    let text = serde_json::to_string(&one.1).unwrap();
    let back = Forest::restore(&serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!(back.score(rows.view()), one.0);
    assert_eq!(back.attribution(rows.view()), {
        let forest = Forest::fit(rows.view(), 20, 64, 10).unwrap();
        forest.attribution(rows.view())
    });
}

#[test]
fn instruction_sets_agree_to_the_bit() {
    let rows = normal(300, 6, 11);
    let forest = Forest::fit(rows.view(), 10, 128, 12).unwrap();
    let scores = forest.score(rows.view());
    for (row, score) in rows.rows().into_iter().zip(scores) {
        let mut point = Points::new(6, 1);
        point.set(0, row.iter().copied());
        let of = |tree: &Tree| tree.expected_codisp(point.get(0), &forest.points);
        let total = forest.trees.iter().fold(0.0, |total, tree| total + of(tree));
        assert_eq!(total / 10.0, score);
    }
}

#[test]
fn a_missing_value_is_no_evidence() {
    let mut rows = normal(500, 3, 13);
    rows[[7, 1]] = f64::NAN;
    let forest = Forest::fit(rows.view(), 50, 128, 14).unwrap();
    let score = |row: [f64; 3]| forest.score(ndarray::aview2(&[row]))[0];
    assert!(score([f64::NAN, 0.0, 0.0]) <= 1.5 * score([0.0; 3]));
    assert!(score([f64::NAN, 0.0, 7.0]) > 10.0 * score([f64::NAN, 0.0, 0.0]));
    assert!(score([f64::NAN; 3]).is_finite());
}

#[test]
fn shingles_begin_missing_and_end_with_the_newest() {
    let series = array![[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]];
    let rows = shingled(series.view(), 2);
    assert!(rows[[0, 0]].is_nan() && rows[[0, 1]].is_nan());
    assert_eq!(rows.row(2), array![2.0, 20.0, 3.0, 30.0]);
}

#[test]
fn too_little_is_no_forest_and_a_forged_state_is_refused() {
    let rows = normal(300, 2, 15);
    assert!(Forest::fit(rows.slice(ndarray::s![..1, ..]), 10, 32, 1).is_none());
    assert!(Forest::fit(rows.slice(ndarray::s![.., ..0]), 10, 32, 1).is_none());
    assert!(SlidingForest::new(0, 1, 1, 1).is_none());
    let state = Forest::fit(rows.view(), 2, 32, 1).unwrap().state();
    let forged = |forge: fn(&mut ForestState)| {
        let mut wrong = state.clone();
        forge(&mut wrong);
        Forest::restore(&wrong).is_err()
    };
    assert!(forged(|s| s.dimensions = 3_000));
    assert!(forged(|s| s.rows[0] = f64::NAN));
    assert!(forged(|s| s.trees.clear()));
    assert!(forged(|s| s.trees[0].dimension[0] = 2));
    assert!(forged(|s| s.trees[0].cut[0] = f64::INFINITY));
    assert!(forged(|s| s.trees[0].dimension[0] = u32::MAX));
    assert!(forged(|s| s.trees[1].slot.pop().map_or((), |_| ())));
    assert!(forged(|s| {
        let last = s.trees[1].slot.len() - 1;
        s.trees[1].slot[last] = 999;
    }));
    assert!(forged(|s| {
        let TreeState { dimension, cut, slot, points } = &mut s.trees[0];
        dimension.pop();
        cut.pop();
        slot.pop();
        points.pop();
    }));
    assert!(!forged(|_| {}));
}
