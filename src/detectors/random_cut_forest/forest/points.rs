//! Points of the trees of a forest, stored once, and the boxes around them.
//!
//! Rows are padded with zeros to whole groups of four values, and every sum has four partial sums, in
//! a fixed order: the compiler turns them into vector instructions, and every instruction set gives
//! the same bits.

/// Values that are worked on together.
const LANES: usize = 4;

/// Four values of a point or a corner.
pub type Group = [f64; LANES];

/// Points by their slot.
#[derive(Clone, Debug)]
pub struct Points {
    groups: Vec<Group>,
    dimensions: usize,
    width: usize,
}

impl Points {
    /// Room for `slots` points, all zero.
    pub fn new(dimensions: usize, slots: usize) -> Self {
        let width = dimensions.div_ceil(LANES);
        Self { groups: vec![[0.0; LANES]; slots * width], dimensions, width }
    }

    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Groups of a point.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The padded point in a slot.
    #[inline(always)]
    pub fn get(&self, slot: usize) -> &[Group] {
        &self.groups[slot * self.width..][..self.width]
    }

    /// Writes a point; the padding stays.
    pub fn set(&mut self, slot: usize, point: impl IntoIterator<Item = f64>) {
        let groups = &mut self.groups[slot * self.width..][..self.width];
        let cells = groups.as_flattened_mut()[..self.dimensions].iter_mut();
        cells.zip(point).for_each(|(cell, value)| *cell = value);
    }
}

/// Four terms of [`outside`].
#[inline(always)]
fn outside_group(low: &Group, high: &Group, point: &Group) -> Group {
    std::array::from_fn(|lane| outside_of(low[lane], high[lane], point[lane]))
}

/// One term of [`outside`].
#[inline(always)]
pub fn outside_of(low: f64, high: f64, value: f64) -> f64 {
    let (below, above) = (low - value, value - high);
    let further = if below > above { below } else { above };
    if further > 0.0 { further } else { 0.0 }
}

#[inline(always)]
fn sum(groups: Group) -> f64 {
    (groups[0] + groups[1]) + (groups[2] + groups[3])
}

#[inline(always)]
fn plus(a: Group, b: Group) -> Group {
    std::array::from_fn(|lane| a[lane] + b[lane])
}

/// Sum over dimensions of how far a point lies outside the box from `low` to `high`. A missing value
/// is inside.
#[inline(always)]
pub fn outside(low: &[Group], high: &[Group], point: &[Group]) -> f64 {
    let terms = low.iter().zip(high).zip(point).map(|((l, h), p)| outside_group(l, h, p));
    sum(terms.fold([0.0; LANES], plus))
}

/// Sum of the box's sides.
#[inline(always)]
pub fn span(low: &[Group], high: &[Group]) -> f64 {
    let sides = |(low, high): (&Group, &Group)| std::array::from_fn(|lane| high[lane] - low[lane]);
    sum(low.iter().zip(high).map(sides).fold([0.0; LANES], plus))
}

/// Whether the point touches the box's rim in any dimension.
#[inline(always)]
pub fn on_rim(low: &[Group], high: &[Group], point: &[Group]) -> bool {
    low.iter().zip(high).zip(point).any(|((low, high), point)| {
        (0..LANES)
            .fold(false, |on, lane| on | (point[lane] == low[lane]) | (point[lane] == high[lane]))
    })
}

#[inline(always)]
pub fn least(a: Group, b: Group) -> Group {
    std::array::from_fn(|lane| if a[lane] < b[lane] { a[lane] } else { b[lane] })
}

#[inline(always)]
pub fn greatest(a: Group, b: Group) -> Group {
    std::array::from_fn(|lane| if a[lane] > b[lane] { a[lane] } else { b[lane] })
}
