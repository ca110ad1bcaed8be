//! Why a run stopped.

use std::path::PathBuf;

use crate::{
    checkpoint::CheckpointError, detectors::DetectorError, device::DeviceError,
    ensemble::EnsembleError, panel::BuildError, report::ReportError, sink::SinkError,
    source::SourceError,
};

/// Why a run stopped. Every message names the place and ends with what to do.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Panel(#[from] BuildError),
    #[error(transparent)]
    Detector(#[from] DetectorError),
    #[error(transparent)]
    Ensemble(#[from] EnsembleError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("{path}: {source}; check that the folder exists and is writable")]
    Io { path: PathBuf, source: std::io::Error },
    #[error(
        "{path} is not marked as ready for use: {}; compare the detector's settings with a config that works and train again, or look at what it does with detect --allow-unready",
        reasons.join("; ")
    )]
    NotReady { path: PathBuf, reasons: Vec<String> },
    /// What was asked for does not fit together; nothing was run.
    #[error("{0}")]
    Arguments(String),
    #[error("{0}")]
    Other(String),
}

impl PipelineError {
    /// The arguments name what is not there: a device, an input, a checkpoint.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Arguments(_) => true,
            Self::Device(error) => !matches!(error, DeviceError::Start { .. }),
            Self::Source(SourceError::NoFiles(_)) => true,
            Self::Source(SourceError::Io { source, .. }) => {
                source.kind() == std::io::ErrorKind::NotFound
            }
            Self::Checkpoint(error) => matches!(error, CheckpointError::NotACheckpoint { .. }),
            _ => false,
        }
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
