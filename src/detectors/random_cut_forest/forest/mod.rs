//! The forest itself, on a matrix of rows and dimensions. It knows no panel and no calendar.

mod points;
mod stream;
mod tree;

#[cfg(test)]
mod tests;

use ndarray::{Array2, ArrayView2, Axis};
use rand::{RngExt, seq::index};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use stream::SlidingForest;
pub use tree::{Tree, TreeState};

use self::points::Points;
use crate::math::random;

/// A forest keeps at most this many times a tree's rows, from which its trees draw theirs.
const KEPT_ROWS: usize = 16;
/// Rows that a thread takes at once.
const BLOCK: usize = 128;

/// A robust random cut forest grown on a sample, to score rows against.
#[derive(Clone, Debug)]
pub struct Forest {
    points: Points,
    slots: usize,
    trees: Vec<Tree>,
}

/// What a checkpoint keeps of a forest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForestState {
    pub dimensions: usize,
    /// The rows in the trees, one behind the other.
    pub rows: Vec<f64>,
    pub trees: Vec<TreeState>,
}

impl Forest {
    /// Grows `n_trees` trees on up to `sample_size` rows each of `rows[row, dimension]`. A value that
    /// is not finite is replaced by the median of its column. Every tree has a random stream of its
    /// own, so the result does not depend on the number of threads. `None` for fewer than two rows,
    /// or no tree or dimension.
    pub fn fit(
        rows: ArrayView2<f64>,
        n_trees: usize,
        sample_size: usize,
        seed: u64,
    ) -> Option<Self> {
        let sample_size = sample_size.min(rows.nrows());
        if sample_size < 2 || rows.ncols() == 0 || n_trees == 0 {
            return None;
        }
        let slots = (KEPT_ROWS * sample_size).min(rows.nrows());
        let mut rng = random::stream(seed, "random cut sample", 0);
        let kept = index::sample(&mut rng, rows.nrows(), slots);
        let mut points = Points::new(rows.ncols(), slots);
        let medians = medians(rows);
        for (slot, row) in kept.into_iter().enumerate() {
            points.set(slot, rows.row(row).iter().zip(&medians).map(|(v, m)| finite_or(*v, *m)));
        }
        let trees = (0..n_trees as u64)
            .into_par_iter()
            .map(|number| {
                let mut rng = random::stream(seed, "random cut tree", number);
                let sample = index::sample(&mut rng, slots, sample_size);
                let mut tree = Tree::new(&points, slots);
                for slot in sample {
                    tree.insert(slot, &points, rng.random());
                }
                tree
            })
            .collect();
        Some(Self { points, slots, trees })
    }

    /// # Errors
    /// What is wrong with the state.
    pub fn restore(state: &ForestState) -> Result<Self, String> {
        let ForestState { dimensions, rows, trees } = state;
        let whole = *dimensions > 0 && rows.len().is_multiple_of(*dimensions);
        if !whole || trees.is_empty() || !rows.iter().all(|value| value.is_finite()) {
            return Err("the forest has no trees, or rows that are not whole".into());
        }
        let slots = rows.len() / dimensions;
        let mut points = Points::new(*dimensions, slots);
        for (slot, row) in rows.chunks_exact(*dimensions).enumerate() {
            points.set(slot, row.iter().copied());
        }
        let trees = trees
            .par_iter()
            .enumerate()
            .map(|(number, tree)| {
                Tree::restore(tree, &points, slots).map_err(|e| format!("tree {number}: {e}"))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { points, slots, trees })
    }

    pub fn state(&self) -> ForestState {
        let dimensions = self.points.dimensions();
        ForestState {
            dimensions,
            rows: (0..self.slots)
                .flat_map(|slot| &self.points.get(slot).as_flattened()[..dimensions])
                .copied()
                .collect(),
            trees: self.trees.iter().map(Tree::state).collect(),
        }
    }

    /// Number of columns that a row must have.
    pub fn dimensions(&self) -> usize {
        self.points.dimensions()
    }

    /// For each row of `rows[row, dimension]`, the mean over trees of the collusive displacement that
    /// it would have in them ([`Tree::expected_codisp`]): at least 0, higher = more anomalous. Nothing
    /// is drawn, so a row always scores the same. A NaN counts as inside of every box. Panics when
    /// the width is not [`dimensions`](Self::dimensions).
    pub fn score(&self, rows: ArrayView2<f64>) -> Vec<f64> {
        assert_eq!(rows.ncols(), self.dimensions(), "a row has one value for each dimension");
        let mut scores = vec![0.0; rows.nrows()];
        scores.par_chunks_mut(BLOCK).enumerate().for_each(|(block, scores)| {
            let from = block * BLOCK;
            let rows = rows.slice(ndarray::s![from..from + scores.len(), ..]);
            self.score_block(rows, scores);
        });
        scores
    }

    fn score_block(&self, rows: ArrayView2<f64>, scores: &mut [f64]) {
        let mut block = Points::new(self.dimensions(), rows.nrows());
        for (slot, row) in rows.axis_iter(Axis(0)).enumerate() {
            block.set(slot, row.iter().copied());
        }
        // Tree by tree, so that a tree stays in cache for the whole block.
        for tree in &self.trees {
            stream::expected_codisps(tree, &block, &self.points, scores);
        }
        scores.iter_mut().for_each(|score| *score /= self.trees.len() as f64);
    }

    /// What each dimension adds to the score of each row, `[row, dimension]`; a row sums to its score.
    pub fn attribution(&self, rows: ArrayView2<f64>) -> Array2<f64> {
        assert_eq!(rows.ncols(), self.dimensions(), "a row has one value for each dimension");
        let dimensions = self.dimensions();
        let mut shares = vec![0.0; rows.len()];
        shares.par_chunks_mut(dimensions).enumerate().for_each(|(at, shares)| {
            let mut point = Points::new(dimensions, 1);
            point.set(0, rows.row(at).iter().copied());
            for tree in &self.trees {
                tree.add_shares(point.get(0), &self.points, shares);
            }
            shares.iter_mut().for_each(|share| *share /= self.trees.len() as f64);
        });
        Array2::from_shape_fn(rows.dim(), |(at, dimension)| shares[at * dimensions + dimension])
    }
}

fn finite_or(value: f64, other: f64) -> f64 {
    if value.is_finite() { value } else { other }
}

/// Medians of the finite values of each column; 0 where there are none.
fn medians(rows: ArrayView2<f64>) -> Vec<f64> {
    rows.axis_iter(Axis(1))
        .map(|column| {
            let mut finite: Vec<f64> = column.iter().copied().filter(|v| v.is_finite()).collect();
            crate::math::robust::median(&mut finite).unwrap_or(0.0)
        })
        .collect()
}

/// The last `length` rows side by side for every row of a series, oldest first:
/// `[time, length * metric]`. NaN where the series has not begun.
pub fn shingled(series: ArrayView2<f64>, length: usize) -> Array2<f64> {
    let (times, metrics) = series.dim();
    Array2::from_shape_fn((times, length * metrics), |(time, column)| {
        let back = length - 1 - column / metrics;
        if back > time { f64::NAN } else { series[[time - back, column % metrics]] }
    })
}
