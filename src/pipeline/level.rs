//! One level of a run: every detector fitted and scored, calibrated, combined.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Instant,
};

use ndarray::{Array2, Zip};

use super::{PipelineError, load, registry};
use crate::{
    checkpoint::LevelState,
    config::Config,
    detectors::{
        Detector, DetectorError, DetectorName, FitContext, FitMask, FittedDetector, Scores,
        ScoringPlan,
    },
    ensemble::{
        Agreement, Calibration, Case, EnsembleOutput, Member, References, Rule, RuleSummary,
        combine, decide, fdr_warning, rule_summaries,
    },
    panel::{Panel, SeriesKey},
    source::Interval,
};

/// From a detector's name and a config to the detector: [`registry::build`], but for tests.
pub type Build = fn(DetectorName, &Config) -> Result<Box<dyn Detector>, DetectorError>;

/// One detector of a level.
pub struct MemberRun {
    pub name: DetectorName,
    pub weight: f64,
    pub scores: Scores,
    /// `[series, time]`: ln p, parametric or calibrated.
    pub log_p: Array2<f64>,
    /// ln of the smallest p that any series' calibration supports; minus infinity without one.
    pub ln_floor: f64,
    pub fitted: Box<dyn FittedDetector>,
}

/// A series that another detector had to stand in for.
#[derive(Clone, Debug)]
pub struct Fallback {
    pub series: usize,
    pub detector: DetectorName,
    pub by: DetectorName,
    pub reason: String,
}

/// What happened at one level.
pub struct LevelRun {
    pub panel: Panel,
    /// Under a split: for each series, the step from which on nothing was fitted.
    pub train_until: Option<Vec<usize>>,
    /// The place that each series had when the calibrations were fitted; `None` for a new one.
    pub places: Vec<Option<usize>>,
    /// `[series, time]`: a known event covers the cell.
    pub known: Array2<bool>,
    pub members: Vec<MemberRun>,
    pub calibrations: BTreeMap<DetectorName, Calibration>,
    pub agreement: Agreement,
    /// What percentiles are taken of.
    pub references: References,
    pub output: EnsembleOutput,
    /// What the decision rules did, once [`decide_levels`] has run.
    pub rules: Vec<RuleSummary>,
    /// Sentences about the decision that a reader must see.
    pub rule_notes: Vec<String>,
    pub fallbacks: Vec<Fallback>,
    /// Detectors that could not run at all, and why.
    pub skipped: Vec<(DetectorName, String)>,
    /// Seconds by stage.
    pub timings: Vec<(String, f64)>,
}

impl LevelRun {
    /// The cell was fitted on, so its score flatters.
    pub fn in_training(&self, series: usize, time: usize) -> bool {
        self.train_until.as_ref().is_some_and(|cuts| time < cuts[series])
    }

    /// For each series, the fallback that stands in for `detector`, if any.
    pub fn fallbacks_by_series(&self, detector: DetectorName) -> Vec<Option<&Fallback>> {
        let mut found = vec![None; self.panel.n_series()];
        for fallback in self.fallbacks.iter().filter(|f| f.detector == detector) {
            found[fallback.series] = Some(fallback);
        }
        found
    }

    /// The level as the ensemble decides on it.
    fn case(&mut self) -> Case<'_> {
        let judged = Array2::from_shape_fn(self.known.dim(), |(s, t)| !self.in_training(s, t));
        Case {
            panel: &self.panel,
            members: views(&self.members),
            known: self.known.view(),
            judged,
            references: &self.references,
            output: &mut self.output,
        }
    }

    /// What a checkpoint keeps of the level.
    ///
    /// # Errors
    /// When a detector cannot say what it has learnt.
    pub fn state(&self) -> Result<LevelState, PipelineError> {
        let mut detectors = Vec::with_capacity(self.members.len());
        for member in &self.members {
            detectors.push((member.name, member.fitted.state()?));
        }
        Ok(LevelState {
            level: self.panel.level().clone(),
            step: self.panel.calendar().step(),
            metrics: self.panel.metrics().to_vec(),
            keys: self.panel.keys().to_vec(),
            trained_until: self.trained_until(),
            detectors,
            calibrations: self.calibrations.clone(),
            agreement: self.agreement.clone(),
            references: self.references.clone(),
        })
    }

    /// For each series, the end of what was fitted, on the calendar's clock.
    pub fn trained_until(&self) -> Vec<i64> {
        let n_times = self.panel.n_times();
        (0..self.panel.n_series())
            .map(|s| {
                let until = self.train_until.as_ref().map_or(n_times, |cuts| cuts[s]);
                self.panel.calendar().start(until)
            })
            .collect()
    }
}

fn views(members: &[MemberRun]) -> Vec<Member<'_>> {
    members
        .iter()
        .map(|m| Member { scores: &m.scores, log_p: &m.log_p, weight: m.weight })
        .collect()
}

/// Flags, severities and types of all levels: they may share a budget.
///
/// # Errors
/// When the rule needs a training part that a level does not have.
pub fn decide_levels(config: &Config, levels: &mut [LevelRun]) -> Result<(), PipelineError> {
    let params = &config.decision;
    let mut cases: Vec<Case<'_>> = levels.iter_mut().map(LevelRun::case).collect();
    decide(&mut cases, params)?;
    drop(cases);
    for level in levels {
        let floors: Vec<f64> = level.members.iter().map(|m| m.ln_floor).collect();
        let agreement = level.agreement.clone();
        let case = level.case();
        let rules = rule_summaries(&case, params);
        let mut notes = Vec::new();
        let warning = fdr_warning(&case, &floors, &config.ensemble.combination, &agreement, params);
        notes.extend(warning.map(|text| format!("level {}: {text}", case.panel.level().name)));
        let judged_alone = level.train_until.is_none();
        if params.rule_of(None).rule == Rule::Percentile && judged_alone {
            notes.push(format!(
                "level {}: rule percentile: there is no training part, so the percentile is taken of the scores that are judged: {:.3} % of the points are flagged whatever happens; plan = \"split\" has a training part",
                level.panel.level().name,
                100.0 - params.percentile
            ));
        }
        level.rules = rules;
        level.rule_notes = notes;
    }
    Ok(())
}

/// What the detectors of a level made.
#[derive(Default)]
struct Found {
    members: Vec<(DetectorName, f64, Box<dyn FittedDetector>, Scores)>,
    fallbacks: Vec<Fallback>,
    skipped: Vec<(DetectorName, String)>,
    timings: Vec<(String, f64)>,
}

/// Collects the members of a level before they are combined.
struct Members<'a> {
    config: &'a Config,
    /// With the known events of the panel.
    context: FitContext,
    panel: &'a Panel,
    plan: ScoringPlan,
    /// Without the cells of known events.
    mask: FitMask,
    /// With them.
    open: FitMask,
    found: Found,
}

impl<'a> Members<'a> {
    fn new(
        config: &'a Config,
        context: &FitContext,
        panel: &'a Panel,
        plan: ScoringPlan,
        (known, events): (&Array2<bool>, &[Interval]),
    ) -> Self {
        let open = FitMask::all(panel);
        let mut mask = open.clone();
        for ((series, time), _) in known.indexed_iter().filter(|(_, known)| **known) {
            mask.forbid(series, time);
        }
        let known_events = Arc::new(load::known_events(panel, events));
        let context = FitContext { known_events, ..context.clone() };
        Self { config, context, panel, plan, mask, open, found: Found::default() }
    }

    /// What this detector may learn from.
    fn mask_for(&self, detector: &dyn Detector) -> &FitMask {
        if detector.models_known_events() { &self.open } else { &self.mask }
    }

    /// Takes what a detector made, or notes why it made nothing.
    fn take(
        &mut self,
        name: DetectorName,
        weight: f64,
        since: Instant,
        result: Result<(Box<dyn FittedDetector>, Scores), DetectorError>,
    ) -> Result<(), PipelineError> {
        self.found.timings.push((name.to_string(), since.elapsed().as_secs_f64()));
        match result {
            Ok((fitted, mut scores)) => {
                self.stand_in(&mut scores)?;
                self.found.members.push((name, weight, fitted, scores));
                Ok(())
            }
            Err(error @ (DetectorError::Cancelled | DetectorError::Parameter { .. })) => {
                Err(error.into())
            }
            Err(error) => {
                let level = &self.panel.level().name;
                tracing::warn!("level {level}: {error}; it is left out and its weight shared out");
                self.found.skipped.push((name, error.to_string()));
                Ok(())
            }
        }
    }

    /// Series that NB2 could not fit get the rolling detector's numbers.
    fn stand_in(&mut self, scores: &mut Scores) -> Result<(), PipelineError> {
        if scores.detector != DetectorName::Nb2 || scores.failures.is_empty() {
            return Ok(());
        }
        let by = DetectorName::Rolling;
        let rolling = registry::build(by, self.config)?;
        let (_, other) = rolling.fit_score(self.panel, &self.mask, self.plan, &self.context)?;
        for failure in &scores.failures {
            let row = failure.series;
            if other.failures.iter().any(|f| f.series == row) {
                continue;
            }
            self.found.fallbacks.push(Fallback {
                series: row,
                detector: scores.detector,
                by,
                reason: failure.reason.clone(),
            });
        }
        for fallback in &self.found.fallbacks {
            scores.take_series(&other, fallback.series);
        }
        Ok(())
    }
}

/// A level's panel with everything that combining needs beside the members.
struct Frame<'a> {
    config: &'a Config,
    panel: Panel,
    train_until: Option<Vec<usize>>,
    places: Vec<Option<usize>>,
    known: Array2<bool>,
    /// Agreement and reference scores of the checkpoint; `None`: the level's own.
    kept: Option<(Agreement, References)>,
}

/// ln p of a detector, the smallest that is supported, and the calibration behind them.
type Calibrated = (Array2<f64>, f64, Option<Calibration>);

impl Frame<'_> {
    /// Turns every score into ln p and combines them. `calibrate` fits (or looks up) the
    /// calibration of a detector.
    fn combine(
        self,
        found: Found,
        mut calibrate: impl FnMut(&Scores) -> Result<Calibrated, String>,
    ) -> Result<LevelRun, PipelineError> {
        let Self { config, panel, train_until, places, known, kept } = self;
        let Found { members: candidates, fallbacks, mut skipped, timings } = found;
        let mut members = Vec::with_capacity(candidates.len());
        let mut calibrations = BTreeMap::new();
        for (name, weight, fitted, scores) in candidates {
            let (log_p, ln_floor) = match &scores.log_p {
                Some(log_p) => (log_p.clone(), f64::NEG_INFINITY),
                None => match calibrate(&scores) {
                    Ok((log_p, ln_floor, calibration)) => {
                        calibrations.extend(calibration.map(|c| (name, c)));
                        (log_p, ln_floor)
                    }
                    Err(reason) => {
                        tracing::warn!("level {}: {name} left out: {reason}", panel.level().name);
                        skipped.push((name, reason));
                        continue;
                    }
                },
            };
            members.push(MemberRun { name, weight, scores, log_p, ln_floor, fitted });
        }
        if members.is_empty() {
            let reasons: Vec<String> =
                skipped.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
            return Err(PipelineError::Other(format!(
                "level {}: no detector could score anything: {}",
                panel.level().name,
                reasons.join("; ")
            )));
        }
        let views = views(&members);
        let own = kept.is_none();
        let (agreement, references) =
            kept.unwrap_or_else(|| (Agreement::learn(&views), References::default()));
        let output = combine(&panel, &views, &agreement, &config.ensemble.combination)?;
        let references = if own {
            let cells = reference_cells(&known, train_until.as_deref());
            References::new(&output, &views, cells.view())
        } else {
            references
        };
        Ok(LevelRun {
            panel,
            train_until,
            places,
            known,
            members,
            calibrations,
            agreement,
            references,
            output,
            rules: Vec::new(),
            rule_notes: Vec::new(),
            fallbacks,
            skipped,
            timings,
        })
    }
}

/// Fits every member on the panel and scores it under the config's plan.
///
/// # Errors
/// When no detector can run, a parameter is wrong, or somebody cancelled.
pub fn fit_level(
    config: &Config,
    panel: Panel,
    known_events: &[Interval],
    context: &FitContext,
) -> Result<LevelRun, PipelineError> {
    fit_level_with(registry::build, config, panel, known_events, context)
}

/// [`fit_level`] with detectors made by `build`.
///
/// # Errors
/// As [`fit_level`].
pub fn fit_level_with(
    build: Build,
    config: &Config,
    panel: Panel,
    known_events: &[Interval],
    context: &FitContext,
) -> Result<LevelRun, PipelineError> {
    let known = load::cells(&panel, known_events);
    let plan = config.split.plan();
    let train_until = plan.train_until(&panel);
    let held_out = held_out(&panel, train_until.as_deref());
    let mut members = Members::new(config, context, &panel, plan, (&known, known_events));
    for (name, weight) in config.members() {
        let since = Instant::now();
        let detector = build(name, config)?;
        let mask = members.mask_for(detector.as_ref());
        let result = detector.fit_score(&panel, mask, plan, &members.context);
        members.take(name, weight, since, result)?;
    }
    let found = members.found;
    // The null of a score is learnt where the fit did not look, outside known events.
    let all = train_until.is_none();
    let usable = Zip::from(&known)
        .and(&held_out)
        .map_collect(|&known, &held_out| !known && (all || held_out));
    let places = (0..panel.n_series()).map(Some).collect();
    let frame = Frame { config, panel, train_until, places, known, kept: None };
    frame.combine(found, |scores| {
        let calibration = Calibration::fit(scores, usable.view(), &config.calibration)
            .map_err(|error| error.to_string())?;
        let found = calibration.log_p(scores).map_err(|error| error.to_string())?;
        let ln_floor = smallest(&found.floor);
        Ok((found.log_p, ln_floor, Some(calibration)))
    })
}

/// ln of the smallest of the floors under each series' p.
fn smallest(floors: &[f64]) -> f64 {
    floors.iter().copied().fold(1.0, f64::min).ln()
}

/// The cells that percentiles are taken of: the training part under a split, else every cell;
/// known events are left out.
fn reference_cells(known: &Array2<bool>, train_until: Option<&[usize]>) -> Array2<bool> {
    Array2::from_shape_fn(known.dim(), |(s, t)| {
        !known[[s, t]] && train_until.is_none_or(|cuts| t < cuts[s])
    })
}

/// The cells `[series, time]` that a split keeps from every fit.
fn held_out(panel: &Panel, train_until: Option<&[usize]>) -> Array2<bool> {
    Array2::from_shape_fn((panel.n_series(), panel.n_times()), |(s, t)| {
        train_until.is_some_and(|cuts| t >= cuts[s])
    })
}

/// Scores a panel with detectors and calibrations out of a checkpoint.
///
/// # Errors
/// When a state does not fit its detector, or nothing can score.
pub fn score_level(
    config: &Config,
    panel: Panel,
    known_events: &[Interval],
    state: &LevelState,
    context: &FitContext,
) -> Result<LevelRun, PipelineError> {
    score_level_with(registry::build, config, panel, known_events, state, context)
}

/// [`score_level`] with detectors made by `build`.
///
/// # Errors
/// As [`score_level`].
pub fn score_level_with(
    build: Build,
    config: &Config,
    panel: Panel,
    known_events: &[Interval],
    state: &LevelState,
    context: &FitContext,
) -> Result<LevelRun, PipelineError> {
    let known = load::cells(&panel, known_events);
    let plan = ScoringPlan::InSample; // for a fallback; nothing else is fitted here
    let mut members = Members::new(config, context, &panel, plan, (&known, known_events));
    let weights = config.members();
    for (name, kept) in &state.detectors {
        let since = Instant::now();
        let detector = build(*name, config)?;
        // A state that does not fit is an error, not a skipped detector: the checkpoint is wrong.
        let fitted = detector.restore(kept.clone(), context)?;
        let mask = members.mask_for(detector.as_ref());
        let result = fitted.score(&panel, mask, &members.context).map(|scores| (fitted, scores));
        members.take(*name, weights.get(name).copied().unwrap_or(1.0), since, result)?;
    }
    let order: HashMap<&SeriesKey, usize> =
        state.keys.iter().enumerate().map(|(place, key)| (key, place)).collect();
    let places: Vec<Option<usize>> = panel.keys().iter().map(|k| order.get(k).copied()).collect();
    let calendar = panel.calendar();
    let until = |place: &usize| calendar.offset_of(state.trained_until[*place]).max(0) as usize;
    let train_until = Some(
        places.iter().map(|p| p.as_ref().map_or(0, until).min(panel.n_times())).collect::<Vec<_>>(),
    );
    for calibration in state.calibrations.values() {
        calibration.validate()?;
    }
    let found = members.found;
    let kept = Some((state.agreement.clone(), state.references.clone()));
    let frame = Frame { config, panel, train_until, places: places.clone(), known, kept };
    frame.combine(found, |scores| {
        let calibration = state
            .calibrations
            .get(&scores.detector)
            .ok_or_else(|| "the checkpoint has no calibration for it: train again".to_string())?;
        let found = calibration.log_p_of(scores.score.view(), &places);
        let ln_floor = smallest(&found.floor);
        Ok((found.log_p, ln_floor, Some(calibration.clone())))
    })
}
