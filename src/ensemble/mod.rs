//! From raw scores to verdicts.

mod types;

pub use types::*;
