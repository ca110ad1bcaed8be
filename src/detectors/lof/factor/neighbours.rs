//! The nearest rows by Euclidean distance, exactly, from a k-d tree (Friedman, Bentley and Finkel
//! 1977). In many dimensions it comes close to comparing with every row, and stays exact.

/// A leaf holds at most this many rows.
const LEAF_ROWS: usize = 16;

/// A row that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    pub square: f64,
    /// Its number among the rows that the tree was built on.
    pub row: u32,
}

#[derive(Clone, Copy, Debug)]
enum Node {
    /// Rows `from..until` in the tree's order.
    Leaf { from: u32, until: u32 },
    /// Rows with less than `place` in `dimension` are below `left`, with more below `right`, those on
    /// it on either side.
    Split { dimension: u32, place: f64, left: u32, right: u32 },
}

/// Rows in an order in which near ones lie together.
#[derive(Clone, Debug)]
pub struct Neighbours {
    /// Rows one behind the other, in the tree's order.
    values: Vec<f64>,
    /// For each place in that order the row's number.
    numbers: Vec<u32>,
    nodes: Vec<Node>,
    width: usize,
}

/// The nearest rows so far, nearest first, of equals the one with the smaller number.
struct Nearest<'a> {
    found: &'a mut Vec<Neighbour>,
    count: usize,
    /// A fitted row is no neighbour of itself.
    except: Option<u32>,
}

impl Nearest<'_> {
    fn reach(&self) -> f64 {
        if self.found.len() < self.count {
            f64::INFINITY
        } else {
            self.found[self.count - 1].square
        }
    }

    fn offer(&mut self, square: f64, row: u32) {
        if self.except == Some(row) || square > self.reach() {
            return;
        }
        let before = |n: &Neighbour| (n.square, n.row) < (square, row);
        let place = self.found.partition_point(before);
        self.found.insert(place, Neighbour { square, row });
        self.found.truncate(self.count);
    }
}

impl Neighbours {
    /// A tree over `rows`, `width` finite values each, one behind the other.
    pub fn new(rows: &[f64], width: usize) -> Self {
        let n = rows.len() / width;
        let mut numbers: Vec<u32> = (0..n as u32).collect();
        let mut nodes = Vec::new();
        split(rows, width, &mut numbers, 0, &mut nodes);
        let row = |number: &u32| &rows[*number as usize * width..][..width];
        let values = numbers.iter().flat_map(|number| row(number).iter().copied()).collect();
        Self { values, numbers, nodes, width }
    }

    /// The `count` nearest rows to `point`, or all there are, nearest first; the row of number
    /// `except` is left out. `found` is overwritten.
    pub fn nearest(
        &self,
        point: &[f64],
        count: usize,
        except: Option<u32>,
        found: &mut Vec<Neighbour>,
    ) {
        found.clear();
        if count == 0 || self.nodes.is_empty() {
            return;
        }
        let mut gaps = vec![0.0; self.width];
        self.search(0, point, 0.0, &mut gaps, &mut Nearest { found, count, except });
    }

    /// `least` is the square of the distance from the point to the node's box, `gaps` its parts by
    /// dimension.
    fn search(
        &self,
        node: u32,
        point: &[f64],
        least: f64,
        gaps: &mut [f64],
        nearest: &mut Nearest<'_>,
    ) {
        match self.nodes[node as usize] {
            Node::Leaf { from, until } => {
                let (from, until) = (from as usize, until as usize);
                let rows = self.values[from * self.width..until * self.width].chunks(self.width);
                for (row, number) in rows.zip(&self.numbers[from..until]) {
                    let square = row.iter().zip(point).map(|(a, b)| (a - b) * (a - b)).sum();
                    nearest.offer(square, *number);
                }
            }
            Node::Split { dimension, place, left, right } => {
                let gap = point[dimension as usize] - place;
                let (near, far) = if gap < 0.0 { (left, right) } else { (right, left) };
                self.search(near, point, least, gaps, nearest);
                let before = std::mem::replace(&mut gaps[dimension as usize], gap * gap);
                // Rounding must not rule a row out that is as near as the last one.
                let least = (least - before + gap * gap).max(0.0);
                if least * (1.0 - 1e-12) <= nearest.reach() {
                    self.search(far, point, least, gaps, nearest);
                }
                gaps[dimension as usize] = before;
            }
        }
    }
}

/// Sorts `part` of the rows into a subtree by halves of the widest dimension; returns its root.
fn split(rows: &[f64], width: usize, part: &mut [u32], from: usize, nodes: &mut Vec<Node>) -> u32 {
    let at = nodes.len();
    nodes.push(Node::Leaf { from: from as u32, until: (from + part.len()) as u32 });
    let value = |row: u32, dimension: usize| rows[row as usize * width + dimension];
    let extent = |dimension: usize| {
        let (low, high) = part.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), row| {
            (a.min(value(*row, dimension)), b.max(value(*row, dimension)))
        });
        high - low
    };
    let widest = (0..width).map(|d| (extent(d), d)).max_by(|a, b| a.0.total_cmp(&b.0));
    let Some((_, dimension)) = widest.filter(|(extent, _)| part.len() > LEAF_ROWS && *extent > 0.0)
    else {
        return at as u32;
    };
    let middle = part.len() / 2;
    let order =
        |a: &u32, b: &u32| value(*a, dimension).total_cmp(&value(*b, dimension)).then(a.cmp(b));
    part.select_nth_unstable_by(middle, order);
    let place = value(part[middle], dimension);
    let (low, high) = part.split_at_mut(middle);
    let left = split(rows, width, low, from, nodes);
    let right = split(rows, width, high, from + middle, nodes);
    nodes[at] = Node::Split { dimension: dimension as u32, place, left, right };
    at as u32
}
