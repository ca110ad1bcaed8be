//! Rules applied: evidence in, flags and thresholds out.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView2};

use super::{
    BudgetPer, Reference, Rule, RuleParams,
    budget::{Candidate, spend},
    fdr::step_up,
};

/// Keeps p = 1 - level on the side that it is on in exact arithmetic.
pub(in crate::ensemble) const TOLERANCE: f64 = 1e-12;

/// One decider's evidence at one level.
pub(in crate::ensemble) struct Docket<'a> {
    /// `[series, time]`: ln p after known events; NaN where nothing is judged, 0 where a filter
    /// rules an alert out (the cell still counts as one that was looked at).
    pub evidence: Array2<f64>,
    /// `[series, time]`: true where the detectors had not been fitted.
    pub judged: ArrayView2<'a, bool>,
    /// `[time]`: starts of the steps, which tell steps of different levels that they are the same.
    pub starts: &'a [i64],
    pub reference: &'a Reference,
}

/// What a rule made of a docket.
#[derive(Clone, Debug)]
pub(in crate::ensemble) struct Ruling {
    /// `[series, time]`.
    pub flagged: Array2<bool>,
    /// `[time]`: ln of the largest p that is flagged in that step.
    pub ln_threshold: Vec<f64>,
}

/// Applies one decider's rule to its dockets of all levels. `None` stands for a level without
/// reference cells, under `percentile`.
pub(in crate::ensemble) fn rule(
    dockets: &[Docket<'_>],
    params: &RuleParams,
) -> Vec<Option<Ruling>> {
    let level = (1.0 - params.level).ln();
    match params.rule {
        Rule::Interval => dockets.iter().map(|docket| Some(constant(docket, level))).collect(),
        Rule::Percentile => dockets
            .iter()
            .map(|docket| Some(constant(docket, docket.reference.ln_p_at(params.percentile)?)))
            .collect(),
        Rule::Fdr => dockets.iter().map(|docket| Some(by_step(docket, params))).collect(),
        Rule::Budget => by_budget(dockets, params, level).into_iter().map(Some).collect(),
    }
}

fn constant(docket: &Docket<'_>, ln_threshold: f64) -> Ruling {
    below(docket, vec![ln_threshold; docket.evidence.ncols()])
}

fn below(docket: &Docket<'_>, ln_threshold: Vec<f64>) -> Ruling {
    let flagged = Array2::from_shape_fn(docket.evidence.dim(), |(s, t)| {
        docket.evidence[[s, t]] <= ln_threshold[t] + TOLERANCE
    });
    Ruling { flagged, ln_threshold }
}

fn by_step(docket: &Docket<'_>, params: &RuleParams) -> Ruling {
    let mut family = Vec::with_capacity(docket.evidence.nrows());
    let thresholds = docket
        .evidence
        .columns()
        .into_iter()
        .map(|column| {
            family.clear();
            family.extend(column.iter().filter(|p| !p.is_nan()));
            step_up(&mut family, params.fdr_q, params.fdr_method).ln_threshold
        })
        .collect();
    below(docket, thresholds)
}

/// The cells of each level that compete for one budget.
type Pool = Vec<Vec<Candidate>>;

fn by_budget(dockets: &[Docket<'_>], params: &RuleParams, level: f64) -> Vec<Ruling> {
    let mut pools: BTreeMap<i64, Pool> = BTreeMap::new();
    for (l, docket) in dockets.iter().enumerate() {
        for (cell, &ln_p) in docket.evidence.indexed_iter() {
            let pool = match params.budget_per {
                BudgetPer::Step => docket.starts[cell.1],
                BudgetPer::Run if docket.judged[cell] => 0,
                BudgetPer::Run => continue,
            };
            if ln_p <= level + TOLERANCE {
                let pool = pools.entry(pool).or_insert_with(|| vec![Vec::new(); dockets.len()]);
                pool[l].push(Candidate { ln_p, cell });
            }
        }
    }
    let mut rulings: Vec<Ruling> = dockets
        .iter()
        .map(|docket| Ruling {
            flagged: Array2::from_elem(docket.evidence.dim(), false),
            ln_threshold: vec![level; docket.evidence.ncols()],
        })
        .collect();
    for (start, mut pool) in pools {
        let taken = spend(params.budget, &mut pool);
        for (((ruling, docket), candidates), taken) in
            rulings.iter_mut().zip(dockets).zip(&pool).zip(taken)
        {
            candidates[..taken].iter().for_each(|c| ruling.flagged[c.cell] = true);
            if taken == candidates.len() {
                continue; // nothing was turned away: the level is the threshold
            }
            let bar = match taken {
                0 => candidates[0].ln_p.next_down(), // not even the strongest
                taken => candidates[taken - 1].ln_p,
            };
            for (t, threshold) in ruling.ln_threshold.iter_mut().enumerate() {
                if params.budget_per == BudgetPer::Run || docket.starts[t] == start {
                    *threshold = bar;
                }
            }
        }
    }
    rulings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ensemble::DecisionParams;
    use ndarray::array;

    fn params(rule: Rule) -> RuleParams {
        RuleParams { rule, budget: 2, ..DecisionParams::default().rule_of(None) }
    }

    /// Rules a single level of these p-values.
    fn ruled(p: Array2<f64>, params: &RuleParams, reference: &Reference) -> Option<Ruling> {
        let judged = Array2::from_elem(p.dim(), true);
        let starts: Vec<i64> = (0..p.ncols() as i64).collect();
        let evidence = p.mapv(f64::ln);
        let docket = Docket { evidence, judged: judged.view(), starts: &starts, reference };
        rule(&[docket], params).remove(0)
    }

    #[test]
    fn an_interval_flags_its_own_level_and_nothing_above_it() {
        let p = array![[0.01, 0.010_01, f64::NAN, 1e-9]];
        let ruling = ruled(p, &params(Rule::Interval), &Reference::default()).unwrap();
        assert_eq!(ruling.flagged, array![[true, false, false, true]]);
        assert!((ruling.ln_threshold[0].exp() - 0.01).abs() < 1e-12);
    }

    #[test]
    fn a_percentile_comes_from_the_reference_and_not_from_what_is_judged() {
        let reference = Reference::new((1..=1_000).map(|i| (f64::from(i) / 1_000.0).ln()));
        let all_wild = Array2::from_elem((3, 4), 1e-5);
        let ruling = ruled(all_wild, &params(Rule::Percentile), &reference).unwrap();
        assert!(ruling.flagged.iter().all(|f| *f));
        assert!((ruling.ln_threshold[0].exp() - 0.011).abs() < 1e-3);
        let nothing = ruled(array![[0.5]], &params(Rule::Percentile), &Reference::default());
        assert!(nothing.is_none(), "no reference, no verdict");
    }

    #[test]
    fn each_step_has_its_own_false_discovery_rate() {
        // Four series: alone 0.03 is above 0.1 / 4; with another at 0.001 it is below 0.2 / 4.
        let p = array![[0.03, 0.03], [0.9, 0.001], [0.9, 0.9], [0.9, 0.9]];
        let ruling = ruled(p, &params(Rule::Fdr), &Reference::default()).unwrap();
        assert_eq!(ruling.flagged.column(0).to_vec(), [false; 4]);
        assert_eq!(ruling.flagged.column(1).to_vec(), [true, true, false, false]);
        assert!((ruling.ln_threshold[0].exp() - 0.025).abs() < 1e-12);
        assert!((ruling.ln_threshold[1].exp() - 0.05).abs() < 1e-12);
    }

    #[test]
    fn a_budget_keeps_the_strongest_of_each_step_or_of_the_run() {
        let p = array![[1e-3, 0.5], [1e-5, 1e-3], [1e-4, 0.5]];
        let per_step = ruled(p.clone(), &params(Rule::Budget), &Reference::default()).unwrap();
        assert_eq!(per_step.flagged, array![[false, false], [true, true], [true, false]]);
        assert!((per_step.ln_threshold[0].exp() - 1e-4).abs() < 1e-15);
        assert!((per_step.ln_threshold[1].exp() - 0.01).abs() < 1e-12, "a quiet step spends less");
        let per_run = RuleParams { budget_per: BudgetPer::Run, ..params(Rule::Budget) };
        let ruling = ruled(p, &per_run, &Reference::default()).unwrap();
        assert_eq!(ruling.flagged, array![[false, false], [true, false], [true, false]]);
    }

    #[test]
    fn a_budget_of_a_step_is_shared_by_the_levels_that_have_that_step() {
        let reference = Reference::default();
        let (keys, pairs) = (array![[1e-5], [1e-6], [1e-7]].mapv(f64::ln), array![[9e-3_f64.ln()]]);
        let (a, b) = (Array2::from_elem((3, 1), true), Array2::from_elem((1, 1), true));
        let (same, other) = ([7], [8]);
        let count = |starts: &[i64]| -> Vec<usize> {
            let (keys, pairs) = (keys.clone(), pairs.clone());
            let (a, b, reference) = (a.view(), b.view(), &reference);
            let dockets = [
                Docket { evidence: keys, judged: a, starts: &same, reference },
                Docket { evidence: pairs, judged: b, starts, reference },
            ];
            rule(&dockets, &params(Rule::Budget))
                .into_iter()
                .map(|r| r.unwrap().flagged.iter().filter(|f| **f).count())
                .collect()
        };
        assert_eq!(count(&same), [1, 1], "the keys are stronger, the pair gets its turn");
        assert_eq!(count(&other), [2, 1]);
    }
}
