//! The way of a point down a tree, and where it is cut off.

use super::{
    super::points::{Group, Points, outside, outside_of},
    Tree,
};

/// The way of a point down a tree that it is not in, with the displacement to expect of it.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    pub(super) at: u32,
    /// Probability that no node so far separates the point.
    pub(super) reach: f64,
    /// The greatest displacement of the subtrees so far, were the point in them.
    pub(super) above: f64,
    /// The dimension of the cut that `above` comes from.
    pub(super) dimension: usize,
    /// Sum over the nodes so far of the probability that they separate the point, times its
    /// displacement then.
    pub(super) total: f64,
}

impl Walk {
    pub(super) fn new(root: u32) -> Self {
        Self { at: root, reach: 1.0, above: 0.0, dimension: 0, total: 0.0 }
    }

    /// Past an inner node. Returns how far the point is outside of its box, and the probability that
    /// the point comes this far and is separated here.
    #[inline(always)]
    pub(super) fn step(&mut self, tree: &Tree, point: &[Group], points: &Points) -> (f64, f64) {
        let (low, high) = tree.corners(self.at, points);
        let apart = outside(low, high, point);
        let node = &tree.nodes[self.at as usize];
        let weight = self.reach * (apart / (apart + node.span));
        self.total += weight * greater(f64::from(node.points), self.above);
        self.reach -= weight;
        let side = tree.side(node, value(point, node.dimension as usize));
        self.at = node.children[side];
        let within = tree.count(self.at);
        let beside = f64::from(node.points - within) / f64::from(within + 1);
        if beside > self.above {
            (self.above, self.dimension) = (beside, node.dimension as usize);
        }
        (apart, weight)
    }

    /// At the leaf: the point is separated for certain, or joins its like and shares its fate.
    #[inline(always)]
    pub(super) fn end(&mut self, tree: &Tree, point: &[Group], points: &Points) -> f64 {
        let (low, high) = tree.corners(self.at, points);
        let apart = outside(low, high, point);
        let own = if apart > 0.0 { f64::from(tree.count(self.at)) } else { 0.0 };
        self.total += self.reach * greater(own, self.above);
        apart
    }
}

#[inline(always)]
fn greater(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// The value of a point or corner in one dimension.
#[inline(always)]
pub(super) fn value(of: &[Group], dimension: usize) -> f64 {
    of.as_flattened()[dimension]
}

/// The cut at `drawn` of the way through the gaps between a point and a box, `drawn` from 0 to the
/// sum of the gaps: the dimension and the place, between the two.
pub(super) fn cut_outside(
    low: &[Group],
    high: &[Group],
    point: &[Group],
    mut drawn: f64,
) -> (usize, f64) {
    let [low, high, point] = [low, high, point].map(|groups| groups.as_flattened());
    let mut last = (0, point[0]);
    for dimension in 0..point.len() {
        let (low, high, value) = (low[dimension], high[dimension], point[dimension]);
        let gap = outside_of(low, high, value);
        if gap <= 0.0 {
            continue;
        }
        // At most the left side, so that what lies right of the gap is right of the cut.
        let (left, right) = if value < low { (value, low) } else { (high, value) };
        let place = left + drawn.min(gap);
        last = (dimension, if place < right { place } else { left });
        if drawn < gap {
            break;
        }
        drawn -= gap;
    }
    last
}
