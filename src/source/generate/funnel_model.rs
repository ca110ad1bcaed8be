//! The model behind the funnel: how a brand's hours come about, and where its events lie.

use std::{f64::consts::TAU, ops::Range};

use rand::{RngExt, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution, Gamma, Poisson, StandardNormal};
use rayon::prelude::*;

use super::{
    events::{Event, place},
    funnel::FunnelSpec,
    negative_binomial,
};
use crate::math::random::stream;

/// Free hours between two events of a brand.
const GAP_HOURS: usize = 6;

/// The kinds of anomaly: name, the metric they are about, weight, hours, range of the factor.
pub(super) struct AnomalyKind {
    pub(super) name: &'static str,
    pub(super) metric: &'static str,
    weight: f64,
    pub(super) hours: Range<usize>,
    /// Least and greatest.
    factor: (f64, f64),
    /// A second range of factors, taken half of the time.
    other: Option<(f64, f64)>,
}

pub(super) const KINDS: [AnomalyKind; 6] = [
    AnomalyKind {
        name: "spike",
        metric: "views",
        weight: 0.25,
        hours: 1..5,
        factor: (2.5, 6.0),
        other: None,
    },
    AnomalyKind {
        name: "drop",
        metric: "views",
        weight: 0.20,
        hours: 2..13,
        factor: (0.1, 0.5),
        other: None,
    },
    AnomalyKind {
        name: "level_shift",
        metric: "views",
        weight: 0.12,
        hours: 24..73,
        factor: (0.4, 0.65),
        other: Some((1.6, 2.4)),
    },
    AnomalyKind {
        name: "conversion_collapse",
        metric: "conversion_rate",
        weight: 0.20,
        hours: 4..25,
        factor: (0.05, 0.4),
        other: None,
    },
    AnomalyKind {
        name: "drift",
        metric: "views",
        weight: 0.08,
        hours: 36..97,
        factor: (0.3, 0.55),
        other: Some((1.8, 3.0)),
    },
    AnomalyKind {
        name: "outage",
        metric: "views",
        weight: 0.15,
        hours: 1..7,
        factor: (0.0, 0.0),
        other: None,
    },
];

/// A campaign: more views, and visitors that buy a little more or less often.
#[derive(Clone, Debug)]
pub(super) struct Campaign {
    pub(super) hours: Range<usize>,
    pub(super) lift: f64,
    conversion: f64,
    /// Runs for all brands.
    pub(super) global: bool,
}

/// What one hour's views and conversion are multiplied by.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Effect {
    views: f64,
    conversion: f64,
}

/// One brand; its hours must be drawn in order.
pub(super) struct Brand {
    pub(super) name: String,
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
    pub(super) campaigns: Vec<Campaign>,
    pub(super) anomalies: Vec<Event>,
}

/// One hour of one brand.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Hour {
    pub(super) views: u64,
    pub(super) carts: u64,
    pub(super) purchases: u64,
    pub(super) revenue: f64,
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
    pub(super) fn draw(&mut self, t: usize, first_weekday: usize) -> Hour {
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
pub(super) fn brands(spec: &FunnelSpec) -> Vec<Brand> {
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
        let (low, high) = match kind.other {
            Some(other) if rng.random_bool(0.5) => other,
            _ => kind.factor,
        };
        let factor = if low < high { rng.random_range(low..high) } else { low };
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
