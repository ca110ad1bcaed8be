use super::*;
use crate::detectors::residual_rows::checks;

fn detector() -> RandomCutForestDetector {
    RandomCutForestDetector::new(RandomCutForestParams::default()).unwrap()
}

#[test]
fn spikes_and_drops_score_high_with_direction_and_share() {
    checks::finds_spikes_and_drops(&detector());
}

#[test]
fn a_checkpoint_scores_alike_and_a_forged_one_is_refused() {
    let forged = [
        ("/model/trees", serde_json::json!([])),
        ("/model/dimensions", serde_json::json!(3)),
        ("/model/trees/0/cut/0", serde_json::json!(null)),
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
    let ok = RandomCutForestParams::default();
    assert!(ok.check().is_empty());
    for (trees, sample_size, name) in
        [(0, 256, "trees"), (10_001, 256, "trees"), (9, 1, "sample_size")]
    {
        let wrong = RandomCutForestParams { trees, sample_size, ..ok.clone() };
        assert_eq!(wrong.check()[0].0, name);
        assert!(RandomCutForestDetector::new(wrong).is_err());
    }
    let mut wrong = ok;
    wrong.rows.widths_steps = vec![3, 1];
    assert_eq!(wrong.check()[0].0, "rows.widths_steps");
    assert!(RandomCutForestDetector::new(wrong).unwrap_err().to_string().contains("widths_steps"));
    assert!(toml::from_str::<RandomCutForestParams>("tree = 9").is_err());
}
