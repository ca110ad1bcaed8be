//! What an injection test says of itself: the content of `inject.json`, and what the command line
//! prints.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{LevelTest, SeriesReach};
use crate::{
    config::Config,
    evaluation::inject::{DetectionRow, FalseAlarmRow},
    pipeline::RunSummary,
};

/// Everything that is known of an injection test beside its tables and pictures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InjectSummary {
    pub name: String,
    /// Of this program.
    pub version: String,
    pub device: String,
    pub seed: u64,
    /// Of the injections' places and sizes.
    pub inject_seed: u64,
    pub repeats: usize,
    pub input: PathBuf,
    /// blake3 of the bytes read.
    pub data_fingerprint: String,
    pub rows: u64,
    pub levels: Vec<InjectLevel>,
    pub warnings: Vec<String>,
    /// Seconds by stage.
    pub timings: Vec<(String, f64)>,
    /// Where the test lies; set when it is complete.
    pub out: PathBuf,
}

/// One level of an injection test.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InjectLevel {
    pub level: String,
    pub series: usize,
    pub steps: usize,
    /// Cells that injections could go to.
    pub free_cells: usize,
    /// By scorer (the ensemble first), kind and size.
    pub detection: Vec<DetectionRow>,
    pub false_alarms: Vec<FalseAlarmRow>,
    pub smallest: SmallestSummary,
}

/// The smallest spikes and drops over a level's series; each series' own are in the CSV file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SmallestSummary {
    /// Series with a step that can be judged.
    pub judged: usize,
    /// Of those, series that could have shown a spike; the middle of their smallest factors.
    pub with_spike: usize,
    pub median_spike_factor: Option<f64>,
    pub with_drop: usize,
    pub median_drop_factor: Option<f64>,
    /// Series whose figures come with a note.
    pub noted: usize,
    /// The file with a row per series.
    pub file: String,
}

impl InjectSummary {
    pub(super) fn new(
        told: &RunSummary,
        config: &Config,
        inject_seed: u64,
        levels: Vec<InjectLevel>,
    ) -> Self {
        Self {
            name: told.name.clone(),
            version: told.version.clone(),
            device: told.device.clone(),
            seed: told.seed,
            inject_seed,
            repeats: config.inject.repeats,
            input: told.input.clone(),
            data_fingerprint: told.data_fingerprint.clone(),
            rows: told.rows,
            levels,
            warnings: told.warnings.clone(),
            timings: told.timings.clone(),
            out: told.out.clone(),
        }
    }
}

/// The figures of one level.
pub(super) fn level(test: &LevelTest<'_>, reaches: &[SeriesReach]) -> InjectLevel {
    let panel = &test.base.panel;
    InjectLevel {
        level: panel.level().name.clone(),
        series: panel.n_series(),
        steps: panel.n_times(),
        free_cells: test.free.iter().filter(|free| **free).count(),
        detection: test.tallies.iter().flat_map(|tally| tally.rows()).collect(),
        false_alarms: test.tallies.iter().map(|tally| tally.false_alarms()).collect(),
        smallest: smallest(reaches, super::write::series_file(&panel.level().name)),
    }
}

fn smallest(reaches: &[SeriesReach], file: String) -> SmallestSummary {
    let middle = |mut factors: Vec<f64>| {
        factors.sort_by(f64::total_cmp);
        (factors.len(), factors.get(factors.len() / 2).copied())
    };
    let judged: Vec<&SeriesReach> = reaches.iter().filter(|reach| reach.judged > 0).collect();
    let (with_spike, median_spike_factor) =
        middle(judged.iter().filter_map(|reach| reach.spike).collect());
    let (with_drop, median_drop_factor) =
        middle(judged.iter().filter_map(|reach| reach.drop).collect());
    SmallestSummary {
        judged: judged.len(),
        with_spike,
        median_spike_factor,
        with_drop,
        median_drop_factor,
        noted: reaches.iter().filter(|reach| !reach.note.is_empty()).count(),
        file,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_without_a_judged_step_do_not_count() {
        let reach = |judged, spike, note: &str| SeriesReach {
            judged,
            level: 5.0,
            spike,
            drop: None,
            count: true,
            note: note.into(),
        };
        let found = smallest(
            &[reach(9, Some(2.0), ""), reach(9, Some(4.0), "x"), reach(0, None, "y")],
            "f.csv".into(),
        );
        assert_eq!((found.judged, found.with_spike, found.noted), (2, 2, 2));
        assert_eq!((found.median_spike_factor, found.median_drop_factor), (Some(4.0), None));
    }
}
