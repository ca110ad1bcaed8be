//! What a checkpoint keeps of a tree, and the way back.

use serde::{Deserialize, Serialize};

use super::{
    super::points::{Group, Points},
    LEAF, Leaf, NONE, Node, Tree,
};

/// In a state, the dimension of a leaf.
const NO_CUT: u32 = u32::MAX;

/// What a checkpoint keeps of a tree: its nodes before their children, left before right.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeState {
    /// The dimension that a node cuts, or `u32::MAX` for a leaf.
    pub dimension: Vec<u32>,
    /// Where it cuts; 0 in a leaf.
    pub cut: Vec<f64>,
    /// Slot of a leaf's point; 0 in a node.
    pub slot: Vec<u32>,
    /// How often a leaf's point is there; 0 in a node.
    pub points: Vec<u32>,
}

impl TreeState {
    fn push(&mut self, dimension: u32, cut: f64, slot: u32, points: u32) {
        self.dimension.push(dimension);
        self.cut.push(cut);
        self.slot.push(slot);
        self.points.push(points);
    }
}

impl Tree {
    /// What a checkpoint keeps.
    pub fn state(&self) -> TreeState {
        let mut state = TreeState::default();
        let mut waiting = vec![self.root];
        while let Some(at) = waiting.pop().filter(|at| *at != NONE) {
            if at & LEAF != 0 {
                let slot = at ^ LEAF;
                state.push(NO_CUT, 0.0, slot, self.leaves[slot as usize].points);
            } else {
                let node = &self.nodes[at as usize];
                state.push(node.dimension, node.cut, 0, 0);
                waiting.extend([node.children[1], node.children[0]]);
            }
        }
        state
    }

    /// Rebuilds a tree over `points`. A duplicate has no slot of its own in a rebuilt tree.
    ///
    /// # Errors
    /// What is wrong with the state.
    pub fn restore(state: &TreeState, points: &Points, slots: usize) -> Result<Self, &'static str> {
        let n = state.dimension.len();
        if n == 0 || [state.cut.len(), state.slot.len(), state.points.len()] != [n; 3] {
            return Err("its arrays differ in length");
        }
        let mut tree = Self::new(points, slots);
        // Nodes that still wait for a child.
        let mut open: Vec<u32> = Vec::new();
        for place in 0..n {
            let parent = open.last().copied().unwrap_or(NONE);
            if parent == NONE && place > 0 {
                return Err("it has nodes that no path leads to");
            }
            let at = if state.dimension[place] == NO_CUT {
                tree.add_leaf(state, place, parent)?
            } else {
                tree.add_node(state, place, parent, points.dimensions())?
            };
            if parent == NONE {
                tree.root = at;
            } else {
                let children = &mut tree.nodes[parent as usize].children;
                children[usize::from(children[0] != NONE)] = at;
            }
            if at & LEAF == 0 {
                open.push(at);
            }
            while open.last().is_some_and(|&at| tree.nodes[at as usize].children[1] != NONE) {
                open.pop();
            }
        }
        if !open.is_empty() {
            return Err("a node lacks a child");
        }
        tree.fit_all(points)?;
        Ok(tree)
    }

    fn add_leaf(
        &mut self,
        state: &TreeState,
        place: usize,
        parent: u32,
    ) -> Result<u32, &'static str> {
        let slot = state.slot[place];
        let free = self.leaf_of.get_mut(slot as usize).filter(|holder| **holder == NONE);
        match free {
            Some(holder) if state.points[place] > 0 => *holder = slot,
            _ => return Err("a leaf has no such point, or one of another leaf"),
        }
        self.leaves[slot as usize] = Leaf { parent, points: state.points[place] };
        Ok(LEAF | slot)
    }

    fn add_node(
        &mut self,
        state: &TreeState,
        place: usize,
        parent: u32,
        dimensions: usize,
    ) -> Result<u32, &'static str> {
        let (dimension, cut) = (state.dimension[place], state.cut[place]);
        if dimension as usize >= dimensions || !cut.is_finite() {
            return Err("a cut has no such dimension or place");
        }
        let children = [NONE; 2];
        self.nodes.push(Node { dimension, cut, children, parent, points: 0, span: 0.0 });
        Ok((self.nodes.len() - 1) as u32)
    }

    /// Counts and boxes of all nodes, from the leaves up.
    fn fit_all(&mut self, points: &Points) -> Result<(), &'static str> {
        self.boxes = vec![Group::default(); self.nodes.len() * 2 * self.width];
        for at in (0..self.nodes.len() as u32).rev() {
            let [left, right] = self.nodes[at as usize].children;
            let sum = self.count(left).checked_add(self.count(right));
            self.nodes[at as usize].points = sum.ok_or("it holds more points than can be")?;
            self.fit_box(at, points);
        }
        Ok(())
    }
}
