use jiff::tz::TimeZone;
use ndarray::{Array3, s};

use super::*;
use crate::panel::{Calendar, Level, Metric, MetricKind};

const GROUPS: [FeatureGroup; 6] = [
    FeatureGroup::Time,
    FeatureGroup::Ratios,
    FeatureGroup::Rolling,
    FeatureGroup::Lags,
    FeatureGroup::Scores,
    FeatureGroup::Interactions,
];
const HOURS: usize = 24 * 40;

fn values() -> Array3<f64> {
    Array3::from_shape_fn((2, HOURS, 3), |(s, t, m)| {
        let wave = ((t * 7 + s * 3) % 24) as f64 + ((t * 31 + m * 17) % 11) as f64;
        ((100.0 + 5.0 * wave) * [1.0, 0.4, 0.1][m]).round()
    })
}

fn panel_of(values: Array3<f64>, step: Step, names: &[&str]) -> Panel {
    let (n, times, _) = values.dim();
    let count = |name: &&str| Metric { name: name.to_string(), kind: MetricKind::Count };
    Panel::new(
        Level { name: "brand".into(), id_columns: vec!["brand".into()] },
        // 2026-01-05, a Monday.
        Calendar::new(step, 1_767_571_200, times, TimeZone::UTC),
        names.iter().map(count).collect(),
        (0..n).map(|i| SeriesKey(vec![format!("brand {i}")])).collect(),
        vec![0..times; n],
        values,
    )
    .unwrap()
}

fn panel(values: Array3<f64>) -> Panel {
    panel_of(values, Step::HOUR, &["views", "carts", "purchases"])
}

fn params() -> FunnelParams {
    FunnelParams { groups: GROUPS.to_vec(), ..Default::default() }
}

fn all(panel: &Panel) -> Array2<bool> {
    Array2::from_elem((panel.n_series(), panel.n_times()), true)
}

/// Bits, so that NaN equals NaN.
fn bits(rows: ndarray::ArrayView2<f64>) -> Vec<u64> {
    rows.iter().map(|x| x.to_bits()).collect()
}

fn column(features: &FunnelFeatures, rows: &Array2<f64>, name: &str) -> Vec<f64> {
    let place = features.names().iter().position(|n| n == name);
    rows.column(place.unwrap_or_else(|| panic!("{name} in {:?}", features.names()))).to_vec()
}

#[test]
fn the_future_never_changes_a_feature_of_the_past() {
    let before = panel(values());
    let allowed = Array2::from_shape_fn((2, HOURS), |(_, t)| t < 800);
    let features = FunnelFeatures::fit(&before, allowed.view(), &params());
    for cut in [300, 810, 900] {
        let mut changed = values();
        changed.slice_mut(s![.., cut.., ..]).mapv_inplace(|v| 3.0 * v + 1_000.0);
        let after = panel(changed);
        let past = all(&before);
        let rows = |panel: &Panel| features.of_series(panel, 0, past.row(0)).unwrap();
        let (a, b) = (rows(&before), rows(&after));
        assert_eq!(bits(a.slice(s![..cut, ..])), bits(b.slice(s![..cut, ..])), "{cut}");
        assert_ne!(bits(a.slice(s![cut.., ..])), bits(b.slice(s![cut.., ..])));
        if cut >= 800 {
            let refitted = FunnelFeatures::fit(&after, allowed.view(), &params());
            assert_eq!(
                serde_json::to_string(&features).unwrap(),
                serde_json::to_string(&refitted).unwrap()
            );
        }
    }
}

/// A held-out or known cell changes its own features only.
#[test]
fn forbidden_cells_are_nobodys_past() {
    let before = panel(values());
    let mut changed = values();
    changed.slice_mut(s![.., 500..510, ..]).fill(9_999.0);
    let after = panel(changed);
    let mut allowed = all(&before);
    allowed.slice_mut(s![.., 500..510]).fill(false);
    let of = |panel: &Panel| {
        let features = FunnelFeatures::fit(panel, allowed.view(), &params());
        features.of_series(panel, 1, allowed.row(1)).unwrap()
    };
    let (a, b) = (of(&before), of(&after));
    assert_eq!(bits(a.slice(s![..500, ..])), bits(b.slice(s![..500, ..])));
    assert_eq!(bits(a.slice(s![510.., ..])), bits(b.slice(s![510.., ..])));
}

#[test]
fn columns_are_what_the_table_says() {
    let mut given = values();
    given.slice_mut(s![0, 900, ..]).assign(&ndarray::arr1(&[0.0, 0.0, 0.0]));
    let panel = panel(given);
    let mut with_holiday = params();
    with_holiday.holidays = vec!["2026-01-06".into()];
    let features = FunnelFeatures::fit(&panel, all(&panel).view(), &with_holiday);
    let past = all(&panel);
    let rows = features.of_series(&panel, 0, past.row(0)).unwrap();
    let of = |name: &str| column(&features, &rows, name);
    assert_eq!(rows.ncols(), features.width());
    assert_eq!(features.metrics_of().len(), features.width());
    assert_eq!((of("hour")[30], of("weekday")[30]), (6.0 / 24.0, 1.0 / 7.0));
    assert_eq!((of("weekend")[5 * 24], of("weekend")[4 * 24]), (1.0, 0.0));
    let holiday = of("holiday");
    assert_eq!((holiday[23], holiday[24], holiday[47], holiday[48]), (0.0, 1.0, 1.0, 0.0));
    let ratio = of("purchases_per_carts");
    assert!(ratio[900].is_nan() && ratio[899].is_finite());
    assert!(of("views_less_168h")[167].is_nan() && of("views_less_168h")[168].is_finite());
    let percentile = of("views_percentile");
    assert!(percentile[900] < 0.01 && percentile.iter().all(|p| (0.0..=1.0).contains(p)));
    assert!(of("views_vs_7d")[900] < of("views_vs_7d")[899]);
    assert!(of("views_z")[900] < -1.0 && of("views_x_carts")[900] > 1.0);
    // The rolling window leaves its own step out: mean and deviation by hand.
    let roots: Vec<f64> = panel.metric(0, 0).iter().map(|v| v.sqrt()).collect();
    let window = &roots[500 - 168..500];
    let mean = window.iter().sum::<f64>() / 168.0;
    let sd = (window.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 167.0).sqrt();
    let history = History::new(&panel, 0, past.row(0), &identity(3));
    let found = history.raw(&Column::Rolling(0, 7, 168))[500];
    assert!((found - (roots[500] - mean) / sd).abs() < 1e-9, "{found}");
    let ratio = history.raw(&Column::Ratio(1, 0))[500];
    let (views, carts) = (panel.values()[[0, 500, 0]], panel.values()[[0, 500, 1]]);
    assert!((ratio - ((carts + 0.5) / (views - carts + 0.5)).ln()).abs() < 1e-12);
}

#[test]
fn a_panel_without_stages_or_of_weeks_has_fewer_columns() {
    let groups = |panel: &Panel| FunnelFeatures::fit(panel, all(panel).view(), &params()).names();
    let other = panel_of(values(), Step::HOUR, &["load", "latency", "errors"]);
    assert!(groups(&other).iter().all(|name| !name.contains("_per_load")));
    let weeks = panel_of(values(), Step::Week, &["views", "carts", "purchases"]);
    let names = groups(&weeks);
    assert!(names.contains(&"views_less_168h".into()) && names.contains(&"carts_per_views".into()));
    assert!(!names.iter().any(|name| name.contains("_24h") || name.contains("_7d")), "{names:?}");
}

#[test]
fn features_come_back_from_a_checkpoint_and_forged_ones_are_refused() {
    let panel = panel(values());
    let features = FunnelFeatures::fit(&panel, all(&panel).view(), &params());
    assert_eq!(features.defect(), None);
    let json = serde_json::to_value(&features).unwrap();
    let text = serde_json::to_string(&json).unwrap();
    let back: FunnelFeatures = serde_json::from_str(&text).unwrap();
    let past = all(&panel);
    let rows = |features: &FunnelFeatures| features.of_series(&panel, 1, past.row(1)).unwrap();
    assert_eq!(bits(rows(&features).view()), bits(rows(&back).view()));
    for (path, value) in [
        ("/series", serde_json::json!([])),
        ("/series/0/scales", serde_json::json!([])),
        ("/series/0/scales/4/spread", serde_json::json!(0.0)),
        ("/series/1/percentiles/0", serde_json::json!([3.0, 2.0])),
        ("/params/groups", serde_json::json!(["time"])),
        ("/params/holidays", serde_json::json!(["soon"])),
    ] {
        let mut wrong = json.clone();
        *wrong.pointer_mut(path).unwrap_or(&mut serde_json::Value::Null) = value.clone();
        if path == "/params/holidays" {
            wrong["params"]["holidays"] = value;
        }
        let read: FunnelFeatures = serde_json::from_value(wrong).unwrap();
        assert!(read.defect().is_some(), "{path}");
    }
}

#[test]
fn parameters_out_of_range_are_named() {
    assert!(params().check().is_empty());
    let with = |text: &str| toml::from_str::<FunnelParams>(text).unwrap().check();
    assert_eq!(with("stages = [\"views\", \"views\"]")[0].0, "stages");
    assert_eq!(with("groups = [\"time\", \"time\"]")[0].0, "groups");
    assert_eq!(with("holidays = [\"2026-13-01\"]")[0].0, "holidays");
    assert!(toml::from_str::<FunnelParams>("groups = [\"tide\"]").is_err());
}
