//! Many rows through many trees without a branch that depends on a row.
//!
//! A walk from the root waits at every node for the node, then for the row's value, then for the
//! comparison: about 800 such steps for a row and a hundred trees of depth eight. Here every inner
//! node of a tree is evaluated for a whole block of rows instead, children before parents: the
//! result of a node is the left child's where the row's value is at most the threshold, else the
//! right child's. That is one comparison and one selection for 16 or 32 rows at once, and needs no
//! gather. A tree on 256 rows has some 70 inner nodes, so it is a tenth of the work of the walks.
//!
//! For that the values must be narrow. A row's value is replaced by its rank among all thresholds of
//! its feature, 16 bits; `value <= threshold` holds exactly when `rank(value) <= rank(threshold)`,
//! so nothing is rounded. What a node passes on is the number of the leaf; leaves' path lengths are
//! added in double precision in the order of the trees, so that the sum is the walk's to the bit.
//!
//! The code is plain loops over arrays that the compiler turns into vector instructions; what is
//! chosen at run time is only the instruction set that it was compiled for.

use std::hint::select_unpredictable;

use ndarray::ArrayView2;

use super::tree::Tree;

/// Rows that go through the trees together. A column of ranks is 512 bytes, so that the columns of
/// a dozen features and the results that wait stay in the first-level cache.
pub const BLOCK: usize = 256;
/// With more leaves than this, walks are faster.
const MAX_LEAVES: usize = 512;
/// Ranks are 16 bits, and the last one stands for a missing value that goes right.
const MAX_CUTS: usize = u16::MAX as usize - 1;

/// Shifted by 32,768, because older instruction sets compare signed numbers only.
type Ranks = [i16; BLOCK];

/// Where a node's result comes from.
#[derive(Clone, Copy, Debug)]
enum Children {
    /// Two leaves.
    Leaves(i16, i16),
    /// The left child's result, and a leaf to the right.
    NodeLeaf(i16),
    /// A leaf to the left, and the right child's result.
    LeafNode(i16),
    /// Two results.
    Nodes,
}

/// One inner node.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Column of ranks: twice the feature, and one more where missing values go right.
    column: u32,
    /// Rank of the threshold.
    rank: i16,
    /// Where the result goes. Results of children are found there and, of a second child, behind.
    slot: u16,
    children: Children,
}

/// One tree: its inner nodes, children before parents, and the path lengths of its leaves.
#[derive(Clone, Debug)]
struct Program {
    steps: Vec<Step>,
    paths: Box<[f64; MAX_LEAVES]>,
}

/// Trees that share one table of thresholds.
#[derive(Clone, Debug)]
struct Bank {
    /// For each feature, its thresholds in rising order.
    cuts: Vec<Vec<f64>>,
    programs: Vec<Program>,
}

/// A forest laid out for blocks of rows.
#[derive(Clone, Debug)]
pub struct Banks {
    banks: Vec<Bank>,
    slots: usize,
}

impl Banks {
    /// Lays out the trees; `expected` holds the path length of each leaf. `None` where a tree has
    /// too many leaves.
    pub fn build(trees: &[Tree], expected: &[Vec<f64>], features: usize) -> Option<Self> {
        if trees.iter().any(|tree| tree.nodes() / 2 + 1 > MAX_LEAVES) {
            return None;
        }
        let mut banks = Vec::new();
        let mut slots = 1;
        let mut from = 0;
        while from < trees.len() {
            let mut splits = 0;
            let fits = |tree: &&Tree| {
                splits += tree.nodes() / 2;
                splits <= MAX_CUTS
            };
            let until = from + trees[from..].iter().take_while(fits).count();
            let cuts = cuts_of(&trees[from..until], features);
            let mut programs = Vec::with_capacity(until - from);
            for (tree, expected) in trees[from..until].iter().zip(&expected[from..until]) {
                let (program, used) = Program::build(tree, expected, &cuts);
                slots = slots.max(used);
                programs.push(program);
            }
            banks.push(Bank { cuts, programs });
            from = until;
        }
        Some(Self { banks, slots })
    }

    /// Number of threshold tables.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.banks.len()
    }

    /// Writes the sum over trees of each row's path length. At most [`BLOCK`] rows.
    pub fn total_paths(&self, rows: ArrayView2<f64>, totals: &mut [f64]) {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl") {
                // SAFETY: the processor has just said that it knows these instructions.
                return unsafe { self.total_paths_avx512(rows, totals) };
            }
            if is_x86_feature_detected!("avx2") {
                // SAFETY: as above.
                return unsafe { self.total_paths_avx2(rows, totals) };
            }
        }
        self.total_paths_generic(rows, totals);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn total_paths_avx512(&self, rows: ArrayView2<f64>, totals: &mut [f64]) {
        self.total_paths_generic(rows, totals);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn total_paths_avx2(&self, rows: ArrayView2<f64>, totals: &mut [f64]) {
        self.total_paths_generic(rows, totals);
    }

    #[inline(always)]
    fn total_paths_generic(&self, rows: ArrayView2<f64>, totals: &mut [f64]) {
        totals.fill(0.0);
        let mut columns = vec![[0; BLOCK]; 2 * rows.ncols()];
        let mut results = vec![[0; BLOCK]; self.slots + 1];
        for bank in &self.banks {
            for (feature, cuts) in bank.cuts.iter().enumerate() {
                let (left, right) = columns[2 * feature..].split_at_mut(1);
                rank_column(rows, feature, cuts, &mut left[0], &mut right[0]);
            }
            for program in &bank.programs {
                program.run(&columns, &mut results);
                for (total, leaf) in totals.iter_mut().zip(&results[0]) {
                    *total += program.paths[*leaf as usize % MAX_LEAVES];
                }
            }
        }
    }
}

/// The thresholds of each feature, in rising order, each once.
fn cuts_of(trees: &[Tree], features: usize) -> Vec<Vec<f64>> {
    let mut cuts = vec![Vec::new(); features];
    for tree in trees {
        for node in (0..tree.nodes()).filter(|node| !tree.is_leaf(*node)) {
            cuts[tree.feature[node] as usize].push(tree.threshold[node]);
        }
    }
    for cuts in &mut cuts {
        cuts.sort_unstable_by(f64::total_cmp);
        cuts.dedup();
    }
    cuts
}

/// Ranks of one feature: the number of thresholds below the value. Missing ones are below all in
/// `left` and above all in `right`.
#[inline(always)]
fn rank_column(
    rows: ArrayView2<f64>,
    feature: usize,
    cuts: &[f64],
    left: &mut Ranks,
    right: &mut Ranks,
) {
    let mut values = [f64::NAN; BLOCK];
    for (value, row) in values.iter_mut().zip(rows.column(feature)) {
        *value = *row;
    }
    let mut places = [0_u32; BLOCK];
    let mut size = cuts.len();
    // A binary search in which every value takes the same steps, so that the rows of a block
    // interleave.
    while size > 1 {
        let half = size / 2;
        for (place, value) in places.iter_mut().zip(&values) {
            let above = *place + half as u32;
            let below = cuts[above as usize - 1] < *value;
            *place = select_unpredictable(below, above, *place);
        }
        size -= half;
    }
    for (lane, value) in values.iter().enumerate() {
        let below = match cuts.get(places[lane] as usize) {
            Some(cut) if cut < value => places[lane] + 1,
            _ => places[lane],
        };
        let below = shifted(below as usize);
        left[lane] = if value.is_nan() { i16::MIN } else { below };
        right[lane] = if value.is_nan() { i16::MAX } else { below };
    }
}

/// A rank as [`Ranks`] hold it.
#[inline(always)]
fn shifted(rank: usize) -> i16 {
    (rank as i32 + i32::from(i16::MIN)) as i16
}

impl Program {
    /// The program and the number of slots that it needs.
    fn build(tree: &Tree, expected: &[f64], cuts: &[Vec<f64>]) -> (Self, usize) {
        let mut program = Self { steps: Vec::new(), paths: Box::new([0.0; MAX_LEAVES]) };
        let mut leaves = vec![0; tree.nodes()];
        let ends = (0..tree.nodes()).filter(|node| tree.is_leaf(*node));
        for (number, node) in ends.enumerate() {
            leaves[node] = number as i16;
            program.paths[number] = expected[node];
        }
        let slots = program.add(tree, 0, 0, &leaves, cuts);
        (program, slots)
    }

    /// Adds the steps of a subtree whose result goes to `slot`; returns the slots in use at most.
    fn add(
        &mut self,
        tree: &Tree,
        node: usize,
        slot: usize,
        leaves: &[i16],
        cuts: &[Vec<f64>],
    ) -> usize {
        if tree.is_leaf(node) {
            return slot + 1;
        }
        let left = tree.left[node] as usize;
        let (mut used, mut next) = (slot + 1, slot);
        for child in [left, left + 1].into_iter().filter(|child| !tree.is_leaf(*child)) {
            used = used.max(self.add(tree, child, next, leaves, cuts));
            next += 1;
        }
        let feature = tree.feature[node];
        let below = |cut: &f64| *cut < tree.threshold[node];
        self.steps.push(Step {
            column: 2 * feature + u32::from(!tree.missing_goes_left(node)),
            rank: shifted(cuts[feature as usize].partition_point(below)),
            slot: slot as u16,
            children: match (tree.is_leaf(left), tree.is_leaf(left + 1)) {
                (true, true) => Children::Leaves(leaves[left], leaves[left + 1]),
                (false, true) => Children::NodeLeaf(leaves[left + 1]),
                (true, false) => Children::LeafNode(leaves[left]),
                (false, false) => Children::Nodes,
            },
        });
        used
    }

    /// Leaves the number of each row's leaf in the first slot.
    #[inline(always)]
    fn run(&self, columns: &[Ranks], results: &mut [Ranks]) {
        if self.steps.is_empty() {
            results[0].fill(0); // a tree that is one leaf
        }
        for step in &self.steps {
            let ranks = &columns[step.column as usize];
            let (own, second) = results[step.slot as usize..].split_at_mut(1);
            let (own, rank) = (&mut own[0], step.rank);
            match step.children {
                Children::Leaves(a, b) => {
                    for lane in 0..BLOCK {
                        own[lane] = choose(ranks[lane] > rank, a, b);
                    }
                }
                Children::NodeLeaf(b) => {
                    for lane in 0..BLOCK {
                        own[lane] = choose(ranks[lane] > rank, own[lane], b);
                    }
                }
                Children::LeafNode(a) => {
                    for lane in 0..BLOCK {
                        own[lane] = choose(ranks[lane] > rank, a, own[lane]);
                    }
                }
                Children::Nodes => {
                    let second = &second[0];
                    for lane in 0..BLOCK {
                        own[lane] = choose(ranks[lane] > rank, own[lane], second[lane]);
                    }
                }
            }
        }
    }
}

/// `right` or `left`, by a mask: an `if` is compiled to a choice between two addresses.
#[inline(always)]
fn choose(goes_right: bool, left: i16, right: i16) -> i16 {
    left ^ ((left ^ right) & i16::from(goes_right).wrapping_neg())
}
