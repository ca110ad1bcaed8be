//! What is normal within a context (a channel and a queue, say), shrunk to what is normal overall.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::normal::{MEDIAN, NormalMap, Quantiles, SHARES, quantiles};
use crate::panel::{MISSING_WORD, RecordBlock};

/// Contexts that a row is held against to see whether it fits another one better: the largest.
const MAX_CONTRASTS: usize = 64;
/// A context of fewer rows is too uncertain to be the better fit.
const LEAST_CONTRAST_ROWS: usize = 50;
/// Squared deviates end here in the comparison of contexts, so that one wild number does not decide.
const FURTHEST_SQUARED: f64 = 25.0;
/// The least spread of a column within a context, as a share of its spread overall.
const LEAST_SPREAD: f64 = 0.25;
/// A context of fewer rows is judged by what is normal overall.
const MIN_CONTEXT_ROWS: usize = 10;

/// One context.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Context {
    /// One word per context column; empty where it is missing.
    pub(super) words: Vec<String>,
    pub(super) rows: usize,
    /// One per number column.
    pub(super) maps: Vec<NormalMap>,
    /// Median and half the distance of the 12 % and 88 % quantiles over that of a normal law.
    centre: Vec<f64>,
    spread: Vec<f64>,
}

/// All contexts of the training part; the first is all rows together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Contexts {
    pub(super) list: Vec<Context>,
    /// Places of the contexts that rows are compared with.
    contrasts: Vec<usize>,
}

/// Number columns of the rows, by context.
struct Sorted {
    columns: Vec<Vec<f64>>,
    rows: usize,
}

impl Sorted {
    fn of(n_columns: usize) -> Self {
        Self { columns: vec![Vec::new(); n_columns], rows: 0 }
    }

    fn sort(&mut self) {
        self.columns.iter_mut().for_each(|column| column.sort_unstable_by(f64::total_cmp));
    }
}

impl Contexts {
    /// `numbers[row * n + column]` of the training rows, NaN where missing; `words[row]` are their
    /// contexts. `prior_rows` is the weight of all rows in each context's quantiles.
    pub(super) fn fit(numbers: &[f64], n: usize, words: &[Vec<&str>], prior_rows: f64) -> Self {
        let mut all = Sorted::of(n);
        let mut groups: BTreeMap<&[&str], Sorted> = BTreeMap::new();
        for (row, words) in numbers.chunks_exact(n).zip(words) {
            let group = groups.entry(words).or_insert_with(|| Sorted::of(n));
            for part in [&mut all, group] {
                part.rows += 1;
                for (column, x) in part.columns.iter_mut().zip(row) {
                    if !x.is_nan() {
                        column.push(*x);
                    }
                }
            }
        }
        all.sort();
        let overall: Vec<Quantiles> = all
            .columns
            .iter()
            .map(|column| quantiles(column).unwrap_or([0.0; SHARES.len()]))
            .collect();
        let spreads: Vec<f64> =
            all.columns.iter().zip(&overall).map(|(column, q)| inner_spread(column, q)).collect();
        let mut list = vec![Context::new(Vec::new(), &all, &overall, &spreads, prior_rows)];
        for (words, mut group) in groups {
            group.sort();
            let words = words.iter().map(|word| word.to_string()).collect();
            list.push(Context::new(words, &group, &overall, &spreads, prior_rows));
        }
        let contrasts = contrasts(&list);
        Self { list, contrasts }
    }

    /// How much better a row fits a context that contradicts its words than one that agrees with
    /// them: the difference of twice the log densities, each number on its own. `None` where the
    /// row's words contradict no context, or agree with none.
    pub(super) fn mismatch(&self, words: &[&str], numbers: &[f64]) -> Option<f64> {
        let (mut own, mut other) = (f64::INFINITY, f64::INFINITY);
        for &place in &self.contrasts {
            let context = &self.list[place];
            let distance = context.distance(numbers);
            let agrees = context.words.iter().zip(words).all(|(a, b)| b.is_empty() || a == b);
            let best = if agrees { &mut own } else { &mut other };
            *best = best.min(distance);
        }
        (own.is_finite() && other.is_finite()).then_some(own - other)
    }

    /// Whether the numbers are usable, for contexts that come from a file.
    pub(super) fn is_sound(&self, n_columns: usize, n_words: usize) -> bool {
        let positive = |x: &f64| x.is_finite() && *x > 0.0;
        self.contrasts.iter().all(|&place| place < self.list.len())
            && !self.list.is_empty()
            && self.list.iter().enumerate().all(|(place, context)| {
                context.words.len() == if place == 0 { 0 } else { n_words }
                    && context.maps.len() == n_columns
                    && context.maps.iter().all(NormalMap::is_sound)
                    && context.centre.len() == n_columns
                    && context.centre.iter().all(|x| x.is_finite())
                    && context.spread.len() == n_columns
                    && context.spread.iter().all(positive)
            })
    }
}

impl Context {
    fn new(
        words: Vec<String>,
        sorted: &Sorted,
        overall: &[Quantiles],
        spreads: &[f64],
        prior_rows: f64,
    ) -> Self {
        let (mut maps, mut centre, mut spread) = (Vec::new(), Vec::new(), Vec::new());
        for ((column, overall), &widest) in sorted.columns.iter().zip(overall).zip(spreads) {
            let own = quantiles(column).unwrap_or(*overall);
            let rows = column.len() as f64;
            // Quantiles of a handful of rows would drag those of all rows wherever they happen to lie.
            let enough = column.len() >= MIN_CONTEXT_ROWS;
            let weight = if enough { rows / (rows + prior_rows) } else { 0.0 };
            let shrunk: Quantiles =
                std::array::from_fn(|i| weight * own[i] + (1.0 - weight) * overall[i]);
            maps.push(NormalMap::new(&shrunk, widest));
            centre.push(shrunk[MEDIAN]);
            // The 88 % quantile of a normal law lies 1.175 deviates above its median.
            let width = (shrunk[MEDIAN + 3] - shrunk[MEDIAN - 3]) / (2.0 * 1.175);
            spread.push(width.max(LEAST_SPREAD * widest));
        }
        Self { words, rows: sorted.rows, maps, centre, spread }
    }

    /// Minus twice the log density of the numbers that are there, but for a constant.
    #[inline]
    fn distance(&self, numbers: &[f64]) -> f64 {
        let mut total = 0.0;
        for ((x, centre), spread) in numbers.iter().zip(&self.centre).zip(&self.spread) {
            if !x.is_nan() {
                let z = (x - centre) / spread;
                total += (z * z).min(FURTHEST_SQUARED) + 2.0 * spread.ln();
            }
        }
        total
    }
}

/// Standard deviation of the values between the outermost quantiles; tiny, but not 0, for a
/// constant column.
fn inner_spread(sorted: &[f64], quantiles: &Quantiles) -> f64 {
    let (low, high) = (quantiles[0], quantiles[SHARES.len() - 1]);
    let count = (sorted.len() as f64).max(1.0);
    let clipped = || sorted.iter().map(|x| x.clamp(low, high));
    let mean = clipped().sum::<f64>() / count;
    let variance = clipped().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
    variance.sqrt().max(1e-9)
}

/// The largest contexts without a missing word.
fn contrasts(list: &[Context]) -> Vec<usize> {
    let fits = |place: &usize| {
        let context = &list[*place];
        context.rows >= LEAST_CONTRAST_ROWS && context.words.iter().all(|word| !word.is_empty())
    };
    let mut places: Vec<usize> = (1..list.len()).filter(fits).collect();
    places.sort_by_key(|&place| (std::cmp::Reverse(list[place].rows), place));
    places.truncate(MAX_CONTRASTS);
    places
}

/// Finds the context of a row by the codes of its words, and remembers what it found.
pub(super) struct Lookup<'a> {
    contexts: &'a Contexts,
    places: HashMap<Vec<&'a str>, usize>,
    known: HashMap<Vec<u32>, usize>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(contexts: &'a Contexts) -> Self {
        let places = contexts.list.iter().enumerate().skip(1);
        Self {
            contexts,
            places: places
                .map(|(place, context)| (context.words.iter().map(String::as_str).collect(), place))
                .collect(),
            known: HashMap::new(),
        }
    }

    /// The place of the row's context. Words that the fit never saw together are taken as missing,
    /// the last one first; when nothing is left, it is 0: all rows.
    pub(super) fn place(&mut self, block: &RecordBlock, columns: &[usize], row: usize) -> usize {
        let codes: Vec<u32> = columns.iter().map(|&c| block.words[c].codes[row]).collect();
        if let Some(&place) = self.known.get(&codes) {
            return place;
        }
        let words: Vec<&str> = columns.iter().map(|&c| block.words[c].word(row)).collect();
        let place = self.search(words);
        self.known.insert(codes, place);
        place
    }

    fn search(&self, mut words: Vec<&str>) -> usize {
        for missing in (0..=words.len()).rev() {
            if missing < words.len() {
                words[missing] = "";
            }
            if let Some(&place) = self.places.get(words.as_slice()) {
                return place.min(self.contexts.list.len() - 1);
            }
        }
        0
    }
}

/// The words of a row's context.
pub(super) fn words_of<'b>(block: &'b RecordBlock, columns: &[usize], row: usize) -> Vec<&'b str> {
    columns
        .iter()
        .map(|&c| match block.words[c].codes[row] {
            MISSING_WORD => "",
            _ => block.words[c].word(row),
        })
        .collect()
}
