//! Which variant of the kernels a device runs.

/// What an adapter allows one workgroup.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) units: usize,
    pub(super) shared_bytes: usize,
    pub(super) workgroups: usize,
}

/// All that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// A multiple of 4.
    pub(super) hidden: usize,
    /// Windows per workgroup.
    pub(super) rows: usize,
    /// Quads of weights that a unit holds in registers; it reads the others every step.
    pub(super) held: usize,
    /// Whether the forward pass writes what the backward pass needs.
    pub(super) keep: bool,
    pub(super) constant_input: bool,
}

/// Quads of weights per unit that leave room for the rest of the kernel in 128 registers, which is
/// what 512 units may have each on current hardware.
const MOST_HELD: usize = 16;

/// Windows per workgroup, at most: their partial sums are held in registers, too.
const MOST_ROWS: usize = 8;

/// Workgroups that fill a large GPU: two for each of the 132 multiprocessors of an H100 or H200,
/// so that one computes while the other waits at a barrier.
const ENOUGH_WORKGROUPS: usize = 256;

impl Variant {
    /// `None` where one workgroup cannot have a unit for each of the `4 hidden` gates, or not the
    /// shared memory for one window, or where there are more windows than workgroups.
    pub(super) fn new(limits: Limits, hidden: usize, batch: usize) -> Option<Self> {
        let hidden = hidden.next_multiple_of(4);
        let held = (hidden / 4).min(MOST_HELD);
        // Weights that are read every step are shared by more windows.
        let enough = if held < hidden / 4 { ENOUGH_WORKGROUPS / 2 } else { ENOUGH_WORKGROUPS };
        let mut rows = (batch / enough).max(1).next_power_of_two().min(MOST_ROWS);
        while rows > 1 && shared_bytes(hidden, rows) > limits.shared_bytes {
            rows /= 2;
        }
        let variant = Self { hidden, rows, held, keep: false, constant_input: false };
        let fits = variant.units() <= limits.units
            && shared_bytes(hidden, rows) <= limits.shared_bytes
            && variant.workgroups(batch) <= limits.workgroups;
        fits.then_some(variant)
    }

    /// Units of a workgroup: one for each gate, in whole planes.
    pub(super) fn units(&self) -> usize {
        (4 * self.hidden).next_multiple_of(32)
    }

    pub(super) fn workgroups(&self, batch: usize) -> usize {
        batch.div_ceil(self.rows)
    }
}

/// What the backward kernel, the hungrier one, takes: the gradients of all gates, as the product
/// reads them, and the partial sums, as the units write them.
fn shared_bytes(hidden: usize, rows: usize) -> usize {
    2 * rows * 4 * hidden * size_of::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const H200: Limits = Limits { units: 1_024, shared_bytes: 48 << 10, workgroups: 65_535 };
    const SMALLEST: Limits = Limits { units: 256, shared_bytes: 16 << 10, workgroups: 65_535 };

    #[test]
    fn a_large_gpu_gets_two_workgroups_per_multiprocessor() {
        let rows = |hidden, batch| Variant::new(H200, hidden, batch).map(|v| (v.rows, v.held));
        assert_eq!(rows(64, 64), Some((1, 16)));
        assert_eq!(rows(64, 1_024), Some((4, 16)));
        assert_eq!(rows(32, 256), Some((1, 8)));
        assert_eq!(rows(128, 256), Some((2, 16)));
        assert_eq!(rows(64, 100_000), Some((8, 16)));
    }

    #[test]
    fn small_limits_take_fewer_rows_or_none() {
        assert_eq!(Variant::new(SMALLEST, 64, 100_000).map(|v| v.rows), Some(8));
        assert_eq!(Variant::new(SMALLEST, 65, 10), None);
        let tight = Limits { shared_bytes: 5 << 10, ..H200 };
        assert_eq!(Variant::new(tight, 64, 100_000).map(|v| v.rows), Some(2));
        assert_eq!(Variant::new(Limits { shared_bytes: 1 << 10, ..H200 }, 64, 1), None);
        assert_eq!(Variant::new(Limits { workgroups: 3, ..H200 }, 64, 4), None);
    }

    #[test]
    fn every_row_of_states_has_its_units() {
        for hidden in 1..=256 {
            for batch in [1, 2, 63, 700, 5_000] {
                let variant = Variant::new(H200, hidden, batch).unwrap();
                assert!(variant.rows * variant.hidden / 4 <= variant.units());
                assert!(variant.units() <= 1_024);
            }
        }
    }
}
