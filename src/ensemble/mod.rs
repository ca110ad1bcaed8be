//! From the detectors' scores to one verdict per cell.

mod types;

pub use types::*;
