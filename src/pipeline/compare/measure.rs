//! Blocks of runs on the same data and seed, measured on the cells that all of them have.

use std::collections::{BTreeMap, HashMap};

use ndarray::Array2;

use super::{
    align::{Aligned, OnGrid},
    comparison::{FigureRow, LevelComparison, Spread},
    run_dir::LevelDir,
};
use crate::{
    evaluation::{Bootstrap, EvaluationInput, Event, Figure, RunSample},
    panel::{Panel, SeriesKey},
    pipeline::load,
    source::Interval,
};

/// The labels on a level's cells.
pub struct Truth {
    pub cells: Array2<bool>,
    pub events: Vec<Event>,
    /// False where nobody labelled this level.
    pub labelled: bool,
}

impl Truth {
    pub fn new(panel: &Panel, labels: Option<&[Interval]>) -> Self {
        let labels = labels.unwrap_or_default();
        let mut events = Vec::new();
        for interval in labels {
            let (series, steps) = load::places(panel, interval);
            events.extend(series.into_iter().filter(|_| !steps.is_empty()).map(|series| Event {
                series,
                steps: steps.clone(),
                kind: interval.kind.clone(),
            }));
        }
        Self { cells: load::cells(panel, labels), labelled: !events.is_empty(), events }
    }

    /// Kinds of the events of a series that touch `steps`, each once.
    pub fn kinds(&self, series: usize, steps: &std::ops::Range<usize>) -> Vec<&str> {
        let mut kinds: Vec<&str> = Vec::new();
        for event in self.events.iter().filter(|event| event.series == series) {
            let touches = event.steps.start < steps.end && steps.start < event.steps.end;
            if touches && !kinds.contains(&event.kind.as_str()) {
                kinds.push(&event.kind);
            }
        }
        kinds
    }
}

/// Runs of every config on the same data and seed, at one level.
pub struct Block<'a> {
    pub number: usize,
    /// Of the baseline's data.
    pub fingerprint: &'a str,
    pub base: &'a LevelDir,
    pub aligned: &'a Aligned,
    pub truth: &'a Truth,
}

/// Samples of one level and scope, by config and block.
struct LevelSamples {
    level: String,
    scope: &'static str,
    samples: Vec<BTreeMap<usize, RunSample>>,
    cells: usize,
    labelled: bool,
}

/// Series of a data set, each with its place among what is resampled.
struct DataSeries {
    fingerprint: String,
    level: String,
    places: HashMap<SeriesKey, usize>,
}

/// Collects samples block by block.
pub struct Measures {
    configs: usize,
    levels: Vec<LevelSamples>,
    data: Vec<DataSeries>,
}

impl Measures {
    pub fn new(configs: usize) -> Self {
        Self { configs, levels: Vec::new(), data: Vec::new() }
    }

    /// Adds the runs of one block at one level.
    pub fn add(&mut self, block: &Block<'_>) {
        let scope = &block.aligned.scope;
        self.add_scope("all cells", block, scope);
        let known = &block.base.known_events;
        if known.keys().any(|cell| scope[*cell]) {
            let mut outside = scope.clone();
            for cell in known.keys() {
                outside[*cell] = false;
            }
            self.add_scope("outside known events", block, &outside);
        }
    }

    fn add_scope(&mut self, name: &'static str, block: &Block<'_>, scope: &Array2<bool>) {
        let (panel, truth) = (&block.base.panel, block.truth);
        let level = &panel.level().name;
        let (data_set, place, n_series) = self.places(block.fingerprint, level, panel.keys());
        let samples = self.level(level, name);
        samples.cells += scope.iter().filter(|counts| **counts).count();
        samples.labelled |= truth.labelled;
        for (config, run) in block.aligned.runs.iter().enumerate() {
            let Some(OnGrid { flags, score, .. }) = run else { continue };
            let input = EvaluationInput {
                truth: &truth.cells,
                events: &truth.events,
                scope,
                flags,
                score,
                step: panel.calendar().step(),
            };
            let sample = RunSample::new(&input, truth.labelled, data_set, &place, n_series);
            samples.samples[config].insert(block.number, sample);
        }
    }

    /// The samples of a level and scope.
    fn level(&mut self, level: &str, scope: &'static str) -> &mut LevelSamples {
        let found = self.levels.iter().position(|l| l.level == level && l.scope == scope);
        let at = found.unwrap_or_else(|| {
            self.levels.push(LevelSamples {
                level: level.to_string(),
                scope,
                samples: vec![BTreeMap::new(); self.configs],
                cells: 0,
                labelled: false,
            });
            self.levels.len() - 1
        });
        &mut self.levels[at]
    }

    /// The number of the data set, and the place of each key among its series.
    fn places(
        &mut self,
        fingerprint: &str,
        level: &str,
        keys: &[SeriesKey],
    ) -> (usize, Vec<usize>, usize) {
        let same = |data: &DataSeries| data.fingerprint == fingerprint && data.level == level;
        let number = self.data.iter().position(same).unwrap_or_else(|| {
            self.data.push(DataSeries {
                fingerprint: fingerprint.into(),
                level: level.into(),
                places: HashMap::new(),
            });
            self.data.len() - 1
        });
        let places = &mut self.data[number].places;
        let place = keys
            .iter()
            .map(|key| {
                let next = places.len();
                *places.entry(key.clone()).or_insert(next)
            })
            .collect();
        (number, place, places.len())
    }

    /// Means, spreads and differences of every level.
    pub fn finish(self, bootstrap: &Bootstrap) -> Vec<LevelComparison> {
        let series: Vec<usize> = self.data.iter().map(|data| data.places.len()).collect();
        self.levels
            .into_iter()
            .map(|level| {
                let of_level = self.data.iter().filter(|data| data.level == level.level);
                LevelComparison {
                    series: of_level.map(|data| data.places.len()).sum(),
                    figures: figures(&level, &series, bootstrap),
                    level: level.level,
                    scope: level.scope.into(),
                    labelled: level.labelled,
                    cells: level.cells,
                }
            })
            .collect()
    }
}

fn figures(level: &LevelSamples, series: &[usize], bootstrap: &Bootstrap) -> Vec<FigureRow> {
    let ones: Vec<Vec<u32>> = series.iter().map(|n| vec![1; *n]).collect();
    let of_config: Vec<Vec<Vec<Option<f64>>>> = level
        .samples
        .iter()
        .map(|runs| runs.values().map(|run| run.figures(&ones[run.data_set])).collect())
        .collect();
    let differences: Vec<Vec<_>> = level
        .samples
        .iter()
        .enumerate()
        .map(|(config, runs)| {
            let pairs: Vec<(&RunSample, &RunSample)> = level.samples[0]
                .iter()
                .filter_map(|(block, baseline)| Some((baseline, runs.get(block)?)))
                .collect();
            if config == 0 { Vec::new() } else { bootstrap.differences(series, &pairs) }
        })
        .collect();
    Figure::ALL
        .iter()
        .enumerate()
        .filter(|(_, figure)| level.labelled || !figure.needs_labels())
        .map(|(place, figure)| FigureRow {
            figure: *figure,
            values: of_config
                .iter()
                .map(|runs| {
                    let values: Vec<f64> = runs.iter().filter_map(|run| run[place]).collect();
                    Spread::of(&values)
                })
                .collect(),
            differences: differences
                .iter()
                .map(|all| all.get(place).and_then(|(_, difference)| *difference))
                .collect(),
        })
        .collect()
}
