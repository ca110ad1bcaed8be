//! The plain data that a report is drawn from.
//!
//! No type of another room but the words of a verdict: whoever has numbers can fill these in,
//! and a test needs no panel and no detector to draw a page. Everything serialises, with `NaN`
//! as `null`, so a run can keep what its report was drawn from.

use std::{cmp::Ordering, collections::BTreeMap, ops::Range};

use serde::{Deserialize, Serialize};

use crate::{
    ensemble::{AnomalyType, Direction, Severity},
    report::{EvaluationCharts, ReportError, records::RecordsReport},
};

/// Everything that a report shows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReportData {
    pub title: String,
    /// When the report was made, as text; `None` keeps the page the same byte for byte.
    pub generated_at: Option<String>,
    /// Name and value: version, device, seed, timings.
    pub facts: Vec<(String, String)>,
    /// Fallbacks and warnings, one sentence each.
    pub notes: Vec<String>,
    pub levels: Vec<LevelReport>,
    /// Worst first; the page keeps the first [`MAX_PAGE_ROWS`](crate::report::MAX_PAGE_ROWS).
    pub anomalies: Vec<AnomalyRow>,
    /// Most interesting first; the page keeps the first
    /// [`MAX_PAGE_CHARTS`](crate::report::MAX_PAGE_CHARTS).
    pub charts: Vec<SeriesChart>,
    pub training: Option<TrainingCurve>,
    pub quality: Vec<MetricTable>,
    /// Charts of scored records; panels have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<RecordsReport>,
    /// Charts of how good the run is, by level; empty without labels.
    #[serde(default)]
    pub evaluation: Vec<EvaluationCharts>,
}

impl ReportData {
    /// Keeps the first `top` charts of each level, and no link to the others.
    pub fn keep_top(&mut self, top: usize) {
        let mut kept: BTreeMap<String, usize> = BTreeMap::new();
        self.charts.retain(|chart| {
            let n = kept.entry(chart.level.clone()).or_default();
            *n += 1;
            *n <= top
        });
        for row in &mut self.anomalies {
            row.chart = row.chart.take().filter(|id| self.charts.iter().any(|c| c.id == *id));
        }
    }
}

/// The summary of one level of aggregation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LevelReport {
    pub name: String,
    pub n_series: usize,
    pub n_points: usize,
    pub n_anomalies: usize,
    /// Number of anomalous points of each severity.
    pub by_severity: Vec<(Severity, usize)>,
    /// Number of anomalous points of each type.
    pub by_type: Vec<(AnomalyType, usize)>,
    /// Series with anomalies, in any order: the chart ranks them by [`rank`].
    pub ranking: Vec<SeriesTally>,
    pub heatmap: Option<Heatmap>,
}

/// What a series is ranked by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SeriesTally {
    pub label: String,
    /// Number of anomalous points.
    pub n_anomalies: usize,
    /// The largest `observed / expected` among them; `NaN` if nothing predicts.
    #[serde(with = "nan_as_null")]
    pub largest_deviation_ratio: f64,
}

/// The order in which series deserve a look: most anomalous points first, then the largest
/// deviation ratio (`NaN` last), then the label, so that the order never depends on the input's.
///
/// Returns indices into `tallies`.
pub fn rank(tallies: &[SeriesTally]) -> Vec<usize> {
    let ratio = |t: &SeriesTally| match t.largest_deviation_ratio {
        r if r.is_nan() => f64::NEG_INFINITY,
        r => r,
    };
    let order = |a: &SeriesTally, b: &SeriesTally| -> Ordering {
        b.n_anomalies
            .cmp(&a.n_anomalies)
            .then_with(|| ratio(b).total_cmp(&ratio(a)))
            .then_with(|| a.label.cmp(&b.label))
    };
    let mut places: Vec<usize> = (0..tallies.len()).collect();
    places.sort_by(|&a, &b| order(&tallies[a], &tallies[b]));
    places
}

/// Series × time, coloured by score.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Heatmap {
    /// Seconds, as in [`SeriesChart::times`].
    pub times: Vec<i64>,
    pub step_secs: i64,
    /// Name of the clock that `times` are on, shown below the title: `UTC`; empty for none.
    pub clock: String,
    /// Top row first. The chart draws the first 40 and says how many it left out.
    pub rows: Vec<HeatmapRow>,
    /// Series that the caller already left out of `rows`.
    pub left_out: usize,
}

/// One series of a [`Heatmap`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HeatmapRow {
    pub label: String,
    pub n_anomalies: usize,
    /// One score in `0..=1` per step; `NaN` where nothing was scored.
    #[serde(with = "nan_as_null")]
    pub scores: Vec<f64>,
}

/// One line of the table of anomalies. Numbers may be `NaN`: the page shows a dash.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AnomalyRow {
    pub level: String,
    pub key: String,
    /// As shown; sorted as text, so ISO dates sort by time.
    pub time_label: String,
    pub metric: String,
    #[serde(with = "nan_as_null")]
    pub observed: f64,
    #[serde(with = "nan_as_null")]
    pub expected: f64,
    #[serde(with = "nan_as_null")]
    pub lower: f64,
    #[serde(with = "nan_as_null")]
    pub upper: f64,
    #[serde(with = "nan_as_null")]
    pub deviation_percent: f64,
    #[serde(with = "nan_as_null")]
    pub score: f64,
    #[serde(with = "nan_as_null")]
    pub p_value: f64,
    #[serde(with = "nan_as_null")]
    pub confidence: f64,
    pub severity: Severity,
    pub kind: AnomalyType,
    pub direction: Direction,
    pub n_models_flagged: usize,
    /// Names of the detectors that flagged it.
    pub detectors: Vec<String>,
    pub known_event: Option<String>,
    /// [`SeriesChart::id`] of the chart that shows it.
    pub chart: Option<String>,
}

/// One metric of one series over time. Every vector has one value per step.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SeriesChart {
    /// File stem and link target; [`file_stem`] makes one.
    pub id: String,
    pub title: String,
    pub level: String,
    pub metric: String,
    /// Nominal length of a step in seconds.
    pub step_secs: i64,
    /// Bucket starts in seconds, rising: UTC epoch seconds below a day, civil seconds
    /// (date × 86,400) for days and weeks.
    pub times: Vec<i64>,
    /// Name of the clock that `times` are on, shown below the title: `UTC`; empty for none.
    pub clock: String,
    #[serde(with = "nan_as_null")]
    pub observed: Vec<f64>,
    /// Empty when no member predicts; so may `lower` and `upper` be.
    #[serde(with = "nan_as_null")]
    pub expected: Vec<f64>,
    #[serde(with = "nan_as_null")]
    pub lower: Vec<f64>,
    #[serde(with = "nan_as_null")]
    pub upper: Vec<f64>,
    /// Level of the interval, 0.99 for instance; `NaN` if unknown.
    #[serde(with = "nan_as_null")]
    pub interval_level: f64,
    pub marks: Vec<Mark>,
    pub known_events: Vec<(Range<usize>, String)>,
    /// Labelled anomalies, when there are labels.
    pub truth: Vec<Range<usize>>,
    /// Number of steps that the models were fitted on; `None` if there was no split.
    pub training_until: Option<usize>,
    pub reconstruction: Option<ReconstructionPanel>,
    /// Draws the values on a logarithmic axis if they are all positive.
    pub log_values: bool,
}

/// One anomalous step of a [`SeriesChart`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Place in [`SeriesChart::times`].
    pub index: usize,
    pub severity: Severity,
    pub kind: AnomalyType,
    pub direction: Direction,
}

/// What the LSTM saw: its input, what it expected (a reconstruction, or the forecast of the network
/// that finds the step furthest out), and the error per step.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReconstructionPanel {
    /// What the two lines are measured in: `scaled log views`.
    pub unit: String,
    #[serde(with = "nan_as_null")]
    pub observed: Vec<f64>,
    #[serde(with = "nan_as_null")]
    pub reconstructed: Vec<f64>,
    #[serde(with = "nan_as_null")]
    pub error: Vec<f64>,
    /// Errors above it are anomalous for this detector; `NaN` if there is none.
    #[serde(with = "nan_as_null")]
    pub threshold: f64,
}

/// Loss by epoch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TrainingCurve {
    pub title: String,
    #[serde(with = "nan_as_null")]
    pub train_loss: Vec<f64>,
    /// Empty when nothing was held out.
    #[serde(with = "nan_as_null")]
    pub validation_loss: Vec<f64>,
    /// The epoch whose weights were kept, counted from 0; shown counted from 1.
    pub best_epoch: Option<usize>,
    /// Why training ended: `no better for 8 epochs`; empty for nothing to say.
    pub ended: String,
}

/// A table of figures: detection quality, calibration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MetricTable {
    pub title: String,
    pub columns: Vec<String>,
    /// Formatted cells; a cell that reads as a number is set flush right.
    pub rows: Vec<Vec<String>>,
    /// What a reader must know to read the figures; may be empty.
    pub note: String,
}

impl SeriesChart {
    /// # Errors
    /// When the vectors do not have one value per step, or times do not rise.
    pub(crate) fn check(&self) -> Result<(), ReportError> {
        let problem = |problem: String| ReportError::Shape { chart: self.id.clone(), problem };
        let n = self.times.len();
        if self.times.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(problem("its times do not rise".into()));
        }
        if self.observed.len() != n {
            return Err(problem(format!("observed has {} values, times {n}", self.observed.len())));
        }
        let mut optional =
            vec![("expected", &self.expected), ("lower", &self.lower), ("upper", &self.upper)];
        if let Some(panel) = &self.reconstruction {
            optional.push(("the reconstruction's observed", &panel.observed));
            optional.push(("reconstructed", &panel.reconstructed));
            optional.push(("the reconstruction error", &panel.error));
        }
        for (name, values) in optional {
            if !values.is_empty() && values.len() != n {
                return Err(problem(format!("{name} has {} values, times {n}", values.len())));
            }
        }
        if let Some(mark) = self.marks.iter().find(|mark| mark.index >= n) {
            return Err(problem(format!("a mark is at step {} of {n}", mark.index)));
        }
        let events = self.known_events.iter().map(|(range, _)| range);
        match events.chain(&self.truth).find(|range| range.end > n) {
            Some(range) => Err(problem(format!("an interval ends at step {} of {n}", range.end))),
            None => Ok(()),
        }
    }
}

impl Heatmap {
    /// # Errors
    /// As [`SeriesChart::check`].
    pub(crate) fn check(&self, level: &str) -> Result<(), ReportError> {
        let n = self.times.len();
        let problem = if self.times.windows(2).any(|pair| pair[0] >= pair[1]) {
            Some("its times do not rise".to_string())
        } else {
            self.rows.iter().find(|row| row.scores.len() != n).map(|row| {
                format!("row `{}` has {} scores, times {n}", row.label, row.scores.len())
            })
        };
        match problem {
            Some(problem) => {
                Err(ReportError::Shape { chart: format!("heat map of level {level}"), problem })
            }
            None => Ok(()),
        }
    }
}

/// A file stem for a series: lower-case ASCII letters, digits, `-` and `_`, at most 80 bytes.
///
/// Two keys may end at the same stem; [`write_charts`](crate::report::write_charts) numbers the
/// later ones.
pub fn file_stem(level: &str, key: &str) -> String {
    let mut stem = String::new();
    for c in format!("{level}_{key}").chars() {
        let c = if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        if c != '_' || !stem.ends_with('_') {
            stem.push(c);
        }
        if stem.len() == 80 {
            break;
        }
    }
    match stem.trim_matches('_') {
        "" => "series".to_string(),
        stem => stem.to_string(),
    }
}

/// JSON knows no `NaN` and no infinity: both are written as `null` and read back as `NaN`.
mod nan_as_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// A number or numbers that may be missing.
    pub trait Gappy: Sized {
        type Json: Serialize + for<'de> Deserialize<'de>;
        fn to_json(&self) -> Self::Json;
        fn from_json(json: Self::Json) -> Self;
    }

    impl Gappy for f64 {
        type Json = Option<f64>;
        fn to_json(&self) -> Option<f64> {
            self.is_finite().then_some(*self)
        }
        fn from_json(json: Option<f64>) -> f64 {
            json.unwrap_or(f64::NAN)
        }
    }

    impl Gappy for Vec<f64> {
        type Json = Vec<Option<f64>>;
        fn to_json(&self) -> Vec<Option<f64>> {
            self.iter().map(Gappy::to_json).collect()
        }
        fn from_json(json: Vec<Option<f64>>) -> Vec<f64> {
            json.into_iter().map(f64::from_json).collect()
        }
    }

    pub fn serialize<T: Gappy, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        value.to_json().serialize(to)
    }

    pub fn deserialize<'de, T: Gappy, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        T::Json::deserialize(from).map(T::from_json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(label: &str, n_anomalies: usize, largest_deviation_ratio: f64) -> SeriesTally {
        SeriesTally { label: label.into(), n_anomalies, largest_deviation_ratio }
    }

    #[test]
    fn series_rank_by_count_then_by_ratio_then_by_label() {
        let tallies = [
            tally("few", 1, 90.0),
            tally("many, no ratio", 7, f64::NAN),
            tally("many b", 7, 2.0),
            tally("many a", 7, 2.0),
            tally("many, large", 7, 3.5),
        ];
        assert_eq!(rank(&tallies), [4, 3, 2, 1, 0]);
    }

    #[test]
    fn a_stem_is_safe_as_a_file_name() {
        assert_eq!(file_stem("key", "../../etc/passwd"), "key_etc_passwd");
        assert_eq!(file_stem("key", "CON: <b>\u{202e}É"), "key_con_b");
        assert_eq!(file_stem("", "///"), "series");
        assert!(file_stem("key", &"long ".repeat(100)).len() <= 80);
    }

    #[test]
    fn missing_values_survive_json() {
        let tally = tally("a", 1, f64::NAN);
        let text = serde_json::to_string(&tally).unwrap();
        assert!(text.contains("null"), "{text}");
        let back: SeriesTally = serde_json::from_str(&text).unwrap();
        assert!(back.largest_deviation_ratio.is_nan());
        let row = HeatmapRow { scores: vec![0.5, f64::INFINITY], ..HeatmapRow::default() };
        let back: HeatmapRow = serde_json::from_str(&serde_json::to_string(&row).unwrap()).unwrap();
        assert_eq!(back.scores[0], 0.5);
        assert!(back.scores[1].is_nan());
    }

    #[test]
    fn vectors_of_unequal_length_are_refused_by_name() {
        let chart = SeriesChart {
            id: "a".into(),
            times: vec![0, 1],
            observed: vec![1.0, 2.0],
            lower: vec![0.0],
            ..SeriesChart::default()
        };
        let message = chart.check().unwrap_err().to_string();
        assert!(message.contains("`a`") && message.contains("lower has 1 values"), "{message}");
    }
}
