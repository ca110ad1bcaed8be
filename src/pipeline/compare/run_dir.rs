//! A finished run, read back from its directory: nothing is fitted.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use jiff::{Timestamp, civil::Date};
use ndarray::{Array2, Array3};

use crate::{
    config::{Config, OutputSchema},
    ensemble::{AnomalyType, Direction, Severity},
    panel::{Calendar, Level, MetricKind, Panel, SeriesKey, Step},
    pipeline::{PipelineError, RUN_FILE, RunSummary, load},
    sink::{parse_boolean, parse_number, read_csv},
    source::{Interval, read_intervals},
};

/// Cells that a level may span; a damaged time would otherwise ask for all memory.
const MAX_CELLS: usize = 400_000_000;
const DAY_SECS: i64 = 86_400;

/// What a run left on disk.
pub struct RunDir {
    pub dir: PathBuf,
    pub levels: Vec<LevelDir>,
    /// Labelled intervals, if the run had any and they can still be read.
    pub labels: Option<Vec<Interval>>,
    /// Why labels that the run had are not there.
    pub labels_lost: Option<String>,
}

/// One level of a run; arrays are `[series, time]` on the panel's grid.
pub struct LevelDir {
    pub panel: Panel,
    /// The flags file has a row for the cell.
    pub present: Array2<bool>,
    pub in_training: Array2<bool>,
    pub flags: Array2<bool>,
    pub score: Array2<f64>,
    pub p_value: Array2<f64>,
    pub severity: Array2<Option<Severity>>,
    pub kind: Array2<Option<AnomalyType>>,
    pub direction: Array2<Direction>,
    /// Of the metric that leads at the cell.
    pub expected: Array2<f64>,
    pub lower: Array2<f64>,
    pub upper: Array2<f64>,
    /// The leading metric of a flagged cell, where there are several.
    pub leading: BTreeMap<(usize, usize), usize>,
    pub known_events: BTreeMap<(usize, usize), String>,
}

impl RunDir {
    /// True for a folder that a run or a detection wrote.
    pub fn is_one(dir: &Path) -> bool {
        dir.join(RUN_FILE).is_file()
    }

    /// Reads config, summary, flags and labels.
    ///
    /// # Errors
    /// When the folder is no run, or its files are damaged.
    pub fn open(dir: &Path) -> Result<Self, PipelineError> {
        let (config, _) = Self::describe(dir)?;
        let levels = config
            .panel
            .levels
            .iter()
            .map(|level| read_level(&config, level, dir))
            .collect::<Result<Vec<_>, _>>()?;
        let (labels, labels_lost) = labels(&config, dir);
        Ok(Self { dir: dir.to_path_buf(), levels, labels, labels_lost })
    }

    /// Config and summary alone.
    ///
    /// # Errors
    /// As [`RunDir::open`].
    pub fn describe(dir: &Path) -> Result<(Config, RunSummary), PipelineError> {
        let refuse = |file: &str, reason: String| {
            PipelineError::Arguments(format!(
                "{}: {reason}; name a config, or a folder that `anomalist run` or `detect` wrote",
                dir.join(file).display()
            ))
        };
        if !Self::is_one(dir) {
            return Err(PipelineError::Arguments(format!(
                "{} is no run: it has no {RUN_FILE}; name a config, or a folder that `anomalist run` or `detect` wrote",
                dir.display()
            )));
        }
        let bytes = fs::read(dir.join(RUN_FILE)).map_err(|e| refuse(RUN_FILE, e.to_string()))?;
        let summary: RunSummary =
            serde_json::from_slice(&bytes).map_err(|e| refuse(RUN_FILE, e.to_string()))?;
        let file = "config.toml";
        let text = fs::read_to_string(dir.join(file)).map_err(|e| refuse(file, e.to_string()))?;
        let name = dir.join(file).display().to_string();
        let config = Config::parse(&text, &name, dir, &[])
            .map_err(|error| PipelineError::Arguments(error.to_string()))?;
        Ok((config, summary))
    }

    pub fn level(&self, name: &str) -> Option<&LevelDir> {
        self.levels.iter().find(|level| level.panel.level().name == name)
    }
}

/// The labels that the run was measured against: its config's, or those that it generated.
fn labels(config: &Config, dir: &Path) -> (Option<Vec<Interval>>, Option<String>) {
    let path = match (&config.source.labels, &config.source.path) {
        (Some(path), _) => PathBuf::from(path),
        (None, None) => dir.join("data").join("labels.csv"),
        (None, Some(_)) => return (None, None),
    };
    match read_intervals(&path, &load::interval_spec(config)) {
        Ok(labels) => (Some(labels), None),
        Err(error) => (None, Some(error.to_string())),
    }
}

/// The names that a level's flags file gives its columns.
struct Columns {
    ids: Vec<String>,
    time: String,
    metrics: Vec<String>,
    /// Flag, expected, lower, upper, those of [`VERDICT`], known event, then the leading metric
    /// where there is one.
    verdict: Vec<String>,
}

const VERDICT: [&str; 6] = [
    "ensemble_anomaly_score",
    "p_value",
    "anomaly_severity",
    "anomaly_type",
    "direction",
    "in_training",
];

impl Columns {
    fn new(config: &Config, level: &Level) -> Self {
        let counts = is_counts(config);
        let own: &[&str] = if counts {
            &["is_anom", "mu_hat", "pi_low", "pi_high"]
        } else {
            &["is_anomaly", "expected_value", "expected_low", "expected_high"]
        };
        let time = match (counts, config.panel.step) {
            (true, Step::Week) => "week_start",
            (true, _) => "day",
            (false, _) => "window_start",
        };
        let leading: &[&str] = if counts { &[] } else { &["leading_metric"] };
        let named = |name: &str| {
            config.output.rename.get(name).cloned().unwrap_or_else(|| name.to_string())
        };
        Self {
            ids: level.id_columns.iter().map(|name| named(name)).collect(),
            time: named(time),
            metrics: config.panel.metrics.iter().map(|metric| named(&metric.name)).collect(),
            verdict: own
                .iter()
                .chain(&VERDICT)
                .chain(&["known_event"])
                .chain(leading)
                .map(|name| named(name))
                .collect(),
        }
    }

    fn all(&self) -> Vec<String> {
        let time = std::iter::once(&self.time);
        self.ids.iter().chain(time).chain(&self.metrics).chain(&self.verdict).cloned().collect()
    }
}

/// The schema that a run with this config writes.
fn is_counts(config: &Config) -> bool {
    match config.output.schema {
        OutputSchema::Auto => {
            let [metric] = &config.panel.metrics[..] else { return false };
            metric.kind == MetricKind::Count && config.panel.step.is_civil()
        }
        chosen => chosen == OutputSchema::Counts,
    }
}

fn flags_path(config: &Config, level: &Level, dir: &Path) -> PathBuf {
    let adverb = config.panel.step.adverb();
    let stem = if config.panel.levels.len() == 1 {
        format!("flags_{adverb}")
    } else {
        format!("flags_{}_{adverb}", level.name)
    };
    dir.join("flags").join(format!("{stem}.csv"))
}

/// One row of a flags file.
struct Cell {
    series: usize,
    time: i64,
    metrics: Vec<f64>,
    flag: bool,
    /// Expected, lower, upper, score, p.
    numbers: [f64; 5],
    severity: Option<Severity>,
    kind: Option<AnomalyType>,
    direction: Direction,
    in_training: bool,
    known_event: String,
    leading: Option<usize>,
}

fn read_level(config: &Config, level: &Level, dir: &Path) -> Result<LevelDir, PipelineError> {
    let columns = Columns::new(config, level);
    let path = flags_path(config, level, dir);
    let mut keys: HashMap<SeriesKey, usize> = HashMap::new();
    let mut cells = Vec::new();
    read_csv(&path, &columns.all(), &mut |fields| {
        cells.push(read_cell(config, &columns, fields, &mut keys)?);
        Ok(())
    })?;
    if cells.is_empty() {
        return Err(PipelineError::Other(format!("{} has no row: run again", path.display())));
    }
    let mut order: Vec<(SeriesKey, usize)> = keys.into_iter().collect();
    order.sort_by_key(|(_, place)| *place);
    let keys = order.into_iter().map(|(key, _)| key).collect();
    Grid::new(config, level, keys, &cells)
        .ok_or_else(|| {
            PipelineError::Other(format!(
                "{}: its times span too many steps: the file was changed: run again",
                path.display()
            ))
        })?
        .fill(cells)
}

fn read_cell(
    config: &Config,
    columns: &Columns,
    fields: &[&str],
    keys: &mut HashMap<SeriesKey, usize>,
) -> Result<Cell, String> {
    let (ids, rest) = fields.split_at(columns.ids.len());
    let (time, rest) = rest.split_at(1);
    let (metrics, verdict) = rest.split_at(columns.metrics.len());
    let key = SeriesKey(ids.iter().map(|id| id.to_string()).collect());
    let next = keys.len();
    let metrics = metrics.iter().map(|text| parse_number(text)).collect::<Result<_, _>>()?;
    let known_event = verdict[10].to_string();
    let leading = verdict.get(11).filter(|name| !name.is_empty());
    Ok(Cell {
        series: *keys.entry(key).or_insert(next),
        time: seconds(config.panel.step, time[0])?,
        metrics,
        flag: parse_boolean(verdict[0])?,
        numbers: [
            parse_number(verdict[1])?,
            parse_number(verdict[2])?,
            parse_number(verdict[3])?,
            parse_number(verdict[4])?,
            parse_number(verdict[5])?,
        ],
        severity: word(verdict[6], Severity::ALL, Severity::as_str)?,
        kind: word(verdict[7], AnomalyType::ALL, AnomalyType::as_str)?,
        direction: word(verdict[8], Direction::ALL, Direction::as_str)?
            .unwrap_or(Direction::Unknown),
        in_training: parse_boolean(verdict[9])?,
        known_event,
        leading: leading
            .and_then(|name| config.panel.metrics.iter().position(|m| m.name == **name)),
    })
}

fn word<T: Copy>(text: &str, all: &[T], name: fn(T) -> &'static str) -> Result<Option<T>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let found = all.iter().copied().find(|value| name(*value) == text);
    found.map(Some).ok_or_else(|| format!("`{text}` is an unknown word"))
}

/// The inverse of [`crate::panel::Calendar::label`].
fn seconds(step: Step, label: &str) -> Result<i64, String> {
    let wrong = |_| format!("`{label}` is no time");
    if step.is_civil() {
        let date: Date = label.parse().map_err(wrong)?;
        let days = date.since(Date::constant(1970, 1, 1)).map_err(wrong)?.get_days();
        return Ok(i64::from(days) * DAY_SECS);
    }
    label.parse::<Timestamp>().map(Timestamp::as_second).map_err(wrong)
}

/// Where a level's cells go.
struct Grid {
    level: Level,
    calendar: Calendar,
    keys: Vec<SeriesKey>,
    metrics: Vec<crate::panel::Metric>,
}

impl Grid {
    /// `None` when the times span more steps than any panel.
    fn new(config: &Config, level: &Level, keys: Vec<SeriesKey>, cells: &[Cell]) -> Option<Self> {
        let step = config.panel.step;
        let first = cells.iter().map(|cell| cell.time).min()?;
        let last = cells.iter().map(|cell| cell.time).max()?;
        let len = usize::try_from(last.checked_sub(first)? / step.secs() + 1).ok()?;
        let size = len.checked_mul(keys.len())?.checked_mul(config.panel.metrics.len())?;
        (size <= MAX_CELLS).then(|| Self {
            level: level.clone(),
            calendar: Calendar::new(step, first, len, config.source.zone()),
            keys,
            metrics: config.panel.metrics.clone(),
        })
    }

    fn fill(self, cells: Vec<Cell>) -> Result<LevelDir, PipelineError> {
        let (n_series, n_times) = (self.keys.len(), self.calendar.len());
        let mut values = Array3::from_elem((n_series, n_times, self.metrics.len()), f64::NAN);
        let mut spans = vec![n_times..0; n_series];
        let mut placed = Vec::with_capacity(cells.len());
        for cell in cells {
            let Some(t) = self.calendar.index_of(cell.time) else { continue };
            let span = &mut spans[cell.series];
            *span = span.start.min(t)..span.end.max(t + 1);
            for (m, value) in cell.metrics.iter().enumerate() {
                values[[cell.series, t, m]] = *value;
            }
            placed.push((t, cell));
        }
        let panel = Panel::new(self.level, self.calendar, self.metrics, self.keys, spans, values)?;
        let mut level = LevelDir::empty(panel);
        for (t, cell) in placed {
            level.put(cell, t);
        }
        Ok(level)
    }
}

impl LevelDir {
    fn empty(panel: Panel) -> Self {
        let shape = (panel.n_series(), panel.n_times());
        let numbers = || Array2::from_elem(shape, f64::NAN);
        Self {
            panel,
            present: Array2::from_elem(shape, false),
            in_training: Array2::from_elem(shape, false),
            flags: Array2::from_elem(shape, false),
            score: numbers(),
            p_value: numbers(),
            severity: Array2::from_elem(shape, None),
            kind: Array2::from_elem(shape, None),
            direction: Array2::from_elem(shape, Direction::Unknown),
            expected: numbers(),
            lower: numbers(),
            upper: numbers(),
            leading: BTreeMap::new(),
            known_events: BTreeMap::new(),
        }
    }

    fn put(&mut self, cell: Cell, t: usize) {
        let at = [cell.series, t];
        self.present[at] = true;
        self.in_training[at] = cell.in_training;
        self.flags[at] = cell.flag;
        let [expected, lower, upper, score, p_value] = cell.numbers;
        self.expected[at] = expected;
        self.lower[at] = lower;
        self.upper[at] = upper;
        self.score[at] = score;
        self.p_value[at] = p_value;
        self.severity[at] = cell.severity;
        self.kind[at] = cell.kind;
        self.direction[at] = cell.direction;
        if let Some(metric) = cell.leading {
            self.leading.insert((cell.series, t), metric);
        }
        if !cell.known_event.is_empty() {
            self.known_events.insert((cell.series, t), cell.known_event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::label;

    #[test]
    fn times_are_read_back_as_they_were_written() {
        for (step, start) in [
            (Step::Week, 1_736_121_600),
            (Step::Days(1), -86_400),
            (Step::HOUR, 1_736_121_600 + 7_200),
            (Step::Seconds(900), 1_736_122_500),
        ] {
            assert_eq!(seconds(step, &label(step, start)), Ok(start), "{step:?}");
        }
        assert!(seconds(Step::Week, "soon").unwrap_err().contains("soon"));
    }

    #[test]
    fn words_that_nobody_wrote_are_refused() {
        assert_eq!(word("high", Severity::ALL, Severity::as_str), Ok(Some(Severity::High)));
        assert_eq!(word("", Severity::ALL, Severity::as_str), Ok(None));
        assert!(word("bad", Severity::ALL, Severity::as_str).is_err());
        assert!(parse_boolean("maybe").is_err() && parse_number("x").is_err());
    }

    #[test]
    fn a_folder_that_is_no_run_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let error = RunDir::describe(dir.path()).err().unwrap().to_string();
        assert!(error.contains("is no run") && error.contains("anomalist run"), "{error}");
    }
}
