//! What a reader must know to read a comparison.

use std::collections::BTreeMap;

use super::{
    align::{Aligned, Sharing},
    comparison::LevelComparison,
    run_dir::RunDir,
};

/// Below so many series a percentile interval is too narrow.
const FEW_SERIES: usize = 20;

/// Gathers what is worth a sentence.
pub struct Notes {
    names: Vec<String>,
    sentences: Vec<String>,
    /// By level and config, summed over runs.
    sharing: BTreeMap<(String, usize), Sharing>,
    in_training: BTreeMap<String, usize>,
}

impl Notes {
    pub fn new(names: &[String]) -> Self {
        Self {
            names: names.to_vec(),
            sentences: Vec::new(),
            sharing: BTreeMap::new(),
            in_training: BTreeMap::new(),
        }
    }

    fn say(&mut self, sentence: String) {
        if !self.sentences.contains(&sentence) {
            self.sentences.push(sentence);
        }
    }

    pub fn unpaired(&mut self, config: usize, runs: usize) {
        if runs > 0 {
            let (name, base) = (&self.names[config], &self.names[0]);
            self.say(format!(
                "{runs} runs of {name} have no counterpart of {base} with the same data and seed, and are left out"
            ));
        }
    }

    pub fn labels(&mut self, runs: &[Option<RunDir>]) {
        for run in runs.iter().flatten() {
            if let Some(reason) = &run.labels_lost {
                self.say(format!(
                    "the labels of {} cannot be read ({reason}): put them back there for figures against them",
                    run.dir.display()
                ));
            }
        }
    }

    pub fn sharing(&mut self, level: &str, aligned: &Aligned) {
        *self.in_training.entry(level.to_string()).or_default() += aligned.in_training;
        for (config, run) in aligned.runs.iter().enumerate() {
            let Some(run) = run else {
                let (name, base) = (&self.names[config], &self.names[0]);
                self.say(format!(
                    "{name} has no run, or no such level, for some runs of {base} at level {level}: its figures are over the others"
                ));
                continue;
            };
            let sum = self.sharing.entry((level.to_string(), config)).or_default();
            sum.series.0 += run.sharing.series.0;
            sum.series.1 += run.sharing.series.1;
            sum.cells.0 += run.sharing.cells.0;
            sum.cells.1 += run.sharing.cells.1;
            sum.missing += run.sharing.missing;
            sum.other_values += run.sharing.other_values;
            sum.unscored += run.sharing.unscored;
        }
    }

    /// The first config that has no point in common with the baseline at any level.
    pub fn stranger(&self) -> Option<&str> {
        let shares = |config: usize| {
            let mut sums = self.sharing.iter().filter(|((_, c), _)| *c == config).peekable();
            sums.peek().is_none() || sums.any(|(_, sum)| sum.cells.1 > 0)
        };
        (1..self.names.len()).find(|config| !shares(*config)).map(|c| self.names[c].as_str())
    }

    pub fn figures(&mut self, levels: &[LevelComparison]) {
        for level in levels.iter().filter(|level| level.scope == "all cells") {
            let name = &level.level;
            if !level.labelled {
                self.say(format!(
                    "level {name} has no labels: what is compared is how much is flagged, and which alerts differ"
                ));
            }
            if level.series < FEW_SERIES {
                self.say(format!(
                    "level {name} has {} series: intervals from so few (below {FEW_SERIES}) are too narrow",
                    level.series
                ));
            }
        }
    }

    pub fn sentences(mut self) -> Vec<String> {
        let base = self.names[0].clone();
        for ((level, config), sum) in std::mem::take(&mut self.sharing) {
            let name = self.names[config].clone();
            let own = sum.cells.0 - sum.cells.1;
            if own > 0 || sum.missing > 0 {
                self.say(format!(
                    "level {level}: {name} shares {} of its {} series and {} of its {} points with {base}, which has {} points that it lacks; only shared points are compared",
                    sum.series.1, sum.series.0, sum.cells.1, sum.cells.0, sum.missing
                ));
            }
            if sum.other_values > 0 {
                self.say(format!(
                    "level {level}: {} of {} shared points have another value in {name} than in {base}: the runs saw different data",
                    sum.other_values, sum.cells.1
                ));
            }
            if sum.unscored > 0 {
                self.say(format!(
                    "level {level}: {name} has no score on {} compared points; they count as not flagged and least anomalous",
                    sum.unscored
                ));
            }
        }
        for (level, cells) in std::mem::take(&mut self.in_training) {
            if cells > 0 {
                self.say(format!(
                    "level {level}: {cells} points in some run's training part are left out"
                ));
            }
        }
        self.sentences
    }
}
