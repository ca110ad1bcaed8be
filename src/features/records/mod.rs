//! Features of records: what of a row is unusual for its context, learnt from the training part.
//!
//! | Group | Features | Meaning |
//! |---|---|---|
//! | `context` | one per number | the normal deviate of its rank within the row's context (channel and queue, say), shrunk to all rows where the context is small; decorrelated, so that it says what is odd *given* the other numbers; its size, whatever the direction |
//! | `mismatch` | `context_mismatch` | by how much the row fits another context better than its own (twice the log density), from where 30 % of the training rows lie |
//! | `burst` | `burst_<rows>` | how far the last rows of the context have moved together, this one with them |
//! | `plain` | `plain_<number>` | the number, logged where asked for, imputed by its median, scaled |
//! | `one_hot` | `<column>=<word>` | 1 for the row's word, the most frequent one standing in for a missing one; unknown words are 0 everywhere |
//! | `missing` | `<number>_missing` | 1 where the number is missing |
//!
//! The first three groups measure oddness, and are put on one scale that levels off for the oddest.
//! A missing number counts as typical for its context. Only [`BurstState`] remembers earlier rows;
//! nothing ever sees a later one.

mod burst;
mod context;
mod normal;
mod params;
mod plain;

#[cfg(test)]
mod tests;

use ndarray::Array2;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use burst::BurstState;
pub use params::{FeatureGroup, RecordFeatureParams, Scaling};

use self::{
    burst::BurstScale,
    context::{Contexts, Lookup, words_of},
    plain::{Scale, Softening, Words},
};
use crate::{
    math::{eigen::inverse_root, robust::quantile},
    panel::{MISSING_WORD, RecordBlock},
};

/// Fewer rows than this are too few to tell what is normal.
pub const LEAST_ROWS: usize = 100;
/// Deviates are cut here where their correlation is measured.
const CORRELATION_CUT: f64 = 2.5;
/// Weight of "no correlation", which keeps the matrix invertible.
const CORRELATION_PRIOR: f64 = 0.02;
/// Share of the training rows whose mismatch counts as none.
const MISMATCH_FLOOR_SHARE: f64 = 0.3;

/// Why features could not be fitted or restored.
#[derive(Debug, thiserror::Error)]
pub enum RecordFeatureError {
    #[error(
        "{found} rows are too few to learn what is normal ({LEAST_ROWS} are needed): give more data"
    )]
    TooFewRows { found: usize },
    #[error(
        "the column `{column}` has no value in the training rows: leave it out of records.features"
    )]
    EmptyColumn { column: String },
    #[error("the features in the checkpoint are damaged: train again, or take another checkpoint")]
    Damaged,
}

/// Features fitted to the training rows; what a checkpoint keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordFeatures {
    params: RecordFeatureParams,
    contexts: Contexts,
    /// `[number, number]`, row by row: from deviates to decorrelated deviates.
    whitening: Vec<f64>,
    mismatch_floor: f64,
    burst: BurstScale,
    /// One per feature of the groups that measure oddness, in the matrix's order.
    softening: Vec<Softening>,
    scales: Vec<Scale>,
    words: Vec<Words>,
}

/// The features of a block of rows.
#[derive(Clone, Debug)]
pub struct FeatureMatrix {
    /// `[row, feature]`, finite.
    pub values: Array2<f64>,
    /// `[row, number]`: deviates within the context with their sign, given the other numbers.
    pub deviates: Array2<f64>,
    /// `[row]`: the row's place in [`RecordFeatures::context_name`].
    pub contexts: Vec<usize>,
}

impl RecordFeatures {
    /// Learns from all rows of `training`, whose columns are those of the parameters in order.
    ///
    /// # Errors
    /// With too few rows, or a number column without any number.
    pub fn fit(
        training: &RecordBlock,
        params: &RecordFeatureParams,
    ) -> Result<Self, RecordFeatureError> {
        if training.len() < LEAST_ROWS {
            return Err(RecordFeatureError::TooFewRows { found: training.len() });
        }
        let n = training.n_numbers;
        let numbers = logged(training, params);
        let scales = (0..n)
            .map(|column| {
                let mut values: Vec<f64> = numbers
                    .iter()
                    .skip(column)
                    .step_by(n)
                    .copied()
                    .filter(|x| !x.is_nan())
                    .collect();
                if values.is_empty() {
                    let column = params.numeric.get(column).cloned().unwrap_or_default();
                    return Err(RecordFeatureError::EmptyColumn { column });
                }
                Ok(Scale::fit(&mut values, params.scaling))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let columns = context_columns(params);
        let words: Vec<Vec<&str>> =
            (0..training.len()).map(|row| words_of(training, &columns, row)).collect();
        let contexts = Contexts::fit(&numbers, n, &words, params.context_prior_rows);
        let mut fitted = Self {
            params: params.clone(),
            contexts,
            whitening: Array2::<f64>::eye(n).into_iter().collect(),
            mismatch_floor: f64::NEG_INFINITY,
            burst: BurstScale::fit(&[], n),
            softening: Vec::new(),
            scales,
            words: (0..params.categorical.len()).map(|c| Words::fit(training, c)).collect(),
        };
        let places = fitted.places(training);
        fitted.whitening = whitening(&fitted.deviates(&numbers, &places), n);
        fitted.burst = BurstScale::fit(&fitted.deviates(&numbers, &places), n);
        let mut mismatches = fitted.mismatches(training, &numbers);
        mismatches.retain(|x| x.is_finite());
        fitted.mismatch_floor = quantile(&mut mismatches, MISMATCH_FLOOR_SHARE).unwrap_or(0.0);
        let raw = fitted.transform(training, &mut BurstState::default()).values;
        fitted.softening = fitted
            .oddness()
            .into_iter()
            .map(|column| Softening::fit(&mut raw.column(column).to_vec()))
            .collect();
        Ok(fitted)
    }

    /// Refuses features that were read from a file and make no sense.
    ///
    /// # Errors
    /// When a number is out of its range or the parts do not fit together.
    pub fn validate(&self) -> Result<(), RecordFeatureError> {
        let n = self.params.numeric.len();
        let sound = self.params.check().is_empty()
            && self.contexts.is_sound(n, self.params.context.len())
            && self.whitening.len() == n * n
            && self.whitening.iter().all(|x| x.is_finite())
            && self.mismatch_floor.is_finite()
            && self.burst.is_sound(n)
            && self.softening.len() == self.oddness().len()
            && self.softening.iter().all(Softening::is_sound)
            && self.scales.len() == n
            && self.scales.iter().all(Scale::is_sound)
            && self.words.len() == self.params.categorical.len();
        if sound { Ok(()) } else { Err(RecordFeatureError::Damaged) }
    }

    pub fn params(&self) -> &RecordFeatureParams {
        &self.params
    }

    /// The features' names, in the order of the matrix's columns.
    pub fn names(&self) -> Vec<String> {
        let numeric = &self.params.numeric;
        let group = |group: &FeatureGroup| -> Vec<String> {
            match group {
                FeatureGroup::Context => numeric.clone(),
                FeatureGroup::Mismatch => vec!["context_mismatch".into()],
                FeatureGroup::Burst => {
                    self.params.burst_rows.iter().map(|rows| format!("burst_{rows}")).collect()
                }
                FeatureGroup::Plain => numeric.iter().map(|name| format!("plain_{name}")).collect(),
                FeatureGroup::OneHot => self
                    .params
                    .categorical
                    .iter()
                    .zip(&self.words)
                    .flat_map(|(column, words)| {
                        words.0.iter().map(move |word| format!("{column}={word}"))
                    })
                    .collect(),
                FeatureGroup::Missing => {
                    numeric.iter().map(|name| format!("{name}_missing")).collect()
                }
            }
        };
        self.params.groups.iter().flat_map(group).collect()
    }

    /// Contexts of the training part, with the one of all rows.
    pub fn n_contexts(&self) -> usize {
        self.contexts.list.len()
    }

    /// The words of a context, joined; `all` for the one of rows that fit none.
    pub fn context_name(&self, place: usize) -> String {
        match self.contexts.list.get(place).map(|context| &context.words) {
            Some(words) if !words.is_empty() => words
                .iter()
                .map(|word| if word.is_empty() { "(missing)" } else { word })
                .collect::<Vec<_>>()
                .join(" / "),
            _ => "all".into(),
        }
    }

    /// The features of the next rows. `state` is what earlier rows left behind, and is moved on.
    pub fn transform(&self, block: &RecordBlock, state: &mut BurstState) -> FeatureMatrix {
        let n = block.n_numbers;
        let numbers = logged(block, &self.params);
        let contexts = self.places(block);
        let deviates = self.deviates(&numbers, &contexts);
        let bursts = self.bursts(block, &contexts, &deviates, state);
        let n_bursts = self.params.burst_rows.len();
        let mismatches = if self.params.groups.contains(&FeatureGroup::Mismatch) {
            self.mismatches(block, &numbers)
        } else {
            Vec::new()
        };
        let one_hot: Vec<Vec<Option<usize>>> =
            self.words.iter().enumerate().map(|(c, words)| words.places(block, c)).collect();
        let width = self.names().len();
        let mut values = vec![0.0; block.len() * width];
        values.par_chunks_mut(width).enumerate().for_each(|(row, out)| {
            let parts = Parts {
                numbers: &numbers[row * n..][..n],
                deviates: &deviates[row * n..][..n],
                mismatch: mismatches.get(row).copied().unwrap_or(f64::NEG_INFINITY),
                bursts: bursts.get(row * n_bursts..(row + 1) * n_bursts).unwrap_or_default(),
            };
            let code = |column: usize| block.words[column].codes[row];
            self.fill(out, &parts, &one_hot, code);
        });
        let values = matrix(values, width);
        let deviates = matrix(deviates, n);
        FeatureMatrix { values, deviates, contexts }
    }

    fn fill(
        &self,
        out: &mut [f64],
        parts: &Parts<'_>,
        one_hot: &[Vec<Option<usize>>],
        code: impl Fn(usize) -> u32,
    ) {
        let (mut at, mut oddness) = (0, self.softening.iter());
        let mut put = |value: f64| {
            out[at] = value;
            at += 1;
        };
        // Without a softening the fit is still measuring what to soften.
        let mut soft = |value: f64| oddness.next().map_or(value, |s| s.apply(value));
        for group in &self.params.groups {
            match group {
                FeatureGroup::Context => parts.deviates.iter().for_each(|z| put(soft(z.abs()))),
                // A row that can be compared with no other context mismatches none.
                FeatureGroup::Mismatch => put(soft(parts.mismatch.max(self.mismatch_floor))),
                FeatureGroup::Burst => parts.bursts.iter().for_each(|x| put(soft(*x))),
                FeatureGroup::Plain => {
                    std::iter::zip(parts.numbers, &self.scales).for_each(|(x, s)| put(s.apply(*x)));
                }
                FeatureGroup::OneHot => {
                    for (column, (words, places)) in self.words.iter().zip(one_hot).enumerate() {
                        let place = match code(column) {
                            MISSING_WORD => Some(0),
                            code => places.get(code as usize).copied().flatten(),
                        };
                        (0..words.0.len()).for_each(|w| put(f64::from(u8::from(place == Some(w)))));
                    }
                }
                FeatureGroup::Missing => {
                    parts.numbers.iter().for_each(|x| put(f64::from(u8::from(x.is_nan()))));
                }
            }
        }
    }

    /// For each group its first column and its number of columns.
    fn layout(&self) -> Vec<(FeatureGroup, std::ops::Range<usize>)> {
        let n = self.params.numeric.len();
        let mut from = 0;
        let width = |group: FeatureGroup| match group {
            FeatureGroup::Context | FeatureGroup::Plain | FeatureGroup::Missing => n,
            FeatureGroup::Mismatch => 1,
            FeatureGroup::Burst => self.params.burst_rows.len(),
            FeatureGroup::OneHot => self.words.iter().map(|words| words.0.len()).sum(),
        };
        self.params
            .groups
            .iter()
            .map(|&group| {
                let columns = from..from + width(group);
                from = columns.end;
                (group, columns)
            })
            .collect()
    }

    /// The matrix's columns that measure oddness.
    fn oddness(&self) -> Vec<usize> {
        let odd = |group: &FeatureGroup| {
            matches!(group, FeatureGroup::Context | FeatureGroup::Mismatch | FeatureGroup::Burst)
        };
        let layout = self.layout();
        layout
            .into_iter()
            .filter(|(group, _)| odd(group))
            .flat_map(|(_, columns)| columns)
            .collect()
    }

    /// The group of each of the matrix's columns.
    pub fn groups(&self) -> Vec<FeatureGroup> {
        let layout = self.layout();
        layout.into_iter().flat_map(|(group, columns)| columns.map(move |_| group)).collect()
    }

    /// For each row one value per window; nothing where bursts are no feature.
    fn bursts(
        &self,
        block: &RecordBlock,
        contexts: &[usize],
        deviates: &[f64],
        state: &mut BurstState,
    ) -> Vec<f64> {
        if !self.params.groups.contains(&FeatureGroup::Burst) {
            return Vec::new();
        }
        let windows = (&self.params.burst_rows[..], (self.params.burst_hours * 3_600.0) as i64);
        let mut bursts = vec![0.0; block.len() * windows.0.len()];
        let rows = std::iter::zip(contexts, &block.times)
            .zip(deviates.chunks_exact(block.n_numbers))
            .zip(bursts.chunks_exact_mut(windows.0.len()));
        for (((&context, &time), row), out) in rows {
            state.push(context, time, row, &self.burst, windows, out);
        }
        bursts
    }

    /// For each row the place of its context.
    fn places(&self, block: &RecordBlock) -> Vec<usize> {
        let columns = context_columns(&self.params);
        let mut lookup = Lookup::new(&self.contexts);
        (0..block.len()).map(|row| lookup.place(block, &columns, row)).collect()
    }

    /// Decorrelated deviates, row by row.
    fn deviates(&self, numbers: &[f64], places: &[usize]) -> Vec<f64> {
        let n = self.params.numeric.len();
        let mut deviates = vec![0.0; numbers.len()];
        deviates.par_chunks_mut(n).zip(numbers.par_chunks(n)).zip(places.par_iter()).for_each_init(
            || vec![0.0; n],
            |raw, ((out, numbers), &place)| {
                let maps = &self.contexts.list[place].maps;
                for ((z, x), map) in raw.iter_mut().zip(numbers).zip(maps) {
                    *z = if x.is_nan() { 0.0 } else { map.deviate(*x) };
                }
                for (out, weights) in out.iter_mut().zip(self.whitening.chunks_exact(n)) {
                    *out = std::iter::zip(weights, raw.iter()).map(|(w, z)| w * z).sum();
                }
            },
        );
        deviates
    }

    /// Minus infinity where a row can be compared with no other context.
    fn mismatches(&self, block: &RecordBlock, numbers: &[f64]) -> Vec<f64> {
        let columns = context_columns(&self.params);
        let n = self.params.numeric.len();
        numbers
            .par_chunks(n)
            .enumerate()
            .map(|(row, numbers)| {
                let words = words_of(block, &columns, row);
                self.contexts.mismatch(&words, numbers).unwrap_or(f64::NEG_INFINITY)
            })
            .collect()
    }
}

/// What the features of one row are made of.
struct Parts<'a> {
    numbers: &'a [f64],
    deviates: &'a [f64],
    mismatch: f64,
    bursts: &'a [f64],
}

/// Values row by row as a matrix of that width.
fn matrix(values: Vec<f64>, width: usize) -> Array2<f64> {
    let rows = values.len() / width.max(1);
    let dim = (rows, width);
    // The lengths agree by construction.
    Array2::from_shape_vec(dim, values).unwrap_or_else(|_| Array2::zeros(dim))
}

/// The places of the context columns among the word columns.
fn context_columns(params: &RecordFeatureParams) -> Vec<usize> {
    let place = |name| params.categorical.iter().position(|column| column == name);
    params.context.iter().filter_map(place).collect()
}

/// The numbers, logged where asked for. A negative number has no logarithm here and stays below 0.
fn logged(block: &RecordBlock, params: &RecordFeatureParams) -> Vec<f64> {
    let log: Vec<bool> = params.numeric.iter().map(|name| params.log.contains(name)).collect();
    let value = |(x, log): (&f64, &bool)| if *log { x.signum() * x.abs().ln_1p() } else { *x };
    block.numbers.iter().zip(log.iter().cycle()).map(value).collect()
}

/// The inverse root of the deviates' correlation.
fn whitening(deviates: &[f64], n: usize) -> Vec<f64> {
    let rows = (deviates.len() / n) as f64;
    let cut = |row: &[f64], c: usize| row[c].clamp(-CORRELATION_CUT, CORRELATION_CUT);
    let mut mean = vec![0.0; n];
    for row in deviates.chunks_exact(n) {
        (0..n).for_each(|c| mean[c] += cut(row, c) / rows);
    }
    let mut covariance = Array2::<f64>::zeros((n, n));
    for row in deviates.chunks_exact(n) {
        for i in 0..n {
            for j in 0..n {
                covariance[[i, j]] += (cut(row, i) - mean[i]) * (cut(row, j) - mean[j]) / rows;
            }
        }
    }
    let correlation = Array2::from_shape_fn((n, n), |(i, j)| {
        if i == j {
            return 1.0;
        }
        let scale = (covariance[[i, i]] * covariance[[j, j]]).sqrt();
        let r = if scale > 1e-12 { covariance[[i, j]] / scale } else { 0.0 };
        (1.0 - CORRELATION_PRIOR) * r
    });
    inverse_root(&correlation).into_iter().collect()
}
