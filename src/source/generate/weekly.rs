//! Weekly insight events: one row per hit, counts per key from NB2.
//!
//! The shape of the data follows the first use that this project was made for: hits of target
//! keys, grouped by (target type, insight type). Keys of a pair share a season and differ in
//! level, dispersion and drift. Spikes, drops and level shifts are multiplied in; on a key with a
//! hit every third week most of them cannot be seen by anybody, and their labels stay all the same.

use std::{f64::consts::TAU, path::Path};

use jiff::civil::{Date, Weekday};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    GeneratedSummary,
    events::{Event, place},
    negative_binomial,
    table::{Cell, CellKind, Chunk, Header, TableFormat, TableWriter},
};
use crate::{math::random::stream, source::SourceError};

const WEEKS_PER_YEAR: f64 = 365.2425 / 7.0;
/// Series whose rows of one week are in memory together.
const BLOCK_SERIES: usize = 512;
/// Series that one thread does in one go.
const TASK_SERIES: usize = 64;

const TARGET_TYPES: [&str; 5] = ["client", "account", "advisor", "product", "segment"];
const INSIGHT_TYPES: [&str; 5] = ["performance", "risk", "behavior", "opportunity", "quality"];
const CATEGORIES: [&str; 5] = ["SoW", "CIO", "BGap", "Compliance", "Engagement"];

const HEADER: Header = &[
    ("insight_id", CellKind::Text),
    ("insight_type", CellKind::Text),
    ("target_type", CellKind::Text),
    ("target_key", CellKind::Text),
    ("metric name", CellKind::Text),
    ("metric_type", CellKind::Text),
    ("metric_value", CellKind::Whole),
    ("run_id", CellKind::Text),
    ("insight_date_time", CellKind::Time),
    ("insights_category", CellKind::Text),
];

const LABEL_HEADER: Header = &[
    ("target_type", CellKind::Text),
    ("insight_type", CellKind::Text),
    ("target_key", CellKind::Text),
    ("start", CellKind::Text),
    ("end", CellKind::Text),
    ("kind", CellKind::Text),
    ("factor", CellKind::Number),
];

/// What weekly data to make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeeklySpec {
    pub weeks: usize,
    pub keys: usize,
    /// Pairs of target type and insight type; without a number, one for about seven keys, at
    /// most the 25 of the grid. Beyond 25 the target types are numbered.
    pub pairs: Option<usize>,
    /// The Monday of the first week, `YYYY-MM-DD`.
    pub first_week: String,
    pub seed: u64,
    /// The mean of a Poisson number of events; those that find no room are left out.
    pub events_per_key_year: f64,
}

impl Default for WeeklySpec {
    fn default() -> Self {
        Self {
            weeks: 52,
            keys: 60,
            pairs: None,
            first_week: "2025-01-06".into(),
            seed: 1,
            events_per_key_year: 1.0,
        }
    }
}

impl WeeklySpec {
    /// Every problem, as (key, message).
    pub fn check(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut add = |key: &str, text: String| problems.push((key.to_string(), text));
        if !(1..=5_218).contains(&self.weeks) {
            add("weeks", format!("is {}; take 1 to 5218 (a century)", self.weeks));
        }
        if !(1..=1_000_000).contains(&self.keys) {
            add("keys", format!("is {}; take 1 to 1000000", self.keys));
        }
        if let Some(pairs) = self.pairs
            && !(1..=self.keys.max(1)).contains(&pairs)
        {
            add("pairs", format!("is {pairs}; take 1 to the number of keys, {}", self.keys));
        }
        match self.first_week.parse::<Date>() {
            Ok(date) if date.weekday() != Weekday::Monday => {
                add("first_week", format!("{date} is a {:?}; take a Monday", date.weekday()));
            }
            Ok(date) if !(1900..=2200).contains(&date.year()) => {
                add("first_week", format!("{date} is too far off; take a year from 1900 to 2200"));
            }
            Ok(_) => {}
            Err(_) => add(
                "first_week",
                format!("`{}` is no date; write YYYY-MM-DD, \"2025-01-06\" say", self.first_week),
            ),
        }
        // NaN fails this too.
        if !(0.0..=52.0).contains(&self.events_per_key_year) {
            add("events_per_key_year", format!("is {}; take 0 to 52", self.events_per_key_year));
        }
        problems
    }

    fn n_pairs(&self) -> usize {
        self.pairs.unwrap_or_else(|| (self.keys / 7).clamp(1, 25))
    }
}

/// The curve that the keys of a pair share.
#[derive(Clone, Debug)]
struct Pair {
    number: usize,
    target_type: String,
    insight_type: &'static str,
    /// Amplitude (log scale) and phase (share of a year) of the yearly wave and its overtone.
    waves: [(f64, f64); 2],
}

impl Pair {
    fn new(seed: u64, number: usize) -> Self {
        let mut rng = stream(seed, "weekly/pair", number as u64);
        let round = number / 25;
        let target = TARGET_TYPES[number % 5];
        Self {
            number,
            target_type: if round == 0 { target.into() } else { format!("{target}_{}", round + 1) },
            insight_type: INSIGHT_TYPES[(number / 5 + number) % 5],
            waves: [
                (rng.random_range(0.1..0.5), rng.random_range(0.0..1.0)),
                (rng.random_range(0.0..0.12), rng.random_range(0.0..1.0)),
            ],
        }
    }
}

/// How a key's level moves besides the season.
#[derive(Clone, Copy, Debug)]
enum Drift {
    /// Log units per week.
    Line(f64),
    /// Standard deviation of a week's step, in log units.
    Walk(f64),
}

/// One key; its weeks must be drawn in order.
struct Series {
    pair: Pair,
    key: String,
    number: usize,
    rng: ChaCha8Rng,
    log_base: f64,
    dispersion: f64,
    drift: Drift,
    /// Log units that the drift has gone so far.
    drifted: f64,
    events: Vec<Event>,
}

impl Series {
    fn new(spec: &WeeklySpec, number: usize) -> Self {
        let mut pair = Pair::new(spec.seed, number % spec.n_pairs());
        let mut rng = stream(spec.seed, "weekly/key", number as u64);
        let small = |rng: &mut ChaCha8Rng, sd: f64| standard_normal(rng) * sd;
        for (amplitude, phase) in &mut pair.waves {
            *amplitude *= 1.0 + small(&mut rng, 0.1);
            *phase += small(&mut rng, 0.02);
        }
        let log_uniform =
            |rng: &mut ChaCha8Rng, low: f64, high: f64| rng.random_range(low.ln()..high.ln());
        let log_base = log_uniform(&mut rng, 0.3, 200.0);
        let dispersion = log_uniform(&mut rng, 0.02, 0.5).exp();
        let drift = if rng.random_bool(0.5) {
            Drift::Line(small(&mut rng, 0.12) / WEEKS_PER_YEAR)
        } else {
            Drift::Walk(0.015)
        };
        let events = events(spec, &mut rng);
        let key = format!("{}-{number:05}", TARGET_TYPES[pair.number % 5]);
        Self { pair, key, number, rng, log_base, dispersion, drift, drifted: 0.0, events }
    }

    /// The mean of week `t` without events, at the drift so far.
    fn normal_mean(&self, t: usize) -> f64 {
        let year = t as f64 / WEEKS_PER_YEAR;
        let season: f64 = self
            .pair
            .waves
            .iter()
            .zip(1..)
            .map(|((amplitude, phase), k)| amplitude * (TAU * (f64::from(k) * year - phase)).cos())
            .sum();
        (self.log_base + self.drifted + season).exp()
    }

    fn factor(&self, t: usize) -> f64 {
        self.events.iter().find(|event| event.steps.contains(&t)).map_or(1.0, |event| event.factor)
    }

    /// Draws the count of week `t`.
    fn count(&mut self, t: usize) -> u64 {
        self.drifted += match self.drift {
            Drift::Line(slope) => slope,
            Drift::Walk(sd) => standard_normal(&mut self.rng) * sd,
        };
        let mean = self.normal_mean(t) * self.factor(t);
        negative_binomial(&mut self.rng, mean, self.dispersion)
    }

    /// Draws week `t` and writes its rows.
    fn write_week(&mut self, t: usize, week: &Week, chunk: &mut Chunk) {
        let count = self.count(t);
        let run_id = format!("RUN-{}-{:03}", week.name, self.pair.number + 1);
        for hit in 1..=count {
            // Ten minutes of jitter around Monday 06:00, never more than three quarters of an hour.
            let jitter = (standard_normal(&mut self.rng) * 600.0).clamp(-2_700.0, 2_700.0);
            let category = CATEGORIES[self.rng.random_range(0..CATEGORIES.len())];
            let id = format!("INS-{}-{:06}-{hit:04}", week.name, self.number);
            chunk.push(&[
                Cell::Text(&id),
                Cell::Text(self.pair.insight_type),
                Cell::Text(&self.pair.target_type),
                Cell::Text(&self.key),
                Cell::Text("insight_hit"),
                Cell::Text("event"),
                Cell::Whole(1),
                Cell::Text(&run_id),
                Cell::Time(week.monday + 6 * 3_600 + jitter as i64),
                Cell::Text(category),
            ]);
        }
    }
}

fn standard_normal(rng: &mut ChaCha8Rng) -> f64 {
    rand_distr::StandardNormal.sample(rng)
}

/// Spikes, drops and level shifts in equal parts, which keep four weeks between them.
fn events(spec: &WeeklySpec, rng: &mut ChaCha8Rng) -> Vec<Event> {
    let mean = spec.events_per_key_year * spec.weeks as f64 / WEEKS_PER_YEAR;
    let wanted = Poisson::new(mean).map_or(0, |poisson| poisson.sample(rng) as usize);
    let mut events: Vec<Event> = Vec::new();
    for _ in 0..wanted {
        let (kind, weeks, factor) = match rng.random_range(0..3) {
            0 => ("spike", rng.random_range(1..=2), rng.random_range(3.0..7.0)),
            1 => ("drop", rng.random_range(2..=4), rng.random_range(0.02..0.25)),
            _ => ("level_shift", rng.random_range(6..=10), rng.random_range(1.7..2.8)),
        };
        let taken: Vec<_> = events.iter().map(|event| event.steps.clone()).collect();
        if let Some(steps) = place(rng, spec.weeks, weeks, 4, &taken) {
            events.push(Event { kind, steps, factor });
        }
    }
    events.sort_by_key(|event| event.steps.start);
    events
}

/// A week's Monday (UTC epoch seconds) and name.
struct Week {
    monday: i64,
    /// `YYYYWww`, the ISO week.
    name: String,
}

impl Week {
    fn new(first: Date, t: usize) -> Result<Self, SourceError> {
        let days = i64::try_from(t).unwrap_or(i64::MAX).saturating_mul(7);
        let date = first
            .checked_add(jiff::Span::new().days(days))
            .map_err(|error| SourceError::Spec(format!("`weeks`: {error}; take fewer")))?;
        let iso = date.iso_week_date();
        let epoch = jiff::civil::date(1970, 1, 1);
        Ok(Self {
            monday: i64::from(epoch.until(date).map_or(0, |span| span.get_days())) * 86_400,
            name: format!("{}W{:02}", iso.year(), iso.week()),
        })
    }
}

/// Writes weekly events to `out` (CSV or Parquet, by its name) and their anomalies to `labels`
/// (CSV). `progress` hears (series-weeks done, series-weeks in all).
///
/// # Errors
/// When the spec does not fit together or a file cannot be written.
pub fn generate_weekly(
    spec: &WeeklySpec,
    out: &Path,
    labels: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<GeneratedSummary, SourceError> {
    SourceError::unless_fine(&spec.check())?;
    let first: Date = spec
        .first_week
        .parse()
        .map_err(|error| SourceError::Spec(format!("`first_week`: {error}; write YYYY-MM-DD")))?;
    let mut table = TableWriter::create(out, HEADER)?;
    let mut series: Vec<Series> =
        (0..spec.keys).into_par_iter().map(|number| Series::new(spec, number)).collect();
    let summary = write_labels(&series, first, labels)?;
    let total = (spec.keys * spec.weeks) as u64;
    let mut done = 0;
    for t in 0..spec.weeks {
        let week = Week::new(first, t)?;
        for block in series.chunks_mut(BLOCK_SERIES) {
            for chunk in week_of_block(block, t, &week, table.format()) {
                table.write(chunk)?;
            }
            done += block.len() as u64;
            progress(done, total);
        }
    }
    Ok(GeneratedSummary { rows: table.finish()?, series: spec.keys, ..summary })
}

fn week_of_block(block: &mut [Series], t: usize, week: &Week, format: TableFormat) -> Vec<Chunk> {
    block
        .par_chunks_mut(TASK_SERIES)
        .map(|series| {
            let mut chunk = Chunk::new(format, HEADER);
            for one in series {
                one.write_week(t, week, &mut chunk);
            }
            chunk
        })
        .collect()
}

fn write_labels(
    series: &[Series],
    first: Date,
    path: &Path,
) -> Result<GeneratedSummary, SourceError> {
    let mut summary = GeneratedSummary::default();
    let mut table = TableWriter::create_csv(path, LABEL_HEADER)?;
    let mut chunk = Chunk::new(TableFormat::Csv, LABEL_HEADER);
    for one in series {
        for event in &one.events {
            let day = |t: usize| Week::new(first, t).map(|week| label_day(week.monday));
            let (start, end) = (day(event.steps.start)?, day(event.steps.end)?);
            chunk.push(&[
                Cell::Text(&one.pair.target_type),
                Cell::Text(one.pair.insight_type),
                Cell::Text(&one.key),
                Cell::Text(&start),
                Cell::Text(&end),
                Cell::Text(event.kind),
                Cell::Number(event.factor, 4),
            ]);
            *summary.events.entry(event.kind.to_string()).or_default() += 1;
        }
    }
    table.write(chunk)?;
    table.finish()?;
    Ok(summary)
}

fn label_day(monday: i64) -> String {
    crate::panel::label(crate::panel::Step::Week, monday)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn made(spec: &WeeklySpec, name: &str) -> (String, String, GeneratedSummary) {
        let folder = tempfile::tempdir().unwrap();
        let (out, labels) = (folder.path().join(name), folder.path().join("labels.csv"));
        let summary = generate_weekly(spec, &out, &labels, &mut |_, _| {}).unwrap();
        let text = |path: &Path| std::fs::read(path).unwrap();
        let hash = blake3::hash(&text(&out)).to_hex().to_string();
        let content =
            if name.ends_with("csv") { String::from_utf8(text(&out)).unwrap() } else { hash };
        (content, String::from_utf8(text(&labels)).unwrap(), summary)
    }

    fn small(seed: u64) -> WeeklySpec {
        WeeklySpec { weeks: 30, keys: 40, seed, ..WeeklySpec::default() }
    }

    #[test]
    fn a_seed_gives_the_same_bytes_on_any_number_of_threads_and_another_seed_gives_others() {
        let on = |threads: usize, seed: u64, name: &str| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| made(&small(seed), name))
        };
        assert_eq!(on(1, 5, "a.csv"), on(3, 5, "a.csv"));
        assert_eq!(on(1, 5, "a.parquet").0, on(3, 5, "a.parquet").0);
        assert_ne!(on(2, 5, "a.csv").0, on(2, 6, "a.csv").0);
    }

    #[test]
    fn rows_have_the_columns_and_names_of_the_requirements() {
        let (rows, _, summary) = made(&small(2), "a.csv");
        let mut lines = rows.lines();
        assert_eq!(
            lines.next().unwrap(),
            "insight_id,insight_type,target_type,target_key,metric name,metric_type,metric_value,run_id,insight_date_time,insights_category"
        );
        let first: Vec<&str> = lines.next().unwrap().split(',').collect();
        assert_eq!(first[4..7], ["insight_hit", "event", "1"]);
        assert!(first[7].starts_with("RUN-2025W02-"), "{}", first[7]);
        assert!(first[8].starts_with("2025-01-06T05:") || first[8].starts_with("2025-01-06T06:"));
        assert_eq!(rows.lines().count() as u64, summary.rows + 1);
        let ids: BTreeSet<&str> = rows.lines().map(|row| row.split(',').next().unwrap()).collect();
        assert_eq!(ids.len() as u64, summary.rows + 1, "an insight_id comes twice");
    }

    #[test]
    fn the_25_pairs_of_the_grid_differ() {
        let pairs: BTreeSet<_> = (0..50)
            .map(|number| Pair::new(1, number))
            .map(|pair| (pair.target_type, pair.insight_type))
            .collect();
        assert_eq!(pairs.len(), 50);
    }

    #[test]
    fn labels_lie_where_the_counts_moved() {
        let spec = WeeklySpec { keys: 600, events_per_key_year: 3.0, ..WeeklySpec::default() };
        let mut moved = std::collections::BTreeMap::<&str, (f64, f64)>::new();
        for number in 0..spec.keys {
            let mut series = Series::new(&spec, number);
            for t in 0..spec.weeks {
                let count = series.count(t) as f64;
                let kind =
                    series.events.iter().find(|e| e.steps.contains(&t)).map_or("", |e| e.kind);
                let sums = moved.entry(kind).or_default();
                sums.0 += count;
                sums.1 += series.normal_mean(t);
            }
        }
        let ratio = |kind: &str| moved[kind].0 / moved[kind].1;
        assert!((ratio("") - 1.0).abs() < 0.03, "{}", ratio(""));
        assert!((3.5..6.5).contains(&ratio("spike")), "{}", ratio("spike"));
        assert!((0.08..0.2).contains(&ratio("drop")), "{}", ratio("drop"));
        assert!((1.9..2.6).contains(&ratio("level_shift")), "{}", ratio("level_shift"));
    }

    #[test]
    fn there_are_about_as_many_events_as_asked_for() {
        let spec = WeeklySpec { keys: 1_000, ..WeeklySpec::default() };
        let n: usize = (0..spec.keys).map(|number| Series::new(&spec, number).events.len()).sum();
        assert!((850..1_050).contains(&n), "{n}"); // some find no room
        let none = WeeklySpec { events_per_key_year: 0.0, ..spec };
        assert!((0..100).all(|number| Series::new(&none, number).events.is_empty()));
    }

    #[test]
    fn every_problem_of_a_spec_comes_at_once() {
        let spec = WeeklySpec {
            weeks: 0,
            keys: 0,
            pairs: Some(9),
            first_week: "2025-01-07".into(),
            events_per_key_year: f64::NAN,
            ..WeeklySpec::default()
        };
        let keys: Vec<String> = spec.check().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["weeks", "keys", "pairs", "first_week", "events_per_key_year"]);
        assert!(WeeklySpec::default().check().is_empty());
    }
}
