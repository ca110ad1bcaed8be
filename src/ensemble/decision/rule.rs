//! The four rules by their names and numbers, for the ensemble and for each detector.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a threshold on p comes about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// p <= 1 - `level`: the value lies outside the two-sided interval of that level.
    #[default]
    Interval,
    /// The score is at or above a percentile of the scores of the reference cells: the training
    /// part, where there is one.
    Percentile,
    /// The false-discovery rate among the alerts of one time step is held at `fdr_q`.
    Fdr,
    /// The strongest `budget`, of those with p <= 1 - `level`.
    Budget,
}

impl Rule {
    /// The name that config files use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interval => "interval",
            Self::Percentile => "percentile",
            Self::Fdr => "fdr",
            Self::Budget => "budget",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is known of the dependence between the series of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FdrMethod {
    /// Benjamini and Hochberg (1995): independent or positively dependent series.
    #[default]
    BenjaminiHochberg,
    /// Benjamini and Yekutieli (2001): any dependence; `fdr_q` is divided by 1 + 1/2 + … + 1/m.
    BenjaminiYekutieli,
}

/// What a budget is spent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetPer {
    /// Each time step has its own.
    #[default]
    Step,
    /// All judged steps of the run together; the training part gets none.
    Run,
}

/// A rule with its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RuleParams {
    pub rule: Rule,
    pub level: f64,
    pub percentile: f64,
    pub fdr_q: f64,
    pub fdr_method: FdrMethod,
    pub budget: usize,
    pub budget_per: BudgetPer,
}

impl RuleParams {
    /// The rule's own number in words: `level 0.99`, `q 0.1`.
    pub fn setting(&self) -> String {
        match (self.rule, self.fdr_method, self.budget_per) {
            (Rule::Interval, ..) => format!("level {}", self.level),
            (Rule::Percentile, ..) => format!("percentile {}", self.percentile),
            (Rule::Fdr, FdrMethod::BenjaminiHochberg, _) => format!("q {}", self.fdr_q),
            (Rule::Fdr, FdrMethod::BenjaminiYekutieli, _) => {
                format!("q {}, any dependence", self.fdr_q)
            }
            (Rule::Budget, _, BudgetPer::Step) => {
                format!("{} a step, level {}", self.budget, self.level)
            }
            (Rule::Budget, _, BudgetPer::Run) => {
                format!("{} a run, level {}", self.budget, self.level)
            }
        }
    }
}

/// What one detector decides otherwise than the ensemble: the table
/// `[decision.detectors.NAME]`. A key that is not there is the ensemble's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleOverride {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percentile: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fdr_q: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fdr_method: Option<FdrMethod>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_per: Option<BudgetPer>,
}

impl RuleOverride {
    /// `base` with this table's keys in place of its own.
    pub(super) fn over(&self, base: RuleParams) -> RuleParams {
        RuleParams {
            rule: self.rule.unwrap_or(base.rule),
            level: self.level.unwrap_or(base.level),
            percentile: self.percentile.unwrap_or(base.percentile),
            fdr_q: self.fdr_q.unwrap_or(base.fdr_q),
            fdr_method: self.fdr_method.unwrap_or(base.fdr_method),
            budget: self.budget.unwrap_or(base.budget),
            budget_per: self.budget_per.unwrap_or(base.budget_per),
        }
    }
}

/// Every number of a rule that is out of its range: its key and what to write instead.
pub(super) fn check(params: &RuleParams) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    let mut expect = |fine: bool, key: &str, value: String, range: &str| {
        if !fine {
            wrong.push((key.to_string(), format!("is {value}, but must be {range}")));
        }
    };
    let RuleParams { level, percentile, fdr_q, budget, .. } = *params;
    expect(
        (0.5..1.0).contains(&level),
        "level",
        level.to_string(),
        "at least 0.5 and below 1 (0.99 flags p <= 0.01)",
    );
    expect(
        (50.0..100.0).contains(&percentile),
        "percentile",
        percentile.to_string(),
        "at least 50 and below 100 (99 flags what scores above 99 % of the training part)",
    );
    expect(
        fdr_q > 0.0 && fdr_q <= 0.5,
        "fdr_q",
        fdr_q.to_string(),
        "above 0 and at most 0.5 (0.1: one alert in ten may be false)",
    );
    expect(budget >= 1, "budget", budget.to_string(), "1 or more alerts");
    wrong
}
