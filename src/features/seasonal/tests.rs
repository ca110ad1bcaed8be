use std::ops::Range;

use jiff::tz::TimeZone;
use ndarray::{Array3, s};
use rand::Rng;
use rand_distr::{Binomial, Distribution, Gamma, Normal, Poisson, StandardNormal};

use super::*;
use crate::{
    math::random::stream,
    panel::{Calendar, Level, Metric},
};

/// 2026-01-05, a Monday.
const MONDAY: i64 = 1_767_571_200;

fn metric(name: &str, kind: MetricKind) -> Metric {
    Metric { name: name.into(), kind }
}

/// One series with the columns `columns[metric][time]`.
fn panel_of(step: Step, zone: TimeZone, columns: &[(Metric, Vec<f64>)]) -> Panel {
    let times = columns[0].1.len();
    Panel::new(
        Level { name: "key".into(), id_columns: vec!["key".into()] },
        Calendar::new(step, MONDAY, times, zone),
        columns.iter().map(|(metric, _)| metric.clone()).collect(),
        vec![SeriesKey(vec!["a".into()])],
        std::iter::once(0..times).collect(),
        Array3::from_shape_fn((1, times, columns.len()), |(_, t, m)| columns[m].1[t]),
    )
    .unwrap()
}

fn hourly(kind: MetricKind, values: Vec<f64>) -> Panel {
    panel_of(Step::HOUR, TimeZone::UTC, &[(metric("x", kind), values)])
}

fn allow(panel: &Panel, times: Range<usize>) -> Array2<bool> {
    let mut allowed = Array2::from_elem((panel.n_series(), panel.n_times()), false);
    allowed.slice_mut(s![.., times]).fill(true);
    allowed
}

/// Fits on `train` and returns the residuals of everything.
fn residuals(panel: &Panel, train: Range<usize>) -> Residuals {
    let allowed = allow(panel, train);
    SeasonalProfile::fit(panel, allowed.view(), &ProfileParams::default()).residuals(panel)
}

fn day_wave(t: usize) -> f64 {
    ((t % 24) as f64 / 24.0 * std::f64::consts::TAU).sin()
}

fn poisson(rng: &mut impl Rng, mean: f64) -> f64 {
    Poisson::new(mean).unwrap().sample(rng)
}

/// Counts around `mean(t)` with gamma-Poisson noise of dispersion `alpha`.
fn counts(seed: u64, n: usize, alpha: f64, mean: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut rng = stream(seed, "seasonal counts", 0);
    let factor = Gamma::new(1.0 / alpha, alpha).unwrap();
    (0..n)
        .map(|t| {
            let rate: f64 = mean(t) * factor.sample(&mut rng);
            poisson(&mut rng, rate.max(1e-9))
        })
        .collect()
}

/// Standard deviation and share beyond 2.576 of residuals from `from` on.
fn spread(residuals: &Residuals, from: usize) -> (f64, f64) {
    let z: Vec<f64> =
        residuals.z.slice(s![0, from.., 0]).iter().copied().filter(|z| !z.is_nan()).collect();
    let n = z.len() as f64;
    let sd = (z.iter().map(|z| z * z).sum::<f64>() / n).sqrt();
    (sd, z.iter().filter(|z| z.abs() > 2.576).count() as f64 / n)
}

#[test]
fn residuals_of_unseen_counts_have_unit_spread_at_every_size() {
    for mean in [0.3, 4.0, 60.0, 3_000.0] {
        let values = counts(1, 24 * 90, 0.02, |t| mean * (1.0 + 0.6 * day_wave(t)));
        let (sd, beyond) = spread(&residuals(&hourly(MetricKind::Count, values), 0..1_296), 1_296);
        assert!((0.75..1.12).contains(&sd), "mean {mean}: {sd}");
        assert!(beyond < 0.02, "mean {mean}: {beyond}");
    }
}

#[test]
fn expectations_follow_hour_and_weekday() {
    let truth = |t: usize| (if t / 24 % 7 >= 5 { 40.0 } else { 100.0 }) * (1.2 + day_wave(t));
    let found = residuals(&hourly(MetricKind::Count, counts(2, 24 * 84, 0.01, truth)), 0..1_344);
    for t in 1_344..2_016 {
        let expected = found.expected[[0, t, 0]];
        assert!((expected / truth(t) - 1.0).abs() < 0.25, "{t}: {expected}, not {}", truth(t));
    }
}

#[test]
fn growth_is_normal_and_a_shift_of_two_days_is_not() {
    let mut values = counts(3, 24 * 90, 0.005, |t| 200.0 * (1.0 + 0.1 * t as f64 / 720.0));
    values[1_700..1_748].iter_mut().for_each(|v| *v = (*v * 1.5).round());
    let found = residuals(&hourly(MetricKind::Count, values), 0..1_296);
    let mean = |times: Range<usize>| found.z.slice(s![0, times, 0]).mean().unwrap();
    assert!(mean(1_400..1_700).abs() < 0.6, "{}", mean(1_400..1_700));
    assert!(mean(1_700..1_748) > 3.0);
    assert!(mean(1_725..1_748) > 3.0, "the level has followed the shift");
}

#[test]
fn a_lasting_change_becomes_normal_within_the_window() {
    let values = counts(4, 24 * 60, 0.005, |t| if t < 960 { 100.0 } else { 200.0 });
    let found = residuals(&hourly(MetricKind::Count, values), 0..700);
    let late = found.z.slice(s![0, 1_340.., 0]).mean().unwrap();
    assert!(late.abs() < 0.5, "{late}");
}

#[test]
fn anomalies_in_the_learnt_part_leave_the_profile_where_it_was() {
    let clean = counts(5, 24 * 56, 0.01, |t| 50.0 * (1.2 + day_wave(t)));
    let mut dirty = clean.clone();
    for start in [100, 400, 700, 1_000] {
        dirty[start..start + 8].iter_mut().for_each(|v| *v *= 6.0);
    }
    let (a, b) = (
        residuals(&hourly(MetricKind::Count, clean), 0..1_344),
        residuals(&hourly(MetricKind::Count, dirty), 0..1_344),
    );
    for t in 0..1_344 {
        let ratio = b.expected[[0, t, 0]] / a.expected[[0, t, 0]];
        assert!((ratio - 1.0).abs() < 0.08, "{t}: {ratio}");
    }
    assert!(b.z[[0, 404, 0]] > 6.0);
}

#[test]
fn forbidden_cells_teach_nothing() {
    let values = counts(6, 24 * 56, 0.01, |t| 50.0 * (1.2 + day_wave(t)));
    let mut other = values.clone();
    other[1_000..1_100].fill(9_999.0);
    let fit = |values: Vec<f64>| {
        let panel = hourly(MetricKind::Count, values);
        let mut allowed = allow(&panel, 0..1_344);
        allowed.slice_mut(s![.., 1_000..1_100]).fill(false);
        let profile = SeasonalProfile::fit(&panel, allowed.view(), &ProfileParams::default());
        profile.residuals_where(&panel, allowed.view()).expected
    };
    assert_eq!(fit(values), fit(other));
}

#[test]
fn a_cell_never_moves_its_own_expectation_nor_an_earlier_one() {
    let values = counts(7, 24 * 60, 0.01, |t| 50.0 * (1.2 + day_wave(t)));
    let panel = hourly(MetricKind::Count, values.clone());
    let allowed = allow(&panel, 0..720);
    let profile = SeasonalProfile::fit(&panel, allowed.view(), &ProfileParams::default());
    let mut changed = values;
    changed[1_100] = 5_000.0;
    let (a, b) =
        (profile.residuals(&panel), profile.residuals(&hourly(MetricKind::Count, changed)));
    let upto = s![0, ..=1_100, 0];
    assert_eq!(a.expected.slice(upto), b.expected.slice(upto));
}

#[test]
fn a_conversion_collapse_shows_at_normal_views_and_nowhere_else() {
    let mut rng = stream(8, "conversion", 0);
    let views = counts(8, 24 * 70, 0.02, |t| 400.0 * (1.2 + day_wave(t)));
    let purchases: Vec<f64> = views
        .iter()
        .enumerate()
        .map(|(t, v)| {
            let p = if (1_500..1_510).contains(&t) { 0.005 } else { 0.04 };
            Binomial::new(*v as u64, p).unwrap().sample(&mut rng) as f64
        })
        .collect();
    let rate = views.iter().zip(&purchases).map(|(v, p)| if *v > 0.0 { p / v } else { f64::NAN });
    let ratio = MetricKind::Ratio { numerator: "purchases".into(), denominator: "views".into() };
    let rate = rate.collect();
    let panel = panel_of(
        Step::HOUR,
        TimeZone::UTC,
        &[
            (metric("views", MetricKind::Count), views),
            (metric("purchases", MetricKind::Count), purchases),
            (metric("rate", ratio), rate),
        ],
    );
    let found = residuals(&panel, 0..1_000);
    let during = found.windows(&panel, 6, None);
    assert!(during[[0, 1_507, 2]] < -6.0, "{}", during[[0, 1_507, 2]]);
    assert!(during[[0, 1_507, 0]].abs() < 4.5);
    let calm = found.z.slice(s![0, 1_000..1_500, 2]);
    assert!((0.8..1.15).contains(&calm.std(0.0)), "{}", calm.std(0.0));
}

#[test]
fn a_ratio_without_a_denominator_is_missing() {
    let views = vec![0.0, 5.0, f64::NAN, 50.0, 40.0, 30.0, 20.0, 60.0];
    let buys = vec![0.0, 1.0, 1.0, 4.0, 4.0, 2.0, 3.0, 5.0];
    let rate = views.iter().zip(&buys).map(|(v, b)| b / v).collect();
    let ratio = MetricKind::Ratio { numerator: "buys".into(), denominator: "views".into() };
    let columns = [
        (metric("views", MetricKind::Count), views),
        (metric("buys", MetricKind::Count), buys),
        (metric("rate", ratio), rate),
    ];
    let found = residuals(&panel_of(Step::HOUR, TimeZone::UTC, &columns), 0..8);
    assert!(found.z[[0, 0, 2]].is_nan() && found.z[[0, 2, 2]].is_nan());
    assert!(found.z[[0, 3, 2]].is_finite());
}

#[test]
fn the_interval_holds_its_share_and_the_expected_value() {
    let mut rng = stream(9, "heavy", 0);
    // Student's t with 3 degrees of freedom: far heavier than normal.
    let heavy: Vec<f64> = (0..24 * 90)
        .map(|t| {
            let z: f64 = StandardNormal.sample(&mut rng);
            let chi: f64 = Gamma::new(1.5, 2.0).unwrap().sample(&mut rng);
            20.0 + 5.0 * day_wave(t) + z / (chi / 3.0).sqrt()
        })
        .collect();
    for (kind, values) in [
        (MetricKind::Measure, heavy),
        (MetricKind::Count, counts(9, 24 * 90, 0.05, |t| 30.0 * (1.2 + day_wave(t)))),
    ] {
        let panel = hourly(kind, values);
        let found = residuals(&panel, 0..1_296);
        let (lower, upper) = found.bounds(0.95, 0..panel.n_times());
        let mut inside = 0.0;
        for t in 1_296..2_160 {
            let (low, high) = (lower[[0, t, 0]], upper[[0, t, 0]]);
            assert!(low <= found.expected[[0, t, 0]] && found.expected[[0, t, 0]] <= high);
            inside += f64::from(u8::from((low..=high).contains(&panel.values()[[0, t, 0]])));
        }
        assert!((0.93..0.98).contains(&(inside / 864.0)), "{}", inside / 864.0);
    }
}

#[test]
fn residuals_lead_back_to_the_values() {
    let panel = hourly(MetricKind::Count, counts(10, 24 * 30, 0.05, |_| 12.0));
    let found = residuals(&panel, 0..720);
    for t in 0..720 {
        let back = found.expected_from_z(0, t, 0, found.z[[0, t, 0]]);
        assert!((back - panel.values()[[0, t, 0]]).abs() < 1e-3, "{t}: {back}");
    }
}

#[test]
fn the_hour_on_the_wall_clock_counts_over_a_change_to_summer_time() {
    // Berlin changes on 2026-03-29; a shop that opens at 9 opens at 9 on the wall clock.
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let calendar = Calendar::new(Step::HOUR, MONDAY, 24 * 110, zone.clone());
    let mut rng = stream(11, "summer", 0);
    let values: Vec<f64> = (0..24 * 110)
        .map(|t| {
            let hour = calendar.local(t).second_of_day / 3_600;
            poisson(&mut rng, if (9..18).contains(&hour) { 80.0 } else { 3.0 })
        })
        .collect();
    let panel = panel_of(Step::HOUR, zone, &[(metric("x", MetricKind::Count), values)]);
    let (sd, beyond) = spread(&residuals(&panel, 0..24 * 80), 24 * 85);
    assert!(sd < 1.15 && beyond < 0.02, "{sd} {beyond}");
}

#[test]
fn windows_gather_what_single_steps_cannot_show() {
    let mut rng = stream(12, "windows", 0);
    let noise = Normal::new(0.0, 1.0).unwrap();
    let values: Vec<f64> = (0..24 * 60)
        .map(|t| noise.sample(&mut rng) + if (1_200..1_224).contains(&t) { -1.5 } else { 0.0 })
        .collect();
    let panel = hourly(MetricKind::Measure, values);
    let found = residuals(&panel, 0..1_000);
    let wide = found.windows(&panel, 12, None);
    assert!(wide[[0, 1_222, 0]] < -3.5, "{}", wide[[0, 1_222, 0]]);
    let calm = wide.slice(s![0, 1_020..1_190, 0]).std(0.0);
    assert!((0.6..1.5).contains(&calm), "{calm}");
}

#[test]
fn weekly_years_give_a_season_and_short_ones_none_that_is_not_there() {
    let week = |t: usize| (t as f64 * 7.0 / 365.2425 * std::f64::consts::TAU).cos();
    let error = |weeks: usize, amplitude: f64| {
        let truth = |t: usize| 80.0 * (1.0 + amplitude * week(t));
        let values = counts(13, weeks, 0.01, truth);
        let columns = [(metric("x", MetricKind::Count), values)];
        let found = residuals(&panel_of(Step::Week, TimeZone::UTC, &columns), 0..weeks);
        let errors = (0..weeks).map(|t| (found.expected[[0, t, 0]] / truth(t) - 1.0).powi(2));
        (errors.sum::<f64>() / weeks as f64).sqrt()
    };
    assert!(error(208, 0.5) < 0.12, "{}", error(208, 0.5));
    assert!(error(52, 0.5) < 0.2, "{}", error(52, 0.5));
    assert!(error(52, 0.0) < 0.08, "{}", error(52, 0.0));
}

#[test]
fn hostile_series_give_finite_residuals_or_none() {
    let spike = |at: usize, n: usize| {
        let mut values = vec![5.0; n];
        values[at] = 1e15;
        values
    };
    let mut late = vec![f64::NAN; 400];
    late.extend((0..200).map(|i| f64::from(i % 7)));
    let mut sparse = vec![0.0; 600];
    sparse[50] = 1.0;
    sparse[500] = 3.0;
    let hostile: Vec<Vec<f64>> = vec![
        vec![0.0; 600],
        vec![7.0; 600],
        spike(300, 600),
        late,
        sparse,
        (0..600).map(|i| -f64::from(i % 5)).collect(),
        (0..10).map(f64::from).collect(),
        vec![f64::NAN; 10],
        vec![1.0],
        vec![1e-300, 1e300, 0.0, 5.0, 2.0, 1e-300],
    ];
    for values in hostile {
        for step in [Step::HOUR, Step::Seconds(60), Step::Days(1), Step::Days(3), Step::Week] {
            for kind in [MetricKind::Count, MetricKind::Amount, MetricKind::Measure] {
                let columns = [(metric("x", kind.clone()), values.clone())];
                let panel = panel_of(step, TimeZone::UTC, &columns);
                let found = residuals(&panel, 0..values.len());
                let (lower, upper) = found.bounds(0.99, 0..values.len());
                let windows = found.windows(&panel, 6, None);
                for cell in [&found.z, &found.expected, &lower, &upper, &windows] {
                    assert!(
                        cell.iter().all(|v| !v.is_infinite()),
                        "{kind:?} {step:?} {:?}",
                        &values[..values.len().min(6)]
                    );
                }
            }
        }
    }
}

#[test]
fn a_stuck_series_that_moves_is_far_out() {
    let mut values = vec![7.0; 600];
    values[500] = 8.0;
    let found = residuals(&hourly(MetricKind::Measure, values), 0..450);
    assert!(found.z[[0, 500, 0]] > 5.0);
    assert!(found.z[[0, 400, 0]].abs() < 1e-6);
}

#[test]
fn a_short_new_batch_starts_from_the_level_that_the_fit_ended_with() {
    let all = counts(14, 24 * 60, 0.005, |t| 100.0 * (1.0 + 0.5 * t as f64 / 1_440.0));
    let panel = hourly(MetricKind::Count, all.clone());
    let allowed = allow(&panel, 0..1_392);
    let profile = SeasonalProfile::fit(&panel, allowed.view(), &ProfileParams::default());
    let batch = Panel::new(
        panel.level().clone(),
        Calendar::new(Step::HOUR, MONDAY + 1_392 * 3_600, 48, TimeZone::UTC),
        panel.metrics().to_vec(),
        panel.keys().to_vec(),
        std::iter::once(0..48).collect(),
        panel.values().slice(s![.., 1_392.., ..]).to_owned(),
    )
    .unwrap();
    let (whole, part) = (profile.residuals(&panel), profile.residuals(&batch));
    for t in 0..24 {
        let (a, b) = (whole.expected[[0, 1_392 + t, 0]], part.expected[[0, t, 0]]);
        assert!((a / b - 1.0).abs() < 0.01, "{t}: {a} {b}");
    }
}

#[test]
fn a_profile_survives_a_checkpoint_and_a_forged_one_is_found_out() {
    let panel = hourly(MetricKind::Count, counts(15, 24 * 30, 0.05, |_| 12.0));
    let allowed = allow(&panel, 0..720);
    let profile = SeasonalProfile::fit(&panel, allowed.view(), &ProfileParams::default());
    let json = serde_json::to_value(&profile).unwrap();
    let back: SeasonalProfile = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(back.defect(), None);
    assert_eq!(profile.residuals(&panel).z, back.residuals(&panel).z);
    for (path, value) in [
        ("/profiles/0/0/spread", serde_json::json!(0.0)),
        ("/profiles/0/0/noise/unit", serde_json::json!(-1.0)),
        ("/profiles/0/0/tables/0/1", serde_json::json!([1.0, 2.0])),
        ("/profiles/0", serde_json::json!([])),
        ("/keys", serde_json::json!([])),
    ] {
        let mut forged = json.clone();
        *forged.pointer_mut(path).unwrap() = value;
        let forged: SeasonalProfile = serde_json::from_value(forged).unwrap();
        assert!(forged.defect().is_some(), "{path}");
    }
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let panel = hourly(MetricKind::Count, counts(16, 24 * 30, 0.05, |_| 12.0));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| residuals(&panel, 0..500).z)
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn parameters_out_of_range_are_named() {
    let ok = ProfileParams::default();
    assert!(ok.check().is_empty());
    assert!(ProfileParams { level_window_days: Some(0.0), ..ok.clone() }.check().is_empty());
    for days in [-1.0, f64::NAN, f64::INFINITY] {
        let wrong = ProfileParams { level_window_days: Some(days), ..ok.clone() };
        assert_eq!(wrong.check()[0].0, "level_window_days");
    }
    for outlier_cutoff in [0.9, 101.0, f64::NAN] {
        let wrong = ProfileParams { outlier_cutoff, ..ok.clone() };
        assert_eq!(wrong.check()[0].0, "outlier_cutoff");
    }
    assert!(toml::from_str::<ProfileParams>("sesaon = \"auto\"").is_err());
}
