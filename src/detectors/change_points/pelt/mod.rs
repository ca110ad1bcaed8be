//! Where the level of a sequence changes: PELT, the pruned exact search of Killick, Fearnhead and
//! Eckley (2012, JASA 107, "Optimal detection of changepoints with a linear computational cost").
//!
//! A segmentation costs the sum of its segments' costs and a penalty for each change. The best one of
//! the first `t` values follows from the best ones of fewer values,
//!
//! ```text
//! best(t) = min over s of  best(s) + cost(s..t) + penalty
//! ```
//!
//! and a start `s` with `best(s) + cost(s..t) > best(t)` can never win again, because splitting a
//! segment never makes it dearer. With a shortest segment of `min_size` values that holds from
//! `t + min_size` on, since only then is a segment that starts at `t` long enough. Starts are kept
//! that long here, so the search stays exact; ruptures 1.1.10 drops them at once and can then miss the
//! optimum (the golden test has such a signal).
//!
//! One pass finds the best segmentation of **every** beginning of the sequence, so that a detector
//! can ask what was known at each step ([`Path::last_start`]).

mod absolute;
mod counts;
mod kernel;
mod squares;

#[cfg(test)]
mod tests;

pub use absolute::AbsoluteDeviation;
pub use counts::{CountLikelihood, dispersion};
pub use kernel::{GaussianKernel, MAX_KERNEL_VALUES, kernel_scatter, median_heuristic};
pub use squares::SquaredDeviation;

/// What segments cost. `search` walks the end of the segments forward and keeps a list of starts.
pub trait Cost {
    /// Number of values.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `start` joins the list; it is later than every start there.
    fn push(&mut self, start: usize);

    /// Starts with a false `keep` leave the list; `keep` has one entry for each.
    fn retain(&mut self, keep: &[bool]);

    /// `before` of each start of the list, in its order, plus the cost of the values from there to
    /// `end`. `end` rises from call to call.
    fn totals(&mut self, end: usize, before: &[f64], out: &mut Vec<f64>);

    /// Cost of the values `start..end`, whatever the list holds; 0 for none.
    fn segment(&self, start: usize, end: usize) -> f64;
}

/// The best segmentations of every beginning of a sequence.
#[derive(Clone, Debug)]
pub struct Path {
    /// For each length, the start of the last segment.
    starts: Vec<u32>,
    /// For each length, by how much the last change lowers the cost beyond its penalty.
    margins: Vec<f64>,
}

impl Path {
    /// Where the last segment begins when the first `len` values are known. 0: no change yet.
    pub fn last_start(&self, len: usize) -> usize {
        self.starts[len] as usize
    }

    /// By how much the last change among the first `len` values lowers the cost beyond the penalty,
    /// against a segmentation that lacks that change alone. At least 0; where the rival has
    /// been pruned, the penalty, which is then a lower bound.
    pub fn margin(&self, len: usize) -> f64 {
        self.margins[len]
    }

    /// Starts of the segments after the first, rising, when the first `len` values are known.
    pub fn changes(&self, len: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let mut start = self.last_start(len);
        while start > 0 {
            found.push(start);
            start = self.last_start(start);
        }
        found.reverse();
        found
    }
}

/// Starts beyond the horizon are thinned out to one for each so many.
const BLOCK: usize = 32;

/// The starts that may still win. Ends are floats, so that one comparison fits the other's width.
#[derive(Default)]
struct Candidates {
    starts: Vec<u32>,
    /// `best(start) + penalty`, aligned with `starts`.
    before: Vec<f64>,
    /// The end from which on the start is out.
    out_from: Vec<f64>,
    keep: Vec<bool>,
}

impl Candidates {
    fn push(&mut self, start: usize, before: f64) {
        self.starts.push(start as u32);
        self.before.push(before);
        self.out_from.push(f64::INFINITY);
    }

    /// Starts whose total is above `bound` are out from `end` on.
    fn prune(&mut self, totals: &[f64], bound: f64, end: usize) {
        let end = end as f64;
        for (from, total) in self.out_from.iter_mut().zip(totals) {
            let out = if *total > bound { end } else { f64::INFINITY };
            *from = if out < *from { out } else { *from };
        }
    }

    /// Of the block of starts that has just fallen behind the horizon only the best stays, and the very
    /// first start.
    fn thin(&mut self, totals: &[f64], end: usize, horizon: usize) {
        let Some(behind) = end.checked_sub(horizon) else { return };
        if behind == 0 || !behind.is_multiple_of(BLOCK) {
            return;
        }
        let place = |start: usize| self.starts.partition_point(|s| (*s as usize) < start);
        let block = place((behind - BLOCK).max(1))..place(behind);
        let Some(best) = block.clone().min_by(|a, b| totals[*a].total_cmp(&totals[*b])) else {
            return;
        };
        for place in block.filter(|place| *place != best) {
            self.out_from[place] = self.out_from[place].min((end + 1) as f64);
        }
    }

    /// Drops what is out at `end`.
    fn drop_at(&mut self, end: usize, cost: &mut (impl Cost + ?Sized)) {
        let end = end as f64;
        if least(&self.out_from) > end {
            return;
        }
        self.keep.clear();
        self.keep.extend(self.out_from.iter().map(|from| *from > end));
        cost.retain(&self.keep);
        retain(&mut self.starts, &self.keep);
        retain(&mut self.before, &self.keep);
        retain(&mut self.out_from, &self.keep);
    }
}

/// The smallest of the values, eight side by side.
fn least(values: &[f64]) -> f64 {
    const LANES: usize = 8;
    let smaller = |a: f64, b: f64| if a < b { a } else { b };
    let (blocks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f64::INFINITY; LANES];
    for block in blocks {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane = smaller(*value, *lane);
        }
    }
    rest.iter().chain(&lanes).copied().fold(f64::INFINITY, smaller)
}

/// Totals that differ by less than this share are level: rounding decides nothing.
const LEVEL: f64 = 1e-12;

/// The place of the smallest total; of the earliest start where several are level, which
/// absolute deviations often are.
fn winner(totals: &[f64]) -> usize {
    let least = least(totals);
    let bound = least + LEVEL * least.abs();
    totals.iter().position(|total| *total <= bound).unwrap_or(0)
}

/// Keeps the items with a true `keep`.
fn retain<T>(items: &mut Vec<T>, keep: &[bool]) {
    let mut flags = keep.iter();
    items.retain(|_| flags.next().copied().unwrap_or(true));
}

/// The best segmentations under `penalty`, in the unit of the cost, with segments of at least
/// `min_size` values (0 counts as 1). Beginnings shorter than that are one segment.
///
/// Takes time in proportion to the number of values where changes keep coming, and to its square where
/// none come.
pub fn search(cost: &mut (impl Cost + ?Sized), penalty: f64, min_size: usize) -> Path {
    search_within(cost, penalty, min_size, usize::MAX)
}

/// As [`search`], but of starts that lie more than `horizon` values back only the best of each
/// thirty-two neighbours is followed further. Exact up to `horizon` values; beyond them the start of
/// a very long segment may be off by some.
pub fn search_within(
    cost: &mut (impl Cost + ?Sized),
    penalty: f64,
    min_size: usize,
    horizon: usize,
) -> Path {
    let (n, min_size) = (cost.len(), min_size.max(1));
    let mut path = Path { starts: vec![0; n + 1], margins: vec![0.0; n + 1] };
    let mut best = vec![0.0; n + 1];
    let mut candidates = Candidates::default();
    let mut totals = Vec::new();
    for end in min_size..=n {
        let start = end - min_size;
        // A first segment that is too short is none.
        if start == 0 || start >= min_size {
            candidates.push(start, best[start] + penalty);
            cost.push(start);
        }
        candidates.drop_at(end, cost);
        cost.totals(end, &candidates.before, &mut totals);
        let winner = winner(&totals);
        let least = totals[winner];
        best[end] = least;
        path.starts[end] = candidates.starts[winner];
        path.margins[end] = margin(&path, &candidates, &totals, winner, penalty);
        let bound = least + penalty + LEVEL * (least.abs() + penalty.abs());
        candidates.prune(&totals, bound, end + min_size);
        candidates.thin(&totals, end, horizon);
    }
    path
}

/// See [`Path::margin`]; `path` is known up to before this end.
fn margin(
    path: &Path,
    candidates: &Candidates,
    totals: &[f64],
    winner: usize,
    penalty: f64,
) -> f64 {
    let start = candidates.starts[winner];
    if start == 0 {
        return 0.0;
    }
    match candidates.starts.binary_search(&path.starts[start as usize]) {
        Ok(rival) => (totals[rival] - totals[winner]).max(0.0),
        Err(_) => penalty.max(0.0),
    }
}
