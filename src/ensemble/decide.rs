//! Combined scores -> flags, severities and types, of all levels of a run at once.
//!
//! Apart from [`super::combine`], so that a threshold can be changed without fitting or combining
//! anything again, and so that levels can share one budget.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView2, Zip};
use serde::{Deserialize, Serialize};

use super::{
    DecisionParams, EnsembleError, EnsembleOutput, Reference,
    combine::Member,
    decision::{Docket, Ruling, TOLERANCE, rule},
    label::{self, Flagged},
};
use crate::{detectors::DetectorName, panel::Panel};

/// The reference cells' scores of a level: what the rule `percentile` takes its percentiles of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct References {
    pub ensemble: Reference,
    pub members: BTreeMap<DetectorName, Reference>,
}

impl References {
    /// Of the `cells` `[series, time]` that count as reference.
    pub fn new(
        output: &EnsembleOutput,
        members: &[Member<'_>],
        cells: ArrayView2<'_, bool>,
    ) -> Self {
        let of = |log_p: &Array2<f64>| {
            let kept = std::iter::zip(log_p, cells).filter(|(_, counts)| **counts);
            Reference::new(kept.map(|(p, _)| *p))
        };
        Self {
            ensemble: of(&output.log_p),
            members: members.iter().map(|m| (m.scores.detector, of(m.log_p))).collect(),
        }
    }

    fn of(&self, who: Option<DetectorName>) -> Option<&Reference> {
        match who {
            None => Some(&self.ensemble),
            Some(name) => self.members.get(&name),
        }
    }

    /// Whether the numbers are usable, for references that come from a file.
    pub fn is_sound(&self) -> bool {
        self.members.values().chain([&self.ensemble]).all(Reference::is_sound)
    }
}

/// One level that waits for its decision; arrays are `[series, time]`.
pub struct Case<'a> {
    pub panel: &'a Panel,
    pub members: Vec<Member<'a>>,
    /// A known event covers the cell.
    pub known: ArrayView2<'a, bool>,
    /// The detectors were not fitted on the cell.
    pub judged: Array2<bool>,
    pub references: &'a References,
    pub output: &'a mut EnsembleOutput,
}

/// Flags, severities, types and agreement of every level, by the ensemble's rule and each
/// detector's own. Deciding again replaces what was decided before.
///
/// # Errors
/// Under `percentile`, when a level has no reference cell.
pub fn decide(cases: &mut [Case<'_>], params: &DecisionParams) -> Result<(), EnsembleError> {
    let mut names: Vec<DetectorName> =
        cases.iter().flat_map(|case| case.members.iter().map(|m| m.scores.detector)).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let found = rulings(cases, Some(name), params);
        for (case, ruling) in cases.iter_mut().zip(found) {
            let members = case.output.members.iter_mut();
            for out in members.filter(|out| out.name == name) {
                match &ruling {
                    Some(ruling) => {
                        out.flagged.assign(&ruling.flagged);
                        out.ln_threshold.clone_from(&ruling.ln_threshold);
                    }
                    None => {
                        out.flagged.fill(false);
                        out.ln_threshold.fill(f64::NAN);
                    }
                }
            }
        }
    }
    let found = rulings(cases, None, params);
    for (case, ruling) in cases.iter_mut().zip(found) {
        let Some(ruling) = ruling else {
            return Err(EnsembleError::NoReference { level: case.panel.level().name.clone() });
        };
        case.output.is_anomaly.assign(&ruling.flagged);
        case.output.ln_threshold = ruling.ln_threshold;
        rate(case.output, case.panel, params);
        count_agreeing(case.output, &case.members);
        label_types(case.output, case.panel, params);
    }
    Ok(())
}

/// What the rule of one decider makes of every level; `None` where it is not a member or has no
/// reference.
fn rulings(
    cases: &[Case<'_>],
    who: Option<DetectorName>,
    params: &DecisionParams,
) -> Vec<Option<Ruling>> {
    let starts: Vec<Vec<i64>> = cases.iter().map(|case| starts(case.panel)).collect();
    let mut places = Vec::new();
    let mut dockets = Vec::new();
    for (place, (case, starts)) in cases.iter().zip(&starts).enumerate() {
        let Some(evidence) = evidence(case, who, params) else { continue };
        let Some(reference) = case.references.of(who) else { continue };
        places.push(place);
        dockets.push(Docket { evidence, judged: case.judged.view(), starts, reference });
    }
    let mut found = vec![None; cases.len()];
    for (place, ruling) in places.into_iter().zip(rule(&dockets, &params.rule_of(who))) {
        found[place] = ruling;
    }
    found
}

fn starts(panel: &Panel) -> Vec<i64> {
    (0..panel.n_times()).map(|t| panel.calendar().start(t)).collect()
}

/// The evidence of a decider at a level. Direction and least deviation filter the ensemble's
/// alone: a detector's own flag says that the value is unusual to it.
pub(super) fn evidence(
    case: &Case<'_>,
    who: Option<DetectorName>,
    params: &DecisionParams,
) -> Option<Array2<f64>> {
    let log_p = match who {
        None => &case.output.log_p,
        Some(name) => case.members.iter().find(|m| m.scores.detector == name)?.log_p,
    };
    let weighed = Zip::from(log_p).and(case.known).map_collect(|&p, &k| params.weigh(p, k));
    if who.is_some() {
        return Some(weighed);
    }
    let output = &*case.output;
    let filter = |cell: (usize, usize), p: f64| {
        let admitted = params.admits(output.direction[cell], output.deviation(case.panel, cell));
        if p.is_nan() || admitted { p } else { 0.0 }
    };
    Some(Array2::from_shape_fn(weighed.dim(), |cell| filter(cell, weighed[cell])))
}

/// Whether a cell of `output` would be an anomaly if its step had the threshold `ln_threshold`: for
/// cells that were changed on purpose, which must not be judged by thresholds that they moved.
pub fn would_flag(
    output: &EnsembleOutput,
    panel: &Panel,
    cell: (usize, usize),
    ln_threshold: f64,
    params: &DecisionParams,
) -> bool {
    output.log_p[cell] <= ln_threshold + TOLERANCE
        && params.admits(output.direction[cell], output.deviation(panel, cell))
}

/// The severity of every anomaly. It follows p itself and not the rule, so that `high` means the
/// same under a tight budget and a generous one.
fn rate(output: &mut EnsembleOutput, panel: &Panel, params: &DecisionParams) {
    for s in 0..panel.n_series() {
        for t in 0..panel.n_times() {
            output.kind[[s, t]] = None;
            output.severity[[s, t]] = output.is_anomaly[[s, t]]
                .then(|| params.severity(output.log_p[[s, t]], output.deviation(panel, (s, t))));
        }
    }
}

/// `n_models_flagged` and `confidence`.
fn count_agreeing(output: &mut EnsembleOutput, members: &[Member<'_>]) {
    for ((s, t), confidence) in output.confidence.indexed_iter_mut() {
        let (mut total, mut agreed, mut flagged) = (0.0, 0.0, 0_u8);
        for (member, out) in members.iter().zip(&output.members) {
            if member.log_p[[s, t]].is_nan() || member.weight == 0.0 {
                continue;
            }
            total += member.weight;
            if out.flagged[[s, t]] {
                flagged = flagged.saturating_add(1);
                let own = member.scores.direction[[s, t]];
                if own == 0 || own == output.direction[[s, t]] {
                    agreed += member.weight;
                }
            }
        }
        output.n_models_flagged[[s, t]] = flagged;
        if total > 0.0 {
            *confidence = agreed / total;
        }
    }
}

fn label_types(output: &mut EnsembleOutput, panel: &Panel, decision: &DecisionParams) {
    let shift = decision
        .shift_min_steps
        .unwrap_or_else(|| label::default_shift_steps(panel.calendar().step()));
    for s in 0..panel.n_series() {
        let cells: Vec<Flagged> = (0..panel.n_times())
            .filter(|&t| output.is_anomaly[[s, t]])
            .map(|t| Flagged {
                time: t,
                direction: output.direction[[s, t]],
                metric: usize::from(output.leading_metric[[s, t]]),
                relative: output.deviation_percentage[[s, t]] / 100.0,
            })
            .collect();
        for run in label::runs(&cells, decision.max_gap_steps) {
            for cell in &cells[run.clone()] {
                let expected = |m: usize| output.expected[[s, cell.time, m]];
                output.kind[[s, cell.time]] =
                    Some(label::kind(panel, s, *cell, &cells[run.clone()], &expected, shift));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ensemble::{
        Agreement, AnomalyType, DetectionDirection, EnsembleParams, KnownEvents, Rule,
        RuleOverride, Severity, combine,
        output::tests::{log_p, panel, scores},
        rule_summaries,
    };
    use ndarray::Array3;

    fn decided(panel: &Panel, members: &[Member<'_>], params: &DecisionParams) -> EnsembleOutput {
        let known = Array2::from_elem((1, panel.n_times()), false);
        decided_with(panel, members, &known, params)
    }

    fn decided_with(
        panel: &Panel,
        members: &[Member<'_>],
        known: &Array2<bool>,
        params: &DecisionParams,
    ) -> EnsembleOutput {
        let agreement = Agreement::learn(members);
        let combination = EnsembleParams::default();
        let mut output = combine(panel, members, &agreement, &combination).unwrap();
        let judged = Array2::from_elem(known.dim(), true);
        let references = References::new(&output, members, judged.view());
        let mut cases = [Case {
            panel,
            members: members.to_vec(),
            known: known.view(),
            judged,
            references: &references,
            output: &mut output,
        }];
        decide(&mut cases, params).unwrap();
        let told = rule_summaries(&cases[0], params);
        assert_eq!(told.len(), 1 + members.len());
        output
    }

    #[test]
    fn members_agree_disagree_and_stay_silent() {
        let panel = panel(&[10.0, 90.0, 10.0]);
        let mut nb2 = scores(DetectorName::Nb2, &panel, &[0.0, 9.0, 0.0], 1);
        nb2.expected = Some(Array3::from_elem((1, 3, 1), 10.0));
        nb2.lower = Some(Array3::from_elem((1, 3, 1), 3.0));
        nb2.upper = Some(Array3::from_elem((1, 3, 1), 20.0));
        let other = scores(DetectorName::Rolling, &panel, &[0.0, 5.0, f64::NAN], -1);
        let (p, q) = (log_p(&[0.9, 1e-9, 0.5]), log_p(&[0.8, 1e-3, f64::NAN]));
        let members = [
            Member { scores: &nb2, log_p: &p, weight: 3.0 },
            Member { scores: &other, log_p: &q, weight: 1.0 },
        ];
        let output = decided(&panel, &members, &DecisionParams::default());
        assert_eq!(output.is_anomaly.row(0).to_vec(), [false, true, false]);
        assert_eq!(output.direction[[0, 1]], 1, "the stronger member decides the direction");
        assert_eq!(output.confidence[[0, 1]], 0.75, "the other one points the other way");
        assert_eq!(output.n_models_flagged[[0, 1]], 2);
        assert_eq!(output.kind[[0, 1]], Some(AnomalyType::Spike));
        assert_eq!(output.deviation_ratio[[0, 1]], 9.0);
        assert_eq!(output.deviation_percentage[[0, 1]], 800.0);
        assert_eq!(output.severity[[0, 1]], Some(Severity::Critical));
        assert!((output.log_p[[0, 2]].exp() - 0.5).abs() < 1e-12, "silent members share out");
        assert!((output.ln_threshold[0].exp() - 0.01).abs() < 1e-12);
    }

    #[test]
    fn the_direction_is_the_leading_metrics_own() {
        let panel = panel(&[4.0, 10.0, 16.0]);
        let mut nb2 = scores(DetectorName::Nb2, &panel, &[9.0; 3], 1);
        nb2.expected = Some(Array3::from_elem((1, 3, 1), 10.0));
        let p = log_p(&[1e-9; 3]);
        let members = [Member { scores: &nb2, log_p: &p, weight: 1.0 }];
        let output = decided(&panel, &members, &DecisionParams::default());
        assert_eq!(output.direction.row(0).to_vec(), [-1, 1, 1], "the vote stands only at 10");
        assert_eq!(output.kind[[0, 0]], Some(AnomalyType::Drop));
    }

    #[test]
    fn a_detector_flags_by_its_own_rule_and_the_ensemble_by_its_own() {
        let panel = panel(&[10.0, 20.0, 10.0]);
        let rolling = scores(DetectorName::Rolling, &panel, &[0.0, 5.0, 1.0], 1);
        let p = log_p(&[0.5, 0.005, 0.03]);
        let members = [Member { scores: &rolling, log_p: &p, weight: 1.0 }];
        let own = RuleOverride { level: Some(0.95), ..RuleOverride::default() };
        let mut params = DecisionParams::default();
        params.detectors.insert(DetectorName::Rolling, own);
        let output = decided(&panel, &members, &params);
        assert_eq!(output.is_anomaly.row(0).to_vec(), [false, true, false]);
        assert_eq!(output.members[0].flagged.row(0).to_vec(), [false, true, true]);
        assert!((output.members[0].ln_threshold[0].exp() - 0.05).abs() < 1e-12);
    }

    #[test]
    fn severity_is_the_same_under_every_rule() {
        let panel = panel(&[10.0; 4]);
        let rolling = scores(DetectorName::Rolling, &panel, &[0.0, 1.0, 2.0, 3.0], 1);
        let p = log_p(&[0.5, 0.09, 0.003, 1e-5]);
        let members = [Member { scores: &rolling, log_p: &p, weight: 1.0 }];
        for (rule, flagged) in [(Rule::Interval, 2), (Rule::Fdr, 3), (Rule::Budget, 2)] {
            let params = DecisionParams { rule, budget: 5, ..DecisionParams::default() };
            let output = decided(&panel, &members, &params);
            assert_eq!(output.is_anomaly.iter().filter(|f| **f).count(), flagged, "{rule}");
            assert_eq!(output.severity[[0, 3]], Some(Severity::High), "{rule}");
            assert_eq!(output.severity[[0, 2]], Some(Severity::Low), "{rule}");
            let weak = (rule == Rule::Fdr).then_some(Severity::Low);
            assert_eq!(output.severity[[0, 1]], weak, "{rule}: a p above every bound is low");
        }
    }

    #[test]
    fn what_a_filter_rules_out_still_counts_in_the_family_and_what_is_suppressed_does_not() {
        let panel = panel(&[10.0, 10.0]);
        let rolling = scores(DetectorName::Rolling, &panel, &[5.0, 5.0], 1);
        let p = log_p(&[1e-9, 1e-9]);
        let members = [Member { scores: &rolling, log_p: &p, weight: 1.0 }];
        let params = DecisionParams {
            rule: Rule::Fdr,
            direction: DetectionDirection::BelowExpected,
            ..DecisionParams::default()
        };
        let output = decided(&panel, &members, &params);
        assert!(output.is_anomaly.iter().all(|f| !f));
        let params =
            DecisionParams { known_events: KnownEvents::Suppress, ..DecisionParams::default() };
        let known = ndarray::array![[true, false]];
        let output = decided_with(&panel, &members, &known, &params);
        assert_eq!(output.is_anomaly.row(0).to_vec(), [false, true]);
        assert_eq!(output.members[0].flagged.row(0).to_vec(), [false, true]);
    }
}
