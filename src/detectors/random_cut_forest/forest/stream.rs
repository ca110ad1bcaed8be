//! A forest over the newest points of a stream: each is scored, let in, and the oldest leaves.

use ndarray::{ArrayView1, ArrayView2, Axis};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{points::Points, tree::Tree};
use crate::math::random;

/// A tree with the random stream that its cuts are drawn from.
#[derive(Clone, Debug)]
struct Live {
    tree: Tree,
    rng: ChaCha8Rng,
}

/// A robust random cut forest over the newest points of a stream. Every point enters every tree.
#[derive(Clone, Debug)]
pub struct SlidingForest {
    /// Twice the window, so that points of a batch can be written while older ones are still in use.
    points: Points,
    window: usize,
    seen: usize,
    newest: Vec<f64>,
    trees: Vec<Live>,
}

impl SlidingForest {
    /// An empty forest of `n_trees` trees over the newest `window` points. `None` when a size is 0.
    pub fn new(dimensions: usize, n_trees: usize, window: usize, seed: u64) -> Option<Self> {
        if dimensions == 0 || n_trees == 0 || window == 0 {
            return None;
        }
        let points = Points::new(dimensions, 2 * window);
        let trees = (0..n_trees as u64)
            .map(|number| Live {
                tree: Tree::new(&points, 2 * window),
                rng: random::stream(seed, "random cut stream", number),
            })
            .collect();
        Some(Self { points, window, seen: 0, newest: vec![0.0; dimensions], trees })
    }

    /// Points that the trees hold now.
    pub fn len(&self) -> usize {
        self.seen.min(self.window)
    }

    pub fn is_empty(&self) -> bool {
        self.seen == 0
    }

    /// Scores a point against the window before it, as [`super::Forest::score`] does, and lets it in;
    /// the oldest leaves. A value that is not finite is taken to be that of the point before. Panics
    /// when the length is not the forest's.
    pub fn push(&mut self, point: ArrayView1<f64>) -> f64 {
        self.push_all(point.insert_axis(Axis(0)))[0]
    }

    /// [`push`](Self::push) for the rows of `rows[time, dimension]` one after the other: the same
    /// scores, with the trees in parallel.
    pub fn push_all(&mut self, rows: ArrayView2<f64>) -> Vec<f64> {
        assert_eq!(rows.ncols(), self.points.dimensions(), "a point has the forest's dimensions");
        let mut scores = Vec::with_capacity(rows.nrows());
        for rows in rows.axis_chunks_iter(Axis(0), self.window) {
            scores.extend(self.push_window(rows));
        }
        scores
    }

    /// At most a window of points.
    fn push_window(&mut self, rows: ArrayView2<f64>) -> Vec<f64> {
        let slots = 2 * self.window;
        for (place, row) in rows.axis_iter(Axis(0)).enumerate() {
            for (newest, value) in self.newest.iter_mut().zip(row) {
                *newest = super::finite_or(*value, *newest);
            }
            self.points.set((self.seen + place) % slots, self.newest.iter().copied());
        }
        let (points, seen, window) = (&self.points, self.seen, self.window);
        let task = Task { points, window, slots, from: seen, until: seen + rows.nrows() };
        let run = |live: &mut Live| {
            let mut scores = vec![0.0; rows.nrows()];
            task.run(live, &mut scores);
            scores
        };
        let by_tree: Vec<Vec<f64>> = if rows.nrows() == 1 {
            self.trees.iter_mut().map(run).collect()
        } else {
            self.trees.par_iter_mut().map(run).collect()
        };
        self.seen += rows.nrows();
        let mut total = vec![0.0; rows.nrows()];
        for scores in &by_tree {
            total.iter_mut().zip(scores).for_each(|(total, score)| *total += score);
        }
        total.iter_mut().for_each(|total| *total /= self.trees.len() as f64);
        total
    }
}

/// Points `from..until` of a stream, already written to their slots.
#[derive(Clone, Copy)]
struct Task<'a> {
    points: &'a Points,
    window: usize,
    slots: usize,
    from: usize,
    until: usize,
}

impl Task<'_> {
    /// Runs the points through one tree, with the best instructions that the processor has.
    fn run(self, live: &mut Live, scores: &mut [f64]) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has just said that it knows these instructions.
            return unsafe { self.run_avx2(live, scores) };
        }
        self.run_generic(live, scores);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn run_avx2(self, live: &mut Live, scores: &mut [f64]) {
        self.run_generic(live, scores);
    }

    #[inline(always)]
    fn run_generic(self, live: &mut Live, scores: &mut [f64]) {
        let Live { tree, rng } = live;
        for (number, score) in (self.from..self.until).zip(scores) {
            let slot = number % self.slots;
            *score = tree.insert(slot, self.points, rng.random());
            if number >= self.window {
                tree.forget((number - self.window) % self.slots, self.points);
            }
        }
    }
}

/// Adds each point's expected displacement in one tree to `totals`.
pub(super) fn expected_codisps(tree: &Tree, block: &Points, points: &Points, totals: &mut [f64]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has just said that it knows these instructions.
        return unsafe { expected_codisps_avx2(tree, block, points, totals) };
    }
    expected_codisps_generic(tree, block, points, totals);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn expected_codisps_avx2(tree: &Tree, block: &Points, points: &Points, totals: &mut [f64]) {
    expected_codisps_generic(tree, block, points, totals);
}

#[inline(always)]
fn expected_codisps_generic(tree: &Tree, block: &Points, points: &Points, totals: &mut [f64]) {
    for (slot, total) in totals.iter_mut().enumerate() {
        *total += tree.expected_codisp(block.get(slot), points);
    }
}
