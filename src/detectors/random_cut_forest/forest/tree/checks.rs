//! What must hold of every tree, for tests.

use super::{
    super::points::{Group, Points},
    LEAF, NONE, Tree,
    walk::value,
};

impl Tree {
    /// Panics when counts, boxes or neighbours are not those of a tree built from scratch.
    pub fn assert_sound(&self, points: &Points) {
        if self.root == NONE {
            return;
        }
        let fresh = Self::restore(&self.state(), points, self.leaves.len()).unwrap();
        let mut pairs = vec![(self.root, fresh.root, NONE)];
        while let Some((own, new, parent)) = pairs.pop() {
            assert_eq!((self.count(own), self.parent(own)), (fresh.count(new), parent));
            assert_eq!(self.corners(own, points), fresh.corners(new, points));
            if own & LEAF == 0 {
                let (a, b) = (&self.nodes[own as usize], &fresh.nodes[new as usize]);
                assert_eq!((a.span, a.cut, a.dimension), (b.span, b.cut, b.dimension));
                let of = |corners: (&[Group], &[Group]), low: bool| {
                    value(if low { corners.0 } else { corners.1 }, a.dimension as usize)
                };
                assert!(of(self.corners(a.children[0], points), false) <= a.cut);
                assert!(of(self.corners(a.children[1], points), true) > a.cut);
                pairs.extend((0..2).map(|side| (a.children[side], b.children[side], own)));
            }
        }
    }
}
