//! How many harmonics, and whether a trend: by Akaike's criterion, over the keys of a pair.
//!
//! A single key of small counts cannot tell a second harmonic from noise; the keys of its pair, which
//! share a season, can. So each candidate term is judged by what all keys of the pair say about it,
//! either as one effect that they share or as one each, whichever is the better. The gain in
//! likelihood is Wald's statistic of the largest model, which has been fitted for pooling anyway.
//!
//! Terms that stay are shrunk by their priors, so a term too many costs little: the criterion is
//! the generous one.

use super::pooling::KeyEstimate;

/// What Akaike's criterion asks of a parameter, in units of Wald's statistic.
const PRICE: f64 = 2.0;

/// The terms that the series of a group get, of those that their histories bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub fourier_k: usize,
    pub trend: bool,
}

/// Which of the terms the data decide on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub fourier_k: bool,
    pub trend: bool,
}

/// One choice per series; `groups` numbers the group of each.
pub(super) fn choose(groups: &[usize], keys: &[KeyEstimate], open: Open) -> Vec<Choice> {
    let n_groups = groups.iter().max().map_or(0, |last| last + 1);
    let mut members: Vec<Vec<&KeyEstimate>> = vec![Vec::new(); n_groups];
    for (key, &group) in keys.iter().zip(groups) {
        members[group].push(key);
    }
    let choices: Vec<Choice> = members.iter().map(|keys| of_group(keys, open)).collect();
    groups.iter().map(|&group| choices[group]).collect()
}

fn of_group(keys: &[&KeyEstimate], open: Open) -> Choice {
    let most = keys.iter().map(|key| key.coefficients.len() / 2).max().unwrap_or(0);
    let mut fourier_k = if open.fourier_k { most } else { usize::MAX };
    while open.fourier_k && fourier_k > 0 && !pays(keys, &[2 * fourier_k - 1, 2 * fourier_k]) {
        fourier_k -= 1;
    }
    Choice { fourier_k, trend: !open.trend || pays(keys, &[0]) }
}

/// True when the terms in these places, taken together, are worth their parameters.
fn pays(keys: &[&KeyEstimate], places: &[usize]) -> bool {
    let (mut shared, mut own, mut n_own, mut n_known) = (0.0, 0.0, 0.0, 0.0);
    for &place in places {
        let (mut value, mut weight) = (0.0, 0.0);
        for (v, w) in keys.iter().filter_map(|key| key.coefficients.get(place)) {
            value += w * v;
            weight += w;
            own += w * v * v;
            n_own += f64::from(u8::from(*w > 0.0));
        }
        if weight > 0.0 {
            shared += value * value / weight;
            n_known += 1.0;
        }
    }
    shared > PRICE * n_known || own > PRICE * n_own
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Open = Open { fourier_k: true, trend: true };

    /// Trend, then sine and cosine of two harmonics, all with the same information.
    fn key(coefficients: [f64; 5], information: f64) -> KeyEstimate {
        KeyEstimate {
            coefficients: coefficients.map(|value| (value, information)).to_vec(),
            ..KeyEstimate::default()
        }
    }

    #[test]
    fn a_season_too_weak_for_one_key_is_seen_by_the_keys_of_a_pair_together() {
        let weak = [0.0, 0.13, 0.0, 0.05, 0.05];
        let alone = choose(&[0], &[key(weak, 60.0)], ALL);
        assert_eq!(alone, [Choice { fourier_k: 0, trend: false }]);
        let keys: Vec<KeyEstimate> = (0..7).map(|_| key(weak, 60.0)).collect();
        let together = choose(&[0; 7], &keys, ALL);
        assert_eq!(together, [Choice { fourier_k: 1, trend: false }; 7]);
    }

    #[test]
    fn trends_that_differ_from_key_to_key_are_kept_though_they_cancel() {
        let keys: Vec<KeyEstimate> =
            [0.4, -0.4, 0.3, -0.3].map(|trend| key([trend, 0.0, 0.0, 0.5, 0.5], 60.0)).to_vec();
        let found = choose(&[0, 0, 0, 0], &keys, ALL);
        assert_eq!(found[0], Choice { fourier_k: 2, trend: true });
    }

    #[test]
    fn what_is_fixed_stays_and_groups_do_not_mix() {
        let keys = [key([0.0; 5], 60.0), key([1.0; 5], 60.0)];
        let fixed = choose(&[0, 1], &keys, Open { fourier_k: false, trend: false });
        assert!(fixed.iter().all(|choice| choice.fourier_k == usize::MAX && choice.trend));
        let free = choose(&[0, 1], &keys, ALL);
        assert_eq!(free[0], Choice { fourier_k: 0, trend: false });
        assert_eq!(free[1], Choice { fourier_k: 2, trend: true });
        assert_eq!(choose(&[], &[], ALL), []);
    }
}
