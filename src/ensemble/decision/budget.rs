//! A number of alerts, shared fairly among levels.

/// A cell that could be an alert.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub ln_p: f64,
    pub cell: (usize, usize),
}

/// Spends `budget` on the strongest candidates of each level; returns how many each level gets.
///
/// Levels take turns, in each round the one with the stronger next candidate first, so that no
/// level can crowd out another: with enough candidates everywhere, shares differ by one at most,
/// and what a quiet level leaves goes to the others. Each list is sorted, strongest first; equals
/// keep the order of the series.
pub(super) fn spend(budget: usize, levels: &mut [Vec<Candidate>]) -> Vec<usize> {
    for candidates in levels.iter_mut() {
        candidates.sort_by(|a, b| a.ln_p.total_cmp(&b.ln_p).then(a.cell.cmp(&b.cell)));
    }
    let mut taken = vec![0; levels.len()];
    let mut left = budget;
    while left > 0 {
        let mut round: Vec<(f64, usize)> = levels
            .iter()
            .enumerate()
            .filter_map(|(l, candidates)| Some((candidates.get(taken[l])?.ln_p, l)))
            .collect();
        if round.is_empty() {
            break;
        }
        round.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for &(_, level) in round.iter().take(left) {
            taken[level] += 1;
        }
        left = left.saturating_sub(round.len());
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(ln_p: &[f64]) -> Vec<Candidate> {
        ln_p.iter().enumerate().map(|(s, &ln_p)| Candidate { ln_p, cell: (s, 0) }).collect()
    }

    #[test]
    fn levels_share_alike_and_the_odd_one_goes_to_the_stronger() {
        let strong = [-9.0, -8.0, -7.0, -6.0];
        let weak = [-5.0, -4.9, -4.8];
        assert_eq!(spend(4, &mut [level(&strong), level(&weak)]), [2, 2]);
        assert_eq!(spend(5, &mut [level(&strong), level(&weak)]), [3, 2]);
        assert_eq!(spend(1, &mut [level(&weak), level(&strong)]), [0, 1]);
    }

    #[test]
    fn what_a_quiet_level_leaves_goes_to_the_others() {
        let mut levels = [level(&[-9.0, -8.0, -7.0]), level(&[-5.0]), level(&[])];
        assert_eq!(spend(4, &mut levels), [3, 1, 0]);
        assert_eq!(spend(9, &mut levels), [3, 1, 0]);
        assert_eq!(spend(0, &mut levels), [0, 0, 0]);
    }

    #[test]
    fn the_strongest_come_first_and_equals_in_the_order_of_the_series() {
        let mut levels = [level(&[-1.0, f64::NEG_INFINITY, -1.0])];
        spend(1, &mut levels);
        let cells: Vec<usize> = levels[0].iter().map(|c| c.cell.0).collect();
        assert_eq!(cells, [1, 0, 2]);
    }
}
