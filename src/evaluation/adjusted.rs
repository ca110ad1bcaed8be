//! Point-adjusted F1, kept for comparison with papers that use it, never for a headline: one flag
//! anywhere in an event counts as all of its points, so that random scores come out near the top on
//! long events (Kim et al., "Towards a Rigorous Evaluation of Time-Series Anomaly Detection", AAAI
//! 2022). Its name in every table therefore ends in `_inflated`.

use super::{
    lanes::{Lane, runs},
    share,
};

/// F1 over points, after every event with a flag is taken as flagged throughout.
pub fn point_adjusted_f1(lanes: &[Lane]) -> Option<f64> {
    let (mut hits, mut missed, mut false_flags) = (0, 0, 0);
    for lane in lanes {
        for event in runs(&lane.truth) {
            let found = lane.flags[event.clone()].contains(&true);
            *(if found { &mut hits } else { &mut missed }) += event.len();
        }
        false_flags += lane.flags.iter().zip(&lane.truth).filter(|(f, t)| **f && !**t).count();
    }
    share(2 * hits, 2 * hits + missed + false_flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flag_stands_for_the_whole_event() {
        let lane = Lane {
            truth: vec![true, true, true, true, false, false],
            flags: vec![false, false, true, false, false, true],
            score: vec![0.0; 6],
        };
        assert_eq!(point_adjusted_f1(&[lane]), Some(8.0 / 9.0));
        assert_eq!(point_adjusted_f1(&[]), None);
    }
}
