//! Series as a measure sees them: only the steps that count, one after the other.

use ndarray::Array2;

use super::EvaluationInput;

/// The steps of one series that count. Steps outside the scope are cut out and the rest closes up,
/// so distances between steps are distances between counted steps. All three have one entry a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lane {
    /// The step lies in a labelled interval.
    pub truth: Vec<bool>,
    pub flags: Vec<bool>,
    /// Higher = more anomalous; never NaN: what was not scored counts as the lowest.
    pub score: Vec<f64>,
}

/// The counted steps of every series.
pub fn lanes(input: &EvaluationInput<'_>) -> Vec<Lane> {
    (0..input.truth.nrows()).map(|s| lane(input, s)).collect()
}

fn lane(input: &EvaluationInput<'_>, series: usize) -> Lane {
    let steps: Vec<usize> =
        (0..input.truth.ncols()).filter(|&t| input.scope[[series, t]]).collect();
    let taken = |of: &Array2<bool>| steps.iter().map(|&t| of[[series, t]]).collect();
    Lane {
        truth: taken(input.truth),
        flags: taken(input.flags),
        score: steps.iter().map(|&t| ranked(input.score[[series, t]])).collect(),
    }
}

/// A score that can be sorted.
pub(super) fn ranked(score: f64) -> f64 {
    if score.is_nan() { f64::NEG_INFINITY } else { score }
}

/// Maximal runs of `true`, as half-open ranges.
pub(super) fn runs(cells: &[bool]) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut start = None;
    for (t, &cell) in cells.iter().chain(std::iter::once(&false)).enumerate() {
        match (start, cell) {
            (None, true) => start = Some(t),
            (Some(from), false) => {
                found.push(from..t);
                start = None;
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_maximal_and_half_open() {
        assert_eq!(runs(&[true, true, false, true]), [0..2, 3..4]);
        assert!(runs(&[false]).is_empty() && runs(&[]).is_empty());
    }
}
