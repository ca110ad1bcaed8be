//! Robust random cut forest (Guha, Mishra, Roy and Schrijvers 2016): a row is anomalous when letting
//! it into a tree pushes many others further down.
//!
//! [`forest`] is the forest on a matrix, grown on a sample or sliding along a stream. As a detector
//! of panels it learns the rows of all series together, seasonal residuals over several widths
//! ([`crate::features::residual_rows`]). The raw score is the collusive displacement that a row would
//! have, in its mean over all the cuts that letting it in may draw. rrcf and the crates below draw
//! them, so their scores of one row differ from call to call; the mean costs one walk, changes no
//! tree, and gives a restored forest the same score to the bit.
//!
//! # Why no crate
//!
//! krcf 0.4 (on krcflib 4.0) and rcf3 0.5 are kept up and were measured first, at 100 trees of 256 in
//! 8 dimensions with every point let in, side by side on a busy machine: krcf 1,600-2,000 points per
//! CPU-second, rcf3 2,200-2,900, [`forest::SlidingForest`] 9,600 one by one and 17,000 in batches.
//! Both are ports of Amazon's forest: single precision, a reservoir that skips most points unless told
//! otherwise, a score that is not the paper's displacement (krcf has that too, as one more call), and
//! no tree that could be compared with rrcf's. They also impute and forecast, which nothing here
//! needs.

pub mod forest;

#[cfg(test)]
mod tests;

use ndarray::{Array2, ArrayView2};

pub use super::residual_rows::ForestParams as RandomCutForestParams;

use self::forest::{Forest, ForestState};
use crate::detectors::{
    DetectorError, DetectorName,
    residual_rows::{FittedRows, RowDetector, RowModel},
};

const NAME: DetectorName = DetectorName::RandomCutForest;

/// The detector before it has seen data.
pub type RandomCutForestDetector = RowDetector<Forest>;
/// The forest of a panel.
pub type FittedRandomCutForest = FittedRows<Forest>;

impl RowDetector<Forest> {
    /// # Errors
    /// [`DetectorError::Parameter`] for the first parameter that is out of its range.
    pub fn new(params: RandomCutForestParams) -> Result<Self, DetectorError> {
        DetectorError::first_of(NAME, params.problems())?;
        Ok(Self::from_checked(params.rows.clone(), params))
    }
}

impl RowModel for Forest {
    const NAME: DetectorName = NAME;
    type Params = RandomCutForestParams;
    type State = ForestState;

    fn learn(rows: ArrayView2<f64>, params: &Self::Params, seed: u64) -> Option<Self> {
        Self::fit(rows, params.trees, params.sample_size, seed)
    }

    fn score(&self, rows: ArrayView2<f64>) -> Vec<f64> {
        Self::score(self, rows)
    }

    fn attribution(&self, rows: ArrayView2<f64>) -> Array2<f64> {
        Self::attribution(self, rows)
    }

    fn columns(&self) -> usize {
        self.dimensions()
    }

    fn state(&self) -> ForestState {
        Self::state(self)
    }

    fn restore(state: ForestState) -> Result<Self, String> {
        Self::restore(&state)
    }
}
