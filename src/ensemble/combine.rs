//! Several p-values for a cell -> one.
//!
//! Detectors that look at the same data are dependent, so multiplying their p-values would invent
//! certainty. Four ways that do not, all in log space so that p = 1e-300 is as good as any:
//!
//! | strategy | p of the cell | dependence |
//! |---|---|---|
//! | `cauchy` | weighted Cauchy combination (Liu and Xie 2020) | valid in the far tail under any; at 0.01 up to 1.15 times nominal at correlation 0.5 |
//! | `average` | weighted Stouffer, variance from the members' own correlation | estimated |
//! | `max` | smallest p, Šidák for the number of members | conservative under positive |
//! | `voting` | the p that members with `voting_share` of the weight stay under | none of its own: at share 1/2 of two members it is the smaller p |
//!
//! A member without a score at a cell is left out there and its weight shared out. One of weight 0
//! is watched, not heard: it has its columns and figures and no say. Discrete
//! p-values are often exactly 1, which a Cauchy sum would count as minus infinity and Stouffer's
//! too: p is capped at 0.9 (the truncated Cauchy of Fang, Lu and Wang 2021). With three
//! members at 0.003, uniform and exactly 1, a cap of 0.99 lost 98 % of the alarms at 0.01; 0.9 keeps
//! them for 1 % more false ones.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::normal::{ln_upper, upper_quantile};
use crate::detectors::{DetectorName, Scores};

/// p-values above this count as this.
const P_CAP: f64 = 0.9;
/// As many cells of full agreement are added before a correlation is believed, so that a small
/// panel is combined with caution.
const CAUTION: f64 = 200.0;
/// Below this ln p, tan((1/2 - p)π) is 1/(πp) to machine precision.
const FAR_TAIL: f64 = -23.0;

/// How members combine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    #[default]
    Cauchy,
    Average,
    Max,
    Voting,
}

/// How members combine, and what a vote needs.
///
/// | Name | Default | Purpose | Range |
/// |---|---|---|---|
/// | `strategy` | `cauchy` | see the module's table | `cauchy`, `average`, `max`, `voting` |
/// | `voting_share` | 0.5 | weight that must agree under `voting` | above 0, to 1 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnsembleParams {
    pub strategy: Strategy,
    pub voting_share: f64,
}

impl Default for EnsembleParams {
    fn default() -> Self {
        Self { strategy: Strategy::Cauchy, voting_share: 0.5 }
    }
}

impl EnsembleParams {
    /// Every parameter that is out of its range: its key and what to write instead.
    pub fn check(&self) -> Vec<(String, String)> {
        if self.voting_share > 0.0 && self.voting_share <= 1.0 {
            return Vec::new();
        }
        vec![(
            "voting_share".into(),
            format!("is {}, but must be above 0 and at most 1", self.voting_share),
        )]
    }
}

/// One detector's contribution.
#[derive(Clone, Copy)]
pub struct Member<'a> {
    pub scores: &'a Scores,
    /// `[series, time]`: ln p; NaN where the member says nothing.
    pub log_p: &'a Array2<f64>,
    /// Positive; only ratios between members matter.
    pub weight: f64,
}

/// How alike the members' p-values are, pair by pair, from 0 (independent) to 1 (the same).
///
/// Learnt where a run is fitted and kept in its checkpoint, so that a later batch, be it of one row,
/// is combined as the run was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    pairs: Vec<(DetectorName, DetectorName, f64)>,
}

impl Agreement {
    /// Learns from the members' ln p of one panel.
    pub fn learn(members: &[Member<'_>]) -> Self {
        let mut pairs = Vec::new();
        for (i, a) in members.iter().enumerate() {
            for b in &members[..i] {
                pairs.push((a.scores.detector, b.scores.detector, alike(a.log_p, b.log_p)));
            }
        }
        Self { pairs }
    }

    /// Two members of which nothing is known count as copies of each other, the careful guess.
    fn of(&self, a: DetectorName, b: DetectorName) -> f64 {
        let found = self.pairs.iter().find(|(x, y, _)| (*x, *y) == (a, b) || (*x, *y) == (b, a));
        if a == b { 1.0 } else { found.map_or(1.0, |(.., rho)| *rho) }
    }

    /// `[member, member]`.
    fn matrix(&self, members: &[Member<'_>]) -> Array2<f64> {
        let name = |i: usize| members[i].scores.detector;
        Array2::from_shape_fn((members.len(), members.len()), |(i, j)| self.of(name(i), name(j)))
    }

    /// Every number lies where a correlation may.
    pub fn is_sound(&self) -> bool {
        self.pairs.iter().all(|(.., rho)| (0.0..=1.0).contains(rho))
    }
}

/// Combines the members' ln p cell by cell, `[series, time]`; NaN where no member says anything.
pub fn combine_p(
    members: &[Member<'_>],
    params: &EnsembleParams,
    agreement: &Agreement,
) -> Array2<f64> {
    let Some(first) = members.first() else { return Array2::zeros((0, 0)) };
    let correlation = agreement.matrix(members);
    let mut cell = Vec::with_capacity(members.len());
    Array2::from_shape_fn(first.log_p.dim(), |at| {
        cell.clear();
        cell.extend(members.iter().enumerate().filter_map(|(i, member)| {
            let log_p = member.log_p[at];
            let heard = !log_p.is_nan() && member.weight > 0.0;
            heard.then_some(Vote { member: i, log_p, weight: member.weight })
        }));
        if cell.is_empty() {
            return f64::NAN;
        }
        weighted(&mut cell, &correlation, params)
    })
}

/// ln of the smallest p that the combination can come to when each member is at its own smallest,
/// `ln_floors[member]` (minus infinity for a member without a floor).
pub(super) fn strongest_p(
    members: &[Member<'_>],
    ln_floors: &[f64],
    params: &EnsembleParams,
    agreement: &Agreement,
) -> f64 {
    let correlation = agreement.matrix(members);
    let mut cell: Vec<Vote> = members
        .iter()
        .zip(ln_floors)
        .enumerate()
        .map(|(member, (m, &log_p))| Vote { member, log_p, weight: m.weight })
        .filter(|vote| vote.weight > 0.0)
        .collect();
    if cell.is_empty() { f64::NAN } else { weighted(&mut cell, &correlation, params) }
}

/// Combines the votes of one cell, at least one.
fn weighted(cell: &mut [Vote], correlation: &Array2<f64>, params: &EnsembleParams) -> f64 {
    let total: f64 = cell.iter().map(|vote| vote.weight).sum();
    cell.iter_mut().for_each(|vote| vote.weight /= total);
    match params.strategy {
        Strategy::Cauchy => cauchy(cell),
        Strategy::Average => stouffer(cell, correlation),
        Strategy::Max => sidak(cell),
        Strategy::Voting => vote(cell, params.voting_share),
    }
}

/// One member's word at one cell; weights sum to 1 over the cell.
#[derive(Clone, Copy, Debug)]
struct Vote {
    member: usize,
    log_p: f64,
    weight: f64,
}

fn cauchy(votes: &[Vote]) -> f64 {
    let smallest = votes.iter().map(|v| v.log_p).fold(f64::INFINITY, f64::min);
    if smallest < FAR_TAIL {
        // The sum is Σ w/(πp) and its own tail 1/(πT): ln p = -ln Σ exp(ln w - ln p).
        let terms = votes.iter().map(|v| v.weight.ln() - v.log_p);
        let largest = terms.clone().fold(f64::NEG_INFINITY, f64::max);
        if largest == f64::INFINITY {
            return f64::NEG_INFINITY;
        }
        return -(largest + terms.map(|t| (t - largest).exp()).sum::<f64>().ln());
    }
    let sum: f64 = votes
        .iter()
        .map(|v| v.weight * ((0.5 - v.log_p.exp().min(P_CAP)) * std::f64::consts::PI).tan())
        .sum();
    // atan(1/T) keeps its precision where 1/2 - atan(T)/π would cancel.
    let p = if sum > 1.0 {
        (1.0 / sum).atan() / std::f64::consts::PI
    } else {
        0.5 - sum.atan() / std::f64::consts::PI
    };
    p.ln()
}

fn stouffer(votes: &[Vote], correlation: &Array2<f64>) -> f64 {
    let z = |v: &Vote| upper_quantile(v.log_p.min(P_CAP.ln()));
    let sum: f64 = votes.iter().map(|v| v.weight * z(v)).sum();
    let mut variance = 0.0;
    for a in votes {
        for b in votes {
            let rho = if a.member == b.member { 1.0 } else { correlation[[a.member, b.member]] };
            variance += a.weight * b.weight * rho;
        }
    }
    if sum == f64::INFINITY {
        return f64::NEG_INFINITY;
    }
    ln_upper(sum / variance.sqrt())
}

fn sidak(votes: &[Vote]) -> f64 {
    let smallest = votes.iter().map(|v| v.log_p).fold(f64::INFINITY, f64::min);
    let n = votes.len() as f64;
    if smallest < FAR_TAIL {
        return (smallest + n.ln()).min(0.0);
    }
    // ln(1 - (1 - p)^n)
    (-(n * (-smallest.exp()).ln_1p()).exp_m1()).ln().min(0.0)
}

fn vote(votes: &mut [Vote], share: f64) -> f64 {
    votes.sort_by(|a, b| a.log_p.total_cmp(&b.log_p));
    let mut agreed = 0.0;
    for vote in votes.iter() {
        agreed += vote.weight;
        if agreed >= share - 1e-12 {
            return vote.log_p;
        }
    }
    votes.last().map_or(f64::NAN, |v| v.log_p)
}

/// Quadrant correlation of two members' p-values: sin(π/2 · mean agreement of the sides of 1/2),
/// which a few anomalies cannot move; never below 0, so that no estimate makes an alarm out of
/// disagreement.
fn alike(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    let half = 0.5_f64.ln();
    let (mut agree, mut seen) = (0.0, 0.0);
    for (a, b) in a.iter().zip(b).filter(|(a, b)| !a.is_nan() && !b.is_nan()) {
        seen += 1.0;
        agree += if (*a < half) == (*b < half) { 1.0 } else { -1.0 };
    }
    let r = if seen > 0.0 { (std::f64::consts::FRAC_PI_2 * agree / seen).sin() } else { 1.0 };
    (seen * r.max(0.0) + CAUTION) / (seen + CAUTION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::random::stream;
    use rand::RngExt;

    fn votes(p: &[f64]) -> Vec<Vote> {
        let weight = 1.0 / p.len() as f64;
        p.iter().enumerate().map(|(member, p)| Vote { member, log_p: p.ln(), weight }).collect()
    }

    #[test]
    fn one_member_keeps_its_p_under_every_strategy() {
        for p in [0.5, 0.01, 1e-10, 1e-200] {
            let cell = votes(&[p]);
            let eye = Array2::eye(1);
            for combined in
                [cauchy(&cell), stouffer(&cell, &eye), sidak(&cell), vote(&mut cell.clone(), 0.5)]
            {
                assert!((combined - p.ln()).abs() < 1e-6 * p.ln().abs(), "{p}: {combined}");
            }
        }
    }

    #[test]
    fn a_copy_of_a_member_does_not_make_p_smaller() {
        for p in [0.3, 0.01, 1e-8, 1e-30] {
            let (one, two) = (cauchy(&votes(&[p])), cauchy(&votes(&[p, p])));
            assert!((one - two).abs() < 1e-9 * one.abs(), "{p}");
        }
    }

    #[test]
    fn a_p_of_one_cannot_cancel_an_alarm() {
        assert!(cauchy(&votes(&[1e-6, 1.0])) < 1e-5_f64.ln());
        assert!(cauchy(&votes(&[1e-3, 1.0, 1.0])).exp() < 0.02);
        let rho = Array2::eye(2);
        assert!(stouffer(&votes(&[1e-12, 1.0]), &rho).is_finite());
    }

    #[test]
    fn the_far_tail_joins_the_near_one() {
        let (near, far) = (FAR_TAIL + 1e-6, FAR_TAIL - 1e-6);
        for combine in [cauchy, sidak] {
            let at = |log_p: f64| {
                combine(&[
                    Vote { member: 0, log_p, weight: 0.5 },
                    Vote { member: 1, log_p: -1.0, weight: 0.5 },
                ])
            };
            assert!((at(near) - at(far)).abs() < 1e-4);
        }
    }

    #[test]
    fn voting_needs_its_share_of_the_weight() {
        let p = vote(&mut votes(&[1e-9, 0.2, 0.6]), 0.5).exp();
        assert!((p - 0.2).abs() < 1e-12, "two of three must agree");
        let p = vote(&mut votes(&[1e-9, 0.2, 0.6]), 0.3).exp();
        assert!((p - 1e-9).abs() < 1e-15);
    }

    #[test]
    fn members_of_which_nothing_is_known_count_once() {
        let nobody = Agreement::default();
        assert_eq!(nobody.of(DetectorName::Nb2, DetectorName::Zscore), 1.0);
        assert!(nobody.is_sound());
        let text = r#"{"pairs":[["nb2","zscore",1.5]]}"#;
        assert!(!serde_json::from_str::<Agreement>(text).unwrap().is_sound());
    }

    /// Under dependence of any strength, at most about 1 % of null cells have p <= 0.01.
    #[test]
    fn combined_p_values_hold_their_level_when_members_are_dependent() {
        let mut rng = stream(7, "combine", 0);
        let n = 40_000;
        for rho in [0.0_f64, 0.6, 0.95] {
            let mut hits = [0_usize; 3];
            let mut pairs = Vec::with_capacity(n);
            for _ in 0..n {
                let mut normal = || -> f64 {
                    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0 // close to normal
                };
                let (a, b) = (normal(), normal());
                let c = rho * a + (1.0 - rho * rho).sqrt() * b;
                pairs.push((ln_upper(a), ln_upper(c)));
            }
            let a = Array2::from_shape_fn((1, n), |(_, t)| pairs[t].0);
            let b = Array2::from_shape_fn((1, n), |(_, t)| pairs[t].1);
            let scores = |detector| crate::detectors::Scores {
                detector,
                score: a.clone(),
                log_p: None,
                direction: Array2::zeros((1, n)),
                expected: None,
                lower: None,
                upper: None,
                metric_share: None,
                failures: Vec::new(),
                notes: Vec::new(),
            };
            let scores = [scores(DetectorName::Rolling), scores(DetectorName::Zscore)];
            let members = [
                Member { scores: &scores[0], log_p: &a, weight: 1.0 },
                Member { scores: &scores[1], log_p: &b, weight: 1.0 },
            ];
            let agreement = Agreement::learn(&members);
            for (hit, strategy) in
                hits.iter_mut().zip([Strategy::Cauchy, Strategy::Average, Strategy::Max])
            {
                let params = EnsembleParams { strategy, ..EnsembleParams::default() };
                let p = combine_p(&members, &params, &agreement);
                *hit = p.iter().filter(|p| **p <= 0.01_f64.ln()).count();
            }
            for hit in hits {
                let share = hit as f64 / n as f64;
                assert!(share < 0.0125, "rho {rho}: {share}");
            }
        }
    }
}
