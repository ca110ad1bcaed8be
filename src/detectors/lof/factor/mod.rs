//! The local outlier factor on a matrix of rows and features. It knows no panel and no calendar.

mod neighbours;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use ndarray::{Array2, ArrayView1, ArrayView2, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::neighbours::{Neighbour, Neighbours};
use crate::math::robust::median;

/// Added to a mean distance so that equal rows have a density: scikit-learn's value.
const LEAST_DISTANCE: f64 = 1e-10;
/// Rows that a thread takes at once.
const BLOCK: usize = 64;

/// Rows with their local densities, against which other rows are compared.
#[derive(Clone, Debug)]
pub struct LocalOutlierFactor {
    state: FactorState,
    tree: Neighbours,
    /// For each kept row, the distance to its neighbour number `neighbours`.
    reach: Vec<f64>,
    /// For each kept row, the local reachability density.
    density: Vec<f64>,
}

/// What a checkpoint keeps. Neighbours and densities are found again from the rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactorState {
    pub neighbours: usize,
    /// Stands in for a missing value of each feature.
    pub medians: Vec<f64>,
    /// The kept rows one behind the other.
    pub rows: Vec<f64>,
}

/// What [`LocalOutlierFactor::fit_score`] returns: the fitted factor, and the factor of every row
/// among the others.
pub type Fitted = (LocalOutlierFactor, Vec<f64>);

impl LocalOutlierFactor {
    /// Learns `rows[row, feature]`, to score other rows against them. A value that is not finite is
    /// replaced by the median of its column. Of rows that are equal in everything at most half as many
    /// as `neighbours` are kept, so that every neighbourhood has an extent. `None` for fewer than two
    /// rows that differ, no feature or no neighbour.
    pub fn fit(rows: ArrayView2<f64>, neighbours: usize) -> Option<Self> {
        Some(Self::fit_score(rows, neighbours)?.0)
    }

    /// As [`fit`](Self::fit), with the factor of each of the fitted rows, itself left out of its
    /// neighbours.
    pub fn fit_score(rows: ArrayView2<f64>, neighbours: usize) -> Option<Fitted> {
        let medians: Vec<f64> = rows
            .axis_iter(Axis(1))
            .map(|column| {
                let finite = column.iter().copied().filter(|v| v.is_finite());
                median(&mut finite.collect::<Vec<_>>()).unwrap_or(0.0)
            })
            .collect();
        let (kept, place_of) = without_copies(rows, &medians, (neighbours / 2).max(1));
        let factor = Self::learn(FactorState { neighbours, medians, rows: kept })?;
        let scores = factor.kept_scores();
        let scores = place_of.into_iter().map(|place| scores[place]).collect();
        Some((factor, scores))
    }

    /// # Errors
    /// What is wrong with the state.
    pub fn restore(state: FactorState) -> Result<Self, String> {
        let width = state.medians.len();
        if width == 0 || !state.rows.len().is_multiple_of(width) {
            return Err("its rows are not whole".into());
        }
        if !state.rows.iter().chain(&state.medians).all(|value| value.is_finite()) {
            return Err("a value of its rows is not finite".into());
        }
        Self::learn(state).ok_or_else(|| "it has fewer than two rows that differ".into())
    }

    pub fn state(&self) -> &FactorState {
        &self.state
    }

    /// Number of columns that a row must have.
    pub fn features(&self) -> usize {
        self.state.medians.len()
    }

    fn learn(mut state: FactorState) -> Option<Self> {
        let width = state.medians.len();
        let n = state.rows.len().checked_div(width)?;
        if n < 2 || state.neighbours == 0 || !differ(&state.rows, width) {
            return None;
        }
        state.neighbours = state.neighbours.min(n - 1);
        let tree = Neighbours::new(&state.rows, width);
        let mut factor = Self { state, tree, reach: Vec::new(), density: Vec::new() };
        let found = factor.of_kept(|_, found| found.to_vec());
        factor.reach = found.iter().map(|found| distance(found.last())).collect();
        factor.density = found.iter().map(|found| factor.density_of(found)).collect();
        Some(factor)
    }

    /// Something of each kept row and its neighbours.
    fn of_kept<T: Send>(&self, of: impl Fn(usize, &[Neighbour]) -> T + Sync) -> Vec<T> {
        let width = self.features();
        let rows = self.state.rows.par_chunks(width).enumerate().with_min_len(BLOCK);
        rows.map_init(Vec::new, |found, (number, row)| {
            self.tree.nearest(row, self.state.neighbours, Some(number as u32), found);
            of(number, found)
        })
        .collect()
    }

    /// One over the mean reachability distance to the neighbours (Breunig et al. 2000, definition 6).
    fn density_of(&self, found: &[Neighbour]) -> f64 {
        let reached = |n: &Neighbour| n.square.sqrt().max(self.reach[n.row as usize]);
        let mean = found.iter().map(reached).sum::<f64>() / found.len() as f64;
        1.0 / (mean + LEAST_DISTANCE)
    }

    /// Mean density of the neighbours by the row's own (definition 7).
    fn factor_of(&self, found: &[Neighbour], density: f64) -> f64 {
        let ratios = found.iter().map(|n| self.density[n.row as usize] / density);
        ratios.sum::<f64>() / found.len() as f64
    }

    fn kept_scores(&self) -> Vec<f64> {
        self.of_kept(|number, found| self.factor_of(found, self.density[number]))
    }

    /// The factor of each row of `rows[row, feature]` among the fitted ones: about 1 where it lies as
    /// densely as its neighbours do, higher = more anomalous. A NaN counts as its column's median.
    /// Panics when the width is not [`features`](Self::features).
    pub fn score(&self, rows: ArrayView2<f64>) -> Vec<f64> {
        self.of_rows(rows, |_, found| self.factor_of(found, self.density_of(found)))
    }

    /// Something of each row with its missing values filled, and its neighbours.
    fn of_rows<T: Send>(
        &self,
        rows: ArrayView2<f64>,
        of: impl Fn(&[f64], &[Neighbour]) -> T + Sync,
    ) -> Vec<T> {
        assert_eq!(rows.ncols(), self.features(), "a row has one value for each feature");
        let numbers = (0..rows.nrows()).into_par_iter().with_min_len(BLOCK);
        numbers
            .map_init(Vec::new, |found, number| {
                let row = filled(rows.row(number), &self.state.medians);
                self.tree.nearest(&row, self.state.neighbours, None, found);
                of(&row, found)
            })
            .collect()
    }

    /// The share of each feature in the mean squared distance of each row to its neighbours,
    /// `[row, feature]`; even where the row lies on them.
    pub fn attribution(&self, rows: ArrayView2<f64>) -> Array2<f64> {
        let width = self.features();
        let shares = self.of_rows(rows, |row, found| {
            let mut shares = vec![0.0; width];
            for neighbour in found {
                let other = &self.state.rows[neighbour.row as usize * width..][..width];
                for ((share, a), b) in shares.iter_mut().zip(row).zip(other) {
                    *share += (a - b) * (a - b);
                }
            }
            let total: f64 = shares.iter().sum();
            let even = 1.0 / width as f64;
            shares.iter_mut().for_each(|s| *s = if total > 0.0 { *s / total } else { even });
            shares
        });
        Array2::from_shape_fn(rows.dim(), |(row, feature)| shares[row][feature])
    }
}

fn distance(neighbour: Option<&Neighbour>) -> f64 {
    neighbour.map_or(0.0, |neighbour| neighbour.square.sqrt())
}

fn filled(row: ArrayView1<f64>, medians: &[f64]) -> Vec<f64> {
    row.iter().zip(medians).map(|(v, median)| if v.is_finite() { *v } else { *median }).collect()
}

fn differ(rows: &[f64], width: usize) -> bool {
    rows.chunks_exact(width).any(|row| row != &rows[..width])
}

/// The rows, filled, with at most `copies` of each; and for every row the place of itself, or of an
/// equal one, among them.
fn without_copies(rows: ArrayView2<f64>, medians: &[f64], copies: usize) -> (Vec<f64>, Vec<usize>) {
    let mut kept = Vec::with_capacity(rows.len());
    let mut seen: HashMap<Vec<u64>, (usize, usize)> = HashMap::new();
    let mut places = Vec::with_capacity(rows.nrows());
    let mut count = 0;
    for row in rows.axis_iter(Axis(0)) {
        let row = filled(row, medians);
        // -0 and 0 are one value.
        let bits = row.iter().map(|value| (value + 0.0).to_bits()).collect();
        let (place, times) = seen.entry(bits).or_insert((count, 0));
        *times += 1;
        if *times > copies {
            places.push(*place);
            continue;
        }
        places.push(count);
        kept.extend(row);
        count += 1;
    }
    (kept, places)
}
