//! Isolation forest (Liu, Ting and Zhou 2008): rows that few random splits set apart are anomalous.
//!
//! [`forest`] is the forest on a matrix. As a detector of panels it learns the rows of all series
//! together, seasonal residuals over several widths ([`crate::features::residual_rows`]), so that an
//! hour is compared with what is normal for it. The raw score is the published one, from 0 to 1; the
//! ensemble turns it into a p-value.

pub mod forest;
mod params;

#[cfg(test)]
mod tests;

use ndarray::{Array2, ArrayView2};

pub use params::IsolationForestParams;

use self::forest::{Forest, ForestState};
use crate::detectors::{
    DetectorError, DetectorName,
    residual_rows::{FittedRows, RowDetector, RowModel},
};

const NAME: DetectorName = DetectorName::IsolationForest;

/// The detector before it has seen data.
pub type IsolationForestDetector = RowDetector<Forest>;
/// The forest of a panel.
pub type FittedIsolationForest = FittedRows<Forest>;

impl RowDetector<Forest> {
    /// # Errors
    /// [`DetectorError::Parameter`] for the first parameter that is out of its range.
    pub fn new(params: IsolationForestParams) -> Result<Self, DetectorError> {
        match params.problems().into_iter().next() {
            None => Ok(Self::from_checked(params.rows.clone(), params)),
            Some((parameter, value, expected)) => {
                Err(DetectorError::Parameter { detector: NAME, parameter, value, expected })
            }
        }
    }
}

impl RowModel for Forest {
    const NAME: DetectorName = NAME;
    type Params = IsolationForestParams;
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
        self.features()
    }

    fn state(&self) -> ForestState {
        Self::state(self)
    }

    fn restore(state: ForestState) -> Result<Self, String> {
        Self::restore(state)
    }
}
