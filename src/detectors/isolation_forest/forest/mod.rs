//! The forest itself, on a matrix of rows and features. It knows no panel and no calendar.

mod lanes;
mod tree;

#[cfg(test)]
mod tests;

use ndarray::{Array2, ArrayView1, ArrayView2, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use tree::{LEAF, Tree, average_path};

use self::lanes::{BLOCK, Banks};
use crate::math::random::stream;

/// A fitted isolation forest.
#[derive(Clone, Debug)]
pub struct Forest {
    trees: Vec<Tree>,
    features: usize,
    sample_size: usize,
    /// For each tree and node, the path length to expect there.
    expected: Vec<Vec<f64>>,
    /// The trees laid out for many rows at once; `None` where they are too large to gain by it.
    banks: Option<Banks>,
}

/// What a checkpoint keeps of a forest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForestState {
    pub trees: Vec<Tree>,
    pub features: usize,
    /// Rows that each tree was grown on.
    pub sample_size: usize,
}

/// Which share of rows to call anomalous.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Contamination {
    /// Rows that score above 0.5: those with a shorter path than an even sample's average.
    #[default]
    Auto,
    /// This share of the rows that the forest was fitted on, above 0 and up to 0.5.
    Share(f64),
}

impl Contamination {
    /// The score above which a row is called anomalous, from the `scores` of the fitted rows.
    /// `None` for a share out of range or no scores.
    pub fn threshold(self, scores: &[f64]) -> Option<f64> {
        match self {
            Self::Auto => Some(0.5),
            Self::Share(share) if share > 0.0 && share <= 0.5 => {
                crate::math::robust::quantile(&mut scores.to_vec(), 1.0 - share)
            }
            Self::Share(_) => None,
        }
    }
}

impl Forest {
    /// Grows `n_trees` trees on up to `sample_size` rows each of `rows[row, feature]`. Values that are
    /// not finite count as missing. Every tree has a random stream of its own, so the result does not
    /// depend on the number of threads. `None` for fewer than two rows, or no tree or feature.
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
        let trees = (0..n_trees as u64)
            .into_par_iter()
            .map(|number| {
                Tree::grow(rows, sample_size, &mut stream(seed, "isolation tree", number))
            })
            .collect();
        Some(Self::assemble(ForestState { trees, features: rows.ncols(), sample_size }))
    }

    fn assemble(state: ForestState) -> Self {
        let ForestState { trees, features, sample_size } = state;
        let expected: Vec<Vec<f64>> = trees.par_iter().map(Tree::expected_paths).collect();
        let banks = Banks::build(&trees, &expected, features);
        Self { trees, features, sample_size, expected, banks }
    }

    /// # Errors
    /// What is wrong with the state.
    pub fn restore(state: ForestState) -> Result<Self, String> {
        if state.trees.is_empty() || state.features == 0 || state.sample_size < 2 {
            return Err("the forest is empty".into());
        }
        for (number, tree) in state.trees.iter().enumerate() {
            if let Some(defect) = tree.defect(state.features) {
                return Err(format!("tree {number}: {defect}"));
            }
            if tree.rows[0] as usize != state.sample_size {
                return Err(format!("tree {number}: it was grown on another number of rows"));
            }
        }
        Ok(Self::assemble(state))
    }

    pub fn state(&self) -> ForestState {
        let Self { trees, features, sample_size, .. } = self;
        ForestState { trees: trees.clone(), features: *features, sample_size: *sample_size }
    }

    /// Number of columns that a row must have.
    pub fn features(&self) -> usize {
        self.features
    }

    /// `2^(-E[h(x)] / c(sample_size))` of Liu, Ting and Zhou (2008): from 0 to 1, higher = more
    /// anomalous, 0.5 for a row whose path is as long as an even sample's average.
    fn score_of(&self, total_path: f64) -> f64 {
        let whole = self.trees.len() as f64 * average_path(self.sample_size);
        (-total_path / whole).exp2()
    }

    /// The score of one row; a NaN is a missing value. Panics when the row's length is not
    /// [`features`](Self::features).
    pub fn score_row(&self, row: ArrayView1<f64>) -> f64 {
        assert_eq!(row.len(), self.features, "a row has one value for each feature");
        let total = self.trees.iter().zip(&self.expected).fold(0.0, |total, (tree, expected)| {
            total + tree.path(|feature| row[feature]).last().map_or(0.0, |leaf| expected[leaf])
        });
        self.score_of(total)
    }

    /// The score of every row of `rows[row, feature]`, the same to the bit as
    /// [`score_row`](Self::score_row)'s. Panics when the width is not [`features`](Self::features).
    pub fn score(&self, rows: ArrayView2<f64>) -> Vec<f64> {
        assert_eq!(rows.ncols(), self.features, "a row has one value for each feature");
        let mut scores = vec![0.0; rows.nrows()];
        scores.par_chunks_mut(BLOCK).enumerate().for_each(|(block, scores)| {
            let from = block * BLOCK;
            let part = rows.slice(ndarray::s![from..from + scores.len(), ..]);
            match &self.banks {
                Some(banks) => {
                    banks.total_paths(part, scores);
                    scores.iter_mut().for_each(|score| *score = self.score_of(*score));
                }
                None => {
                    for (score, row) in scores.iter_mut().zip(part.axis_iter(Axis(0))) {
                        *score = self.score_row(row);
                    }
                }
            }
        });
        scores
    }

    /// How much each feature shortened a row's path, in splits, mean over trees: `[row, feature]`.
    ///
    /// A split takes the path length to expect from that of its node to that of the child the row
    /// went to; the difference is put down to the split's feature. So a row of the result sums to the
    /// average path length of the samples less the row's own: positive features made it easy to
    /// isolate, negative ones hid it. (The path decomposition of Saabas, on path lengths.)
    pub fn attribution(&self, rows: ArrayView2<f64>) -> Array2<f64> {
        assert_eq!(rows.ncols(), self.features, "a row has one value for each feature");
        let mut shares = vec![0.0; rows.len()];
        shares.par_chunks_mut(self.features).enumerate().for_each(|(at, shares)| {
            let row = rows.row(at);
            for (tree, expected) in self.trees.iter().zip(&self.expected) {
                let mut before = 0;
                for node in tree.path(|feature| row[feature]).skip(1) {
                    shares[tree.feature[before] as usize] += expected[before] - expected[node];
                    before = node;
                }
            }
            shares.iter_mut().for_each(|share| *share /= self.trees.len() as f64);
        });
        Array2::from_shape_fn(rows.dim(), |(at, feature)| shares[at * self.features + feature])
    }
}
