use super::*;
use crate::detectors::residual_rows::checks;

fn detector() -> IsolationForestDetector {
    IsolationForestDetector::new(IsolationForestParams::default()).unwrap()
}

#[test]
fn spikes_and_drops_score_high_with_direction_and_share() {
    checks::finds_spikes_and_drops(&detector());
}

#[test]
fn a_checkpoint_scores_alike_and_a_forged_one_is_refused() {
    let forged = [
        ("/model/trees", serde_json::json!([])),
        ("/model/features", serde_json::json!(3)),
        ("/model/trees/0/left/0", serde_json::json!(0)),
    ];
    checks::restores_to_the_bit(&detector(), &forged);
}

#[test]
fn held_out_scores_do_not_know_their_block() {
    checks::held_out_scores_do_not_know_their_block(&detector());
}

/// With engineered columns beside the residuals, as without them.
#[test]
fn engineered_columns_keep_every_promise() {
    let mut params = IsolationForestParams::default();
    let text =
        "groups = [\"time\", \"ratios\", \"rolling\", \"lags\", \"scores\", \"interactions\"]";
    params.rows.features = toml::from_str(text).unwrap();
    let detector = IsolationForestDetector::new(params.clone()).unwrap();
    let forged = [("/rows/features/series", serde_json::json!([]))];
    checks::restores_to_the_bit(&detector, &forged);
    checks::held_out_scores_do_not_know_their_block(&detector);
    checks::lists_what_it_cannot_score(&detector);
    params.rows.features.stages = vec!["views".into(), "views".into()];
    assert_eq!(params.check()[0].0, "rows.features.stages");
}

#[test]
fn what_cannot_be_scored_is_listed() {
    checks::lists_what_it_cannot_score(&detector());
}

#[test]
fn parameters_out_of_range_are_named() {
    let ok = IsolationForestParams::default();
    assert!(ok.check().is_empty());
    for (trees, sample_size, name) in
        [(0, 256, "trees"), (10_001, 256, "trees"), (9, 1, "sample_size")]
    {
        let wrong = IsolationForestParams { trees, sample_size, ..ok.clone() };
        assert_eq!(wrong.check()[0].0, name);
        assert!(IsolationForestDetector::new(wrong).is_err());
    }
    let mut wrong = ok;
    wrong.rows.widths_steps = vec![3, 1];
    assert_eq!(wrong.check()[0].0, "rows.widths_steps");
    assert!(IsolationForestDetector::new(wrong).unwrap_err().to_string().contains("widths_steps"));
    assert!(toml::from_str::<IsolationForestParams>("tree = 9").is_err());
}
