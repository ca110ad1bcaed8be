//! Customer-experience records: one row an interaction, some of them odd.
//!
//! Rows are made in blocks, each from a random stream of its own, so that a million of them are
//! made on every core and come out the same. A block needs to know only where the bursts lie.

use std::{ops::Range, path::Path};

use jiff::civil::Date;
use rand::{Rng, RngExt};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    GeneratedSummary,
    records_model::{
        Burst, CHANNELS, Interaction, KINDS, LANGUAGES, Oddity, QUEUES, bursts, interaction, load,
    },
    table::{Cell, CellKind, Chunk, Header, TableFormat, TableWriter},
};
use crate::{math::random::stream, source::SourceError};

/// Rows of one random stream.
const BLOCK_ROWS: usize = 4_096;
/// Blocks that are in memory together.
const BLOCKS: usize = 16;
const HOUR_SECS: f64 = 3_600.0;
const WEEK_SECS: i64 = 7 * 86_400;

const HEADER: Header = &[
    ("interaction_id", CellKind::Text),
    ("timestamp", CellKind::Time),
    ("csat", CellKind::Number),
    ("ies", CellKind::Number),
    ("complaints", CellKind::Whole),
    ("aht_seconds", CellKind::Number),
    ("hold_time_seconds", CellKind::Number),
    ("transfers", CellKind::Whole),
    ("channel", CellKind::Text),
    ("language", CellKind::Text),
    ("queue", CellKind::Text),
];

const LABEL_HEADER: Header =
    &[("interaction_id", CellKind::Text), ("kind", CellKind::Text), ("group", CellKind::Text)];

/// What records to make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordsSpec {
    pub rows: usize,
    /// On average over a week: weekends are quieter. With `rows` it says how long the data are.
    pub rows_per_day: usize,
    /// `YYYY-MM-DD`; the first row comes after its midnight, UTC.
    pub first_day: String,
    pub seed: u64,
    /// The share of rows that are anomalous, a third of them of each kind.
    pub anomaly_rate: f64,
    /// The share of cells that are missing, in every column but the id and the time.
    pub missing_rate: f64,
}

impl Default for RecordsSpec {
    fn default() -> Self {
        Self {
            rows: 20_000,
            rows_per_day: 1_000,
            first_day: "2025-01-06".into(),
            seed: 1,
            anomaly_rate: 0.033,
            missing_rate: 0.04,
        }
    }
}

impl RecordsSpec {
    /// Every problem, as (key, message).
    pub fn check(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut add = |key: &str, text: String| problems.push((key.to_string(), text));
        if !(1..=1_000_000_000).contains(&self.rows) {
            add("rows", format!("is {}; take 1 to 1000000000", self.rows));
        }
        if !(1..=10_000_000).contains(&self.rows_per_day) {
            add("rows_per_day", format!("is {}; take 1 to 10000000", self.rows_per_day));
        }
        if let Err(error) = self.first_day.parse::<Date>() {
            add("first_day", format!("{error}; write YYYY-MM-DD"));
        } else if self.rows / self.rows_per_day.max(1) > 100_000 {
            add("rows_per_day", "is so small that the data run for centuries; raise it".into());
        }
        if !(0.0..=0.3).contains(&self.anomaly_rate) {
            add("anomaly_rate", format!("is {}; take a share from 0 to 0.3", self.anomaly_rate));
        }
        if !(0.0..=0.5).contains(&self.missing_rate) {
            add("missing_rate", format!("is {}; take a share from 0 to 0.5", self.missing_rate));
        }
        problems
    }
}

/// When rows come: evenly in the time that busy hours stretch and quiet ones shrink.
struct Arrivals {
    start: i64,
    weekday: usize,
    rows_per_week: f64,
    /// Sum of the loads up to each hour of the week.
    cumulative: Vec<f64>,
}

impl Arrivals {
    fn new(spec: &RecordsSpec, first: Date) -> Self {
        let days = jiff::civil::date(1970, 1, 1).until(first).map_or(0, |span| span.get_days());
        let weekday = (i64::from(days) + 3).rem_euclid(7) as usize;
        let mut cumulative = vec![0.0];
        let mut total = 0.0;
        for hour in 0..7 * 24 {
            total += load((weekday + hour / 24) % 7, hour % 24);
            cumulative.push(total);
        }
        Self {
            start: i64::from(days) * 86_400,
            weekday,
            rows_per_week: 7.0 * spec.rows_per_day as f64,
            cumulative,
        }
    }

    /// The time of a row, whose place between its neighbours is `jitter`, and the load then.
    fn at(&self, row: usize, jitter: f64) -> (i64, f64) {
        let weeks = (row as f64 + jitter) / self.rows_per_week;
        let wanted = weeks.fract() * self.cumulative[self.cumulative.len() - 1];
        let hour = self.cumulative.partition_point(|&sum| sum <= wanted).clamp(1, 168) - 1;
        let (from, to) = (self.cumulative[hour], self.cumulative[hour + 1]);
        let secs = (hour as f64 + (wanted - from) / (to - from)) * HOUR_SECS;
        let time = self.start + weeks as i64 * WEEK_SECS + secs as i64;
        (time, load((self.weekday + hour / 24) % 7, hour % 24))
    }
}

/// Writes records to `out` (CSV or Parquet, by its name) and the anomalous ones among them to
/// `labels` (CSV: `interaction_id,kind,group`; the rows of one burst are a group). `progress` hears
/// (rows done, rows in all).
///
/// # Errors
/// When the spec does not fit together or a file cannot be written.
pub fn generate_records(
    spec: &RecordsSpec,
    out: &Path,
    labels: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<GeneratedSummary, SourceError> {
    SourceError::unless_fine(&spec.check())?;
    let first: Date = spec
        .first_day
        .parse()
        .map_err(|error| SourceError::Spec(format!("`first_day`: {error}; write YYYY-MM-DD")))?;
    let arrivals = Arrivals::new(spec, first);
    let share = spec.anomaly_rate / KINDS.len() as f64;
    let bursts = bursts(&mut stream(spec.seed, "records bursts", 0), spec.rows, share);
    let mut table = TableWriter::create(out, HEADER)?;
    let mut labelled = TableWriter::create_csv(labels, LABEL_HEADER)?;
    let mut summary =
        GeneratedSummary { series: CHANNELS.len() * QUEUES.len(), ..GeneratedSummary::default() };
    let n_blocks = spec.rows.div_ceil(BLOCK_ROWS);
    for from in (0..n_blocks).step_by(BLOCKS) {
        let made: Vec<Made> = (from..(from + BLOCKS).min(n_blocks))
            .into_par_iter()
            .map(|number| {
                let rows = number * BLOCK_ROWS..((number + 1) * BLOCK_ROWS).min(spec.rows);
                Block { spec, arrivals: &arrivals, bursts: &bursts, share }.make(
                    number,
                    rows,
                    table.format(),
                )
            })
            .collect();
        for block in made {
            table.write(block.rows)?;
            labelled.write(block.labels)?;
            for (kind, count) in KINDS.iter().zip(block.counts) {
                *summary.events.entry(kind.to_string()).or_default() += count;
            }
        }
        progress(((from + BLOCKS) * BLOCK_ROWS).min(spec.rows) as u64, spec.rows as u64);
    }
    labelled.finish()?;
    summary.rows = table.finish()?;
    Ok(summary)
}

/// What every block needs.
struct Block<'a> {
    spec: &'a RecordsSpec,
    arrivals: &'a Arrivals,
    bursts: &'a [Burst],
    /// Of the rows, of each kind of anomaly.
    share: f64,
}

struct Made {
    rows: Chunk,
    labels: Chunk,
    /// In the order of [`KINDS`].
    counts: [usize; KINDS.len()],
}

impl Block<'_> {
    fn make(&self, number: usize, rows: Range<usize>, format: TableFormat) -> Made {
        let mut rng = stream(self.spec.seed, "records", number as u64);
        let mut made = Made {
            rows: Chunk::new(format, HEADER),
            labels: Chunk::new(TableFormat::Csv, LABEL_HEADER),
            counts: [0; KINDS.len()],
        };
        for row in rows {
            let (time, load) = self.arrivals.at(row, rng.random::<f64>());
            let drawn = interaction(&mut rng, row, load, (self.share, self.share), self.bursts);
            let id = format!("int-{row:08}");
            write_row(&mut made.rows, &mut rng, self.spec.missing_rate, &id, time, &drawn);
            if let Some(oddity) = drawn.oddity {
                label(&mut made.labels, &id, oddity);
                if let Some(kind) = KINDS.iter().position(|kind| *kind == oddity.name()) {
                    made.counts[kind] += 1;
                }
            }
        }
        made
    }
}

fn write_row<R: Rng>(
    chunk: &mut Chunk,
    rng: &mut R,
    missing_rate: f64,
    id: &str,
    time: i64,
    drawn: &Interaction,
) {
    let metrics = drawn.metrics.recorded();
    let cells = [
        Cell::Number(metrics.csat, 1),
        Cell::Number(metrics.ies, 1),
        Cell::Whole(metrics.complaints as u64),
        Cell::Number(metrics.aht_seconds, 0),
        Cell::Number(metrics.hold_time_seconds, 0),
        Cell::Whole(metrics.transfers as u64),
        Cell::Text(CHANNELS[drawn.context.channel]),
        Cell::Text(LANGUAGES[drawn.language]),
        Cell::Text(QUEUES[drawn.context.queue]),
    ];
    let mut row = vec![Cell::Text(id), Cell::Time(time)];
    row.extend(cells.map(|cell| match rng.random::<f64>() < missing_rate {
        true => Cell::Missing,
        false => cell,
    }));
    chunk.push(&row);
}

fn label(chunk: &mut Chunk, id: &str, oddity: Oddity) {
    let group = match oddity {
        Oddity::Burst(number) => format!("burst-{number}"),
        _ => id.to_string(),
    };
    chunk.push(&[Cell::Text(id), Cell::Text(oddity.name()), Cell::Text(&group)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(spec: &RecordsSpec) -> ([String; 2], GeneratedSummary) {
        let folder = tempfile::tempdir().unwrap();
        let names = ["records.csv", "labels.csv"].map(|name| folder.path().join(name));
        let summary = generate_records(spec, &names[0], &names[1], &mut |_, _| {}).unwrap();
        (names.map(|name| std::fs::read_to_string(name).unwrap()), summary)
    }

    #[test]
    fn a_seed_gives_the_same_bytes_on_any_number_of_threads_and_another_seed_gives_others() {
        let on = |threads: usize, seed: u64| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| made(&RecordsSpec { rows: 9_000, seed, ..Default::default() }))
        };
        assert_eq!(on(1, 5), on(3, 5));
        assert_ne!(on(2, 5).0, on(2, 6).0);
    }

    #[test]
    fn the_shares_of_anomalies_and_gaps_are_those_asked_for() {
        let ([rows, labels], summary) = made(&RecordsSpec { rows: 60_000, ..Default::default() });
        assert_eq!(rows.lines().count(), 60_001);
        let header = "interaction_id,timestamp,csat,ies,complaints,aht_seconds,hold_time_seconds,transfers,channel,language,queue\n";
        assert!(rows.starts_with(header));
        let total: usize = summary.events.values().sum();
        assert_eq!(labels.lines().count() - 1, total);
        assert!((total as f64 / 60_000.0 - 0.033).abs() < 0.004, "{:?}", summary.events);
        for kind in KINDS {
            let share = summary.events[kind] as f64 / 60_000.0;
            assert!((0.009..0.014).contains(&share), "{kind}: {share}");
        }
        let cells = rows.lines().skip(1).flat_map(|line| line.split(',').skip(2));
        let missing = cells.filter(|cell| cell.is_empty()).count() as f64 / (60_000.0 * 9.0);
        assert!((missing - 0.04).abs() < 0.002, "{missing}");
    }

    #[test]
    fn times_rise_and_nights_and_weekends_are_quiet() {
        let ([rows, _], _) = made(&RecordsSpec { rows: 14_000, ..Default::default() });
        let times: Vec<&str> = rows.lines().skip(1).filter_map(|l| l.split(',').nth(1)).collect();
        assert!(times.is_sorted());
        let in_hour = |hour: &str| times.iter().filter(|t| t[11..13] == *hour).count();
        assert!(in_hour("10") > 8 * in_hour("03"));
        let sunday = times.iter().filter(|t| t.starts_with("2025-01-12")).count();
        let monday = times.iter().filter(|t| t.starts_with("2025-01-13")).count();
        assert!(2 * sunday > monday - 150 && sunday < monday, "{sunday} {monday}");
    }

    #[test]
    fn every_problem_of_a_spec_comes_at_once() {
        let spec = RecordsSpec {
            rows: 0,
            rows_per_day: 0,
            first_day: "soon".into(),
            anomaly_rate: 0.5,
            missing_rate: f64::NAN,
            ..Default::default()
        };
        assert_eq!(spec.check().len(), 5);
        assert!(RecordsSpec::default().check().is_empty());
    }
}
