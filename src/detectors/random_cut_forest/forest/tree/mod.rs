//! One robust random cut tree that points enter and leave.

#[cfg(test)]
mod checks;
mod state;
mod walk;

pub use state::TreeState;

use self::walk::{Walk, cut_outside, value};
use super::points::{Group, Points, greatest, least, on_rim, outside_of, span};

/// No node: the parent of the root, or the root of an empty tree.
const NONE: u32 = u32::MAX;
/// Set in a reference to a leaf; the rest is the slot of the leaf's point.
const LEAF: u32 = 1 << 31;

/// An inner node: the cut, its neighbours, and how many points it holds.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// A point goes left when its value here is at most `cut`.
    dimension: u32,
    cut: f64,
    children: [u32; 2],
    parent: u32,
    points: u32,
    /// Sum of the sides of the box around the points.
    span: f64,
}

/// A leaf: one point, once or several times.
#[derive(Clone, Copy, Debug)]
struct Leaf {
    parent: u32,
    points: u32,
}

/// A robust random cut tree over slots of `Points`.
#[derive(Clone, Debug)]
pub struct Tree {
    root: u32,
    nodes: Vec<Node>,
    /// For each node the lower and the upper corner of its box.
    boxes: Vec<Group>,
    free: Vec<u32>,
    /// By slot; meaningless where no leaf stands.
    leaves: Vec<Leaf>,
    /// For each slot the slot of the leaf that holds its point: another one's for a duplicate.
    leaf_of: Vec<u32>,
    width: usize,
}

impl Tree {
    /// An empty tree over `slots` slots of points of that width.
    pub fn new(points: &Points, slots: usize) -> Self {
        Self {
            root: NONE,
            nodes: Vec::with_capacity(slots),
            boxes: Vec::with_capacity(slots * 2 * points.width()),
            free: Vec::new(),
            leaves: vec![Leaf { parent: NONE, points: 0 }; slots],
            leaf_of: vec![NONE; slots],
            width: points.width(),
        }
    }

    /// Number of points, duplicates included.
    pub fn size(&self) -> usize {
        if self.root == NONE { 0 } else { self.count(self.root) as usize }
    }

    #[inline(always)]
    fn count(&self, at: u32) -> u32 {
        if at & LEAF != 0 {
            self.leaves[(at ^ LEAF) as usize].points
        } else {
            self.nodes[at as usize].points
        }
    }

    #[inline(always)]
    fn set_parent(&mut self, at: u32, parent: u32) {
        if at & LEAF != 0 {
            self.leaves[(at ^ LEAF) as usize].parent = parent;
        } else {
            self.nodes[at as usize].parent = parent;
        }
    }

    fn parent(&self, at: u32) -> u32 {
        if at & LEAF != 0 {
            self.leaves[(at ^ LEAF) as usize].parent
        } else {
            self.nodes[at as usize].parent
        }
    }

    /// Lower and upper corner of what a reference holds.
    #[inline(always)]
    fn corners<'a>(&'a self, at: u32, points: &'a Points) -> (&'a [Group], &'a [Group]) {
        if at & LEAF != 0 {
            let point = points.get((at ^ LEAF) as usize);
            (point, point)
        } else {
            self.boxes[at as usize * 2 * self.width..][..2 * self.width].split_at(self.width)
        }
    }

    /// The side of a node that a value belongs to; without a value, the one with more points.
    #[inline(always)]
    fn side(&self, node: &Node, value: f64) -> usize {
        if value.is_nan() {
            usize::from(self.count(node.children[0]) < self.count(node.children[1]))
        } else {
            usize::from(value > node.cut)
        }
    }

    /// Lets the point in `slot` in and returns the displacement that was to be expected of it
    /// ([`expected_codisp`](Self::expected_codisp)). The slot must be empty; `drawn` is a number from
    /// 0 to below 1.
    ///
    /// Algorithm 2 of Guha et al. (2016) draws at each node a cut over the box that would hold the
    /// point too: one that separates it from the others is made, else the tree's own cut is kept
    /// and the point goes down. Whether a node separates is decided here by one number for the whole
    /// path, against the probability that a node so far did; what is left of it says where to cut.
    #[inline(always)]
    pub fn insert(&mut self, slot: usize, points: &Points, drawn: f64) -> f64 {
        if self.root == NONE {
            self.root = LEAF | slot as u32;
            self.leaves[slot] = Leaf { parent: NONE, points: 1 };
            self.leaf_of[slot] = slot as u32;
            return 0.0;
        }
        let point = points.get(slot);
        let mut place = None;
        let mut walk = Walk::new(self.root);
        while walk.at & LEAF == 0 {
            let at = walk.at;
            let before = 1.0 - walk.reach;
            let (apart, weight) = walk.step(self, point, points);
            if place.is_none() {
                if drawn < before + weight {
                    place = Some((at, apart * ((drawn - before) / weight)));
                } else {
                    self.nodes[at as usize].points += 1;
                    self.extend(at, point);
                }
            }
        }
        let (at, reach) = (walk.at, walk.reach);
        let apart = walk.end(self, point, points);
        if apart == 0.0 {
            self.add_duplicate(slot, at ^ LEAF);
            return walk.total;
        }
        let left = || apart * ((drawn - (1.0 - reach)) / reach);
        let (at, position) = place.unwrap_or_else(|| (at, left()));
        let (low, high) = self.corners(at, points);
        let (dimension, cut) = cut_outside(low, high, point, position.max(0.0));
        self.separate(at, slot, dimension, cut, points);
        walk.total
    }

    /// One more of a point that is there. The counts above have been raised on the way down.
    fn add_duplicate(&mut self, slot: usize, leaf: u32) {
        self.leaves[leaf as usize].points += 1;
        self.leaf_of[slot] = leaf;
    }

    /// Makes the box of a node hold a point.
    #[inline(always)]
    fn extend(&mut self, at: u32, point: &[Group]) {
        let corners = &mut self.boxes[at as usize * 2 * self.width..][..2 * self.width];
        let (low, high) = corners.split_at_mut(self.width);
        for ((low, high), point) in low.iter_mut().zip(high.iter_mut()).zip(point) {
            *low = least(*low, *point);
            *high = greatest(*high, *point);
        }
        self.nodes[at as usize].span = span(low, high);
    }

    /// Puts a new node over `at` that cuts the point in `slot` off. The counts above have been raised.
    fn separate(&mut self, at: u32, slot: usize, dimension: usize, cut: f64, points: &Points) {
        let goes_right = value(points.get(slot), dimension) > cut;
        let leaf = LEAF | slot as u32;
        let parent = self.parent(at);
        let node = Node {
            dimension: dimension as u32,
            cut,
            children: if goes_right { [at, leaf] } else { [leaf, at] },
            parent,
            points: self.count(at) + 1,
            span: 0.0,
        };
        let new = self.free.pop().unwrap_or(self.nodes.len() as u32);
        if new as usize == self.nodes.len() {
            self.nodes.push(node);
            self.boxes.resize(self.nodes.len() * 2 * self.width, Group::default());
        } else {
            self.nodes[new as usize] = node;
        }
        self.replace_child(parent, at, new);
        self.set_parent(at, new);
        self.leaves[slot] = Leaf { parent: new, points: 1 };
        self.leaf_of[slot] = slot as u32;
        self.fit_box(new, points);
    }

    fn replace_child(&mut self, parent: u32, old: u32, new: u32) {
        if parent == NONE {
            self.root = new;
        } else {
            let children = &mut self.nodes[parent as usize].children;
            children[usize::from(children[1] == old)] = new;
        }
    }

    /// One group of the two corners of what a reference holds.
    #[inline(always)]
    fn corner(&self, at: u32, group: usize, points: &Points) -> (Group, Group) {
        let (low, high) = self.corners(at, points);
        (low[group], high[group])
    }

    /// Makes the box of a node that of its two children.
    #[inline(always)]
    fn fit_box(&mut self, at: u32, points: &Points) {
        let [left, right] = self.nodes[at as usize].children;
        for group in 0..self.width {
            let (a, b) = (self.corner(left, group, points), self.corner(right, group, points));
            let place = at as usize * 2 * self.width + group;
            self.boxes[place] = least(a.0, b.0);
            self.boxes[place + self.width] = greatest(a.1, b.1);
        }
        let (low, high) = self.corners(at, points);
        let span = span(low, high);
        self.nodes[at as usize].span = span;
    }

    /// Takes the point in `slot` out again. The slot must still hold its values.
    #[inline(always)]
    pub fn forget(&mut self, slot: usize, points: &Points) {
        let leaf = self.leaf_of[slot];
        self.leaf_of[slot] = NONE;
        let held = self.leaves[leaf as usize];
        if held.points > 1 {
            self.leaves[leaf as usize].points -= 1;
            self.shrink_counts(held.parent);
            if leaf as usize == slot {
                self.move_leaf(leaf);
            }
            return;
        }
        if held.parent == NONE {
            self.root = NONE;
            return;
        }
        let Node { children, parent: above, .. } = self.nodes[held.parent as usize];
        let sibling = children[usize::from(children[0] == LEAF | leaf)];
        self.replace_child(above, held.parent, sibling);
        self.set_parent(sibling, above);
        self.free.push(held.parent);
        self.shrink_counts(above);
        // Boxes shrink only while the point was on their rim.
        let point = points.get(slot);
        let mut at = above;
        while at != NONE {
            let (low, high) = self.corners(at, points);
            if !on_rim(low, high, point) {
                break;
            }
            self.fit_box(at, points);
            at = self.nodes[at as usize].parent;
        }
    }

    fn shrink_counts(&mut self, mut at: u32) {
        while at != NONE {
            let node = &mut self.nodes[at as usize];
            node.points -= 1;
            at = node.parent;
        }
    }

    /// Gives a leaf whose own slot has left the slot of one of its duplicates.
    fn move_leaf(&mut self, leaf: u32) {
        let Some(heir) = self.leaf_of.iter().position(|holder| *holder == leaf) else { return };
        let held = self.leaves[leaf as usize];
        self.leaves[heir] = held;
        self.replace_child(held.parent, LEAF | leaf, LEAF | heir as u32);
        for holder in self.leaf_of.iter_mut().filter(|holder| **holder == leaf) {
            *holder = heir as u32;
        }
    }

    /// The collusive displacement of a point that is in the tree, and the dimension of the cut that
    /// it comes from: the greatest, over the subtrees that hold the point, of the number of points
    /// beside the subtree by the number in it. 0 and no dimension for the only point.
    pub fn codisp(&self, slot: usize) -> (f64, Option<usize>) {
        self.displacements(slot).fold((0.0, None), |most, (beside, dimension)| {
            if beside > most.0 { (beside, Some(dimension)) } else { most }
        })
    }

    /// For each subtree that holds a point of the tree, from its leaf up: the number of points beside
    /// it by the number in it, and the dimension of the cut between the two.
    pub(super) fn displacements(&self, slot: usize) -> impl Iterator<Item = (f64, usize)> + '_ {
        let mut at = LEAF | self.leaf_of[slot];
        std::iter::from_fn(move || {
            let parent = self.parent(at);
            let node = self.nodes.get(parent as usize)?; // the root's parent is none
            let within = self.count(at);
            at = parent;
            Some((f64::from(node.points - within) / f64::from(within), node.dimension as usize))
        })
    }

    /// The collusive displacement that a point would have, were it let in: its mean over all cuts
    /// that [`insert`](Self::insert) may draw, in closed form.
    #[inline(always)]
    pub fn expected_codisp(&self, point: &[Group], points: &Points) -> f64 {
        if self.root == NONE {
            return 0.0;
        }
        let mut walk = Walk::new(self.root);
        while walk.at & LEAF == 0 {
            walk.step(self, point, points);
        }
        walk.end(self, point, points);
        walk.total
    }

    /// Adds to `shares` what each dimension adds to [`expected_codisp`](Self::expected_codisp): a cut
    /// that sets the point apart counts for the dimensions in which the point is outside the box, a
    /// greater displacement further up for the dimension that was cut there.
    pub fn add_shares(&self, point: &[Group], points: &Points, shares: &mut [f64]) {
        if self.root == NONE {
            return;
        }
        let mut walk = Walk::new(self.root);
        loop {
            let Walk { at, above, dimension, total, .. } = walk;
            let (low, high) = self.corners(at, points);
            let held = f64::from(self.count(at));
            let is_leaf = at & LEAF != 0;
            let apart = if is_leaf {
                walk.end(self, point, points)
            } else {
                walk.step(self, point, points).0
            };
            let amount = walk.total - total;
            if apart > 0.0 && held > above {
                for (of, share) in shares.iter_mut().enumerate() {
                    let [low, high, value] = [low, high, point].map(|groups| value(groups, of));
                    *share += amount * outside_of(low, high, value) / apart;
                }
            } else {
                shares[dimension] += amount;
            }
            if is_leaf {
                return;
            }
        }
    }
}
