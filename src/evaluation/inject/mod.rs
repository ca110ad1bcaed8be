//! Injection tests: what a run would find of anomalies of known kind and size, on data without
//! labels.
//!
//! Real series have no labels, but anomalies can be put into a copy of them. [`plan`] chooses places
//! among the judged cells that are normal as far as anybody knows; [`Usual::inject`] changes the
//! panel there, so that counts stay counts and ratios follow from their parts; whoever runs the
//! detectors on both panels gives the flags to a [`Tally`]. How far a series can show anything at all
//! is a question apart: [`Bisection`] seeks the smallest single-step spike and drop that is flagged.
//!
//! What is injected is what is measured: a detector that finds a tripled week may miss an anomaly
//! of another shape.

mod apply;
mod params;
mod plan;
mod smallest;
mod tally;

pub use apply::Usual;
pub use params::{InjectParams, Kind, Treatment};
pub use plan::{Injection, plan};
pub use smallest::{Bisection, DROPS, SPIKES, middle};
pub use tally::{DetectionRow, FalseAlarmRow, Flags, Tally};
