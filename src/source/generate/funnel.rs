//! An hourly shop funnel per brand: views, carts, purchases, revenue.
//!
//! Brands differ in size by three orders of magnitude, share the rhythm of day and week, and wander
//! a little from hour to hour. Campaigns lift the views for a known time: they go into the file of
//! known events, never into the labels, because a detector that is told about them should stay
//! quiet. Anomalies keep clear of a brand's campaigns, so that every labelled hour has one cause.

use std::{f64::consts::TAU, ops::Range, path::Path};

use jiff::civil::Date;
use rand::{RngExt, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution, Gamma, Poisson, StandardNormal};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    GeneratedSummary,
    events::{Event, place},
    negative_binomial,
    table::{Cell, CellKind, Chunk, Header, TableFormat, TableWriter},
};
use crate::{
    math::random::stream,
    source::{SourceError, time::rfc3339},
};

/// Hours that are in memory together.
const BLOCK_HOURS: usize = 168;
/// Free hours between two events of a brand.
const GAP_HOURS: usize = 6;

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

    fn hours(&self) -> usize {
        self.days * 24
    }
}

/// The kinds of anomaly: name, the metric they are about, weight, hours, range of the factor.
struct AnomalyKind {
    name: &'static str,
    metric: &'static str,
    weight: f64,
    hours: Range<usize>,
    factor: Range<f64>,
    /// A second range of factors, taken half of the time.
    other: Option<Range<f64>>,
}

const KINDS: [AnomalyKind; 6] = [
    AnomalyKind {
        name: "spike",
        metric: "views",
        weight: 0.25,
        hours: 1..5,
        factor: 2.5..6.0,
        other: None,
    },
    AnomalyKind {
        name: "drop",
        metric: "views",
        weight: 0.20,
        hours: 2..13,
        factor: 0.1..0.5,
        other: None,
    },
    AnomalyKind {
        name: "level_shift",
        metric: "views",
        weight: 0.12,
        hours: 24..73,
        factor: 0.4..0.65,
        other: Some(1.6..2.4),
    },
    AnomalyKind {
        name: "conversion_collapse",
        metric: "conversion_rate",
        weight: 0.20,
        hours: 4..25,
        factor: 0.05..0.4,
        other: None,
    },
    AnomalyKind {
        name: "drift",
        metric: "views",
        weight: 0.08,
        hours: 36..97,
        factor: 0.3..0.55,
        other: Some(1.8..3.0),
    },
    AnomalyKind {
        name: "outage",
        metric: "views",
        weight: 0.15,
        hours: 1..7,
        factor: 0.0..0.0,
        other: None,
    },
];

/// A campaign: more views, and visitors that buy a little more or less often.
#[derive(Clone, Debug)]
struct Campaign {
    hours: Range<usize>,
    lift: f64,
    conversion: f64,
    /// Runs for all brands.
    global: bool,
}

/// What one hour's views and conversion are multiplied by.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Effect {
    views: f64,
    conversion: f64,
}

/// One brand; its hours must be drawn in order.
struct Brand {
    name: String,
    rng: ChaCha8Rng,
    /// Log of the mean views an hour.
    log_size: f64,
    dispersion: f64,
    /// Hours by which its day is shifted.
    late: f64,
    /// How much stronger or weaker its week is than the common one.
    week_strength: f64,
    /// Log units per hour.
    trend: f64,
    /// Standard deviation of the hour-to-hour wandering, and where it is.
    wander_sd: f64,
    wander: f64,
    cart_rate: f64,
    buy_rate: f64,
    price: f64,
    campaigns: Vec<Campaign>,
    anomalies: Vec<Event>,
}

/// One hour of one brand.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Hour {
    views: u64,
    carts: u64,
    purchases: u64,
    revenue: f64,
}

/// How strongly an hour's wandering depends on the hour before.
const WANDER_MEMORY: f64 = 0.8;
/// Monday to Sunday, as multiples of an average day.
const WEEK: [f64; 7] = [0.98, 0.95, 0.94, 0.96, 1.00, 1.12, 1.08];

impl Brand {
    /// `rank` from 0 (smallest) to 1 (largest).
    fn new(spec: &FunnelSpec, number: usize, rank: f64, global: &[Campaign]) -> Self {
        let mut rng = stream(spec.seed, "funnel/brand", number as u64);
        let normal = |rng: &mut ChaCha8Rng| -> f64 { StandardNormal.sample(rng) };
        // 5 to 5,000 views an hour.
        let log_size = (0.7 + 3.0 * rank + 0.05 * normal(&mut rng)) * std::f64::consts::LN_10;
        let mut brand = Self {
            name: format!("brand_{:0width$}", number + 1, width = width(spec.brands)),
            log_size,
            dispersion: rng.random_range(0.005..0.04),
            late: 0.7 * normal(&mut rng),
            week_strength: rng.random_range(0.3..1.7),
            trend: 0.1 * normal(&mut rng) / (90.0 * 24.0),
            wander_sd: rng.random_range(0.04..0.1),
            wander: 0.0,
            cart_rate: rng.random_range(0.06..0.15),
            buy_rate: rng.random_range(0.25..0.5),
            price: rng.random_range(2.5_f64..5.0).exp(),
            campaigns: global.to_vec(),
            anomalies: Vec::new(),
            rng,
        };
        let mean = spec.campaigns_per_brand_month * spec.days as f64 / 30.44;
        let wanted = Poisson::new(mean).map_or(0.0, |poisson| poisson.sample(&mut brand.rng));
        for _ in 0..wanted as usize {
            let taken: Vec<_> = brand.campaigns.iter().map(|one| one.hours.clone()).collect();
            let campaign = campaign(&mut brand.rng, spec.hours(), &taken, false);
            brand.campaigns.extend(campaign);
        }
        brand
    }

    /// Mean views of hour `t` (from `first_weekday`'s midnight) without events and wandering.
    fn normal_views(&self, t: usize, first_weekday: usize) -> f64 {
        let hour = (t % 24) as f64 - self.late;
        // A low before dawn, a shoulder at noon, the peak in the evening.
        let day =
            0.75 * (TAU * (hour - 18.0) / 24.0).cos() + 0.22 * (TAU * (hour - 11.0) / 12.0).cos();
        let week = self.week_strength * WEEK[(first_weekday + t / 24) % 7].ln();
        (self.log_size + self.trend * t as f64 + day + week).exp()
    }

    fn effect(&self, t: usize) -> Effect {
        let mut effect = Effect { views: 1.0, conversion: 1.0 };
        for campaign in self.campaigns.iter().filter(|one| one.hours.contains(&t)) {
            effect.views *= campaign.lift;
            effect.conversion *= campaign.conversion;
        }
        for event in &self.anomalies {
            let Some(progress) = event.progress(t) else { continue };
            match event.kind {
                "conversion_collapse" => effect.conversion *= event.factor,
                "drift" => effect.views *= event.factor.powf(progress),
                _ => effect.views *= event.factor,
            }
        }
        effect
    }

    /// Draws hour `t`.
    fn draw(&mut self, t: usize, first_weekday: usize) -> Hour {
        let step: f64 = StandardNormal.sample(&mut self.rng);
        let fresh = (1.0 - WANDER_MEMORY * WANDER_MEMORY).sqrt();
        self.wander = WANDER_MEMORY * self.wander + fresh * self.wander_sd * step;
        let effect = self.effect(t);
        let mean = self.normal_views(t, first_weekday) * self.wander.exp() * effect.views;
        let views = negative_binomial(&mut self.rng, mean, self.dispersion);
        // Fewer go to the cart and fewer of those buy, in equal parts.
        let part = effect.conversion.sqrt();
        let carts = binomial(&mut self.rng, views, self.cart_rate * part);
        let purchases = binomial(&mut self.rng, carts, self.buy_rate * part);
        // The sum of gamma-distributed baskets with a coefficient of variation of a half.
        let revenue = Gamma::new(4.0 * purchases as f64, self.price / 4.0)
            .map_or(0.0, |gamma| gamma.sample(&mut self.rng));
        Hour { views, carts, purchases, revenue }
    }
}

fn width(n: usize) -> usize {
    n.to_string().len().max(2)
}

fn binomial(rng: &mut ChaCha8Rng, n: u64, p: f64) -> u64 {
    Binomial::new(n, p.clamp(0.0, 1.0)).map_or(0, |binomial| binomial.sample(rng))
}

fn campaign(
    rng: &mut ChaCha8Rng,
    n: usize,
    taken: &[Range<usize>],
    global: bool,
) -> Option<Campaign> {
    let duration = rng.random_range(6..=72);
    let lift = rng.random_range(1.3..3.0);
    let conversion = rng.random_range(0.85..1.15);
    let hours = place(rng, n, duration, GAP_HOURS, taken)?;
    Some(Campaign { hours, lift, conversion, global })
}

/// The brands with their campaigns and anomalies.
fn brands(spec: &FunnelSpec) -> Vec<Brand> {
    let mut rng = stream(spec.seed, "funnel/plan", 0);
    let wanted = Poisson::new(spec.days as f64 / 45.0).map_or(0.0, |p| p.sample(&mut rng)) as usize;
    let mut global: Vec<Campaign> = Vec::new();
    if spec.campaigns_per_brand_month > 0.0 {
        for _ in 0..wanted {
            let taken: Vec<_> = global.iter().map(|one| one.hours.clone()).collect();
            global.extend(campaign(&mut rng, spec.hours(), &taken, true));
        }
    }
    let mut ranks: Vec<usize> = (0..spec.brands).collect();
    ranks.shuffle(&mut rng);
    let largest = (spec.brands - 1).max(1) as f64;
    let mut brands: Vec<Brand> = ranks
        .par_iter()
        .enumerate()
        .map(|(number, &rank)| Brand::new(spec, number, rank as f64 / largest, &global))
        .collect();
    add_anomalies(spec, &mut rng, &mut brands);
    brands
}

/// Draws anomalies until the asked share of hours is reached.
fn add_anomalies(spec: &FunnelSpec, rng: &mut ChaCha8Rng, brands: &mut [Brand]) {
    let mut left = (spec.anomaly_rate * (brands.len() * spec.hours()) as f64).round() as usize;
    let mut failures = 0;
    while left > 0 && failures < 200 {
        let mut at = rng.random_range(0.0..1.0);
        let kind = KINDS
            .iter()
            .find(|kind| {
                at -= kind.weight;
                at < 0.0
            })
            .unwrap_or(&KINDS[0]);
        let duration = rng.random_range(kind.hours.clone());
        let range = match &kind.other {
            Some(other) if rng.random_bool(0.5) => other,
            _ => &kind.factor,
        };
        let factor = if range.is_empty() { range.start } else { rng.random_range(range.clone()) };
        let brand = rng.random_range(0..brands.len());
        let brand = &mut brands[brand];
        let campaigns = brand.campaigns.iter().map(|one| one.hours.clone());
        let taken: Vec<_> =
            campaigns.chain(brand.anomalies.iter().map(|one| one.steps.clone())).collect();
        match place(rng, spec.hours(), duration, GAP_HOURS, &taken) {
            Some(steps) if duration <= left => {
                left -= duration;
                failures = 0;
                brand.anomalies.push(Event { kind: kind.name, steps, factor });
            }
            _ => failures += 1,
        }
    }
    for brand in brands {
        brand.anomalies.sort_by_key(|event| event.steps.start);
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
    fn the_share_of_anomalous_hours_is_as_asked_and_clear_of_campaigns() {
        let spec = FunnelSpec { seed: 9, ..Default::default() };
        let brands = brands(&spec);
        let hours: usize =
            brands.iter().flat_map(|b| &b.anomalies).map(|event| event.steps.len()).sum();
        let share = hours as f64 / (spec.brands * spec.hours()) as f64;
        assert!((0.018..=0.0201).contains(&share), "{share}");
        for brand in &brands {
            for event in &brand.anomalies {
                assert!(brand.campaigns.iter().all(|campaign| {
                    event.steps.end <= campaign.hours.start
                        || campaign.hours.end <= event.steps.start
                }));
            }
        }
    }

    #[test]
    fn brands_span_three_orders_of_magnitude() {
        let brands = brands(&FunnelSpec::default());
        let sizes = brands.iter().map(|brand| brand.log_size);
        let (low, high) = sizes.fold((f64::MAX, f64::MIN), |(l, h), s| (l.min(s), h.max(s)));
        let decades = (high - low) / std::f64::consts::LN_10;
        assert!((2.8..3.4).contains(&decades), "{decades}");
    }

    #[test]
    fn labels_lie_where_the_metrics_moved() {
        let spec = FunnelSpec { brands: 60, days: 120, ..Default::default() };
        // Views against their normal mean, and purchases against what the views should bring.
        let mut sums = std::collections::BTreeMap::<&str, [f64; 4]>::new();
        for brand in &mut brands(&spec) {
            for t in 0..spec.hours() {
                let hour = brand.draw(t, 0);
                let event = brand.anomalies.iter().find(|event| event.steps.contains(&t));
                let campaign = brand.campaigns.iter().any(|one| one.hours.contains(&t));
                let kind = event.map_or(if campaign { "campaign" } else { "" }, |event| event.kind);
                let sum = sums.entry(kind).or_default();
                let size = brand.log_size.exp(); // so that large brands do not speak for all
                sum[0] += hour.views as f64 / size;
                sum[1] += brand.normal_views(t, 0) / size;
                sum[2] += hour.purchases as f64;
                sum[3] += hour.views as f64 * brand.cart_rate * brand.buy_rate;
            }
        }
        let views = |kind: &str| sums[kind][0] / sums[kind][1];
        let conversion = |kind: &str| sums[kind][2] / sums[kind][3];
        for kind in ["", "conversion_collapse"] {
            assert!((views(kind) - 1.0).abs() < 0.05, "{kind}: {}", views(kind));
        }
        for kind in ["", "spike", "drop", "campaign"] {
            assert!((conversion(kind) - 1.0).abs() < 0.12, "{kind}: {}", conversion(kind));
        }
        assert_eq!(sums["outage"][0], 0.0);
        assert!((2.5..6.0).contains(&views("spike")), "{}", views("spike"));
        assert!((0.1..0.5).contains(&views("drop")), "{}", views("drop"));
        assert!((1.5..2.8).contains(&views("campaign")), "{}", views("campaign"));
        assert!((0.05..0.4).contains(&conversion("conversion_collapse")));
    }

    #[test]
    fn a_drift_grows_to_its_factor() {
        let spec = FunnelSpec::default();
        let mut brand = Brand::new(&spec, 0, 0.5, &[]);
        brand.campaigns.clear();
        brand.anomalies = vec![Event { kind: "drift", steps: 10..14, factor: 0.25 }];
        let views: Vec<f64> = (9..15).map(|t| brand.effect(t).views).collect();
        assert_eq!(views[0], 1.0);
        assert!((views[2] - 0.5).abs() < 1e-12 && (views[4] - 0.25).abs() < 1e-12);
        assert_eq!(views[5], 1.0);
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
