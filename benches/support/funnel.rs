//! A small hourly sales funnel with labelled anomalies, for tests and benchmarks.
//!
//! 24 brands over three orders of magnitude with a day, a week, slow growth, day-to-day wobble,
//! overdispersed hours and unlabelled campaigns; six kinds of anomalies on about 2 % of the hours.
//! It shares no code with the detectors, and its noise is not the noise that they assume: views are
//! gamma-Poisson with a lognormal factor for the whole day on top.

use ndarray::{Array2, Array3};
use rand::{Rng, RngExt};
use rand_distr::{Binomial, Distribution, Gamma, Normal, Poisson};

/// Kinds of anomalies; the label of a clean hour is 0, of kind `i` it is `i + 1`.
pub const KINDS: [&str; 6] =
    ["spike", "drop", "level_shift", "conversion_collapse", "slow_drift", "outage"];

/// One labelled interval, its end exclusive.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub brand: usize,
    pub start: usize,
    pub end: usize,
    pub kind: usize,
}

/// Hours of a funnel, starting on a Monday at midnight.
pub struct Funnel {
    /// `[brand, hour, metric]`: views, carts, purchases, revenue, conversion rate.
    pub values: Array3<f64>,
    /// `[brand, hour]`: 0, or the kind of the anomaly plus 1.
    pub labels: Array2<u8>,
    pub events: Vec<Event>,
}

fn normal(rng: &mut impl Rng, sd: f64) -> f64 {
    Normal::new(0.0, sd).map_or(0.0, |n| n.sample(rng))
}

fn uniform(rng: &mut impl Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

fn gamma(rng: &mut impl Rng, shape: f64, scale: f64) -> f64 {
    Gamma::new(shape, scale).map_or(0.0, |g| g.sample(rng))
}

fn poisson(rng: &mut impl Rng, mean: f64) -> f64 {
    Poisson::new(mean).map_or(0.0, |p| p.sample(rng))
}

fn binomial(rng: &mut impl Rng, n: f64, p: f64) -> f64 {
    Binomial::new(n as u64, p.clamp(0.0, 1.0)).map_or(0.0, |b| b.sample(rng) as f64)
}

/// Draws the events of one brand: disjoint, a day apart.
fn draw_events(rng: &mut impl Rng, brand: usize, hours: usize) -> Vec<Event> {
    let lengths = [(2, 6), (3, 12), (24, 96), (4, 24), (72, 144), (2, 8)];
    let mut events: Vec<Event> = Vec::new();
    for (kind, (low, high)) in lengths.into_iter().enumerate() {
        // Short kinds three times as often as shifts, and drifts rarer still: about 2 % of hours.
        let expected = [1.2, 1.2, 0.25, 1.0, 0.1, 0.8][kind] * hours as f64 / 2_160.0;
        for _ in 0..poisson(rng, expected) as usize {
            let length = rng.random_range(low..=high);
            let start = rng.random_range(24..hours.saturating_sub(length).max(25));
            let end = start + length;
            if end <= hours && events.iter().all(|e| end + 24 < e.start || e.end + 24 < start) {
                events.push(Event { brand, start, end, kind });
            }
        }
    }
    events
}

/// Simulates `brands` brands over `days` days.
pub fn simulate(rng: &mut impl Rng, brands: usize, days: usize) -> Funnel {
    let hours = days * 24;
    let mut values = Array3::zeros((brands, hours, 5));
    let mut labels = Array2::zeros((brands, hours));
    let mut all_events = Vec::new();
    for brand in 0..brands {
        let share = brand as f64 / (brands.max(2) - 1) as f64;
        let base = 3.0 * 1_000.0_f64.powf(share) * uniform(rng, 0.7, 1.4);
        let growth = uniform(rng, -0.10, 0.12) / 720.0; // a month
        let phase = uniform(rng, -2.0, 2.0);
        let swing = uniform(rng, 0.5, 1.1);
        let weekend = uniform(rng, 0.65, 1.35);
        let weekdays: Vec<f64> = (0..7).map(|_| normal(rng, 0.05).exp()).collect();
        let alpha = uniform(rng, 0.004, 0.03);
        let (cart, buy) = (uniform(rng, 0.07, 0.16), uniform(rng, 0.2, 0.4));
        let price = uniform(rng, 15.0, 120.0);
        let mut factor = vec![1.0; hours];
        for _ in 0..rng.random_range(2..=4) {
            let length = rng.random_range(6..=36);
            let start = rng.random_range(0..hours.saturating_sub(length).max(1));
            let lift = uniform(rng, 1.15, 1.6);
            factor[start..(start + length).min(hours)].iter_mut().for_each(|f| *f *= lift);
        }
        let mut conversion = vec![1.0; hours];
        let events = draw_events(rng, brand, hours);
        for event in &events {
            let up = rng.random::<bool>();
            let strength = match event.kind {
                0 => uniform(rng, 1.8, 4.0),
                1 => uniform(rng, 0.1, 0.55),
                2 if up => uniform(rng, 1.3, 1.9),
                2 => uniform(rng, 0.45, 0.75),
                3 => uniform(rng, 0.1, 0.5),
                4 if up => 1.5,
                4 => 0.6,
                _ => 0.0,
            };
            for t in event.start..event.end {
                labels[[brand, t]] = event.kind as u8 + 1;
                let ramp = (t - event.start + 1) as f64 / (event.end - event.start) as f64;
                match event.kind {
                    3 => conversion[t] *= strength,
                    4 => factor[t] *= 1.0 + (strength - 1.0) * ramp,
                    _ => factor[t] *= strength,
                }
            }
        }
        all_events.extend(events);
        let mut day_wobble = 0.0;
        for t in 0..hours {
            let (hour, weekday) = ((t % 24) as f64, t / 24 % 7);
            if t % 24 == 0 {
                day_wobble = 0.5 * day_wobble + normal(rng, 0.035);
            }
            let angle = (hour - 15.0 - phase) / 24.0 * std::f64::consts::TAU;
            let daily = (swing * angle.cos() + 0.25 * swing * (2.0 * angle).cos()).exp();
            let weekly = weekdays[weekday] * if weekday >= 5 { weekend } else { 1.0 };
            let trend = 1.0 + growth * (t as f64 - hours as f64 / 2.0);
            let mean = base * daily * weekly * trend * day_wobble.exp() * factor[t];
            let rate = gamma(rng, 1.0 / alpha, mean.max(1e-9) * alpha);
            let views = if factor[t] == 0.0 { 0.0 } else { poisson(rng, rate) };
            let rate = |p: f64| p * (1.0 + 0.08 * (angle + 1.0).cos());
            let carts = binomial(rng, views, rate(cart) * conversion[t].sqrt());
            let purchases = binomial(rng, carts, rate(buy) * conversion[t].sqrt());
            let revenue =
                if purchases > 0.0 { gamma(rng, 2.0 * purchases, 0.5 * price) } else { 0.0 };
            let converted = if views > 0.0 { purchases / views } else { f64::NAN };
            for (m, v) in [views, carts, purchases, revenue, converted].into_iter().enumerate() {
                values[[brand, t, m]] = v;
            }
        }
    }
    Funnel { values, labels, events: all_events }
}
