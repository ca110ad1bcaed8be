use super::*;
use crate::detectors::residual_rows::checks;

fn detector() -> LofDetector {
    LofDetector::new(LofParams::default()).unwrap()
}

#[test]
fn spikes_and_drops_score_high_with_direction_and_share() {
    checks::finds_spikes_and_drops(&detector());
}

#[test]
fn a_checkpoint_scores_alike_and_a_forged_one_is_refused() {
    let forged = [
        ("/model/rows", serde_json::json!([])),
        ("/model/medians", serde_json::json!([])),
        ("/model/neighbours", serde_json::json!(0)),
    ];
    checks::restores_to_the_bit(&detector(), &forged);
}

#[test]
fn held_out_scores_do_not_know_their_block() {
    checks::held_out_scores_do_not_know_their_block(&detector());
}

#[test]
fn what_cannot_be_scored_is_listed() {
    checks::lists_what_it_cannot_score(&detector());
}

#[test]
fn parameters_out_of_range_are_named() {
    let ok = LofParams::default();
    assert!(ok.check().is_empty());
    for (neighbours, reference_rows, name) in
        [(1, 256, "neighbours"), (1_001, 256, "neighbours"), (9, 9, "reference_rows")]
    {
        let wrong = LofParams { neighbours, reference_rows, ..ok.clone() };
        assert_eq!(wrong.check()[0].0, name);
        assert!(LofDetector::new(wrong).is_err());
    }
    let mut wrong = ok;
    wrong.rows.widths_steps = vec![3, 1];
    assert_eq!(wrong.check()[0].0, "rows.widths_steps");
    assert!(LofDetector::new(wrong).unwrap_err().to_string().contains("widths_steps"));
    assert!(toml::from_str::<LofParams>("neighbors = 9").is_err());
}
