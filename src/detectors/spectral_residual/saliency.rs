//! What stands out of a series' spectrum (Ren et al. 2019, section 3.2).
//!
//! With the transform X, the log amplitude L = ln |X| and its mean over neighbouring frequencies M,
//! the saliency is |F⁻¹(exp(L - M) × X / |X|)|: every frequency is weighed down to what its
//! neighbours do not explain, so that seasons and trends, which are sharp peaks there, vanish and what
//! happens once stays. The transform of a real series comes back real, so its sign tells above from
//! below.

use crate::math::fourier::{Complex, transform};

/// Points that are made up after the end, as in the paper: the transform is periodic, and without
/// them the newest point borders on the oldest.
const EXTENSION: usize = 5;
/// Newest points that tell the gradient of the extension.
const GRADIENT_OF: usize = 5;
/// Amplitudes below this share of the largest are numerical noise.
const LEAST_AMPLITUDE: f64 = 1e-9;
/// Shorter series have no spectrum worth the name.
pub const MIN_LEN: usize = 16;

/// Signed saliency of each value of a series without gaps, times the root of its length, so that
/// series of different lengths compare. `average` is the number of frequencies of the local mean, odd.
/// Zeros for a constant or shorter one than [`MIN_LEN`].
pub fn saliency(values: &[f64], average: usize) -> Vec<f64> {
    let n = values.len();
    if n < MIN_LEN {
        return vec![0.0; n];
    }
    let mut extended = values.to_vec();
    extended.resize(n + EXTENSION, continued(values));
    let len = extended.len();
    let mean = extended.iter().sum::<f64>() / len as f64;
    let centred: Vec<Complex> = extended.iter().map(|x| (x - mean, 0.0)).collect();
    let mut spectrum = transform(&centred, -1.0);
    let amplitudes: Vec<f64> = spectrum.iter().map(|c| c.0.hypot(c.1)).collect();
    let largest = amplitudes.iter().copied().fold(0.0, f64::max);
    let scale = values.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
    if largest <= 1e-12 * scale * len as f64 {
        return vec![0.0; n];
    }
    let least = LEAST_AMPLITUDE * largest;
    let mut log: Vec<f64> = amplitudes.iter().map(|a| a.max(least).ln()).collect();
    // The mean was taken off, and its bin says nothing about its neighbours.
    log[0] = log[1];
    let usual = circular_mean(&log, average);
    for ((bin, amplitude), (log, usual)) in
        spectrum.iter_mut().zip(&amplitudes).zip(log.iter().zip(&usual))
    {
        let factor = (log - usual).exp() / amplitude.max(least);
        *bin = (bin.0 * factor, bin.1 * factor);
    }
    spectrum[0] = (0.0, 0.0);
    let root = (len as f64).sqrt();
    transform(&spectrum, 1.0).iter().take(n).map(|c| c.0 * root).collect()
}

/// The paper's next value: from the mean gradient of the lines that join the last value with each of
/// the few before it.
fn continued(values: &[f64]) -> f64 {
    let last = values.len() - 1;
    let steps = GRADIENT_OF.min(last);
    let gradients = (1..=steps).map(|back| (values[last] - values[last - back]) / back as f64);
    let gradient = gradients.sum::<f64>() / steps.max(1) as f64;
    values[last + 1 - GRADIENT_OF.min(last + 1)] + gradient * GRADIENT_OF as f64
}

/// Mean of `width` neighbours around each place, around the end as on a circle.
fn circular_mean(values: &[f64], width: usize) -> Vec<f64> {
    let n = values.len();
    let half = width.min(n) / 2;
    let around =
        |k: usize| (0..=2 * half).map(move |i| values[(k + n + i - half) % n]).sum::<f64>();
    (0..n).map(|k| around(k) / (2 * half + 1) as f64).collect()
}

/// Centred mean of `width` values, fewer at the ends; an even width reaches one step further back.
pub fn smoothed(values: &[f64], width: usize) -> Vec<f64> {
    let n = values.len();
    let (back, ahead) = (width / 2, width.saturating_sub(1) / 2);
    let mut sums = Vec::with_capacity(n + 1);
    sums.push(0.0);
    for value in values {
        sums.push(sums[sums.len() - 1] + value);
    }
    (0..n)
        .map(|t| {
            let (from, to) = (t.saturating_sub(back), (t + ahead + 1).min(n));
            (sums[to] - sums[from]) / (to - from) as f64
        })
        .collect()
}

/// Fills gaps by straight lines between their neighbours, ends by the nearest value. `None` without
/// any finite value.
pub fn bridged(values: impl Iterator<Item = f64>) -> Option<Vec<f64>> {
    let mut filled: Vec<f64> = values.collect();
    let known: Vec<usize> = (0..filled.len()).filter(|&t| filled[t].is_finite()).collect();
    let (&first, &last) = (known.first()?, known.last()?);
    let (head, tail) = (filled[first], filled[last]);
    filled[..first].fill(head);
    filled[last + 1..].fill(tail);
    for pair in known.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let slope = (filled[to] - filled[from]) / (to - from) as f64;
        for t in from + 1..to {
            filled[t] = filled[from] + slope * (t - from) as f64;
        }
    }
    Some(filled)
}
