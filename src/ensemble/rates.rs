//! What a rule did: alerts and how many of them are false at most, by step and in all.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::{
    Agreement, Case, DecisionParams, Rule, RuleParams, bounded_score,
    combine::{EnsembleParams, strongest_p},
    decide::evidence,
    decision::rejections_needed,
};
use crate::detectors::DetectorName;

/// What a rule did in one time step of a level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepAlerts {
    /// The step's date or timestamp.
    pub step: String,
    /// Series that were looked at.
    pub series: usize,
    pub alerts: usize,
    /// How many of the alerts are false at most, on average over such steps, as far as the p-values
    /// are honest.
    pub expected_false: f64,
    /// The score from which on a series is flagged.
    pub threshold: f64,
}

impl StepAlerts {
    /// `14 alerts among 60 series, at most 1.4 expected false`.
    pub fn sentence(&self) -> String {
        let alerts = match self.alerts {
            0 => "no alert".to_string(),
            1 => "1 alert".to_string(),
            n => format!("{n} alerts"),
        };
        let mut text = format!("{alerts} among {} series", self.series);
        if self.alerts > 0 {
            text.push_str(&format!(", at most {:.1} expected false", self.expected_false));
        }
        text
    }
}

/// What a rule did at a level, for one decider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleSummary {
    /// `ensemble`, or the detector's name.
    pub who: String,
    pub rule: String,
    /// The rule's number in words: `q 0.1`.
    pub setting: String,
    /// Cells outside the training part that were looked at.
    pub cells: usize,
    pub alerts: usize,
    /// The sum of [`StepAlerts::expected_false`] over the judged steps.
    pub expected_false: f64,
    /// The newest step with a score.
    pub newest: Option<StepAlerts>,
}

/// The summaries of a decided level: the ensemble's, then each member's.
pub fn rule_summaries(case: &Case<'_>, params: &DecisionParams) -> Vec<RuleSummary> {
    let output = &*case.output;
    let mut found = vec![summary(case, None, &output.is_anomaly, &output.ln_threshold, params)];
    found.extend(output.members.iter().filter_map(|out| {
        let known = case.members.iter().any(|m| m.scores.detector == out.name);
        known.then(|| summary(case, Some(out.name), &out.flagged, &out.ln_threshold, params))
    }));
    found
}

fn summary(
    case: &Case<'_>,
    who: Option<DetectorName>,
    flagged: &Array2<bool>,
    ln_threshold: &[f64],
    params: &DecisionParams,
) -> RuleSummary {
    let rule = params.rule_of(who);
    let looked_at = evidence(case, who, params).map(|e| e.mapv(|p| !p.is_nan()));
    let looked_at = looked_at.unwrap_or_else(|| Array2::from_elem(flagged.dim(), false));
    let mut found = RuleSummary {
        who: who.map_or_else(|| "ensemble".to_string(), |name| name.to_string()),
        rule: rule.rule.as_str().into(),
        setting: rule.setting(),
        cells: 0,
        alerts: 0,
        expected_false: 0.0,
        newest: None,
    };
    for (t, &threshold) in ln_threshold.iter().enumerate() {
        let count = |counts: &dyn Fn([usize; 2]) -> bool| {
            (0..flagged.nrows()).filter(|&s| counts([s, t])).count()
        };
        let series = count(&|cell| looked_at[cell]);
        if series == 0 {
            continue;
        }
        let cells = count(&|cell| looked_at[cell] && case.judged[cell]);
        let alerts = count(&|cell| flagged[cell] && case.judged[cell]);
        found.cells += cells;
        found.alerts += alerts;
        found.expected_false += expected_false(&rule, cells, alerts, threshold);
        let alerts = count(&|cell| flagged[cell]);
        found.newest = Some(StepAlerts {
            step: case.panel.calendar().label(t),
            series,
            alerts,
            expected_false: expected_false(&rule, series, alerts, threshold),
            threshold: bounded_score(threshold),
        });
    }
    found
}

/// A threshold on p is passed by as large a share of clean cells at the most; a false-discovery
/// rate is a promise on the alerts.
fn expected_false(rule: &RuleParams, cells: usize, alerts: usize, ln_threshold: f64) -> f64 {
    match rule.rule {
        Rule::Fdr => rule.fdr_q * alerts as f64,
        _ if ln_threshold.is_nan() => 0.0,
        _ => cells as f64 * ln_threshold.exp(),
    }
}

/// A warning where the rule `fdr` cannot reject a lone series of the level, because no p-value of
/// the ensemble falls that far. `ln_floors` has the ln of the smallest p of each member.
pub fn fdr_warning(
    case: &Case<'_>,
    ln_floors: &[f64],
    combination: &EnsembleParams,
    agreement: &Agreement,
    params: &DecisionParams,
) -> Option<String> {
    let rule = params.rule_of(None);
    if rule.rule != Rule::Fdr {
        return None;
    }
    let smallest = strongest_p(&case.members, ln_floors, combination, agreement).exp();
    let scored = |t: usize| case.output.log_p.column(t).iter().filter(|p| !p.is_nan()).count();
    let m = (0..case.panel.n_times()).map(scored).max().unwrap_or(0);
    let what = match rejections_needed(smallest, m, rule.fdr_q, rule.fdr_method) {
        Some(1) => return None,
        Some(n) => format!("only {n} or more series in the same step can be flagged together"),
        None => "no series can ever be flagged".to_string(),
    };
    Some(format!(
        "rule fdr: the calibration supports no p below {smallest:.1e}, and a lone series among {m} \
         needs less, so {what}: give more history, raise decision.fdr_q, or take the rule interval"
    ))
}
