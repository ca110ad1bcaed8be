//! The smallest spike and drop that a series could have shown: a bisection over a grid of sizes, for
//! all series at once, because scoring a panel costs the same whether one cell in it changed or one
//! in every series.

/// Sizes of spikes, weakest first.
pub const SPIKES: [f64; 15] =
    [1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 50.0];
/// Sizes of drops, weakest first; 0 is the last resort of a count.
pub const DROPS: [f64; 10] = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0];

/// Where one series' search stands: sizes before `low` are missed, sizes from `high` on are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bisection {
    low: usize,
    high: usize,
    /// Sizes in the grid.
    sizes: usize,
}

impl Bisection {
    /// Over a grid of `sizes`, weakest first.
    pub fn new(sizes: usize) -> Self {
        // One past the end stands for "not even the strongest".
        Self { low: 0, high: sizes, sizes }
    }

    /// The place in the grid to try next; `None` when the search is over.
    pub fn next_place(&self) -> Option<usize> {
        (self.low < self.high).then(|| (self.low + self.high) / 2)
    }

    /// Takes the answer for the place that [`next_place`](Self::next_place) named.
    pub fn answer(&mut self, found: bool) {
        let middle = (self.low + self.high) / 2;
        if found {
            self.high = middle;
        } else {
            self.low = middle + 1;
        }
    }

    /// The place of the weakest size that is found; `None` while the search goes on, and when not
    /// even the strongest is.
    pub fn found(&self) -> Option<usize> {
        (self.low == self.high && self.high < self.sizes).then_some(self.high)
    }
}

/// The middle of several searches' answers, where a miss (`None`) is worse than any size: the
/// lower middle of an even number, so that half the places at least show the size.
pub fn middle(mut answers: Vec<Option<usize>>) -> Option<usize> {
    answers.sort_by_key(|answer| answer.unwrap_or(usize::MAX));
    answers.get(answers.len().checked_sub(1)? / 2).copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weakest_size_is_found_in_few_steps() {
        for weakest in 0..=SPIKES.len() {
            let mut search = Bisection::new(SPIKES.len());
            let mut steps = 0;
            while let Some(place) = search.next_place() {
                assert_eq!(search.found(), None);
                search.answer(place >= weakest);
                steps += 1;
            }
            assert_eq!(search.found(), (weakest < SPIKES.len()).then_some(weakest));
            assert!(steps <= 4, "{steps}");
        }
    }

    #[test]
    fn grids_grow_stronger() {
        assert!(SPIKES.is_sorted() && SPIKES[0] > 1.0);
        assert!(DROPS.iter().rev().is_sorted() && DROPS[0] < 1.0);
    }

    #[test]
    fn a_miss_is_worse_than_any_size() {
        assert_eq!(middle(vec![Some(3), None, Some(1)]), Some(3));
        assert_eq!(middle(vec![None, None, Some(1)]), None);
        assert_eq!(middle(vec![Some(2), None]), Some(2));
        assert_eq!(middle(vec![]), None);
    }
}
