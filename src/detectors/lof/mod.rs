//! Local outlier factor (Breunig, Kriegel, Ng and Sander 2000): a row is anomalous when it lies less
//! densely than its nearest neighbours do.
//!
//! [`factor`] is the factor on a matrix. As a detector of panels it keeps a sample of the learnt rows
//! of all series, seasonal residuals over several widths ([`crate::features::residual_rows`]), and
//! compares every row with those: about 1 for a row in the middle of others, higher outside. A row
//! that is itself in the sample is its own nearest neighbour and scores lower than a new one would,
//! as any row does that was learnt from.

pub mod factor;
mod params;

#[cfg(test)]
mod tests;

use ndarray::{Array2, ArrayView2, Axis};
use rand::seq::index;

pub use params::LofParams;

use self::factor::{FactorState, LocalOutlierFactor};
use crate::{
    detectors::{
        DetectorError, DetectorName,
        residual_rows::{FittedRows, RowDetector, RowModel},
    },
    math::random::stream,
};

const NAME: DetectorName = DetectorName::Lof;

/// The detector before it has seen data.
pub type LofDetector = RowDetector<LocalOutlierFactor>;
/// The rows of a panel that others are compared with.
pub type FittedLof = FittedRows<LocalOutlierFactor>;

impl RowDetector<LocalOutlierFactor> {
    /// # Errors
    /// [`DetectorError::Parameter`] for the first parameter that is out of its range.
    pub fn new(params: LofParams) -> Result<Self, DetectorError> {
        DetectorError::first_of(NAME, params.problems())?;
        Ok(Self::from_checked(params.rows.clone(), params))
    }
}

impl RowModel for LocalOutlierFactor {
    const NAME: DetectorName = NAME;
    type Params = LofParams;
    type State = FactorState;

    fn learn(rows: ArrayView2<f64>, params: &Self::Params, seed: u64) -> Option<Self> {
        let wanted = params.reference_rows.min(rows.nrows());
        let mut sample =
            index::sample(&mut stream(seed, "lof sample", 0), rows.nrows(), wanted).into_vec();
        sample.sort_unstable();
        Self::fit(rows.select(Axis(0), &sample).view(), params.neighbours)
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

    fn state(&self) -> FactorState {
        self.state().clone()
    }

    fn restore(state: FactorState) -> Result<Self, String> {
        Self::restore(state)
    }
}
