//! Fitting and scoring, put together.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ndarray::{Array3, s};
use rayon::prelude::*;

use super::{
    NAME,
    errors::Judged,
    params::{LstmParams, Objective},
    state,
    train::TrainingCurve,
    view::{FittedView, Look, View},
};
use crate::{
    detectors::{
        DetectorError, DetectorState, FitContext, FitMask, FittedDetector, Scores, ScoringPlan,
        SeriesFailure,
    },
    panel::{Panel, SeriesKey, Step},
};

/// An LSTM that has learnt.
#[derive(Clone, Debug)]
pub struct FittedLstm {
    pub(super) params: LstmParams,
    pub(super) metrics: Vec<String>,
    pub(super) step: Step,
    pub(super) keys: Vec<SeriesKey>,
    /// One for each of [`LstmParams::views`]; at least one.
    pub(super) views: Vec<FittedView>,
}

impl FittedLstm {
    /// How the training of its first network went; with [`Objective::Both`], of the autoencoder.
    pub fn curve(&self) -> &TrainingCurve {
        &self.views[0].curve
    }

    /// Which of its networks ended their training before its time, and why.
    pub fn stopped(&self) -> Vec<String> {
        let networks = self.params.views();
        let reason = |(params, view): (&LstmParams, &FittedView)| {
            let reason = view.curve.stopped.as_ref()?;
            let name = match params.objective {
                Objective::Forecast => "the forecaster",
                Objective::Reconstruction | Objective::Both => "the autoencoder",
            };
            Some(format!("{name}: {reason}"))
        };
        networks.iter().zip(&self.views).filter_map(reason).collect()
    }

    /// The parameters that it was built with.
    pub fn params(&self) -> &LstmParams {
        &self.params
    }
}

/// One fit, with the panel it is made on.
pub(super) struct Fit<'a> {
    pub(super) params: &'a LstmParams,
    pub(super) panel: &'a Panel,
    pub(super) context: &'a FitContext,
}

impl Fit<'_> {
    pub(super) fn run(
        &self,
        mask: &FitMask,
        plan: ScoringPlan,
    ) -> Result<(FittedLstm, Scores), DetectorError> {
        guarded(self.context, || self.fit_and_score(mask, plan))
    }

    fn fit_and_score(
        &self,
        mask: &FitMask,
        plan: ScoringPlan,
    ) -> Result<(FittedLstm, Scores), DetectorError> {
        let (mut views, mut looks) = (Vec::new(), Vec::new());
        for (number, params) in self.params.views().iter().enumerate() {
            let view = View { params, panel: self.panel, context: self.context, number };
            let (fitted, look) = view.fit(mask, plan)?;
            views.push(fitted);
            looks.push(look);
        }
        let places: Vec<Option<usize>> = (0..self.panel.n_series()).map(Some).collect();
        let scores = assemble(self.panel, &views, looks, &places);
        let fitted = FittedLstm {
            params: self.params.clone(),
            metrics: metric_names(self.panel),
            step: self.panel.calendar().step(),
            keys: self.panel.keys().to_vec(),
            views,
        };
        Ok((fitted, scores))
    }
}

impl FittedDetector for FittedLstm {
    fn score(
        &self,
        panel: &Panel,
        mask: &FitMask,
        context: &FitContext,
    ) -> Result<Scores, DetectorError> {
        self.check_panel(panel)?;
        guarded(context, || {
            let places = self.places(panel);
            let mut looks = Vec::with_capacity(self.views.len());
            for (number, (params, fitted)) in
                self.params.views().iter().zip(&self.views).enumerate()
            {
                let view = View { params, panel, context, number };
                looks.push(view.look(fitted, &places, mask.as_array().view())?);
            }
            Ok(assemble(panel, &self.views, looks, &places))
        })
    }

    fn state(&self) -> Result<DetectorState, DetectorError> {
        state::save(self)
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

impl FittedLstm {
    /// For each series of a panel, its place in the fit.
    fn places(&self, panel: &Panel) -> Vec<Option<usize>> {
        let places: std::collections::HashMap<&SeriesKey, usize> =
            self.keys.iter().enumerate().map(|(place, key)| (key, place)).collect();
        panel.keys().iter().map(|key| places.get(key).copied()).collect()
    }

    fn check_panel(&self, panel: &Panel) -> Result<(), DetectorError> {
        let (found, step) = (metric_names(panel), panel.calendar().step());
        if found == self.metrics && step == self.step {
            return Ok(());
        }
        Err(DetectorError::State {
            detector: NAME,
            reason: format!(
                "it was trained on {:?} per {}, the data have {found:?} per {}: give it the same metrics in the same order, or train again",
                self.metrics,
                String::from(self.step),
                String::from(step)
            ),
        })
    }
}

fn metric_names(panel: &Panel) -> Vec<String> {
    panel.metrics().iter().map(|metric| metric.name.clone()).collect()
}

/// Series that are judged before their scores are written.
const SERIES_AT_ONCE: usize = 256;

/// Scores from what each network makes of a panel.
fn assemble(
    panel: &Panel,
    views: &[FittedView],
    mut looks: Vec<Look>,
    places: &[Option<usize>],
) -> Scores {
    let mut scores = Scores::empty(NAME, panel);
    let shape = panel.values().dim();
    scores.metric_share = (shape.2 > 1).then(|| Array3::zeros(shape));
    let mut expected = std::mem::take(&mut looks[0].expected);
    // A few series at a time: what is known of each of their steps takes more memory than a score.
    for first in (0..shape.0).step_by(SERIES_AT_ONCE) {
        let some = first..shape.0.min(first + SERIES_AT_ONCE);
        let judged: Vec<Vec<Vec<Option<Judged>>>> = some
            .into_par_iter()
            .map(|series| {
                let judge = |(view, look): (&FittedView, &Look)| {
                    view.errors.judge(look.errors.slice(s![series, .., ..]), places[series])
                };
                views.iter().zip(&looks).map(judge).collect()
            })
            .collect();
        for (series, judged) in (first..).zip(judged) {
            keep(series, &judged, &looks, &mut scores, &mut expected);
        }
    }
    scores.expected = Some(expected);
    scores.failures = failures(looks);
    scores
}

/// Writes what all views make of one series. `judged` is `[view][time]`.
fn keep(
    series: usize,
    judged: &[Vec<Option<Judged>>],
    looks: &[Look],
    scores: &mut Scores,
    expected: &mut Array3<f64>,
) {
    for time in 0..expected.dim().1 {
        let of_step = judged.iter().map(|judged| judged[time].as_ref());
        let Some((leading, score)) = together(of_step) else { continue };
        scores.score[[series, time]] = score;
        let Some(judged) = &judged[leading][time] else { continue };
        scores.direction[[series, time]] = judged.direction();
        if let Some(metric_share) = &mut scores.metric_share {
            let mut cells = metric_share.slice_mut(s![series, time, ..]);
            judged.shares().iter().zip(&mut cells).for_each(|(share, cell)| *cell = *share);
        }
        if leading > 0 {
            let cells = s![series, time, ..];
            expected.slice_mut(cells).assign(&looks[leading].expected.slice(cells));
        }
    }
}

/// The view that finds a step furthest out, and the score of all that know it: a mean on the scale
/// of `ln(1 + score)`, so that none is drowned by another's wild errors and none has a veto.
fn together<'a>(of_step: impl Iterator<Item = Option<&'a Judged>>) -> Option<(usize, f64)> {
    let (mut leading, mut sum, mut there) = (None, 0.0, 0);
    for (view, judged) in of_step.enumerate() {
        let Some(judged) = judged else { continue };
        if leading.is_none_or(|(_, most)| judged.score > most) {
            leading = Some((view, judged.score));
        }
        sum += judged.score.ln_1p();
        there += 1;
    }
    leading.map(|(view, _)| (view, (sum / f64::from(there)).exp_m1()))
}

/// The series that no network could score, with the first one's reason.
fn failures(looks: Vec<Look>) -> Vec<SeriesFailure> {
    let mut looks = looks.into_iter().map(|look| look.failures);
    let first = looks.next().unwrap_or_default();
    let others: Vec<Vec<SeriesFailure>> = looks.collect();
    let in_all = |failure: &SeriesFailure| {
        others.iter().all(|failures| failures.iter().any(|other| other.series == failure.series))
    };
    first.into_iter().filter(in_all).collect()
}

/// A GPU driver that fails, fails by a panic inside burn. It costs this detector, not the run.
fn guarded<T>(
    context: &FitContext,
    work: impl FnOnce() -> Result<T, DetectorError>,
) -> Result<T, DetectorError> {
    if context.device.is_cpu() {
        return work();
    }
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(DetectorError::Device {
            detector: NAME,
            reason: format!(
                "{} failed ({}): update its driver, or take --device cpu",
                context.device.name(),
                text.unwrap_or_else(|| "no message".into())
            ),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(score: f64) -> Judged {
        Judged { score, deviations: vec![score], parts: vec![score] }
    }

    #[test]
    fn a_step_is_judged_by_all_views_that_know_it_and_the_furthest_leads() {
        let (low, high) = (judged(1.0), judged(7.0));
        let (leading, score) = together([Some(&low), Some(&high)].into_iter()).unwrap();
        // sqrt((1 + 1) × (1 + 7)) - 1
        assert!(leading == 1 && (score - 3.0).abs() < 1e-12, "{leading}, {score}");
        assert_eq!(together([None, Some(&low)].into_iter()), Some((1, 1.0f64.ln_1p().exp_m1())));
        assert_eq!(together([None, None].into_iter()), None);
    }

    #[test]
    fn a_series_failed_only_where_no_view_could_score_it() {
        let look = |series: &[usize]| Look {
            errors: Array3::zeros((0, 0, 0)),
            expected: Array3::zeros((0, 0, 0)),
            failures: series
                .iter()
                .map(|&series| SeriesFailure { series, reason: "short".into() })
                .collect(),
        };
        let failed = failures(vec![look(&[1, 4]), look(&[4, 6])]);
        assert_eq!(failed.iter().map(|failure| failure.series).collect::<Vec<_>>(), [4]);
    }
}
