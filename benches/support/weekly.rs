//! Weekly counts whose truth is known, and how flags on them are measured.
//!
//! `years` follows the rules of the project's weekly generator: keys of a pair share a season of
//! two harmonics and differ in level, dispersion and drift; spikes, drops and level shifts are
//! multiplied in, four weeks apart. `noufaily` makes the 42 scenarios of Noufaily et al. (2013),
//! Statistics in Medicine 32(7): counts of variance phi mu, and outbreaks of log-normal shape.

use std::{f64::consts::TAU, ops::Range};

use anomalist::{
    math::{nb::NegativeBinomial, random::stream},
    panel::{Calendar, Level, Metric, MetricKind, Panel, SeriesKey, Step},
};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Gamma, LogNormal, Poisson, StandardNormal};

pub const WEEKS_PER_YEAR: f64 = 365.2425 / 7.0;

/// One labelled interval.
#[derive(Clone, Debug)]
pub struct Event {
    pub kind: &'static str,
    pub weeks: Range<usize>,
}

/// One key with its truth.
#[derive(Clone, Debug)]
pub struct Key {
    pub pair: usize,
    pub counts: Vec<f64>,
    /// Without events.
    pub mean: Vec<f64>,
    /// Variance of week `t` without events: `mean + dispersion mean^2`, or `phi mean`.
    pub dispersion: Vec<f64>,
    pub labels: Vec<bool>,
    pub events: Vec<Event>,
}

fn between(rng: &mut impl Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

/// A draw of mean `mean` and variance `mean + dispersion mean^2`.
pub fn draw(rng: &mut impl Rng, mean: f64, dispersion: f64) -> f64 {
    let rate = if dispersion > 0.0 && mean > 0.0 {
        Gamma::new(1.0 / dispersion, dispersion * mean).expect("positive").sample(rng)
    } else {
        mean
    };
    if rate < 1e-9 { 0.0 } else { Poisson::new(rate).expect("positive").sample(rng) }
}

/// What `years` makes.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub weeks: usize,
    pub keys: usize,
    pub events_per_key_year: f64,
    /// The base level of every key, if it is not drawn from 0.3 to 200.
    pub level: Option<f64>,
}

/// One panel of keys.
pub fn years(seed: u64, spec: Spec) -> Vec<Key> {
    let pairs = (spec.keys / 7).clamp(1, 25);
    let waves: Vec<[(f64, f64); 2]> = (0..pairs)
        .map(|pair| {
            let rng = &mut stream(seed, "quality/pair", pair as u64);
            [(between(rng, 0.1, 0.5), rng.random()), (between(rng, 0.0, 0.12), rng.random())]
        })
        .collect();
    (0..spec.keys).map(|number| year(seed, number, &waves, spec)).collect()
}

fn year(seed: u64, number: usize, waves: &[[(f64, f64); 2]], spec: Spec) -> Key {
    let rng = &mut stream(seed, "quality/key", number as u64);
    let normal = |rng: &mut rand_chacha::ChaCha8Rng, sd: f64| -> f64 {
        let z: f64 = StandardNormal.sample(rng);
        z * sd
    };
    let pair = number % waves.len();
    let mut wave = waves[pair];
    for (amplitude, phase) in &mut wave {
        *amplitude *= 1.0 + normal(rng, 0.1);
        *phase += normal(rng, 0.02);
    }
    let drawn = between(rng, 0.3f64.ln(), 200f64.ln());
    let log_base = spec.level.map_or(drawn, f64::ln);
    let dispersion = between(rng, 0.02f64.ln(), 0.5f64.ln()).exp();
    let line = rng.random_bool(0.5);
    let slope = normal(rng, 0.12) / WEEKS_PER_YEAR;
    let (events, factors) = events(rng, spec);
    let (mut drifted, mut mean, mut counts) = (0.0, vec![], vec![]);
    for t in 0..spec.weeks {
        drifted += if line { slope } else { normal(rng, 0.015) };
        let place = t as f64 / WEEKS_PER_YEAR;
        let season: f64 = wave
            .iter()
            .zip(1..)
            .map(|((amplitude, phase), k)| amplitude * (TAU * (f64::from(k) * place - phase)).cos())
            .sum();
        mean.push((log_base + drifted + season).exp());
        counts.push(draw(rng, mean[t] * factors[t], dispersion));
    }
    let labels = (0..spec.weeks).map(|t| events.iter().any(|e| e.weeks.contains(&t))).collect();
    Key { pair, counts, mean, dispersion: vec![dispersion; spec.weeks], labels, events }
}

fn events(rng: &mut impl Rng, spec: Spec) -> (Vec<Event>, Vec<f64>) {
    let mean = spec.events_per_key_year * spec.weeks as f64 / WEEKS_PER_YEAR;
    let wanted = Poisson::new(mean).map_or(0, |poisson| poisson.sample(rng) as usize);
    let mut events: Vec<Event> = Vec::new();
    let mut factors = vec![1.0; spec.weeks];
    for _ in 0..wanted {
        let (kind, length, factor) = match rng.random_range(0..3) {
            0 => ("spike", rng.random_range(1..=2), between(rng, 3.0, 7.0)),
            1 => ("drop", rng.random_range(2..=4), between(rng, 0.02, 0.25)),
            _ => ("level_shift", rng.random_range(6..=10), between(rng, 1.7, 2.8)),
        };
        let place = (0..50).find_map(|_| {
            let start = rng.random_range(0..=spec.weeks - length);
            let free = |e: &Event| start + length + 4 <= e.weeks.start || e.weeks.end + 4 <= start;
            events.iter().all(free).then_some(start..start + length)
        });
        if let Some(weeks) = place {
            factors[weeks.clone()].fill(factor);
            events.push(Event { kind, weeks });
        }
    }
    (events, factors)
}

pub const NOUFAILY_WEEKS: usize = 624;
pub const NOUFAILY_NEWEST: usize = 49;

/// theta, beta, gamma1, gamma2, phi of the seven groups of scenarios.
const NOUFAILY: [[f64; 5]; 7] = [
    [0.1, 0.0025, 0.6, 0.6, 1.5],
    [-2.0, 0.005, 0.1, 0.3, 2.0],
    [1.5, 0.003, 0.2, -0.4, 1.0],
    [0.5, 0.002, 0.5, 0.5, 5.0],
    [2.5, 0.001, 1.0, 0.1, 3.0],
    [3.75, 0.001, 0.1, -0.1, 1.1],
    [5.0, 0.0001, 0.05, 0.01, 1.2],
];

/// One replicate of all 42 scenarios, in their order.
pub fn noufaily(seed: u64) -> Vec<Key> {
    (0..42).map(|scenario| noufaily_series(seed, scenario)).collect()
}

fn noufaily_series(seed: u64, scenario: usize) -> Key {
    let rng = &mut stream(seed, "quality/noufaily", scenario as u64);
    let [theta, beta, gamma1, gamma2, phi] = NOUFAILY[scenario / 6];
    let beta = if scenario % 6 < 3 { 0.0 } else { beta };
    let mean: Vec<f64> = (1..=NOUFAILY_WEEKS)
        .map(|t| {
            let season: f64 = (1..=scenario % 3)
                .map(|j| TAU * j as f64 * t as f64 / 52.0)
                .map(|angle| gamma1 * angle.cos() + gamma2 * angle.sin())
                .sum();
            (theta + beta * t as f64 + season).exp()
        })
        .collect();
    let dispersion: Vec<f64> = mean.iter().map(|mu| (phi - 1.0) / mu).collect();
    let mut counts: Vec<f64> =
        mean.iter().zip(&dispersion).map(|(&mu, &alpha)| draw(rng, mu, alpha)).collect();
    let mut labels = vec![false; NOUFAILY_WEEKS];
    let first_newest = NOUFAILY_WEEKS - NOUFAILY_NEWEST;
    let mut events = vec![];
    let spread = LogNormal::new(0.0, 0.5).expect("valid");
    for number in 0..5 {
        let newest = number == 4;
        let within = if newest { first_newest..NOUFAILY_WEEKS } else { 312..first_newest };
        let start = rng.random_range(within);
        let size = if newest {
            f64::from(rng.random_range(1..=10))
        } else {
            [2.0, 3.0, 5.0, 10.0][rng.random_range(0..4)]
        };
        let cases = draw(rng, size * (phi * mean[start]).sqrt(), 0.0);
        let mut hit = vec![];
        for _ in 0..cases as usize {
            let week = start + spread.sample(rng) as usize;
            if week < NOUFAILY_WEEKS {
                counts[week] += 1.0;
                labels[week] = true;
                hit.push(week);
            }
        }
        if let (Some(&first), Some(&last)) = (hit.iter().min(), hit.iter().max()) {
            events.push(Event { kind: "outbreak", weeks: first..last + 1 });
        }
    }
    Key { pair: scenario, counts, mean, dispersion, labels, events }
}

/// A weekly panel of the keys.
pub fn panel(keys: &[Key]) -> Panel {
    let weeks = keys[0].counts.len();
    let values: Vec<f64> = keys.iter().flat_map(|key| key.counts.iter().copied()).collect();
    Panel::new(
        Level { name: "key".into(), id_columns: vec!["pair".into(), "key".into()] },
        Calendar::new(Step::Week, 0, weeks, jiff::tz::TimeZone::UTC),
        vec![Metric { name: "count".into(), kind: MetricKind::Count }],
        keys.iter()
            .enumerate()
            .map(|(i, key)| SeriesKey(vec![key.pair.to_string(), i.to_string()]))
            .collect(),
        vec![0..weeks; keys.len()],
        ndarray::Array3::from_shape_vec((keys.len(), weeks, 1), values).expect("the shape fits"),
    )
    .expect("a sound panel")
}

/// Log p-value of the true model, two-sided or for the upper side alone.
pub fn oracle_ln_p(key: &Key, t: usize, one_sided: bool) -> f64 {
    let model = NegativeBinomial::new(key.mean[t], key.dispersion[t]).expect("valid");
    let tails = model.tails(key.counts[t]);
    if one_sided { tails.ln_upper } else { tails.ln_two_sided().0 }
}

/// What flags are worth; sums over panels.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    hits: f64,
    misses: f64,
    wrong: f64,
    clean: f64,
    /// Clean and wrong weeks by base level: under 2, 10, 50, above.
    by_level: [(f64, f64); 4],
    /// (kind, found)
    events: Vec<(&'static str, bool)>,
    /// (score, labelled)
    points: Vec<(f64, bool)>,
}

impl Tally {
    /// Adds the weeks `weeks` of one key; `score` is -log10 p, flagged from `threshold` on.
    pub fn add(
        &mut self,
        key: &Key,
        weeks: Range<usize>,
        threshold: f64,
        score: impl Fn(usize) -> f64,
    ) {
        let level = key.mean.iter().sum::<f64>() / key.mean.len() as f64;
        let level = [2.0, 10.0, 50.0].iter().filter(|edge| level >= **edge).count();
        for t in weeks.clone() {
            let value = score(t);
            let flagged = value >= threshold;
            self.points.push((if value.is_nan() { -1.0 } else { value }, key.labels[t]));
            match (key.labels[t], flagged) {
                (true, true) => self.hits += 1.0,
                (true, false) => self.misses += 1.0,
                (false, _) => {
                    self.clean += 1.0;
                    self.by_level[level].0 += 1.0;
                    if flagged {
                        self.wrong += 1.0;
                        self.by_level[level].1 += 1.0;
                    }
                }
            }
        }
        for event in key.events.iter().filter(|e| weeks.contains(&e.weeks.start)) {
            let found = event.weeks.clone().any(|t| key.labels[t] && score(t) >= threshold);
            self.events.push((event.kind, found));
        }
    }

    pub fn f1(&self) -> f64 {
        2.0 * self.hits / (2.0 * self.hits + self.misses + self.wrong).max(1.0)
    }

    pub fn false_positive_rate(&self) -> f64 {
        self.wrong / self.clean.max(1.0)
    }

    /// Share of the events of a kind (all with `""`) that have a flag.
    pub fn detected(&self, kind: &str) -> f64 {
        let of_kind = || self.events.iter().filter(|(k, _)| kind.is_empty() || *k == kind);
        of_kind().filter(|(_, found)| *found).count() as f64 / (of_kind().count() as f64).max(1.0)
    }

    /// Area under precision and recall by steps; ties are one threshold.
    pub fn average_precision(&self) -> f64 {
        let mut points = self.points.clone();
        points.sort_by(|a, b| b.0.total_cmp(&a.0));
        let positives = points.iter().filter(|p| p.1).count() as f64;
        let (mut hits, mut area, mut before) = (0.0, 0.0, 0.0);
        for (i, point) in points.iter().enumerate() {
            hits += f64::from(u8::from(point.1));
            if points.get(i + 1).is_none_or(|next| next.0 < point.0) {
                area += (hits - before) / positives * hits / (i + 1) as f64;
                before = hits;
            }
        }
        area
    }

    /// One row of a table; POD of spikes, drops and shifts in brackets, then FPR by level.
    pub fn print(&self, name: &str) {
        let levels: Vec<String> =
            self.by_level.iter().map(|(n, wrong)| format!("{:.4}", wrong / n.max(1.0))).collect();
        println!(
            "{name:<29} F1 {:.3} PPV {:.2} recall {:.3} POD {:.3} ({:.2} {:.2} {:.2}) FPR {:.4} [{}] AUC-PR {:.3}",
            self.f1(),
            self.hits / (self.hits + self.wrong).max(1.0),
            self.hits / (self.hits + self.misses).max(1.0),
            self.detected(""),
            self.detected("spike"),
            self.detected("drop"),
            self.detected("level_shift"),
            self.false_positive_rate(),
            levels.join(" "),
            self.average_precision(),
        );
    }
}
