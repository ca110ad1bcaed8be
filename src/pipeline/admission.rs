//! The admission test: a detector that scores backwards must not ship.
//!
//! A sign that is turned round leaves every figure plausible but the ones that nobody looks at, so
//! each fitted detector, and the ensemble of them, is shown a spike and a drop before its checkpoint
//! counts as ready. On a few series that could show it, one step is set to its usual level, then far
//! above and far below: the median score over those series must be higher for the unusual value than
//! for the usual one. Nothing is fitted and nothing is drawn by lot; the scores come through the
//! state that the checkpoint keeps, so what is tested is what will be loaded.

use ndarray::Array2;

use super::{
    PipelineError,
    inject::changed_metrics,
    level::{Build, LevelRun, score_level_with},
};
use crate::{
    checkpoint::LevelState, config::Config, detectors::FitContext, evaluation::inject::Usual,
    math::robust::median, panel::Panel,
};

/// Series that are shown.
const SERIES: usize = 9;
/// Fewer series that could show something prove nothing.
const FEWEST: usize = 3;
/// What a spike is: so many times the usual level.
const SPIKE: f64 = 8.0;
/// What a drop leaves.
const DROP: f64 = 0.02;
/// Usual count from which on a series could show a drop.
const LEAST_COUNT: f64 = 5.0;

/// What the test found at one level.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Admission {
    /// Sentences that name who scores backwards; empty: admitted.
    pub refused: Vec<String>,
    /// Sentences about what could not be tested.
    pub untested: Vec<String>,
}

/// Shows a level's fitted detectors a spike and a drop, as far as the config looks for them.
///
/// # Errors
/// When the changed panel cannot be scored.
pub fn test(
    build: Build,
    config: &Config,
    level: &LevelRun,
    state: &LevelState,
    context: &FitContext,
) -> Result<Admission, PipelineError> {
    let name = &level.panel.level().name;
    let changed = changed_metrics(config, &level.panel, &[]);
    let shown = shown(level, &changed)?;
    let mut admission = Admission::default();
    if shown.cells.len() < FEWEST {
        admission.untested.push(format!(
            "level {name}: fewer than {FEWEST} series are large enough to show a spike and a drop, so nobody tested which way the scores point"
        ));
        return Ok(admission);
    }
    let usual = Usual::new(&shown.panel, &shown.expected, &changed)
        .map_err(|metric| PipelineError::Other(format!("level {name}: no metric `{metric}`")))?;
    let score = |factor: f64| -> Result<Vec<(String, f64)>, PipelineError> {
        let mut values = shown.panel.values().clone();
        for (s, &t) in shown.cells.iter().enumerate() {
            usual.set(&mut values, s, t, factor);
        }
        let panel = shown.panel.with_values(values)?;
        // Known events stay out of it: they are kept from no score, only from verdicts.
        let scored = score_level_with(build, config, panel, &[], state, context)?;
        Ok(medians(&scored, &shown.cells))
    };
    let before = score(1.0)?;
    for (sign, factor, what) in [(1, SPIKE, "spike"), (-1, DROP, "drop")] {
        if !config.decision.direction.admits(sign) {
            continue;
        }
        for ((who, usual), (_, unusual)) in before.iter().zip(score(factor)?) {
            if usual.is_nan() || unusual.is_nan() {
                admission.untested.push(format!(
                    "level {name}: {who} has no score for a {what} of ×{factor}, so nobody tested which way it points"
                ));
            } else if unusual <= *usual {
                admission.refused.push(format!(
                    "level {name}: {who} scores backwards: the median score of {} series went from {usual:.4} to {unusual:.4} when a {what} of ×{factor} was injected",
                    shown.cells.len()
                ));
            }
        }
    }
    Ok(admission)
}

/// A few series of a level and the step of each that is changed.
struct Shown {
    panel: Panel,
    expected: ndarray::Array3<f64>,
    cells: Vec<usize>,
}

/// The largest series that could show it, each with its last step that every member has scored.
fn shown(level: &LevelRun, changed: &[String]) -> Result<Shown, PipelineError> {
    let panel = &level.panel;
    let usual = Usual::new(panel, &level.output.expected, changed)
        .map_err(|metric| PipelineError::Other(format!("no metric `{metric}`")))?;
    let scored = |s: usize, t: usize| {
        level.members.iter().all(|member| !member.log_p[[s, t]].is_nan()) && !level.known[[s, t]]
    };
    let mut found: Vec<(f64, usize, usize)> = (0..panel.n_series())
        .filter_map(|s| {
            let t = panel.span(s).rev().find(|&t| scored(s, t))?;
            let size = usual.typical(s, t).abs();
            let least = if usual.leads_with_count() { LEAST_COUNT } else { f64::MIN_POSITIVE };
            (size >= least).then_some((size, s, t))
        })
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    found.truncate(SERIES);
    found.sort_by_key(|(_, s, _)| *s);
    let series: Vec<usize> = found.iter().map(|(_, s, _)| *s).collect();
    let axis = ndarray::Axis(0);
    Ok(Shown {
        panel: subset(panel, &series)?,
        expected: level.output.expected.select(axis, &series),
        cells: found.iter().map(|(_, _, t)| *t).collect(),
    })
}

fn subset(panel: &Panel, series: &[usize]) -> Result<Panel, PipelineError> {
    Ok(Panel::new(
        panel.level().clone(),
        panel.calendar().clone(),
        panel.metrics().to_vec(),
        series.iter().map(|&s| panel.keys()[s].clone()).collect(),
        series.iter().map(|&s| panel.span(s)).collect(),
        panel.values().select(ndarray::Axis(0), series),
    )?)
}

/// The median score at the shown cells: the ensemble's, as -ln p, then each member's raw one.
fn medians(scored: &LevelRun, cells: &[usize]) -> Vec<(String, f64)> {
    let at = |values: &dyn Fn((usize, usize)) -> f64| {
        let all = cells.iter().enumerate().map(|(s, &t)| values((s, t)));
        median(&mut all.filter(|v| !v.is_nan()).collect::<Vec<f64>>()).unwrap_or(f64::NAN)
    };
    let mut found = vec![("ensemble".to_string(), at(&|cell| -scored.output.log_p[cell]))];
    for member in &scored.members {
        let raw: &Array2<f64> = &member.scores.score;
        found.push((member.name.to_string(), at(&|cell| raw[cell])));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::{any::Any, path::Path, sync::Arc};

    use super::*;
    use crate::{
        checkpoint::Checkpoint,
        detectors::{
            Detector, DetectorError, DetectorName, DetectorState, FitMask, FittedDetector, Scores,
            Silent,
        },
        pipeline::{Job, detect, registry, run::train_with},
    };

    /// A detector with its sign turned round.
    struct Reversed<T: ?Sized>(Box<T>);

    impl Detector for Reversed<dyn Detector> {
        fn name(&self) -> DetectorName {
            self.0.name()
        }

        fn fit(
            &self,
            panel: &Panel,
            mask: &FitMask,
            context: &FitContext,
        ) -> Result<Box<dyn FittedDetector>, DetectorError> {
            Ok(Box::new(Reversed(self.0.fit(panel, mask, context)?)))
        }

        fn restore(
            &self,
            state: DetectorState,
            context: &FitContext,
        ) -> Result<Box<dyn FittedDetector>, DetectorError> {
            Ok(Box::new(Reversed(self.0.restore(state, context)?)))
        }
    }

    impl FittedDetector for Reversed<dyn FittedDetector> {
        fn score(
            &self,
            panel: &Panel,
            mask: &FitMask,
            context: &FitContext,
        ) -> Result<Scores, DetectorError> {
            let mut scores = self.0.score(panel, mask, context)?;
            scores.score.mapv_inplace(|score| -score);
            Ok(scores)
        }

        fn state(&self) -> Result<DetectorState, DetectorError> {
            self.0.state()
        }

        fn as_any(&self) -> &dyn Any {
            self.0.as_any()
        }
    }

    fn with_reversed_zscore(
        name: DetectorName,
        config: &Config,
    ) -> Result<Box<dyn Detector>, DetectorError> {
        let detector = registry::build(name, config)?;
        let reversed = name == DetectorName::Zscore;
        Ok(if reversed { Box::new(Reversed(detector)) } else { detector })
    }

    fn job(dir: &Path, out: &str) -> Job {
        let text = "[generate.weekly]\nkeys = 60\n[split]\nplan = \"split\"\n[ensemble]\nmembers = [\"zscore\", \"seasonal_profile\"]\n";
        let config = Config::parse(text, "test.toml", Path::new(""), &[]).unwrap();
        Job { config, out: dir.join(out), progress: Arc::new(Silent), cancelled: Arc::default() }
    }

    #[test]
    fn a_checkpoint_whose_scores_point_the_right_way_is_ready() {
        let dir = tempfile::tempdir().unwrap();
        train_with(&job(dir.path(), "model"), registry::build).unwrap();
        let kept = Checkpoint::load(&dir.path().join("model")).unwrap();
        assert!(kept.readiness.ready);
        assert!(kept.readiness.untested.is_empty(), "{:?}", kept.readiness.untested);
    }

    // What the counts are taken per unit of must not grow with the spike.
    #[test]
    fn a_detector_of_rates_is_shown_a_spike_of_its_counts_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut text = String::from("store,day,count,visitors\n");
        for store in 0..8 {
            for week in 0..104_i64 {
                let day = jiff::civil::date(2023, 1, 2) + jiff::Span::new().weeks(week);
                let count = 40 + 3 * (week * (store + 3) % 7);
                text.push_str(&format!("s{store},{day},{count},{}\n", 900 + 10 * (week % 9)));
            }
        }
        let data = dir.path().join("rates.csv");
        std::fs::write(&data, text).unwrap();
        let config = "[source]\npath = \"data.csv\"\nlayout = \"wide\"\ntime_column = \"day\"\n[panel]\nstep = \"week\"\nlevels = [{ name = \"key\", id_columns = [\"store\"] }]\nmetrics = [{ name = \"count\", kind = \"count\" }, { name = \"visitors\", kind = \"amount\" }]\n[ensemble]\nmembers = [\"nb2\"]\n[nb2]\nexposure = \"visitors\"\n";
        let mut config = Config::parse(config, "test.toml", Path::new(""), &[]).unwrap();
        config.source.path = Some(data.to_string_lossy().into_owned());
        let out = dir.path().join("model");
        let job = Job { config, out, progress: Arc::new(Silent), cancelled: Arc::default() };
        train_with(&job, registry::build).unwrap();
        let kept = Checkpoint::load(&dir.path().join("model")).unwrap();
        assert!(kept.readiness.ready, "{:?}", kept.readiness.not_ready_because);
    }

    #[test]
    fn a_detector_that_scores_backwards_is_refused_by_name_and_its_checkpoint_too() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        let error = train_with(&job(dir.path(), "model"), with_reversed_zscore).err().unwrap();
        let text = error.to_string();
        assert!(text.contains("zscore scores backwards"), "{text}");
        assert!(text.contains("spike") && text.contains("drop"), "{text}");
        assert!(!text.contains("seasonal_profile scores backwards"), "{text}");
        assert!(!error.is_usage(), "the run failed, not its arguments");
        let kept = Checkpoint::load(&model).unwrap();
        assert!(!kept.readiness.ready && kept.readiness.not_ready_because.len() >= 2);

        let mut second = job(dir.path(), "scored");
        let data = dir.path().join("data");
        crate::pipeline::generate(&second.config, &data, "csv", &Silent).unwrap();
        second.config.source.path = Some(data.join("events.csv").to_string_lossy().into_owned());
        let refused = detect(&second, &model, false).err().unwrap().to_string();
        assert!(refused.contains("zscore") && refused.contains("--allow-unready"), "{refused}");
        let summary = detect(&second, &model, true).unwrap();
        assert!(summary.warnings.iter().any(|w| w.contains("not ready")), "{:?}", summary.warnings);
    }
}
