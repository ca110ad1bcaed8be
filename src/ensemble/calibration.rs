//! From raw scores to p-values.
//!
//! Most detectors hand over a number whose only promise is "higher = more anomalous". Which of
//! their numbers is rare has to be learnt from their own scores on data that the fit did not see.
//! Those data hold anomalies, come in short series, and are serially correlated; so
//!
//! 1. each series' scores are standardised robustly, shrunk to the pool
//!    (`standardise.rs`);
//! 2. they are pooled over series, unless a series has [`CalibrationParams::own_null_points`] of
//!    its own;
//! 3. a null is fitted that sets anomalies aside (`null.rs`, `tail.rs`);
//! 4. series are judged by a null that was fitted without them, in
//!    [`CalibrationParams::folds`] folds, so that a series never vouches for itself;
//! 5. the smallest p that comes out is 1 / (effective sample size + 1), where neighbours in time
//!    that repeat each other count once. Nothing smaller is invented.
//!
//! Which cells calibrate is the caller's choice (`usable`): held-out cells of the training part for
//! a checkpoint, or the unlabelled part that is being scored for a batch. Scores of cells that the
//! detector learnt from are too low for that. A batch that is scored from a checkpoint is judged by
//! the checkpoint's null: moving the null to the batch would hide a batch of which much is anomalous.

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    EnsembleError,
    null::Null,
    standardise::{Standard, Standards},
};
use crate::detectors::{DetectorName, Scores};

/// How scores become p-values.
///
/// | Name | Default | Purpose | Range |
/// |---|---|---|---|
/// | `tail_share` | 0.2 | share of the scores that the tail is fitted to | 0.05 to 0.5 |
/// | `expected_contamination` | 0.02 | share of anomalies that is expected in the scores | above 0, to 0.2 |
/// | `folds` | 5 | groups of series that are judged by the others | 1 to 100; 1 = not cross-fitted |
/// | `own_null_points` | 1000 | independent scores from which on a series has its own null | at least 200 |
/// | `min_points` | 50 | fewer scores than this calibrate nothing | at least 20 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CalibrationParams {
    pub tail_share: f64,
    pub expected_contamination: f64,
    pub folds: usize,
    pub own_null_points: usize,
    pub min_points: usize,
}

impl Default for CalibrationParams {
    fn default() -> Self {
        Self {
            tail_share: 0.2,
            expected_contamination: 0.02,
            folds: 5,
            own_null_points: 1_000,
            min_points: 50,
        }
    }
}

impl CalibrationParams {
    /// Every parameter that is out of its range: its key and what to write instead.
    pub fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        let mut expect = |fine: bool, key: &str, range: &str, value: String| {
            if !fine {
                wrong.push((key.to_string(), format!("is {value}, but must be {range}")));
            }
        };
        let within = |x: f64, low: f64, high: f64| (low..=high).contains(&x);
        let tail = self.tail_share;
        expect(within(tail, 0.05, 0.5), "tail_share", "from 0.05 to 0.5", tail.to_string());
        let contamination = self.expected_contamination;
        expect(
            contamination > 0.0 && contamination <= 0.2,
            "expected_contamination",
            "above 0 and at most 0.2",
            contamination.to_string(),
        );
        let folds = self.folds;
        expect((1..=100).contains(&folds), "folds", "from 1 to 100", folds.to_string());
        let own = self.own_null_points;
        expect(own >= 200, "own_null_points", "at least 200", own.to_string());
        let fewest = self.min_points;
        expect(fewest >= 20, "min_points", "at least 20", fewest.to_string());
        wrong
    }
}

/// p-values of one detector.
#[derive(Clone, Debug)]
pub struct CalibratedScores {
    /// `[series, time]`: ln p; NaN where the cell has no score.
    pub log_p: Array2<f64>,
    /// `[series]`: the smallest p that the calibration sample supports.
    pub floor: Vec<f64>,
}

/// What a run reports of a calibration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationSummary {
    /// Scores that the calibration was fitted to.
    pub n_points: usize,
    /// What they are worth when neighbours in time that repeat each other count once.
    pub n_effective: f64,
    /// Share of them that is held for anomalies.
    pub contamination: f64,
    /// The smallest p that the pool supports.
    pub floor: f64,
}

/// Which null judges a series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Judge {
    /// The pool of all series.
    Pool,
    /// The pool without the series of this fold.
    Fold(usize),
    /// The series' own.
    Own(usize),
}

/// How one detector's scores become p-values; learnt by [`Calibration::fit`], kept in checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    detector: DetectorName,
    standards: Standards,
    judges: Vec<Judge>,
    pool: Null,
    folds: Vec<Null>,
    own: Vec<Null>,
    summary: CalibrationSummary,
}

impl Calibration {
    /// Learns the null from the raw scores of the `usable` cells `[series, time]`; cells without a
    /// finite score are left out.
    ///
    /// # Errors
    /// With fewer than `min_points` scores, or a `usable` of another shape.
    pub fn fit(
        scores: &Scores,
        usable: ArrayView2<bool>,
        params: &CalibrationParams,
    ) -> Result<Self, EnsembleError> {
        let detector = scores.detector;
        let series = collect(scores.score.view(), usable)?;
        let n_points: usize = series.iter().map(Vec::len).sum();
        if n_points < params.min_points.max(1) {
            return Err(EnsembleError::TooFewScores {
                detector,
                found: n_points,
                needed: params.min_points,
            });
        }
        let standards = Standards::fit(&series);
        let effective_share = effective_share(scores.score.view(), usable, &standards);
        let standardised: Vec<Vec<f64>> = std::iter::zip(&series, &standards.series)
            .map(|(values, standard)| values.iter().map(|&v| standard.apply(v)).collect())
            .collect();
        let null = |mut sample: Vec<f64>| {
            sample.par_sort_unstable_by(f64::total_cmp);
            Null::fit(&sample, params.tail_share, params.expected_contamination, effective_share)
        };
        let pool = null(standardised.concat());
        let plan = Plan::new(&standardised, effective_share, params);
        let folds = plan.fold_samples(&standardised).into_par_iter().map(null).collect();
        let own = plan.own.par_iter().map(|&s| null(standardised[s].clone())).collect();
        let summary = CalibrationSummary {
            n_points,
            n_effective: n_points as f64 * effective_share,
            contamination: pool.contamination,
            floor: pool.floor,
        };
        Ok(Self { detector, standards, judges: plan.judges, pool, folds, own, summary })
    }

    /// The detector whose scores these are.
    pub fn detector(&self) -> DetectorName {
        self.detector
    }

    /// What the calibration was learnt from.
    pub fn summary(&self) -> CalibrationSummary {
        self.summary
    }

    /// p-values for scores `[series, time]` of the series that the calibration was fitted to, in
    /// the same order.
    ///
    /// # Errors
    /// When the number of series differs.
    pub fn log_p(&self, scores: &Scores) -> Result<CalibratedScores, EnsembleError> {
        let n_series = scores.score.nrows();
        if n_series != self.judges.len() {
            return Err(EnsembleError::Shape {
                what: "scores to calibrate",
                found: scores.score.dim(),
                expected: (self.judges.len(), scores.score.ncols()),
            });
        }
        let places: Vec<Option<usize>> = (0..n_series).map(Some).collect();
        Ok(self.log_p_of(scores.score.view(), &places))
    }

    /// p-values for raw scores `[series, time]` of another panel: `places[i]` is the place that
    /// series `i` had when the calibration was fitted, `None` for a series that is new, which is
    /// judged by the pool's standard.
    pub fn log_p_of(&self, raw: ArrayView2<f64>, places: &[Option<usize>]) -> CalibratedScores {
        let mut log_p = raw.to_owned();
        let mut floor = Vec::with_capacity(raw.nrows());
        for (i, mut row) in log_p.outer_iter_mut().enumerate() {
            let place = places.get(i).copied().flatten().filter(|&p| p < self.judges.len());
            let (standard, null) = self.judge(place);
            row.mapv_inplace(|score| null.ln_p(standard.apply(score)));
            floor.push(null.floor);
        }
        CalibratedScores { log_p, floor }
    }

    fn judge(&self, place: Option<usize>) -> (Standard, &Null) {
        let Some(place) = place else {
            return (self.standards.pool, &self.pool);
        };
        let null = match self.judges[place] {
            Judge::Pool => &self.pool,
            Judge::Fold(fold) => &self.folds[fold],
            Judge::Own(own) => &self.own[own],
        };
        (self.standards.series[place], null)
    }

    /// Refuses a calibration that was read from a file and makes no sense.
    ///
    /// # Errors
    /// When a number is out of its range or a reference leads nowhere.
    pub fn validate(&self) -> Result<(), EnsembleError> {
        let judges_fine = self.judges.iter().all(|judge| match *judge {
            Judge::Pool => true,
            Judge::Fold(fold) => fold < self.folds.len(),
            Judge::Own(own) => own < self.own.len(),
        });
        let standards = &self.standards;
        let fine = judges_fine
            && standards.series.len() == self.judges.len()
            && standards.series.iter().chain([&standards.pool]).all(Standard::is_sound)
            && self.folds.iter().chain(&self.own).chain([&self.pool]).all(Null::is_sound);
        if fine { Ok(()) } else { Err(EnsembleError::Calibration { detector: self.detector }) }
    }
}

/// Who judges whom.
struct Plan {
    judges: Vec<Judge>,
    n_folds: usize,
    /// The series that have their own null.
    own: Vec<usize>,
}

impl Plan {
    /// A series is judged by itself only where its scores, counted without those that repeat their
    /// neighbours, are enough: the floor of its own null is one over their number.
    fn new(series: &[Vec<f64>], effective_share: f64, params: &CalibrationParams) -> Self {
        let filled = series.iter().filter(|s| !s.is_empty()).count();
        // A fold with a single series left over would be judged by next to nothing.
        let n_folds = if filled < 2 { 1 } else { params.folds.min(filled) };
        let (mut own, mut next) = (Vec::new(), 0);
        let judges = series
            .iter()
            .enumerate()
            .map(|(s, values)| {
                if values.len() as f64 * effective_share >= params.own_null_points as f64 {
                    own.push(s);
                    Judge::Own(own.len() - 1)
                } else if n_folds < 2 {
                    Judge::Pool
                } else {
                    // Series without scores do not use up a place in the round.
                    let fold = next % n_folds;
                    next += usize::from(!values.is_empty());
                    Judge::Fold(fold)
                }
            })
            .collect();
        Self { judges, n_folds, own }
    }

    /// For each fold, the scores of all series that are not in it.
    fn fold_samples(&self, series: &[Vec<f64>]) -> Vec<Vec<f64>> {
        if self.n_folds < 2 {
            return Vec::new();
        }
        let without = |fold| {
            std::iter::zip(series, &self.judges)
                .filter(|(_, judge)| **judge != Judge::Fold(fold))
                .flat_map(|(values, _)| values.iter().copied())
                .collect::<Vec<f64>>()
        };
        (0..self.n_folds).map(without).collect()
    }
}

/// The usable, finite scores of each series, in the order of time.
fn collect(raw: ArrayView2<f64>, usable: ArrayView2<bool>) -> Result<Vec<Vec<f64>>, EnsembleError> {
    if raw.dim() != usable.dim() {
        return Err(EnsembleError::Shape {
            what: "usable cells",
            found: usable.dim(),
            expected: raw.dim(),
        });
    }
    let rows = std::iter::zip(raw.outer_iter(), usable.outer_iter());
    let keep = |(row, mask): (ndarray::ArrayView1<f64>, ndarray::ArrayView1<bool>)| {
        std::iter::zip(row, mask).filter(|(v, m)| **m && v.is_finite()).map(|(v, _)| *v).collect()
    };
    Ok(rows.map(keep).collect())
}

/// How many independent scores one score is worth: 1 / (1 + 2 × the sum of autocorrelations) of
/// "above the series' median", which anomalies hardly touch. The sum ends where the correlation
/// drowns in noise.
fn effective_share(raw: ArrayView2<f64>, usable: ArrayView2<bool>, standards: &Standards) -> f64 {
    let signs: Array2<i8> = Array2::from_shape_fn(raw.dim(), |(s, t)| {
        let score = raw[[s, t]];
        let here = usable[[s, t]] && score.is_finite();
        i8::from(here) * if score > standards.series[s].location { 1 } else { -1 }
    });
    let count = signs.iter().filter(|&&s| s != 0).count().max(1);
    let mean = signs.iter().map(|&s| f64::from(s)).sum::<f64>() / count as f64;
    let variance = 1.0 - mean * mean;
    if variance <= 0.0 {
        return 1.0;
    }
    let longest = 50.min(raw.ncols() / 4);
    let mut inflation = 1.0;
    for lag in 1..=longest {
        let (mut sum, mut pairs) = (0_i64, 0_i64);
        for row in signs.outer_iter() {
            for t in lag..row.len() {
                let product = i64::from(row[t] * row[t - lag]);
                sum += product;
                pairs += product.abs();
            }
        }
        let correlation = (sum as f64 / pairs.max(1) as f64 - mean * mean) / variance;
        if correlation < 0.05_f64.max(2.0 / (pairs.max(1) as f64).sqrt()) {
            break;
        }
        inflation += 2.0 * correlation;
    }
    1.0 / inflation
}

#[cfg(test)]
mod tests;
