//! One isolation tree, its nodes in flat arrays.

use ndarray::ArrayView2;
use rand::{Rng, RngExt, seq::index};
use serde::{Deserialize, Serialize};

/// The feature of a node that splits nothing.
pub const LEAF: u32 = u32::MAX;

/// Average path length of an unsuccessful search in a binary search tree of `rows` keys: what a leaf
/// that still holds several rows adds to the depth (Liu, Ting and Zhou 2008, equation 1).
pub fn average_path(rows: usize) -> f64 {
    match rows {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => {
            let n = rows as f64;
            2.0 * ((n - 1.0).ln() + std::f64::consts::EULER_GAMMA) - 2.0 * (n - 1.0) / n
        }
    }
}

/// An isolation tree in flat arrays, breadth first, so that both children of a node lie side by side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// The column that a node splits by, or [`LEAF`].
    pub feature: Vec<u32>,
    /// A value up to and including it goes left.
    pub threshold: Vec<f64>,
    /// The left child; the right one is the next node. 0 in a leaf.
    pub left: Vec<u32>,
    /// Rows of the sample that came by.
    pub rows: Vec<u32>,
}

impl Tree {
    /// Grows a tree on `sample_size` rows drawn without replacement, down to single rows, rows that
    /// no feature tells apart, or a depth of `ceil(log2(sample_size))`.
    pub fn grow(rows: ArrayView2<f64>, sample_size: usize, rng: &mut impl Rng) -> Self {
        let mut sample = index::sample(rng, rows.nrows(), sample_size).into_vec();
        let max_depth = sample_size.next_power_of_two().trailing_zeros();
        let mut tree = Self::default();
        tree.push(sample.len());
        let mut columns: Vec<usize> = (0..rows.ncols()).collect();
        // One entry a node, in the order of the nodes: the part of `sample` that it holds, its depth.
        let mut parts = vec![(0..sample.len(), 0)];
        let mut node = 0;
        while node < parts.len() {
            let (part, depth) = parts[node].clone();
            let held = &mut sample[part.clone()];
            if depth < max_depth
                && let Some((feature, threshold)) = draw_split(rows, held, &mut columns, rng)
            {
                let middle = part.start + divide(rows, held, feature, threshold);
                tree.feature[node] = feature as u32;
                tree.threshold[node] = threshold;
                tree.left[node] = parts.len() as u32;
                for part in [part.start..middle, middle..part.end] {
                    tree.push(part.len());
                    parts.push((part, depth + 1));
                }
            }
            node += 1;
        }
        tree
    }

    fn push(&mut self, rows: usize) {
        self.feature.push(LEAF);
        self.threshold.push(0.0);
        self.left.push(0);
        self.rows.push(rows as u32);
    }

    /// Number of nodes, leaves included.
    pub fn nodes(&self) -> usize {
        self.feature.len()
    }

    pub fn is_leaf(&self, node: usize) -> bool {
        self.feature[node] == LEAF
    }

    /// A missing value goes where more of the sample went.
    pub fn missing_goes_left(&self, node: usize) -> bool {
        let left = self.left[node] as usize;
        self.rows[left] >= self.rows[left + 1]
    }

    /// The child of an inner node that a row belongs to.
    fn child(&self, node: usize, value: f64) -> usize {
        let left = self.left[node] as usize;
        let goes_left = if value.is_nan() {
            self.missing_goes_left(node)
        } else {
            value <= self.threshold[node]
        };
        left + usize::from(!goes_left)
    }

    /// The nodes that a row passes, from the root to its leaf.
    pub fn path<'a>(&'a self, row: impl Fn(usize) -> f64 + 'a) -> impl Iterator<Item = usize> + 'a {
        std::iter::successors(Some(0), move |&node| {
            let feature = self.feature[node];
            (feature != LEAF).then(|| self.child(node, row(feature as usize)))
        })
    }

    /// For each node, the path length to expect of a row of the sample that is there: in a leaf its
    /// depth and [`average_path`] of its rows, above it the mean of its children by rows.
    pub fn expected_paths(&self) -> Vec<f64> {
        let mut expected = vec![0.0; self.nodes()];
        for (node, &left) in self.left.iter().enumerate().filter(|(_, left)| **left > 0) {
            expected[left as usize] = expected[node] + 1.0;
            expected[left as usize + 1] = expected[node] + 1.0;
        }
        for node in (0..self.nodes()).rev() {
            let rows = |node: usize| f64::from(self.rows[node]);
            if self.is_leaf(node) {
                expected[node] += average_path(self.rows[node] as usize);
            } else {
                let (a, b) = (self.left[node] as usize, self.left[node] as usize + 1);
                expected[node] =
                    (rows(a) * expected[a] + rows(b) * expected[b]) / (rows(a) + rows(b));
            }
        }
        expected
    }

    /// What is wrong with a tree that came out of a checkpoint, if anything is.
    pub fn defect(&self, features: usize) -> Option<&'static str> {
        let n = self.nodes();
        if n == 0 || [self.threshold.len(), self.left.len(), self.rows.len()] != [n; 3] {
            return Some("its arrays differ in length");
        }
        let mut next = 1;
        for node in 0..n {
            if self.is_leaf(node) {
                continue;
            }
            if self.feature[node] as usize >= features || !self.threshold[node].is_finite() {
                return Some("a split has no such feature or threshold");
            }
            // Breadth first: every pair of children follows the pairs of the nodes before.
            if self.left[node] as usize != next || next + 1 >= n {
                return Some("a node has children out of order");
            }
            let (a, b) = (u64::from(self.rows[next]), u64::from(self.rows[next + 1]));
            if a == 0 || b == 0 || a + b != u64::from(self.rows[node]) {
                return Some("the rows of two children do not add up");
            }
            next += 2;
        }
        (next != n).then_some("it has nodes that no path leads to")
    }
}

/// A feature drawn evenly among those that tell the rows apart, and a threshold drawn evenly between
/// its least and its greatest finite value. `columns` is a permutation of the features to draw from.
fn draw_split(
    rows: ArrayView2<f64>,
    held: &[usize],
    columns: &mut [usize],
    rng: &mut impl Rng,
) -> Option<(usize, f64)> {
    if held.len() < 2 {
        return None;
    }
    for left in (1..=columns.len()).rev() {
        let drawn = rng.random_range(0..left);
        let feature = columns[drawn];
        columns.swap(drawn, left - 1); // a constant one is not drawn again in this node
        let (low, high) = held
            .iter()
            .map(|&row| rows[[row, feature]])
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        if low < high {
            let share: f64 = rng.random();
            let threshold = low * (1.0 - share) + high * share;
            return Some((feature, if threshold < high { threshold.max(low) } else { low }));
        }
    }
    None
}

/// Sorts rows to the left and the right of a split, those without a value to the larger side, and
/// says how many went left.
fn divide(rows: ArrayView2<f64>, held: &mut [usize], feature: usize, threshold: f64) -> usize {
    let value = |row: usize| rows[[row, feature]];
    let left = held.iter().filter(|&&row| value(row) <= threshold).count();
    let right = held.iter().filter(|&&row| value(row) > threshold).count();
    let goes_left = |row: usize| {
        let v = value(row);
        if v.is_nan() { left >= right } else { v <= threshold }
    };
    // A stable division in place would need a buffer; the order inside a side means nothing.
    let mut middle = 0;
    for place in 0..held.len() {
        if goes_left(held[place]) {
            held.swap(place, middle);
            middle += 1;
        }
    }
    middle
}
