//! Statistics of a panel that several detectors work on, fitted on the cells they may learn from.
//!
//! A feature knows no detector: what a fit may see arrives as a plain boolean array.

pub mod funnel;
pub mod records;
pub mod residual_rows;
pub mod seasonal;
