//! An hourly shop funnel per brand: views, carts, purchases, revenue.
//!
//! Brands differ in size by three orders of magnitude, share the rhythm of day and week, and wander
//! a little from hour to hour. Campaigns lift the views for a known time: they go into the file of
//! known events, never into the labels, because a detector that is told about them should stay
//! quiet. Anomalies keep clear of a brand's campaigns, so that every labelled hour has one cause.

use std::{ops::Range, path::Path};

use jiff::civil::Date;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    GeneratedSummary,
    funnel_model::{Brand, Campaign, Hour, KINDS, brands},
    table::{Cell, CellKind, Chunk, Header, TableFormat, TableWriter},
};
use crate::source::{SourceError, time::rfc3339};

/// Hours that are in memory together.
const BLOCK_HOURS: usize = 168;

const HEADER: Header = &[
    ("window_start", CellKind::Time),
    ("brand", CellKind::Text),
    ("views", CellKind::Whole),
    ("carts", CellKind::Whole),
    ("purchases", CellKind::Whole),
    ("revenue", CellKind::Number),
    ("conversion_rate", CellKind::Number),
];

const LABEL_HEADER: Header = &[
    ("brand", CellKind::Text),
    ("start", CellKind::Text),
    ("end", CellKind::Text),
    ("kind", CellKind::Text),
    ("metric", CellKind::Text),
    ("factor", CellKind::Number),
];

const KNOWN_HEADER: Header = &[
    ("brand", CellKind::Text),
    ("start", CellKind::Text),
    ("end", CellKind::Text),
    ("kind", CellKind::Text),
    ("factor", CellKind::Number),
];

/// What funnel data to make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FunnelSpec {
    pub brands: usize,
    pub days: usize,
    /// `YYYY-MM-DD`; the first hour is its midnight, UTC.
    pub first_day: String,
    pub seed: u64,
    /// The share of all brand-hours that are anomalous.
    pub anomaly_rate: f64,
    /// The mean of a Poisson number; beside them one campaign for all brands every 45 days.
    pub campaigns_per_brand_month: f64,
}

impl Default for FunnelSpec {
    fn default() -> Self {
        Self {
            brands: 24,
            days: 90,
            first_day: "2025-01-06".into(),
            seed: 1,
            anomaly_rate: 0.02,
            campaigns_per_brand_month: 1.0,
        }
    }
}

impl FunnelSpec {
    /// Every problem, as (key, message).
    pub fn check(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut add = |key: &str, text: String| problems.push((key.to_string(), text));
        if !(1..=100_000).contains(&self.brands) {
            add("brands", format!("is {}; take 1 to 100000", self.brands));
        }
        if !(1..=3_653).contains(&self.days) {
            add("days", format!("is {}; take 1 to 3653 (ten years)", self.days));
        }
        match self.first_day.parse::<Date>() {
            Ok(date) if (1900..=2200).contains(&date.year()) => {}
            Ok(date) => {
                add("first_day", format!("{date} is too far off; take a year from 1900 to 2200"));
            }
            Err(_) => add(
                "first_day",
                format!("`{}` is no date; write YYYY-MM-DD, \"2025-01-06\" say", self.first_day),
            ),
        }
        if !(0.0..=0.2).contains(&self.anomaly_rate) {
            add("anomaly_rate", format!("is {}; take 0 to 0.2", self.anomaly_rate));
        }
        if !(0.0..=5.0).contains(&self.campaigns_per_brand_month) {
            let text = format!("is {}; take 0 to 5", self.campaigns_per_brand_month);
            add("campaigns_per_brand_month", text);
        }
        problems
    }

    pub(super) fn hours(&self) -> usize {
        self.days * 24
    }
}

/// Writes hourly rows to `out` (CSV or Parquet, by its name), anomalies to `labels` and campaigns
/// to `known_events` (both CSV). `progress` hears (brand-hours done, brand-hours in all).
///
/// # Errors
/// When the spec does not fit together or a file cannot be written.
pub fn generate_funnel(
    spec: &FunnelSpec,
    out: &Path,
    labels: &Path,
    known_events: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<GeneratedSummary, SourceError> {
    SourceError::unless_fine(&spec.check())?;
    let first: Date = spec
        .first_day
        .parse()
        .map_err(|error| SourceError::Spec(format!("`first_day`: {error}; write YYYY-MM-DD")))?;
    let since_1970 = jiff::civil::date(1970, 1, 1).until(first).map_or(0, |span| span.get_days());
    let start = i64::from(since_1970) * 86_400;
    let weekday = (i64::from(since_1970) + 3).rem_euclid(7) as usize;

    let mut table = TableWriter::create(out, HEADER)?;
    let mut brands = brands(spec);
    let mut summary = write_labels(&brands, start, labels)?;
    summary.known_events = write_known_events(&brands, start, known_events)?;
    let total = (spec.brands * spec.hours()) as u64;
    for from in (0..spec.hours()).step_by(BLOCK_HOURS) {
        let block = from..(from + BLOCK_HOURS).min(spec.hours());
        let hours: Vec<Vec<Hour>> = brands
            .par_iter_mut()
            .map(|brand| block.clone().map(|t| brand.draw(t, weekday)).collect())
            .collect();
        let mut chunk = Chunk::new(table.format(), HEADER);
        for (row, t) in block.clone().enumerate() {
            for (brand, hours) in brands.iter().zip(&hours) {
                write_hour(&mut chunk, start + t as i64 * 3_600, &brand.name, &hours[row]);
            }
        }
        table.write(chunk)?;
        progress((block.end * spec.brands) as u64, total);
    }
    Ok(GeneratedSummary { rows: table.finish()?, series: spec.brands, ..summary })
}

fn write_hour(chunk: &mut Chunk, time: i64, brand: &str, hour: &Hour) {
    let conversion = match hour.views {
        0 => Cell::Missing,
        views => Cell::Number(hour.purchases as f64 / views as f64, 6),
    };
    chunk.push(&[
        Cell::Time(time),
        Cell::Text(brand),
        Cell::Whole(hour.views),
        Cell::Whole(hour.carts),
        Cell::Whole(hour.purchases),
        Cell::Number(hour.revenue, 2),
        conversion,
    ]);
}

fn times(start: i64, hours: &Range<usize>) -> (String, String) {
    let at = |t: usize| rfc3339(start + t as i64 * 3_600);
    (at(hours.start), at(hours.end))
}

fn write_labels(
    brands: &[Brand],
    start: i64,
    path: &Path,
) -> Result<GeneratedSummary, SourceError> {
    let mut summary = GeneratedSummary::default();
    let mut table = TableWriter::create_csv(path, LABEL_HEADER)?;
    let mut chunk = Chunk::new(TableFormat::Csv, LABEL_HEADER);
    for brand in brands {
        for event in &brand.anomalies {
            let (from, to) = times(start, &event.steps);
            let metric =
                KINDS.iter().find(|kind| kind.name == event.kind).map_or("", |kind| kind.metric);
            chunk.push(&[
                Cell::Text(&brand.name),
                Cell::Text(&from),
                Cell::Text(&to),
                Cell::Text(event.kind),
                Cell::Text(metric),
                Cell::Number(event.factor, 4),
            ]);
            *summary.events.entry(event.kind.to_string()).or_default() += 1;
        }
    }
    table.write(chunk)?;
    table.finish()?;
    Ok(summary)
}

fn write_known_events(brands: &[Brand], start: i64, path: &Path) -> Result<usize, SourceError> {
    let mut table = TableWriter::create_csv(path, KNOWN_HEADER)?;
    let mut chunk = Chunk::new(TableFormat::Csv, KNOWN_HEADER);
    let mut push = |name: &str, campaign: &Campaign| {
        let (from, to) = times(start, &campaign.hours);
        chunk.push(&[
            Cell::Text(name),
            Cell::Text(&from),
            Cell::Text(&to),
            Cell::Text("campaign"),
            Cell::Number(campaign.lift, 4),
        ]);
    };
    // Every brand has a copy of the global ones: the first speaks for all.
    for campaign in brands.iter().take(1).flat_map(|brand| &brand.campaigns) {
        if campaign.global {
            push("*", campaign);
        }
    }
    for brand in brands {
        for campaign in brand.campaigns.iter().filter(|campaign| !campaign.global) {
            push(&brand.name, campaign);
        }
    }
    table.write(chunk)?;
    Ok(usize::try_from(table.finish()?).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(spec: &FunnelSpec) -> ([String; 3], GeneratedSummary) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let names = ["funnel.csv", "labels.csv", "known.csv"].map(path);
        let summary =
            generate_funnel(spec, &names[0], &names[1], &names[2], &mut |_, _| {}).unwrap();
        (names.map(|name| std::fs::read_to_string(name).unwrap()), summary)
    }

    #[test]
    fn a_seed_gives_the_same_bytes_on_any_number_of_threads_and_another_seed_gives_others() {
        let on = |threads: usize, seed: u64| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| made(&FunnelSpec { brands: 6, days: 20, seed, ..Default::default() }))
        };
        assert_eq!(on(1, 5), on(3, 5));
        assert_ne!(on(2, 5).0, on(2, 6).0);
    }

    #[test]
    fn rows_cover_every_brand_and_hour_and_campaigns_are_no_labels() {
        let ([rows, labels, known], summary) = made(&FunnelSpec::default());
        assert_eq!(rows.lines().count(), 1 + 24 * 90 * 24);
        assert_eq!(summary.rows, 24 * 90 * 24);
        assert!(
            rows.starts_with("window_start,brand,views,carts,purchases,revenue,conversion_rate\n")
        );
        assert!(!labels.contains("campaign"));
        assert_eq!(known.matches(",campaign,").count(), summary.known_events);
        assert_eq!(labels.lines().count() - 1, summary.events.values().sum::<usize>());
        assert_eq!(summary.events.len(), KINDS.len(), "a kind is missing: {:?}", summary.events);
    }

    #[test]
    fn every_problem_of_a_spec_comes_at_once() {
        let spec = FunnelSpec {
            brands: 0,
            days: 0,
            first_day: "soon".into(),
            anomaly_rate: 0.5,
            campaigns_per_brand_month: f64::NAN,
            ..Default::default()
        };
        assert_eq!(spec.check().len(), 5);
        assert!(FunnelSpec::default().check().is_empty());
    }
}
