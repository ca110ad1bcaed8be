use std::sync::Arc;

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use super::*;
use crate::{math::random::stream, panel::WordColumn};

fn params(groups: &[FeatureGroup]) -> RecordFeatureParams {
    RecordFeatureParams {
        numeric: vec!["a".into(), "b".into()],
        categorical: vec!["channel".into()],
        log: vec![],
        context: vec!["channel".into()],
        groups: groups.to_vec(),
        ..RecordFeatureParams::default()
    }
}

const ALL: [FeatureGroup; 6] = [
    FeatureGroup::Context,
    FeatureGroup::Mismatch,
    FeatureGroup::Burst,
    FeatureGroup::Plain,
    FeatureGroup::OneHot,
    FeatureGroup::Missing,
];

/// Two channels that differ in both numbers, which correlate; 4 % are missing.
fn records(rows: usize, seed: u64) -> RecordBlock {
    let mut rng = stream(seed, "feature tests", 0);
    let mut block = RecordBlock { n_numbers: 2, ..RecordBlock::default() };
    let mut codes = Vec::new();
    for row in 0..rows {
        let channel = u32::from(rng.random::<f64>() < 0.4);
        let mut draw = || -> f64 { StandardNormal.sample(&mut rng) };
        let (shared, own) = (draw(), draw());
        let centre = if channel == 0 { 10.0 } else { 30.0 };
        let mut numbers = [centre + 2.0 * shared, 100.0 - 3.0 * centre + 2.0 * shared + own];
        for x in &mut numbers {
            if rng.random::<f64>() < 0.04 {
                *x = f64::NAN;
            }
        }
        block.numbers.extend(numbers);
        block.times.push(row as i64 * 60);
        codes.push(if rng.random::<f64>() < 0.04 { MISSING_WORD } else { channel });
    }
    let vocabulary = Arc::new(vec!["voice".to_string(), "chat".to_string()]);
    block.words = vec![WordColumn { vocabulary, codes }];
    block
}

fn fitted(groups: &[FeatureGroup]) -> RecordFeatures {
    RecordFeatures::fit(&records(3_000, 1), &params(groups)).unwrap()
}

/// The features of one row with these numbers, with nothing behind it.
fn of(features: &RecordFeatures, numbers: [f64; 2], word: &str) -> Vec<f64> {
    let block = RecordBlock {
        times: vec![0],
        n_numbers: 2,
        numbers: numbers.to_vec(),
        words: vec![WordColumn { vocabulary: Arc::new(vec![word.into()]), codes: vec![0] }],
    };
    features.transform(&block, &mut BurstState::default()).values.row(0).to_vec()
}

#[test]
fn changing_later_rows_never_changes_a_feature_of_an_earlier_one() {
    let features = fitted(&ALL);
    let block = records(500, 2);
    let before = features.transform(&block, &mut BurstState::default()).values;
    let mut changed = block.clone();
    for row in 300..500 {
        changed.numbers[2 * row] = 1e6;
        changed.words[0].codes[row] = MISSING_WORD;
        changed.times[row] += 1_000_000;
    }
    let after = features.transform(&changed, &mut BurstState::default()).values;
    for row in 0..300 {
        assert_eq!(before.row(row), after.row(row), "row {row}");
    }
    assert_ne!(before.row(300), after.row(300));
}

#[test]
fn rows_in_two_blocks_have_the_features_of_one() {
    let features = fitted(&ALL);
    let block = records(400, 3);
    let whole = features.transform(&block, &mut BurstState::default()).values;
    let mut state = BurstState::default();
    features.transform(&block.head(150), &mut state);
    let rest = RecordBlock {
        times: block.times[150..].to_vec(),
        n_numbers: 2,
        numbers: block.numbers[300..].to_vec(),
        words: vec![WordColumn {
            vocabulary: Arc::clone(&block.words[0].vocabulary),
            codes: block.words[0].codes[150..].to_vec(),
        }],
    };
    // What earlier rows leave behind survives a checkpoint.
    let text = serde_json::to_string(&state).unwrap();
    let mut state: BurstState = serde_json::from_str(&text).unwrap();
    let second = features.transform(&rest, &mut state).values;
    for row in 0..250 {
        for (a, b) in whole.row(150 + row).iter().zip(second.row(row)) {
            assert!((a - b).abs() < 1e-9, "row {row}: {a} {b}");
        }
    }
}

#[test]
fn numbers_that_are_normal_elsewhere_are_odd_in_their_context() {
    let features = fitted(&[FeatureGroup::Context, FeatureGroup::Mismatch]);
    let at_home = of(&features, [10.0, 70.0], "voice");
    let abroad = of(&features, [10.0, 70.0], "chat");
    assert!(abroad[0] > at_home[0] + 1.0, "{abroad:?} {at_home:?}");
    assert!(abroad[2] > at_home[2] + 1.0, "{abroad:?} {at_home:?}");
}

#[test]
fn numbers_that_contradict_each_other_are_odder_than_either_alone() {
    let features = fitted(&[FeatureGroup::Context]);
    let size = |numbers| of(&features, numbers, "voice").iter().sum::<f64>();
    // Both high is what the correlation leads to expect; one high and one low is not.
    assert!(size([13.0, 67.0]) > size([13.0, 73.0]) + 0.5);
}

#[test]
fn unknown_and_missing_words_are_handled() {
    let features = fitted(&ALL);
    let names = features.names();
    let place = |name: &str| names.iter().position(|n| n == name).unwrap();
    let unknown = of(&features, [10.0, 70.0], "carrier pigeon");
    assert_eq!((unknown[place("channel=voice")], unknown[place("channel=chat")]), (0.0, 0.0));
    assert!(unknown.iter().all(|x| x.is_finite()));
    let mut block = records(1, 1);
    block.words[0].codes[0] = MISSING_WORD;
    block.numbers = vec![f64::NAN, f64::NAN];
    let missing = features.transform(&block, &mut BurstState::default()).values.row(0).to_vec();
    assert_eq!(missing[place("channel=voice")], 1.0, "the most frequent word stands in");
    assert_eq!((missing[place("a_missing")], missing[place("b_missing")]), (1.0, 1.0));
    assert_eq!(
        missing[place("plain_a")],
        of(&features, [f64::NAN, 70.0], "voice")[place("plain_a")]
    );
    assert!(missing.iter().all(|x| x.is_finite()));
}

#[test]
fn plain_numbers_are_scaled_by_the_training_rows_alone() {
    for scaling in [Scaling::Robust, Scaling::Standard] {
        let params = RecordFeatureParams { scaling, ..params(&[FeatureGroup::Plain]) };
        let training = records(3_000, 1);
        let features = RecordFeatures::fit(&training, &params).unwrap();
        let values = features.transform(&training, &mut BurstState::default()).values;
        let column = values.column(0).to_vec();
        let centre = column.iter().sum::<f64>() / column.len() as f64;
        assert!(centre.abs() < 1.0, "{centre}");
        let shifted = of(&features, [1_000.0, 0.0], "voice");
        assert!(shifted[0] > 20.0, "a later row never moves the scale");
    }
}

#[test]
fn a_small_context_borrows_from_all_rows() {
    let mut training = records(3_000, 1);
    Arc::make_mut(&mut training.words[0].vocabulary).push("email".into());
    for row in 0..4 {
        training.words[0].codes[row] = 2;
        training.numbers[2 * row..2 * row + 2].copy_from_slice(&[500.0, 500.0]);
    }
    let features = RecordFeatures::fit(&training, &params(&[FeatureGroup::Context])).unwrap();
    let typical = of(&features, [12.0, 66.0], "email");
    assert!(
        typical[0] < 3.0,
        "four rows do not make 12 odd where most rows are near it: {typical:?}"
    );
}

#[test]
fn too_little_to_learn_from_is_an_error_and_damage_is_seen() {
    let params = params(&ALL);
    let error = RecordFeatures::fit(&records(50, 1), &params).unwrap_err().to_string();
    assert!(error.contains("50 rows are too few"), "{error}");
    let mut empty = records(200, 1);
    empty.numbers.iter_mut().skip(1).step_by(2).for_each(|x| *x = f64::NAN);
    let error = RecordFeatures::fit(&empty, &params).unwrap_err().to_string();
    assert!(error.contains("`b`"), "{error}");
    let mut value = serde_json::to_value(fitted(&ALL)).unwrap();
    assert!(serde_json::from_value::<RecordFeatures>(value.clone()).unwrap().validate().is_ok());
    value["whitening"] = serde_json::json!([1.0]);
    let damaged: RecordFeatures = serde_json::from_value(value).unwrap();
    assert!(damaged.validate().is_err());
}

#[test]
fn every_bad_parameter_is_named() {
    let params = RecordFeatureParams {
        numeric: vec![],
        log: vec!["x".into()],
        context: vec!["y".into()],
        groups: vec![],
        context_prior_rows: f64::NAN,
        burst_rows: vec![1],
        burst_hours: 0.0,
        ..RecordFeatureParams::default()
    };
    let keys: Vec<String> = params.check().into_iter().map(|(key, _)| key).collect();
    let expected =
        ["numeric", "log", "context", "groups", "context_prior_rows", "burst_rows", "burst_hours"];
    assert_eq!(keys, expected);
    assert!(RecordFeatureParams::default().check().is_empty());
}
