//! The smallest spike and drop that each series could have shown.

use ndarray::Array2;

use super::LevelTest;
use crate::{
    checkpoint::LevelState,
    config::Config,
    detectors::FitContext,
    ensemble::would_flag,
    evaluation::inject::{Bisection, DROPS, SPIKES, middle},
    pipeline::{PipelineError, level},
    source::Interval,
};

/// Counts whose usual level is below this show no drop, and their factors say little.
const SPARSE_LEVEL: f64 = 1.0;

/// What one series could have shown.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesReach {
    /// Steps that could be judged.
    pub judged: usize,
    /// Middle of the usual levels at the probed steps; NaN without any.
    pub level: f64,
    /// Weakest factor of a single step's spike that is flagged at half of the probed steps.
    pub spike: Option<f64>,
    pub drop: Option<f64>,
    /// The first changed metric is a count, whose values are whole.
    pub count: bool,
    /// A sentence where the figures alone would mislead; else empty.
    pub note: String,
}

impl SeriesReach {
    /// The value that a factor stands for: counts are rounded away from the level, as they were
    /// when they were tried.
    pub fn value(&self, factor: Option<f64>) -> Option<f64> {
        let value = self.level * factor?;
        Some(match (self.count, factor? > 1.0) {
            (false, _) => value,
            (true, true) => value.ceil(),
            (true, false) => value.floor(),
        })
    }
}

/// The reach of every series of a level, under the thresholds of the run without injections. A
/// single step is changed at a time, and scored by detectors that were fitted on the data as they
/// are, as `detect` would score a new week.
///
/// # Errors
/// When a changed panel cannot be scored.
pub fn reach(
    config: &Config,
    test: &LevelTest<'_>,
    known_events: &[Interval],
    context: &FitContext,
) -> Result<Vec<SeriesReach>, PipelineError> {
    let state = test.base.state()?;
    let search = Search { config, test, known_events, context, state: &state };
    let probes = probes(&test.free, config.inject.probes);
    let direction = config.decision.direction;
    let spikes = if direction.admits(1) { Some(search.run(&probes, &SPIKES)?) } else { None };
    let drops = if direction.admits(-1) { Some(search.run(&probes, &DROPS)?) } else { None };
    let found = (0..test.base.panel.n_series()).map(|s| {
        let size = |found: &Option<Vec<Option<usize>>>, grid: &[f64]| {
            found.as_ref().and_then(|all| all[s]).map(|place| grid[place])
        };
        let mut levels: Vec<f64> =
            probes[s].iter().map(|&t| test.usual.typical(s, t)).filter(|l| !l.is_nan()).collect();
        levels.sort_by(f64::total_cmp);
        let reach = SeriesReach {
            judged: test.free.row(s).iter().filter(|free| **free).count(),
            level: levels.get(levels.len() / 2).copied().unwrap_or(f64::NAN),
            spike: size(&spikes, &SPIKES),
            drop: size(&drops, &DROPS),
            count: test.usual.leads_with_count(),
            note: String::new(),
        };
        let note = note(&reach, (spikes.is_some(), drops.is_some()));
        SeriesReach { note, ..reach }
    });
    Ok(found.collect())
}

fn note(reach: &SeriesReach, (spikes, drops): (bool, bool)) -> String {
    if reach.judged == 0 {
        return "no step that can be judged: too short, or all of it known or labelled".into();
    }
    if reach.count && reach.level < SPARSE_LEVEL {
        return "too sparse to judge drops, and a spike's factor says little: see the count".into();
    }
    match (spikes && reach.spike.is_none(), drops && reach.drop.is_none()) {
        (true, true) => "no spike up to 50 times and no drop is flagged".into(),
        (true, false) => "no spike up to 50 times is flagged".into(),
        (false, true) => "not even a drop to nothing is flagged".into(),
        (false, false) => String::new(),
    }
}

/// The steps of each series that are probed: spread evenly over those that are free.
fn probes(free: &Array2<bool>, wanted: usize) -> Vec<Vec<usize>> {
    let spread = |row: ndarray::ArrayView1<'_, bool>| {
        let steps: Vec<usize> =
            row.iter().enumerate().filter(|(_, free)| **free).map(|(t, _)| t).collect();
        let wanted = wanted.min(steps.len());
        (0..wanted).map(|i| steps[(2 * i + 1) * steps.len() / (2 * wanted)]).collect()
    };
    free.outer_iter().map(spread).collect()
}

struct Search<'a> {
    config: &'a Config,
    test: &'a LevelTest<'a>,
    known_events: &'a [Interval],
    context: &'a FitContext,
    state: &'a LevelState,
}

impl Search<'_> {
    /// For each series, the place in `grid` of the weakest size that is flagged at half of its
    /// probed steps.
    fn run(
        &self,
        probes: &[Vec<usize>],
        grid: &[f64],
    ) -> Result<Vec<Option<usize>>, PipelineError> {
        let most = probes.iter().map(Vec::len).max().unwrap_or(0);
        let mut answers: Vec<Vec<Option<usize>>> = vec![Vec::new(); probes.len()];
        for number in 0..most {
            let cells: Vec<Option<usize>> =
                probes.iter().map(|steps| steps.get(number).copied()).collect();
            for (s, found) in self.bisect(&cells, grid)?.into_iter().enumerate() {
                if cells[s].is_some() {
                    answers[s].push(found);
                }
            }
        }
        Ok(answers.into_iter().map(middle).collect())
    }

    /// Bisects all series at once, each at its own step.
    fn bisect(
        &self,
        cells: &[Option<usize>],
        grid: &[f64],
    ) -> Result<Vec<Option<usize>>, PipelineError> {
        let base = self.test.base;
        let mut searches = vec![Bisection::new(grid.len()); cells.len()];
        loop {
            let mut values = base.panel.values().clone();
            let mut tried = Vec::new();
            for (s, (cell, search)) in cells.iter().zip(&searches).enumerate() {
                if let (Some(t), Some(place)) = (*cell, search.next_place()) {
                    self.test.usual.set(&mut values, s, t, grid[place]);
                    tried.push((s, t));
                }
            }
            if tried.is_empty() {
                return Ok(searches.iter().map(Bisection::found).collect());
            }
            let panel = base.panel.with_values(values)?;
            let scored = level::score_level(
                self.config,
                panel,
                self.known_events,
                self.state,
                self.context,
            )?;
            for (s, t) in tried {
                let threshold = base.output.ln_threshold[t];
                let params = &self.config.decision;
                let found = would_flag(&scored.output, &scored.panel, (s, t), threshold, params);
                searches[s].answer(found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_spread_over_the_free_steps() {
        let free = Array2::from_shape_fn((3, 12), |(s, t)| match s {
            0 => true,
            1 => t == 5,
            _ => false,
        });
        assert_eq!(probes(&free, 3), [vec![2, 6, 10], vec![5], vec![]]);
    }

    #[test]
    fn a_series_that_says_nothing_says_so() {
        let reach = |judged, level, spike, drop| SeriesReach {
            judged,
            level,
            spike,
            drop,
            count: true,
            note: String::new(),
        };
        let both = (true, true);
        assert!(note(&reach(0, f64::NAN, None, None), both).contains("no step"));
        assert!(note(&reach(9, 0.3, Some(5.0), None), both).contains("sparse"));
        let measure = SeriesReach { count: false, ..reach(9, 0.3, Some(5.0), Some(0.5)) };
        assert_eq!(note(&measure, both), "");
        assert!(note(&reach(9, 5.0, Some(3.0), None), both).contains("drop"));
        assert_eq!(note(&reach(9, 5.0, Some(3.0), None), (true, false)), "");
    }

    #[test]
    fn values_of_counts_are_whole_and_on_the_far_side() {
        let reach = SeriesReach {
            judged: 9,
            level: 5.5,
            spike: Some(1.5),
            drop: Some(0.5),
            count: true,
            note: String::new(),
        };
        assert_eq!((reach.value(reach.spike), reach.value(reach.drop)), (Some(9.0), Some(2.0)));
        assert_eq!(reach.value(None), None);
    }
}
