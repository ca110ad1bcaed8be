//! What a fit is given beside the data: seed, device, progress, cancellation.

use std::{
    collections::BTreeSet,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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

/// Which known events (campaigns, holidays) cover which steps of a panel's series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnownEvents {
    /// `[series]`: name and steps of each event.
    by_series: Vec<Vec<(String, Range<usize>)>>,
}

impl KnownEvents {
    /// None yet, on a panel of so many series.
    pub fn new(n_series: usize) -> Self {
        Self { by_series: vec![Vec::new(); n_series] }
    }

    /// One more; events of one name are thought to have one effect. A series that the panel lacks
    /// is passed over.
    pub fn add(&mut self, series: usize, name: &str, steps: Range<usize>) {
        if let Some(events) = self.by_series.get_mut(series) {
            events.push((name.to_string(), steps));
        }
    }

    /// The names of the events of a series, in order.
    pub fn names(&self, series: usize) -> BTreeSet<&str> {
        let events = self.by_series.get(series).map_or(&[][..], Vec::as_slice);
        events.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// `[time]` of `n_times` steps: 1 where an event of that name covers the series, else 0.
    pub fn column(&self, series: usize, name: &str, n_times: usize) -> Vec<f64> {
        let mut column = vec![0.0; n_times];
        let events = self.by_series.get(series).map_or(&[][..], Vec::as_slice);
        for (_, steps) in events.iter().filter(|(of, _)| of == name) {
            column[steps.start.min(n_times)..steps.end.min(n_times)].fill(1.0);
        }
        column
    }
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
    /// On the panel at hand. The mask forbids their cells, except to a detector that
    /// [models them](super::Detector::models_known_events).
    pub known_events: Arc<KnownEvents>,
}

impl FitContext {
    /// Silent, on the CPU.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            device: ComputeDevice::cpu(),
            progress: Arc::new(Silent),
            cancelled: Arc::new(AtomicBool::new(false)),
            known_events: Arc::default(),
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
