//! `nb`: minus twice the log-likelihood of negative-binomial counts, for changes of a rate.

use super::{Cost, retain};

/// Counts `y` with exposures `e` (what a step is expected to hold, 1 for plain counts) and a rate that
/// is the same within a segment: mean `rate e`, variance `rate e (1 + dispersion rate)`. Sums of such
/// counts are of the same family with the exposures added, so the best rate of a segment is the sum of
/// its counts over the sum of its exposures, and
///
/// ```text
/// cost = -2 [Y ln rate - (Y + E / dispersion) ln(1 + dispersion rate)],   rate = Y / E
/// ```
///
/// but for terms that no segmentation changes. With exposures of 1 it is NB2, and with a dispersion of 0
/// Poisson. The dispersion is one for the whole sequence: a new one for each segment would let noise pass
/// for changes of noise.
#[derive(Clone, Debug)]
pub struct CountLikelihood {
    sums: Vec<f64>,
    exposures: Vec<f64>,
    dispersion: f64,
    starts: Vec<usize>,
}

impl CountLikelihood {
    /// Of counts and their exposures, side by side; exposures are positive. Anything but a finite
    /// positive dispersion counts as 0.
    pub fn new(counts: &[f64], exposures: &[f64], dispersion: f64) -> Self {
        let running = |values: &[f64]| {
            let mut sum = 0.0;
            let mut sums = vec![0.0];
            sums.extend(values.iter().map(|value| {
                sum += value;
                sum
            }));
            sums
        };
        let sound = dispersion > 0.0 && dispersion.is_finite();
        Self {
            sums: running(counts),
            exposures: running(exposures),
            dispersion: if sound { dispersion } else { 0.0 },
            starts: Vec::new(),
        }
    }
}

impl Cost for CountLikelihood {
    fn len(&self) -> usize {
        self.sums.len() - 1
    }

    fn push(&mut self, start: usize) {
        self.starts.push(start);
    }

    fn retain(&mut self, keep: &[bool]) {
        retain(&mut self.starts, keep);
    }

    fn totals(&mut self, end: usize, before: &[f64], out: &mut Vec<f64>) {
        let starts = self.starts.iter().zip(before);
        out.clear();
        out.extend(starts.map(|(start, before)| before + self.segment(*start, end)));
    }

    fn segment(&self, start: usize, end: usize) -> f64 {
        let sum = self.sums[end] - self.sums[start];
        let exposure = self.exposures[end] - self.exposures[start];
        if sum <= 0.0 || exposure <= 0.0 {
            return 0.0;
        }
        let rate = sum / exposure;
        let shrink = self.dispersion * rate;
        // (Y + E / a) ln(1 + a r) = E (r + 1 / a) ln(1 + a r), and E r without overdispersion.
        let spread = if shrink > 1e-9 {
            (1.0 + shrink) * shrink.ln_1p() / shrink
        } else {
            1.0 + 0.5 * shrink
        };
        -2.0 * sum * (rate.ln() - spread)
    }
}

/// Dispersion of counts about a level that may change: from the squares of the differences of
/// neighbours, whose mean a change now and then hardly moves, by the method of moments,
///
/// ```text
/// E (y1/e1 - y2/e2)^2 = rate (1 + dispersion rate) (1/e1 + 1/e2),    E (y1/e1) (y2/e2) = rate^2
/// ```
///
/// Each difference is cut at three of its own standard deviations by the dispersion found so far. 0 where
/// counts vary less than a Poisson's.
pub fn dispersion(counts: &[f64], exposures: &[f64]) -> f64 {
    // Of a normal variable cut at 3 standard deviations, the mean square.
    const KEPT: f64 = 0.995_01;
    const CUT: f64 = 9.0;
    let mut found = None;
    for _ in 0..8 {
        let (mut excess, mut square_of_rate) = (0.0, 0.0);
        for (y, e) in counts.windows(2).zip(exposures.windows(2)) {
            let both = e[0].recip() + e[1].recip();
            let rate = (y[0] + y[1]) / (e[0] + e[1]);
            let square = (y[0] / e[0] - y[1] / e[1]).powi(2) / both;
            let kept = found.map_or(square, |dispersion: f64| {
                square.min(CUT * rate * (1.0 + dispersion * rate)) / KEPT
            });
            excess += kept - rate;
            square_of_rate += y[0] / e[0] * (y[1] / e[1]);
        }
        if square_of_rate <= 0.0 {
            return 0.0;
        }
        found = Some((excess / square_of_rate).max(0.0));
    }
    found.unwrap_or(0.0)
}
