use jiff::tz::TimeZone;
use rand_distr::{Distribution, Poisson};

use super::*;
use crate::{
    math::random::stream,
    panel::{Calendar, Level, Metric, MetricKind},
};

const HOURS: usize = 24 * 35;
const TRAIN: usize = 24 * 21;

/// Two shops of views and carts with a daily wave.
fn values(seed: u64) -> Array3<f64> {
    let mut rng = stream(seed, "sub-sequences", 0);
    let mut values = Array3::zeros((2, HOURS, 2));
    for (series, time) in (0..2).flat_map(|s| (0..HOURS).map(move |t| (s, t))) {
        let day = (std::f64::consts::TAU * time as f64 / 24.0).sin();
        let mean = 100.0 * (1.0 + series as f64) * (1.0 + 0.5 * day);
        let busy: f64 = Poisson::new(40.0).unwrap().sample(&mut rng) / 40.0;
        values[[series, time, 0]] = Poisson::new(mean * busy).unwrap().sample(&mut rng);
        values[[series, time, 1]] = Poisson::new(0.3 * mean * busy).unwrap().sample(&mut rng);
    }
    values
}

fn panel(values: Array3<f64>) -> Panel {
    let count = |name: &str| Metric { name: name.into(), kind: MetricKind::Count };
    let (n, hours, _) = values.dim();
    Panel::new(
        Level { name: "shop".into(), id_columns: vec!["shop".into()] },
        Calendar::new(Step::HOUR, 1_767_571_200, hours, TimeZone::UTC),
        vec![count("views"), count("carts")],
        (0..n).map(|i| SeriesKey(vec![format!("shop {i}")])).collect(),
        vec![0..hours; n],
        values,
    )
    .unwrap()
}

fn detector() -> SubsequencePca {
    SubsequencePca::new(SubsequencePcaParams::default()).unwrap()
}

fn split(panel: &Panel) -> (Box<dyn FittedDetector>, Scores) {
    let plan = ScoringPlan::Split { train_len: TRAIN };
    detector().fit_score(panel, &FitMask::all(panel), plan, &FitContext::new(1)).unwrap()
}

/// tests/golden/subsequence_pca.py, scikit-learn 1.9.1. Both sides factor matrices of 18 columns in
/// double precision.
#[test]
fn scores_are_those_of_principal_components() {
    #[derive(Deserialize)]
    struct Golden {
        learnt: usize,
        window: usize,
        ridge: f64,
        values: Vec<[f64; 3]>,
        score: Vec<f64>,
    }
    let golden = include_str!("../../../tests/golden/subsequence_pca.json");
    let golden: Golden = serde_json::from_str(golden).unwrap();
    let values = ndarray::arr2(&golden.values);
    let starts: Vec<usize> = (0..=golden.learnt - golden.window).collect();
    let model = WindowModel::fit(values.view(), &starts, golden.window, golden.ridge).unwrap();
    let found = model.judge(values.view(), |_| true);
    for (time, (a, b)) in found.distance.iter().zip(&golden.score).enumerate() {
        assert!((a - b).abs() < 1e-10 * b, "{time}: {a} is not {b}");
    }
    let top = (0..values.nrows()).max_by(|a, b| golden.score[*a].total_cmp(&golden.score[*b]));
    assert!((135..148).contains(&top.unwrap()));
}

#[test]
fn spikes_and_drops_score_high_with_direction_and_share() {
    let mut changed = values(1);
    changed.slice_mut(s![0, 600..606, 0]).mapv_inplace(|v| 2.0 * v);
    changed.slice_mut(s![1, 700..706, 1]).fill(3.0);
    let (_, scores) = split(&panel(changed));
    let mut clean: Vec<f64> = scores.score.slice(s![.., 520..580]).iter().copied().collect();
    clean.sort_by(f64::total_cmp);
    let high = clean[clean.len() - 1];
    let share = scores.metric_share.as_ref().unwrap();
    for (series, time, metric, direction) in [(0, 603, 0, 1), (1, 703, 1, -1)] {
        let score = scores.score[[series, time]];
        assert!(score > 1.3 * high, "{score} is not above {high}");
        assert_eq!(scores.direction[[series, time]], direction);
        let part = share[[series, time, metric]];
        assert!(part > 0.5, "{part}");
    }
    for (cell, score) in scores.score.indexed_iter() {
        let sum = share.slice(s![cell.0, cell.1, ..]).sum();
        assert!(score.is_finite() && (sum - 1.0).abs() < 1e-5, "{cell:?}: {score}, {sum}");
    }
}

/// Carts without views: each metric alone stays within what is normal for it.
#[test]
fn metrics_that_part_company_are_found() {
    let mut changed = values(2);
    changed.slice_mut(s![0, 600..612, 0]).mapv_inplace(|v| 1.2 * v);
    changed.slice_mut(s![0, 600..612, 1]).mapv_inplace(|v| 0.75 * v);
    let (_, scores) = split(&panel(changed));
    let mean = |times: Range<usize>| scores.score.slice(s![0, times]).mean().unwrap();
    assert!(mean(600..612) > 1.5 * mean(520..580), "{} {}", mean(600..612), mean(520..580));
}

#[test]
fn a_missing_value_leaves_its_neighbours_scored() {
    let whole = panel(values(3));
    let mut gaps = values(3);
    gaps.slice_mut(s![0, 640..643, ..]).fill(f64::NAN);
    gaps[[0, 660, 1]] = f64::NAN;
    let (a, b) = (split(&whole).1, split(&panel(gaps)).1);
    assert!(b.score.slice(s![0, 640..643]).iter().all(|x| x.is_nan()));
    assert!(b.score.slice(s![0, 643..]).iter().all(|x| x.is_finite()));
    assert_eq!(b.metric_share.as_ref().unwrap()[[0, 660, 0]], 1.0);
    let (whole, gaps) = (a.score[[0, 639]], b.score[[0, 639]]);
    assert!((gaps / whole - 1.0).abs() < 0.5, "{gaps} for {whole}");
}

/// What is expected of a missing coordinate makes the distance that of the others alone.
#[test]
fn the_distance_of_a_gap_is_that_of_the_values_around_it() {
    let rows = input::standardise(values(4).slice(s![0, .., ..]), &[STANDARD, STANDARD]);
    let starts: Vec<usize> = (0..400).collect();
    let one = s![.., 0..1];
    let pair = WindowModel::fit(rows.view(), &starts, 1, 0.0).unwrap();
    let alone = WindowModel::fit(rows.slice(one), &starts, 1, 0.0).unwrap();
    let mut gap = rows.clone();
    gap.slice_mut(s![.., 1]).fill(f64::NAN);
    let (a, b) = (pair.judge(gap.view(), |_| true), alone.judge(rows.slice(one), |_| true));
    for (a, b) in a.distance.iter().zip(&b.distance) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }
}

const STANDARD: Standard = Standard { centre: 100.0, spread: 30.0 };

#[test]
fn a_checkpoint_scores_alike_and_a_forged_one_is_refused() {
    let panel = panel(values(5));
    let (context, mask) = (FitContext::new(1), FitMask::all(&panel));
    for input in [WindowInput::Residuals, WindowInput::Values] {
        let detector =
            SubsequencePca::new(SubsequencePcaParams { input, ..Default::default() }).unwrap();
        let fitted = detector.fit(&panel, &mask, &context).unwrap();
        let state = fitted.state().unwrap();
        let text = serde_json::to_string(&state.json).unwrap();
        let json = serde_json::from_str(&text).unwrap();
        let back = detector.restore(DetectorState { json, weights: None }, &context).unwrap();
        let scores = |fitted: &dyn FittedDetector| fitted.score(&panel, &mask, &context).unwrap();
        let (a, b) = (scores(fitted.as_ref()), scores(back.as_ref()));
        assert!(a.score.iter().zip(&b.score).all(|(a, b)| a.to_bits() == b.to_bits()));
        assert!(a.score.iter().all(|score| score.is_finite()));
        for (path, value) in [
            ("/models", serde_json::json!([])),
            ("/models/0/standards/0/spread", serde_json::json!(0.0)),
            ("/models/0/standards", serde_json::json!([])),
            ("/models/0/model/window", serde_json::json!(3)),
            ("/models/0/model/metrics", serde_json::json!(1)),
            ("/models/0/model/centre", serde_json::json!([0.0])),
            ("/models/0/model/precision/0", serde_json::json!(-1.0)),
            ("/metrics", serde_json::json!(["views"])),
        ] {
            let mut wrong = state.clone();
            *wrong.json.pointer_mut(path).unwrap() = value;
            assert!(detector.restore(wrong, &context).is_err(), "{path}");
        }
    }
}

/// Windows reach up to eleven steps into their neighbours, but nothing is learnt from the block.
#[test]
fn held_out_scores_do_not_know_their_block() {
    let plan = ScoringPlan::CrossFitted { block: 168 };
    let mut changed = values(6);
    changed.slice_mut(s![.., 336..340, ..]).fill(900.0);
    changed.slice_mut(s![.., 700..720, ..]).fill(0.0);
    let (whole, changed) = (panel(values(6)), panel(changed));
    let mut mask = FitMask::all(&whole);
    mask.forbid_times(700..720);
    let run = |panel: &Panel| {
        detector().fit_score(panel, &mask, plan, &FitContext::new(1)).unwrap().1.score
    };
    let (a, b) = (run(&whole), run(&changed));
    let same = s![.., 352..504];
    for (a, b) in a.slice(same).iter().zip(b.slice(same)) {
        assert!(a.is_finite() && a.to_bits() == b.to_bits(), "{a} is not {b}");
    }
    assert!(b[[0, 338]] > 2.0 * a[[0, 338]]);
}

#[test]
fn what_cannot_be_scored_is_listed() {
    let mut short = values(7);
    short.slice_mut(s![1, 5.., ..]).fill(f64::NAN);
    let short = panel(short);
    let (context, mask) = (FitContext::new(1), FitMask::all(&short));
    let fitted = detector().fit(&short, &mask, &context).unwrap();
    let scores = fitted.score(&short, &mask, &context).unwrap();
    assert_eq!(scores.failures.iter().map(|f| f.series).collect::<Vec<_>>(), [1]);
    assert!(scores.failures[0].reason.contains("longer history"));
    assert!(scores.score.row(0).iter().all(|x| x.is_finite()));
    assert!(scores.score.row(1).iter().all(|x| x.is_nan()));
    let days = Panel::new(
        short.level().clone(),
        Calendar::new(Step::Days(1), 0, HOURS, TimeZone::UTC),
        short.metrics().to_vec(),
        short.keys().to_vec(),
        vec![0..HOURS; 2],
        values(7),
    );
    let scores = fitted.score(&days.unwrap(), &mask, &context).unwrap();
    assert_eq!(scores.failures.len(), 2);
}

/// The sums of a series do not depend on how many threads share the series out.
#[test]
fn one_thread_scores_as_many_do() {
    let panel = panel(values(8));
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| split(&panel).1.score)
    };
    let (one, three) = (with(1), with(3));
    assert!(one.iter().zip(&three).all(|(a, b)| a.to_bits() == b.to_bits()));
}

#[test]
fn parameters_out_of_range_are_named() {
    let ok = SubsequencePcaParams::default();
    assert!(ok.check().is_empty());
    for (window_steps, max_columns, ridge, name) in [
        (1, 256, 0.05, "window_steps"),
        (257, 256, 0.05, "window_steps"),
        (0, 7, 0.05, "max_columns"),
        (0, 1_025, 0.05, "max_columns"),
        (0, 256, 0.0, "ridge"),
        (0, 256, f64::NAN, "ridge"),
    ] {
        let wrong = SubsequencePcaParams { window_steps, max_columns, ridge, ..ok.clone() };
        assert_eq!(wrong.check()[0].0, name);
        assert!(SubsequencePca::new(wrong).is_err());
    }
    let mut wrong = ok;
    wrong.profile.outlier_cutoff = 0.0;
    assert_eq!(wrong.check()[0].0, "profile.outlier_cutoff");
    assert!(SubsequencePca::new(wrong).unwrap_err().to_string().contains("outlier_cutoff"));
    assert!(toml::from_str::<SubsequencePcaParams>("window = 9").is_err());
}
