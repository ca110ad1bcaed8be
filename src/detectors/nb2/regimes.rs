//! A hidden regime per step: normal, or multiplied by a factor for a while.
//!
//! An event multiplies the mean of a series by some factor for some steps and then ends. That is a
//! hidden Markov chain: from the normal regime a series enters one of a handful of event regimes,
//! each with a factor and a mean duration, and leaves it again for the normal one. Given the means
//! of the normal regime, the likelihood of a count under each regime is that of NB2, and the
//! forward-backward algorithm (Baum et al. 1970) gives the odds that a step lies in an event.
//!
//! Those odds are what a generalised likelihood ratio over start, length and size would look for,
//! averaged over all of them instead of maximised, at the cost of a few multiplications per step
//! and regime. They rise along the whole length of a shift, and fall when it ends: online, from
//! the forward pass alone, an alarm stops as soon as normal counts speak against the event.
//!
//! Odds are no p-value. `calibration.rs` makes one of them.

use Size::{Deviations, Times};

use crate::math::nb::NegativeBinomial;

/// Which deviations are events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Both,
    AboveExpected,
    BelowExpected,
}

/// How far an event moves the mean.
#[derive(Clone, Copy, Debug)]
enum Size {
    /// Times this factor.
    Times(f64),
    /// Up by so many standard deviations of a count: little for large, steady counts, a multiple
    /// for small ones.
    Deviations(f64),
}

/// A kind of event: its mean duration, its share of all events, the sizes that it may have.
struct Kind {
    duration_steps: f64,
    share: f64,
    sizes: &'static [Size],
}

/// The kinds of events. Factors are spread evenly on the log scale over what is both visible in
/// counts and worth an alarm; durations are geometric.
const KINDS: [Kind; 4] = [
    Kind {
        duration_steps: 1.5,
        share: 0.35,
        sizes: &[Deviations(2.5), Deviations(4.0), Times(4.6), Times(7.0)],
    },
    Kind {
        duration_steps: 3.0,
        share: 0.3,
        sizes: &[Times(0.03), Times(0.09), Times(0.18), Times(0.35)],
    },
    Kind { duration_steps: 8.0, share: 0.3, sizes: &[Times(1.6), Times(2.0), Times(2.6)] },
    Kind { duration_steps: 8.0, share: 0.05, sizes: &[Times(0.4), Times(0.6)] },
];

/// A level that wanders a little for half a year is no event: it may be above or below the model by
/// this factor, entered with this probability per step, for this many steps.
const WANDER_FACTOR: f64 = 1.2;
const WANDER_ENTRY: f64 = 0.005;
const WANDER_STEPS: f64 = 26.0;

/// Largest log likelihood ratio that one step contributes: far beyond any decision, and small
/// enough that no product of two under- or overflows.
const MAX_LN_RATIO: f64 = 250.0;

/// One step as the regimes see it: the count and its predictive distribution in the normal regime.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    pub count: f64,
    pub mean: f64,
    pub dispersion: f64,
}

/// The regimes beside the normal one, and how they come and go.
#[derive(Clone, Debug)]
pub(super) struct Regimes {
    sizes: Vec<Size>,
    /// Log factors of those that are factors.
    ln_factors: Vec<f64>,
    /// Probability per step of going from normal to this one.
    entry: Vec<f64>,
    /// Probability per step of staying.
    stay: Vec<f64>,
    /// Probability per step of staying normal.
    remain: f64,
    /// How many of the regimes, the first ones, are events; the others wander.
    n_events: usize,
}

/// Odds of one step: `ln(P(event) / P(normal))`, and whether the event would be above (+1) or
/// below (-1) the normal mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Odds {
    pub ln_odds: f64,
    pub side: i8,
}

impl Odds {
    /// Of a step that is certainly normal.
    pub const NONE: Self = Self { ln_odds: f64::NEG_INFINITY, side: 0 };
}

impl Size {
    fn is_up(self) -> bool {
        match self {
            Times(factor) => factor > 1.0,
            Deviations(z) => z > 0.0,
        }
    }
}

/// The room that the forward-backward algorithm works in.
#[derive(Clone, Debug, Default)]
pub(super) struct RegimeRoom {
    /// `[step, regime]`, the normal regime first: likelihoods up to a factor per step.
    likelihood: Vec<f64>,
    /// `[step, regime]`: probabilities given the steps up to this one.
    forward: Vec<f64>,
    backward: Vec<f64>,
    next: Vec<f64>,
    pub odds: Vec<Odds>,
    /// Odds of the newest steps, given all steps so far: see [`Regimes::look_back`].
    pub revised: Vec<Odds>,
}

impl Regimes {
    /// Regimes with `events_per_step` events a step, at most one in four steps.
    pub fn new(events_per_step: f64, direction: Direction) -> Self {
        let mut regimes = Self {
            sizes: vec![],
            ln_factors: vec![],
            entry: vec![],
            stay: vec![],
            remain: 1.0,
            n_events: 0,
        };
        let events_per_step = events_per_step.min(0.25);
        let allowed = |size: &Size| match direction {
            Direction::Both => true,
            Direction::AboveExpected => size.is_up(),
            Direction::BelowExpected => !size.is_up(),
        };
        for kind in &KINDS {
            for &size in kind.sizes.iter().filter(|size| allowed(size)) {
                let share = kind.share / kind.sizes.len() as f64;
                regimes.add(size, events_per_step * share, kind.duration_steps);
            }
        }
        regimes.n_events = regimes.sizes.len();
        for factor in [WANDER_FACTOR, 1.0 / WANDER_FACTOR] {
            regimes.add(Times(factor), WANDER_ENTRY, WANDER_STEPS);
        }
        regimes.remain = 1.0 - regimes.entry.iter().sum::<f64>();
        regimes
    }

    fn add(&mut self, size: Size, entry: f64, duration_steps: f64) {
        self.sizes.push(size);
        self.ln_factors.push(if let Times(factor) = size { factor.ln() } else { f64::NAN });
        self.entry.push(entry);
        self.stay.push(1.0 - 1.0 / duration_steps);
    }

    /// Number of regimes, the normal one included.
    pub fn len(&self) -> usize {
        self.sizes.len() + 1
    }

    /// The chain's long-run distribution, where every chain starts.
    pub fn start(&self, out: &mut Vec<f64>) {
        out.clear();
        out.push(1.0);
        out.extend(self.entry.iter().zip(&self.stay).map(|(entry, stay)| entry / (1.0 - stay)));
        normalise(out);
    }

    /// Likelihoods of `cell` under all regimes, up to a common factor; all 1 for a missing one.
    pub fn likelihood(&self, cell: Option<Cell>, out: &mut [f64]) {
        let Some(Cell { count, mean, dispersion }) = cell else {
            out.fill(1.0);
            return;
        };
        let spread = 1.0 + dispersion * mean;
        let size = 1.0 / dispersion.max(1e-12);
        let deviation = (1.0 / mean.max(1e-9) + dispersion).sqrt();
        let mut largest = 0.0f64;
        out[0] = 0.0;
        for (out, (size_of_event, ln_factor)) in
            out[1..].iter_mut().zip(self.sizes.iter().zip(&self.ln_factors))
        {
            let (factor, ln_factor) = match *size_of_event {
                Times(factor) => (factor, *ln_factor),
                Deviations(z) => (1.0 + z * deviation, (z * deviation).ln_1p()),
            };
            let excess = dispersion.max(1e-12) * mean * (factor - 1.0) / spread;
            *out = count * ln_factor - (count + size) * excess.ln_1p();
            largest = largest.max(*out);
        }
        for value in out {
            *value = (*value - largest).max(-MAX_LN_RATIO).exp();
        }
    }

    /// One step forward: from the probabilities `now` over the transition and the likelihoods of
    /// the next step to `next`.
    pub fn advance(&self, now: &[f64], likelihood: &[f64], next: &mut [f64]) {
        let mut normal = self.remain * now[0];
        for j in 0..self.sizes.len() {
            let (stay, inside) = (self.stay[j], now[j + 1]);
            normal += (1.0 - stay) * inside;
            next[j + 1] = (self.entry[j] * now[0] + stay * inside) * likelihood[j + 1];
        }
        next[0] = normal * likelihood[0];
        normalise(next);
    }

    /// One step back: from `later`, the likelihood of all that follows the step after this one
    /// times that step's own, to the likelihood of all that follows this step.
    fn retreat(&self, later: &[f64], out: &mut [f64]) {
        let mut normal = self.remain * later[0];
        for j in 0..self.sizes.len() {
            normal += self.entry[j] * later[j + 1];
            out[j + 1] = (1.0 - self.stay[j]) * later[0] + self.stay[j] * later[j + 1];
        }
        out[0] = normal;
    }

    /// The odds of a step from the probabilities of the regimes.
    pub fn odds(&self, probability: &[f64]) -> Odds {
        let (mut above, mut below) = (0.0, 0.0);
        let (events, wander) = probability[1..].split_at(self.n_events);
        for (p, size) in events.iter().zip(&self.sizes) {
            if size.is_up() {
                above += p;
            } else {
                below += p;
            }
        }
        let normal = probability[0] + wander.iter().sum::<f64>();
        let ln_odds = ((above + below).max(1e-300) / normal.max(1e-300)).ln();
        Odds { ln_odds, side: if above >= below { 1 } else { -1 } }
    }

    /// The odds of every step given all steps, into `room.odds`.
    pub fn smooth(&self, cells: impl Iterator<Item = Option<Cell>>, room: &mut RegimeRoom) {
        self.open(0, room);
        for cell in cells {
            self.push(cell, room);
        }
        self.look_back(0, room);
        room.odds.copy_from_slice(&room.revised);
    }

    /// Forgets the steps from `n` on.
    pub fn open(&self, n: usize, room: &mut RegimeRoom) {
        room.likelihood.truncate(n * self.len());
        room.forward.truncate(n * self.len());
        room.odds.truncate(n);
        // Steps before the first known one are missing ones.
        while room.odds.len() < n {
            self.push(None, room);
        }
    }

    /// One more step; its odds given the steps so far.
    pub fn push(&self, cell: Option<Cell>, room: &mut RegimeRoom) {
        let width = self.len();
        let at = room.likelihood.len();
        room.likelihood.resize(at + width, 1.0);
        self.likelihood(cell, &mut room.likelihood[at..]);
        room.forward.resize(at + width, 0.0);
        let (done, next) = room.forward.split_at_mut(at);
        let likelihood = &room.likelihood[at..];
        if at == 0 {
            self.start(&mut room.next);
            self.advance(&room.next, likelihood, next);
        } else {
            self.advance(&done[at - width..], likelihood, next);
        }
        room.odds.push(self.odds(next));
    }

    /// Takes the newest step for a normal one, whatever it looked like.
    pub fn restart(&self, room: &mut RegimeRoom) {
        self.start(&mut room.next);
        let newest = room.forward.len().saturating_sub(self.len());
        room.forward[newest..].copy_from_slice(&room.next);
    }

    /// The odds of the steps from `first` on, given all steps, into `room.revised`.
    pub fn look_back(&self, first: usize, room: &mut RegimeRoom) {
        let width = self.len();
        let n = room.odds.len();
        room.revised.clear();
        room.revised.resize(n.saturating_sub(first), Odds::NONE);
        room.backward.clear();
        room.backward.resize(width, 1.0);
        room.next.resize(width, 0.0);
        for t in (first..n).rev() {
            let cells = t * width..(t + 1) * width;
            let products = room.forward[cells.clone()].iter().zip(&room.backward);
            for (next, (forward, backward)) in room.next.iter_mut().zip(products) {
                *next = forward * backward;
            }
            normalise(&mut room.next);
            room.revised[t - first] = self.odds(&room.next);
            let products = room.backward.iter().zip(&room.likelihood[cells]);
            for (next, (backward, likelihood)) in room.next.iter_mut().zip(products) {
                *next = backward * likelihood;
            }
            normalise(&mut room.next);
            self.retreat(&room.next, &mut room.backward);
        }
    }
}

impl RegimeRoom {
    /// Forgets the first `n` steps, of `width` regimes.
    pub fn drop_front(&mut self, n: usize, width: usize) {
        let n = n.min(self.odds.len());
        self.odds.drain(..n);
        self.likelihood.drain(..n * width);
        self.forward.drain(..n * width);
    }
}

fn normalise(values: &mut [f64]) {
    let total: f64 = values.iter().sum();
    if total > 0.0 {
        for value in values {
            *value /= total;
        }
    }
}

/// The cell for a count and its prediction, if the prediction exists.
pub(super) fn cell(count: f64, mean: f64, dispersion: f64) -> Option<Cell> {
    NegativeBinomial::new(mean, dispersion).map(|_| Cell { count, mean, dispersion })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts of mean 20 and dispersion 0.05 with a shift to 44 in the steps 20 to 27.
    fn shifted() -> Vec<Option<Cell>> {
        (0..52)
            .map(|t| {
                let count: f64 = [17.0, 23.0, 20.0, 26.0, 15.0][t % 5];
                let factor = if (20..28).contains(&t) { 2.2 } else { 1.0 };
                cell((count * factor).round(), 20.0, 0.05)
            })
            .collect()
    }

    fn smoothed(cells: &[Option<Cell>]) -> Vec<Odds> {
        let regimes = Regimes::new(1.0 / 52.0, Direction::Both);
        let mut room = RegimeRoom::default();
        regimes.smooth(cells.iter().copied(), &mut room);
        room.odds
    }

    #[test]
    fn a_shift_is_seen_along_its_length_and_not_beyond() {
        let odds = smoothed(&shifted());
        for (t, odds) in odds.iter().enumerate() {
            assert_eq!((20..28).contains(&t), odds.ln_odds > 0.0, "step {t}: {odds:?}");
            assert!(odds.ln_odds < 0.0 || odds.side == 1);
        }
    }

    #[test]
    fn online_an_alarm_starts_within_the_event_and_stops_after_it() {
        let regimes = Regimes::new(1.0 / 52.0, Direction::Both);
        let mut room = RegimeRoom::default();
        for cell in shifted() {
            regimes.push(cell, &mut room);
        }
        let alarms: Vec<usize> = (0..52).filter(|&t| room.odds[t].ln_odds > 0.0).collect();
        let (first, last) = (alarms[0], alarms[alarms.len() - 1]);
        assert!((20..23).contains(&first), "{alarms:?}");
        assert!((27..30).contains(&last), "{alarms:?}");
    }

    // The chain written out for three steps: all sequences of regimes, one by one.
    #[test]
    fn odds_are_those_of_the_sum_over_all_sequences() {
        let regimes = Regimes::new(0.1, Direction::Both);
        let cells = [cell(9.0, 3.0, 0.2), None, cell(0.0, 4.0, 0.1)];
        let n = regimes.len();
        let mut start = vec![];
        regimes.start(&mut start);
        let step = |from: usize, to: usize| match (from, to) {
            (0, 0) => regimes.remain,
            (0, j) => regimes.entry[j - 1],
            (i, 0) => 1.0 - regimes.stay[i - 1],
            (i, j) => {
                if i == j {
                    regimes.stay[i - 1]
                } else {
                    0.0
                }
            }
        };
        let likelihood: Vec<Vec<f64>> = cells
            .iter()
            .map(|cell| {
                let mut out = vec![0.0; n];
                regimes.likelihood(*cell, &mut out);
                out
            })
            .collect();
        let mut joint = [[0.0; 2]; 3];
        for (before, start) in start.iter().take(n).enumerate() {
            for path in 0..n * n * n {
                let states = [path / (n * n), path / n % n, path % n];
                let p = start
                    * step(before, states[0])
                    * step(states[0], states[1])
                    * step(states[1], states[2])
                    * (0..3).map(|t| likelihood[t][states[t]]).product::<f64>();
                for (t, &state) in states.iter().enumerate() {
                    let event = (1..=regimes.n_events).contains(&state);
                    joint[t][usize::from(event)] += p;
                }
            }
        }
        let odds = smoothed_with(&regimes, &cells);
        for (t, [normal, event]) in joint.into_iter().enumerate() {
            let expected = (event / normal).ln();
            assert!((odds[t].ln_odds - expected).abs() < 1e-10, "{:?} {expected}", odds[t]);
        }
    }

    fn smoothed_with(regimes: &Regimes, cells: &[Option<Cell>]) -> Vec<Odds> {
        let mut room = RegimeRoom::default();
        regimes.smooth(cells.iter().copied(), &mut room);
        room.odds
    }

    #[test]
    fn huge_counts_neither_overflow_nor_lose_their_side() {
        let mut cells = shifted();
        cells[10] = cell(1e12, 20.0, 0.05);
        cells[40] = cell(0.0, 1e12, 0.0);
        let odds = smoothed(&cells);
        assert!(odds.iter().all(|odds| odds.ln_odds.is_finite()));
        assert!(odds[10].ln_odds > 20.0 && odds[10].side == 1);
        assert!(odds[40].ln_odds > 20.0 && odds[40].side == -1);
    }

    #[test]
    fn a_direction_sees_only_its_own_side() {
        let regimes = Regimes::new(1.0 / 52.0, Direction::BelowExpected);
        let odds = smoothed_with(&regimes, &shifted());
        assert!(odds.iter().all(|odds| odds.ln_odds < 0.0 && odds.side == -1));
    }
}
