//! Windows as the network gets them: gathered, a batch at a time, from cells that are kept once.
//!
//! Neighbouring windows of 168 steps share 167 of them, so that all windows together would be 168
//! times the data. They never exist together. On the CPU a batch is gathered from the host's cells.
//! On a GPU the cells are sent to the device once, and a batch is gathered there: what is sent for
//! it is a place for each step, one number in place of two for each metric.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::windows::{Cells, Window};
use crate::device::ComputeDevice;

/// A batch to learn from; all are `[len, windows, ..]`, none tracked for differentiation.
pub(super) struct Batch {
    /// Values, then whether they are there: `2 metrics`.
    pub(super) input: Tensor<3>,
    pub(super) targets: Tensor<3>,
    /// How much each target counts; they sum to 1, or to 0 where none counts.
    pub(super) weights: Tensor<3>,
}

/// Where windows are gathered from.
pub(super) struct Source<'a> {
    cells: &'a Cells,
    device: Device,
    /// Where batches are gathered on the device: `[cells + 1, 2 metrics]`, the last row for what is
    /// missing.
    resident: Option<Tensor<2>>,
}

impl<'a> Source<'a> {
    /// Sends the cells to the device, but where that is the CPU, or binds no buffer of their size.
    pub(super) fn new(cells: &'a Cells, device: &ComputeDevice) -> Self {
        let bytes = (cells.n_cells() + 1) * 2 * cells.n_metrics() * size_of::<f32>();
        let fits = device.max_binding_bytes().is_some_and(|most| bytes as u64 <= most);
        let host = Self { cells, device: device.burn().clone(), resident: None };
        if fits { host.into_resident() } else { host }
    }

    fn into_resident(self) -> Self {
        let shape = [self.cells.n_cells() + 1, 2 * self.cells.n_metrics()];
        let rows = Tensor::from_data(TensorData::new(self.cells.rows(), shape), &self.device);
        Self { resident: Some(rows), ..self }
    }

    /// What the network gets: `[len, windows, 2 metrics]`.
    pub(super) fn inputs(&self, windows: &[Window], len: usize) -> Tensor<3> {
        let shape = [len, windows.len()];
        match &self.resident {
            None => self.sent(self.cells.inputs(windows, len), shape),
            Some(rows) => {
                let places = self.cells.places(windows, len, 0, |_, _| true);
                self.gather(rows, places, shape)
            }
        }
    }

    /// A batch whose targets are `horizon` steps later; those of the times in `counted` count.
    pub(super) fn batch(
        &self,
        windows: &[Window],
        len: usize,
        horizon: usize,
        counted: impl Fn(usize, isize) -> bool,
    ) -> Batch {
        let shape = [len, windows.len()];
        let Some(rows) = &self.resident else {
            let (targets, weights) = self.cells.targets(windows, len, horizon, counted);
            return Batch {
                input: self.inputs(windows, len),
                targets: self.sent(targets, shape),
                weights: self.sent(weights, shape),
            };
        };
        let metrics = self.cells.n_metrics();
        let seen = self.cells.places(windows, len, 0, |_, _| true);
        let aimed = self.cells.places(windows, len, horizon, counted);
        let later = (aimed != seen).then(|| self.gather(rows, aimed, shape));
        let input = self.gather(rows, seen, shape);
        let later = later.unwrap_or_else(|| input.clone());
        let there = later.clone().narrow(2, metrics, metrics);
        let total = there.clone().sum().clamp_min(1.0).unsqueeze();
        Batch { input, targets: later.narrow(2, 0, metrics), weights: there / total }
    }

    fn sent(&self, values: Vec<f32>, [len, windows]: [usize; 2]) -> Tensor<3> {
        let width = values.len() / (len * windows);
        Tensor::from_data(TensorData::new(values, [len, windows, width]), &self.device)
    }

    /// The rows at `places`, as `[len, windows, 2 metrics]`.
    fn gather(&self, rows: &Tensor<2>, places: Vec<i32>, [len, windows]: [usize; 2]) -> Tensor<3> {
        let places = TensorData::new(places, [len * windows]);
        let places = Tensor::<1, Int>::from_data(places, &self.device);
        let width = rows.dims()[1];
        rows.clone().select(0, places).reshape([len, windows, width])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resident_source_gathers_what_the_host_does() {
        let cells = Cells::for_test(3, 20, 2);
        let windows = [(0, 0), (2, 5), (1, 13), (2, -2), (1, 18)]
            .map(|(series, start)| Window { series, start });
        let host = Source::new(&cells, &ComputeDevice::cpu());
        let resident = Source::new(&cells, &ComputeDevice::cpu()).into_resident();
        assert!(host.resident.is_none());
        for (horizon, limit) in [(0, 100), (0, 15), (3, 15), (0, -10)] {
            let batch = |source: &Source| {
                let found = source.batch(&windows, 7, horizon, |_, time| time < limit);
                [found.input, found.targets, found.weights].map(|tensor| tensor.into_data())
            };
            let (ours, theirs) = (batch(&resident), batch(&host));
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert_eq!(ours.shape(), theirs.shape());
                for (a, b) in ours.iter::<f32>().zip(theirs.iter::<f32>()) {
                    assert!((a - b).abs() < 1e-7, "{a} against {b}");
                }
            }
            let total: f32 = ours[2].iter::<f32>().sum();
            assert!((total - if limit > 0 { 1.0 } else { 0.0 }).abs() < 1e-5, "{total}");
        }
        assert_eq!(resident.inputs(&windows, 7).into_data(), host.inputs(&windows, 7).into_data());
    }
}
