//! Anomaly detection for panels of business metrics.
//!
//! ```text
//! source -> panel -> features -> detectors -> ensemble -> analysis -> report / sink
//! raw       series x   matrix     one Scores    calibrate    cause,      charts, page,
//! rows      time x     per        per detector  combine      impact,     CSV, Parquet
//!           metric     series                   label        shift
//! ```
//!
//! Data only ever flows to the right. [`pipeline`] wires the stages; [`cli`] sits on top of it;
//! nothing below knows them. `tests/architecture.rs` holds the rules.

pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod detectors;
pub mod device;
pub mod ensemble;
pub mod evaluation;
pub mod features;
pub mod math;
pub mod panel;
pub mod pipeline;
pub mod report;
pub mod sink;
pub mod source;
