//! What a customer interaction looks like, and in which ways one can be odd.
//!
//! Every metric depends on the channel and the queue of the interaction (an e-mail has no hold
//! time and a long handle time), on the load of its hour, and on how hard the case is: a hard case
//! takes longer, is put on hold and passed on more, and leaves a less satisfied customer. So the
//! metrics correlate, and most of their spread over all rows is that between contexts.

use std::ops::Range;

use rand::{Rng, RngExt};
use rand_distr::{Distribution, Poisson, StandardNormal};

pub(super) const CHANNELS: [&str; 3] = ["voice", "chat", "email"];
pub(super) const QUEUES: [&str; 3] = ["billing", "support", "sales"];
pub(super) const LANGUAGES: [&str; 4] = ["en", "es", "fr", "de"];
const LANGUAGE_SHARES: [f64; 4] = [0.6, 0.2, 0.12, 0.08];
const QUEUE_SHARES: [f64; 3] = [0.4, 0.4, 0.2];

/// What a channel or queue is like, as medians or means of a billing interaction of average load.
struct Channel {
    share: f64,
    aht_seconds: f64,
    hold_seconds: f64,
    /// Share of interactions without any hold.
    no_hold: f64,
    transfers: f64,
    complaints: f64,
    csat: f64,
    ies: f64,
}

const VOICE: Channel = Channel {
    share: 0.5,
    aht_seconds: 330.0,
    hold_seconds: 55.0,
    no_hold: 0.05,
    transfers: 0.30,
    complaints: 0.08,
    csat: 4.0,
    ies: 74.0,
};
const CHAT: Channel = Channel {
    share: 0.3,
    aht_seconds: 700.0,
    hold_seconds: 20.0,
    no_hold: 0.3,
    transfers: 0.15,
    complaints: 0.05,
    csat: 4.4,
    ies: 86.0,
};
const EMAIL: Channel = Channel {
    share: 0.2,
    aht_seconds: 1_600.0,
    hold_seconds: 6.0,
    no_hold: 0.9,
    transfers: 0.08,
    complaints: 0.11,
    csat: 3.6,
    ies: 60.0,
};
const CHANNEL_MODELS: [Channel; 3] = [VOICE, CHAT, EMAIL];

/// How a queue changes what its channel is like: factors, and differences for the two scores.
struct Queue {
    aht: f64,
    hold: f64,
    transfers: f64,
    complaints: f64,
    csat: f64,
    ies: f64,
}

const QUEUE_MODELS: [Queue; 3] = [
    Queue { aht: 1.0, hold: 1.0, transfers: 1.0, complaints: 1.0, csat: 0.0, ies: 0.0 },
    Queue { aht: 1.45, hold: 1.5, transfers: 1.7, complaints: 0.8, csat: -0.15, ies: -7.0 },
    Queue { aht: 0.75, hold: 0.6, transfers: 0.6, complaints: 0.3, csat: 0.25, ies: 6.0 },
];

/// Where an interaction takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) channel: usize,
    pub(super) queue: usize,
}

impl Context {
    /// At night people write rather than call: `load` is that of the hour, 1 on average by day.
    fn draw<R: Rng>(rng: &mut R, load: f64) -> Self {
        let email = EMAIL.share * if load < 0.5 { 1.8 } else { 1.0 };
        let channel = pick(rng, &[VOICE.share, CHAT.share, email]);
        Self { channel, queue: pick(rng, &QUEUE_SHARES) }
    }

    fn other<R: Rng>(self, rng: &mut R) -> Self {
        let channel = (self.channel + rng.random_range(1..CHANNELS.len())) % CHANNELS.len();
        Self { channel, queue: rng.random_range(0..QUEUES.len()) }
    }
}

fn pick<R: Rng>(rng: &mut R, shares: &[f64]) -> usize {
    let mut left = rng.random::<f64>() * shares.iter().sum::<f64>();
    for (place, share) in shares.iter().enumerate() {
        left -= share;
        if left < 0.0 {
            return place;
        }
    }
    shares.len() - 1
}

/// The numbers of an interaction, in the order of the columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Metrics {
    pub(super) csat: f64,
    pub(super) ies: f64,
    pub(super) complaints: f64,
    pub(super) aht_seconds: f64,
    pub(super) hold_time_seconds: f64,
    pub(super) transfers: f64,
}

impl Metrics {
    /// A normal interaction.
    pub(super) fn draw<R: Rng>(rng: &mut R, context: Context, language: usize, load: f64) -> Self {
        let (channel, queue) = (&CHANNEL_MODELS[context.channel], &QUEUE_MODELS[context.queue]);
        let difficulty = normal(rng);
        let foreign = if language == 0 { 1.0 } else { 1.08 };
        let aht = channel.aht_seconds * queue.aht * foreign;
        let aht_seconds = aht * (0.17 * difficulty + 0.20 * normal(rng)).exp();
        let waits = rng.random::<f64>() >= channel.no_hold;
        let hold = channel.hold_seconds * queue.hold * (0.7 * (load - 1.0)).exp();
        let hold = hold * (0.2 * difficulty + 0.45 * normal(rng)).exp();
        let hold_time_seconds = if waits { hold } else { 0.0 };
        let hard = (0.35 * difficulty).exp();
        let transfers = count(rng, channel.transfers * queue.transfers * hard);
        let complaints = count(rng, channel.complaints * queue.complaints * hard);
        let csat =
            channel.csat + queue.csat - 0.22 * difficulty - 0.15 * transfers - 0.35 * complaints
                + 0.3 * normal(rng);
        let ies = channel.ies + queue.ies - 3.0 * difficulty - 2.0 * transfers + 3.7 * normal(rng);
        Self { csat, ies, complaints, aht_seconds, hold_time_seconds, transfers }
    }

    /// Keeps the scores within their ranges and the precision that a system records.
    pub(super) fn recorded(self) -> Self {
        let round = |x: f64, decimals: f64| (x * decimals).round() / decimals;
        Self {
            csat: round(self.csat.clamp(1.0, 5.0), 10.0),
            ies: round(self.ies.clamp(0.0, 100.0), 10.0),
            complaints: self.complaints,
            aht_seconds: round(self.aht_seconds.max(1.0), 1.0),
            hold_time_seconds: round(self.hold_time_seconds.max(0.0), 1.0),
            transfers: self.transfers,
        }
    }
}

fn normal<R: Rng>(rng: &mut R) -> f64 {
    StandardNormal.sample(rng)
}

fn count<R: Rng>(rng: &mut R, mean: f64) -> f64 {
    // An error means a mean of 0: no event.
    Poisson::new(mean).map_or(0.0, |poisson| poisson.sample(rng))
}

/// Why a row is odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Oddity {
    /// Far out in some metrics, whatever the context.
    Point,
    /// Normal for another channel, not for its own.
    Contextual,
    /// One of many moderately odd rows of one channel and queue close together: the number is the
    /// burst's.
    Burst(usize),
}

impl Oddity {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Point => "point",
            Self::Contextual => "contextual",
            Self::Burst(_) => "burst",
        }
    }
}

/// The names that [`Oddity::name`] gives.
pub(super) const KINDS: [&str; 3] = ["point", "contextual", "burst"];

/// One interaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interaction {
    pub(super) context: Context,
    pub(super) language: usize,
    pub(super) metrics: Metrics,
    pub(super) oddity: Option<Oddity>,
}

/// Stretches of rows in which one channel and queue fares badly.
#[derive(Clone, Debug)]
pub(super) struct Burst {
    /// Row numbers among which the burst's own rows are strewn.
    pub(super) rows: Range<usize>,
    context: Context,
    effect: Effect,
}

/// What a burst does to its rows, in shifts of logarithms or of the scores.
#[derive(Clone, Copy, Debug)]
struct Effect {
    aht: f64,
    hold: f64,
    csat: f64,
    ies: f64,
    transfers: f64,
}

/// Of the rows in a burst's stretch, the share that belong to it.
const BURST_SHARE: f64 = 0.5;
/// Own rows of a burst, on average over bursts.
const BURST_ROWS: f64 = 25.0;

/// The bursts of `n_rows` rows, in order and apart from each other, so that their own rows come to
/// `share` of all.
pub(super) fn bursts<R: Rng>(rng: &mut R, n_rows: usize, share: f64) -> Vec<Burst> {
    let wanted = (n_rows as f64 * share / BURST_ROWS).round() as usize;
    if wanted == 0 {
        return Vec::new();
    }
    // One burst somewhere in each of as many equal stretches.
    let stretch = n_rows / wanted;
    (0..wanted)
        .map(|number| {
            let own = rng.random_range(14.0..36.0);
            let length = ((own / BURST_SHARE) as usize).min(stretch);
            let start = number * stretch + rng.random_range(0..=stretch - length);
            let context =
                Context { channel: pick(rng, &[0.5, 0.3, 0.2]), queue: pick(rng, &QUEUE_SHARES) };
            Burst { rows: start..start + length, context, effect: Effect::draw(rng) }
        })
        .collect()
}

impl Effect {
    fn draw<R: Rng>(rng: &mut R) -> Self {
        let strength = rng.random_range(1.0..1.5);
        Self {
            aht: strength * rng.random_range(0.3..0.7),
            hold: strength * rng.random_range(0.6..1.3),
            csat: -strength * rng.random_range(0.6..1.2),
            ies: -strength * rng.random_range(5.0..12.0),
            transfers: strength * rng.random_range(0.2..0.9),
        }
    }

    fn apply<R: Rng>(self, rng: &mut R, metrics: &mut Metrics) {
        metrics.aht_seconds *= self.aht.exp();
        // Whoever had no hold waits now.
        metrics.hold_time_seconds = metrics.hold_time_seconds.max(8.0) * self.hold.exp();
        metrics.csat += self.csat;
        metrics.ies += self.ies;
        metrics.transfers += count(rng, self.transfers);
    }
}

/// Draws row `row` at an hour of the given load. `point` and `contextual` are the shares of those
/// kinds; a row of a burst's stretch may be the burst's.
pub(super) fn interaction<R: Rng>(
    rng: &mut R,
    row: usize,
    load: f64,
    (point, contextual): (f64, f64),
    bursts: &[Burst],
) -> Interaction {
    let burst = bursts.partition_point(|burst| burst.rows.end <= row);
    let burst =
        bursts.get(burst).filter(|found| found.rows.contains(&row)).map(|found| (burst, found));
    let language = pick(rng, &LANGUAGE_SHARES);
    if let Some((number, burst)) = burst.filter(|_| rng.random::<f64>() < BURST_SHARE) {
        let mut metrics = Metrics::draw(rng, burst.context, language, load);
        burst.effect.apply(rng, &mut metrics);
        let oddity = Some(Oddity::Burst(number));
        return Interaction { context: burst.context, language, metrics, oddity };
    }
    let context = Context::draw(rng, load);
    let dice = rng.random::<f64>();
    let (metrics, oddity) = if dice < point {
        let mut metrics = Metrics::draw(rng, context, language, load);
        distort(rng, &mut metrics);
        (metrics, Some(Oddity::Point))
    } else if dice < point + contextual {
        let other = context.other(rng);
        (Metrics::draw(rng, other, language, load), Some(Oddity::Contextual))
    } else {
        (Metrics::draw(rng, context, language, load), None)
    };
    Interaction { context, language, metrics, oddity }
}

/// Pushes two to four metrics far out.
fn distort<R: Rng>(rng: &mut R, metrics: &mut Metrics) {
    let mut places = [0, 1, 2, 3, 4, 5];
    let n = rng.random_range(2..=4);
    for i in 0..n {
        places.swap(i, rng.random_range(i..6));
    }
    let sign = if rng.random::<f64>() < 0.2 { -1.0 } else { 1.0 };
    for place in &places[..n] {
        match place {
            0 => metrics.csat -= rng.random_range(1.6..3.0),
            1 => metrics.ies -= rng.random_range(22.0..50.0),
            2 => metrics.complaints += f64::from(rng.random_range(1..=4_u8)),
            3 => metrics.aht_seconds *= (sign * rng.random_range(0.9..2.1_f64)).exp(),
            4 => {
                metrics.hold_time_seconds =
                    metrics.hold_time_seconds.max(10.0) * rng.random_range(1.2..2.6_f64).exp()
            }
            _ => metrics.transfers += f64::from(rng.random_range(2..=4_u8)),
        }
    }
}

/// How busy an hour is: 1 on average over weekday hours from 8 to 18, little at night and half at
/// weekends. `weekday` is 0 on Mondays.
pub(super) fn load(weekday: usize, hour: usize) -> f64 {
    const HOURS: [f64; 24] = [
        0.10, 0.08, 0.06, 0.06, 0.08, 0.15, 0.30, 0.60, 0.95, 1.25, 1.35, 1.20, 0.95, 0.90, 1.00,
        1.05, 1.00, 0.85, 0.65, 0.50, 0.40, 0.30, 0.20, 0.14,
    ];
    HOURS[hour % 24] * if weekday >= 5 { 0.5 } else { 1.0 }
}
