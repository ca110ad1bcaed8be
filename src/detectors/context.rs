//! What a fit is given beside the data: seed, device, progress, cancellation.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{detectors::DetectorError, device::ComputeDevice};

/// Where a long computation says how far it is. The command line draws bars; tests stay silent.
pub trait Progress: Send + Sync {
    /// A new stage of `total` units begins; it replaces the stage before.
    fn start(&self, stage: &str, total: u64);
    /// `units` more are done.
    fn advance(&self, units: u64);
    /// `units` are done in all, for work that counts its own position (bytes read).
    fn advance_to(&self, units: u64);
    /// A short text beside the bar: "epoch 3, validation loss 0.12".
    fn note(&self, text: &str);
    /// The stage is over.
    fn finish(&self);
}

/// Says nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _stage: &str, _total: u64) {}
    fn advance(&self, _units: u64) {}
    fn advance_to(&self, _units: u64) {}
    fn note(&self, _text: &str) {}
    fn finish(&self) {}
}

/// What a fit is given beside the data.
#[derive(Clone)]
pub struct FitContext {
    /// Every random stream of the run derives from this seed.
    pub seed: u64,
    /// Where tensors live.
    pub device: ComputeDevice,
    pub progress: Arc<dyn Progress>,
    pub cancelled: Arc<AtomicBool>,
}

impl FitContext {
    /// Silent, on the CPU.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            device: ComputeDevice::cpu(),
            progress: Arc::new(Silent),
            cancelled: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Errors once somebody has asked to stop; long loops call it between units of work.
    pub fn check_cancelled(&self) -> Result<(), DetectorError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(DetectorError::Cancelled);
        }
        Ok(())
    }
}
