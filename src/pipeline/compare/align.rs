//! Several runs on one grid: the cells that all of them have.

use std::collections::BTreeMap;

use ndarray::Array2;

use super::run_dir::LevelDir;
use crate::{
    ensemble::{AnomalyType, Direction, Severity},
    evaluation::Verdicts,
};

/// Flags files hold six significant digits.
const TOLERANCE: f64 = 1e-5;

/// One run on the baseline's grid; arrays are `[series, time]`.
pub struct OnGrid {
    pub flags: Array2<bool>,
    pub score: Array2<f64>,
    pub p_value: Array2<f64>,
    pub severity: Array2<Option<Severity>>,
    pub kind: Array2<Option<AnomalyType>>,
    pub direction: Array2<Direction>,
    pub expected: Array2<f64>,
    pub lower: Array2<f64>,
    pub upper: Array2<f64>,
    pub leading: BTreeMap<(usize, usize), usize>,
    /// What the run shares with the baseline.
    pub sharing: Sharing,
}

/// How much two runs have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// Series of the run, and those of them that the baseline has.
    pub series: (usize, usize),
    /// Cells of the run, and those of them that the baseline has.
    pub cells: (usize, usize),
    /// Cells of the baseline that the run lacks.
    pub missing: usize,
    /// Shared cells whose first metric differs: the runs saw other data.
    pub other_values: usize,
    /// Cells of the comparison on which the run has no score.
    pub unscored: usize,
}

/// Runs of one block and level.
pub struct Aligned {
    /// `[series, time]` on the baseline's grid: every run has the cell, none was fitted on it, and
    /// at least one has a score.
    pub scope: Array2<bool>,
    /// In the order of the configs; `None` for one without a run here.
    pub runs: Vec<Option<OnGrid>>,
    /// Cells that all have, but that some run was fitted on.
    pub in_training: usize,
}

impl OnGrid {
    pub fn verdicts(&self) -> Verdicts<'_> {
        Verdicts {
            flags: &self.flags,
            score: &self.score,
            severity: &self.severity,
            kind: &self.kind,
            direction: &self.direction,
        }
    }

    /// The metric that leads at a cell.
    pub fn leading_metric(&self, series: usize, time: usize) -> usize {
        self.leading.get(&(series, time)).copied().unwrap_or(0)
    }
}

/// Puts every run on the grid of the first, which must be there.
pub fn align(base: &LevelDir, runs: &[Option<&LevelDir>]) -> Aligned {
    let shape = base.present.dim();
    let mut shared = base.present.clone();
    let mut untrained = Array2::from_elem(shape, true);
    let mut scored = Array2::from_elem(shape, false);
    let mut placed: Vec<Option<OnGrid>> = Vec::with_capacity(runs.len());
    for run in runs {
        placed.push(run.map(|run| {
            let map = GridMap::new(base, run);
            for ((s, t), shared) in shared.indexed_iter_mut() {
                let at = map.cell(s, t).filter(|at| run.present[*at]);
                *shared &= at.is_some();
                untrained[[s, t]] &= at.is_none_or(|at| !run.in_training[at]);
                scored[[s, t]] |= at.is_some_and(|at| !run.score[at].is_nan());
            }
            map.place(base, run)
        }));
    }
    let scope = Array2::from_shape_fn(shape, |at| shared[at] && untrained[at] && scored[at]);
    let fitted_on = |(shared, untrained): (&bool, &bool)| *shared && !untrained;
    let in_training = shared.iter().zip(&untrained).filter(|cell| fitted_on(*cell)).count();
    for run in placed.iter_mut().flatten() {
        let blind = |(counts, score): (&bool, &f64)| *counts && score.is_nan();
        run.sharing.unscored = scope.iter().zip(&run.score).filter(|cell| blind(*cell)).count();
    }
    Aligned { scope, runs: placed, in_training }
}

/// Where the cells of one grid lie on another.
struct GridMap {
    rows: Vec<Option<usize>>,
    columns: Vec<Option<usize>>,
}

impl GridMap {
    fn new(from: &LevelDir, to: &LevelDir) -> Self {
        let calendar = from.panel.calendar();
        Self {
            rows: from.panel.keys().iter().map(|key| to.panel.find(key)).collect(),
            columns: (0..calendar.len())
                .map(|t| to.panel.calendar().index_of(calendar.start(t)))
                .collect(),
        }
    }

    fn cell(&self, series: usize, time: usize) -> Option<[usize; 2]> {
        Some([self.rows[series]?, self.columns[time]?])
    }

    fn gather<T: Copy>(&self, shape: (usize, usize), from: &Array2<T>, absent: T) -> Array2<T> {
        Array2::from_shape_fn(shape, |(s, t)| self.cell(s, t).map_or(absent, |at| from[at]))
    }

    fn place(&self, base: &LevelDir, run: &LevelDir) -> OnGrid {
        let shape = base.present.dim();
        let mut leading = BTreeMap::new();
        let mut sharing = Sharing {
            series: (run.panel.n_series(), self.rows.iter().flatten().count()),
            cells: (run.present.iter().filter(|here| **here).count(), 0),
            ..Sharing::default()
        };
        for ((s, t), _) in base.present.indexed_iter().filter(|(_, here)| **here) {
            let Some(at) = self.cell(s, t).filter(|at| run.present[*at]) else {
                sharing.missing += 1;
                continue;
            };
            sharing.cells.1 += 1;
            let (ours, theirs) =
                (base.panel.values()[[s, t, 0]], run.panel.values()[[at[0], at[1], 0]]);
            sharing.other_values += usize::from(!alike(ours, theirs));
            if let Some(metric) = run.leading.get(&(at[0], at[1])) {
                leading.insert((s, t), *metric);
            }
        }
        OnGrid {
            flags: self.gather(shape, &run.flags, false),
            score: self.gather(shape, &run.score, f64::NAN),
            p_value: self.gather(shape, &run.p_value, f64::NAN),
            severity: self.gather(shape, &run.severity, None),
            kind: self.gather(shape, &run.kind, None),
            direction: self.gather(shape, &run.direction, Direction::Unknown),
            expected: self.gather(shape, &run.expected, f64::NAN),
            lower: self.gather(shape, &run.lower, f64::NAN),
            upper: self.gather(shape, &run.upper, f64::NAN),
            leading,
            sharing,
        }
    }
}

fn alike(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
}
