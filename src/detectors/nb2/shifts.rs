//! Levels that have moved and stayed.
//!
//! An event ends; a new level does not. Where `on_shift` is `"rebase"`, the history of a series is
//! searched for steps of its log mean: a score test of a step at every place, adjusted for season
//! and trend, residuals cut so that a spike is no step; the best one is fitted, and kept when it is
//! large, far beyond its standard error, and has lasted on both sides. Then the search goes on
//! beside it (binary segmentation: Scott and Knott 1974).
//!
//! The test need not be calibrated: a level that has moved is also an event, and that event's
//! p-value is. What is found here says from when on the new level is the normal one.

use super::{
    fit::{Counts, Fitter, Room, data},
    model::{FitFailure, Prior, diagonal},
    terms::OwnTerms,
};
use crate::math::linalg::quadratic_form;

/// Shifts of one series at most.
const MAX_SHIFTS: usize = 4;

/// The smallest step of the log mean that is a new level …
const MIN_LN_FACTOR: f64 = 0.26;

/// … and its size in standard errors. A season that the terms miss or a level that wanders reach 3.
const MIN_STANDARD_ERRORS: f64 = 5.0;

/// A candidate needs this score statistic to be fitted: the fit without the step has taken some of
/// it for noise.
const MIN_SCORE: f64 = 6.0;

/// Pearson residuals are cut here.
const RESIDUAL_CUT: f64 = 2.5;

/// Adds to `own` the shifts of the level that `counts` show; `base` fits with the terms in `own`.
///
/// # Errors
/// When a fit fails.
pub(super) fn find(
    base: &Fitter<'_>,
    counts: &Counts,
    lasting: usize,
    own: &mut OwnTerms,
) -> Result<(), FitFailure> {
    let mut found: Vec<usize> = Vec::new();
    while found.len() < MAX_SHIFTS {
        let design = base.design.with_columns(&own.columns);
        let prior = with_own_terms(base.prior, &own.precisions);
        let fitter = Fitter { design: &design, prior: &prior, ..*base };
        let mut room = Room::new(&design);
        let Some(at) = best_place(&fitter, counts, &found, lasting, &mut room)? else { break };
        let mut tried = own.clone();
        tried.push_shift(at, 0, counts.values.len(), lasting);
        if !is_large(base, counts, &tried)? {
            break;
        }
        *own = tried;
        found.push(at);
    }
    Ok(())
}

/// `prior` with independent terms behind its own, around 0, one precision each.
pub(super) fn with_own_terms(prior: &Prior, precisions: &[f64]) -> Prior {
    let mut prior = prior.clone();
    for &precision in precisions {
        prior.mean.push(0.0);
        let n = prior.mean.len();
        prior.precision.resize(diagonal(n - 1), 0.0);
        prior.precision.push(precision);
    }
    prior
}

/// The place where a step would explain most, if it is worth a fit.
fn best_place(
    fitter: &Fitter<'_>,
    counts: &Counts,
    found: &[usize],
    lasting: usize,
    room: &mut Room,
) -> Result<Option<usize>, FitFailure> {
    let used = data(counts, &counts.allowed);
    let regression = fitter.regression();
    let estimate = regression.fit(used, regression.start(used), &mut room.work)?;
    regression.predict(&estimate, &counts.offset, &mut room.work);
    let covariance = regression.covariance(used, estimate.dispersion, &mut room.work)?.to_vec();
    let n_columns = fitter.design.n_columns;
    let (mut score, mut weight, mut after) = (0.0, 0.0, 0);
    let mut moments = vec![0.0; n_columns];
    let mut row = vec![0.0; n_columns];
    let n = counts.n_allowed();
    let mut best: Option<(f64, usize)> = None;
    for t in (0..counts.values.len()).rev() {
        if counts.allowed[t] == 0.0 {
            continue;
        }
        let mean = room.work.mean[t];
        let variance = mean * (1.0 + estimate.dispersion * mean);
        let residual = (counts.values[t] - mean) / variance.sqrt().max(1e-150);
        let w = mean * mean / variance.max(1e-300);
        score += residual.clamp(-RESIDUAL_CUT, RESIDUAL_CUT) * w.sqrt();
        weight += w;
        after += 1;
        fitter.design.row(t, &mut row);
        for (moment, x) in moments.iter_mut().zip(&row) {
            *moment += w * x;
        }
        let far = |other: &usize| t.abs_diff(*other) >= lasting;
        if after < lasting || n - after < lasting || !found.iter().all(far) {
            continue;
        }
        let explained = quadratic_form(&covariance, &moments);
        let information = weight - explained;
        // A step that season and trend can imitate is none.
        if information < 0.02 * weight {
            continue;
        }
        let statistic = score * score / information;
        if statistic > best.map_or(MIN_SCORE, |b| b.0) {
            best = Some((statistic, t));
        }
    }
    Ok(best.map(|b| b.1))
}

/// True when the last of the terms is a step that nobody would call noise.
fn is_large(base: &Fitter<'_>, counts: &Counts, own: &OwnTerms) -> Result<bool, FitFailure> {
    let design = base.design.with_columns(&own.columns);
    let prior = with_own_terms(base.prior, &own.precisions);
    let fitter = Fitter { design: &design, prior: &prior, ..*base };
    let mut room = Room::new(&design);
    let used = data(counts, &counts.allowed);
    let regression = fitter.regression();
    let estimate = regression.fit(used, regression.start(used), &mut room.work)?;
    regression.predict(&estimate, &counts.offset, &mut room.work);
    let covariance = regression.covariance(used, estimate.dispersion, &mut room.work)?;
    let last = design.n_columns - 1;
    let step = estimate.beta[last].abs();
    let error = covariance[diagonal(last)].sqrt();
    Ok(step >= MIN_LN_FACTOR && step >= MIN_STANDARD_ERRORS * error)
}
