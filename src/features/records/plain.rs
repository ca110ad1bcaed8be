//! Features of a row on its own: scaled numbers, one-hot words, missing indicators.

use serde::{Deserialize, Serialize};

use super::params::Scaling;
use crate::{math::robust::quantile, panel::RecordBlock};

/// Words that get a feature of their own, at most, in each column: the most frequent.
const MAX_WORDS: usize = 50;

/// How one number column is imputed and scaled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Scale {
    median: f64,
    centre: f64,
    spread: f64,
}

impl Scale {
    /// `values` without missing ones; they are reordered.
    pub(super) fn fit(values: &mut [f64], scaling: Scaling) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| match values.len() {
            0 => 0.0,
            n => {
                let place = share * (n - 1) as f64;
                let (below, next) =
                    (values[place as usize], values[(place as usize + 1).min(n - 1)]);
                below + place.fract() * (next - below)
            }
        };
        let median = at(0.5);
        let count = (values.len() as f64).max(1.0);
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let quartiles = (at(0.75) - at(0.25)) / 1.349;
        let (centre, spread) = match scaling {
            // More than half of a count column may be equal: its quartiles then tell nothing.
            Scaling::Robust if quartiles > 0.0 => (median, quartiles),
            Scaling::Robust => (median, variance.sqrt()),
            Scaling::Standard => (mean, variance.sqrt()),
        };
        let spread = if spread > 0.0 && spread.is_finite() { spread } else { 1.0 };
        Self { median, centre, spread }
    }

    #[inline]
    pub(super) fn apply(&self, x: f64) -> f64 {
        let x = if x.is_nan() { self.median } else { x };
        (x - self.centre) / self.spread
    }

    pub(super) fn is_sound(&self) -> bool {
        self.median.is_finite() && self.centre.is_finite() && self.spread > 0.0
    }
}

/// Puts a measure of oddness (0 for none) on a scale that it shares with the others: about 1 at its
/// median, one unit more at the 90 % quantile of the training rows, and never above [`Softening::MOST`].
///
/// Forests that cut where the range is widest, and distances between neighbours, would otherwise
/// see little but the measure with the longest tail.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Softening {
    centre: f64,
    unit: f64,
}

impl Softening {
    /// How many units the scale has.
    const MOST: f64 = 6.0;

    /// `values` are reordered.
    pub(super) fn fit(values: &mut [f64]) -> Self {
        let centre = quantile(values, 0.5).unwrap_or(0.0);
        let unit = quantile(values, 0.9).unwrap_or(0.0) - centre;
        Self { centre, unit: if unit > 1e-9 { unit } else { 1.0 } }
    }

    #[inline]
    pub(super) fn apply(&self, x: f64) -> f64 {
        let y = ((x - self.centre) / self.unit + 1.0).max(0.0);
        y / (1.0 + y / Self::MOST)
    }

    pub(super) fn is_sound(&self) -> bool {
        self.centre.is_finite() && self.unit.is_finite() && self.unit > 0.0
    }
}

/// The words of one column that have a feature, most frequent first: the first one stands in for a
/// missing word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Words(pub(super) Vec<String>);

impl Words {
    pub(super) fn fit(block: &RecordBlock, column: usize) -> Self {
        let words = &block.words[column];
        let mut counts = vec![0_usize; words.vocabulary.len()];
        for &code in &words.codes {
            if let Some(count) = counts.get_mut(code as usize) {
                *count += 1;
            }
        }
        let mut ranked: Vec<(usize, &String)> =
            counts.into_iter().zip(words.vocabulary.iter()).filter(|(n, _)| *n > 0).collect();
        ranked.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        ranked.truncate(MAX_WORDS);
        Self(ranked.into_iter().map(|(_, word)| word.clone()).collect())
    }

    /// For each code of the block the place of its feature; `None` for a word of no feature.
    pub(super) fn places(&self, block: &RecordBlock, column: usize) -> Vec<Option<usize>> {
        let place = |word: &String| self.0.iter().position(|known| known == word);
        block.words[column].vocabulary.iter().map(place).collect()
    }
}
