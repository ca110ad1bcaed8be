//! Decision rules and injection tests from outside: what a run flags, says and writes.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;
use support::{anomalist, ok, text};

/// No LSTM, no charts to speak of.
const SMALL: &[&str] = &[
    "--set",
    "ensemble.members=[\"nb2\", \"seasonal_profile\"]",
    "--set",
    "report.top=1",
    "--set",
    "output.parquet=false",
    "--device",
    "cpu",
    "--json",
];

/// Weekly data without anomalies.
const CLEAN: &[&str] = &["--set", "generate.weekly.events_per_key_year=0"];

fn json(dir: &Path, args: &[&[&str]]) -> Value {
    serde_json::from_str(&ok(dir, &args.concat())).expect("stdout is JSON")
}

/// The rows of a CSV file as maps from column to text; no cell of these files holds a comma.
fn rows(path: &Path) -> Vec<BTreeMap<String, String>> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    lines
        .map(|line| {
            let cells = line.split(',').map(str::to_string);
            header.iter().map(|name| name.to_string()).zip(cells).collect()
        })
        .collect()
}

/// Alerts and cells of the key level by the ensemble's rule, and the weeks with any alert, over
/// four seeds of clean data.
fn on_clean_data(rule: &[&str]) -> (f64, f64, f64) {
    let (mut alerts, mut cells, mut weeks, mut loud) = (0.0, 0.0, 0.0, 0.0);
    for seed in ["1000", "1001", "1002", "1003"] {
        let dir = tempfile::tempdir().unwrap();
        let base = ["run", "weekly", "--out", "out", "--seed", seed];
        let summary = json(dir.path(), &[&base, SMALL, CLEAN, rule]);
        let told = &summary["levels"][0]["rules"][0];
        alerts += told["alerts"].as_f64().unwrap();
        cells += told["cells"].as_f64().unwrap();
        let mut by_week: BTreeMap<String, bool> = BTreeMap::new();
        for row in rows(&dir.path().join("out/flags/flags_key_weekly.csv")) {
            if row["in_training"] == "false" {
                *by_week.entry(row["week_start"].clone()).or_default() |= row["is_anom"] == "true";
            }
        }
        weeks += by_week.len() as f64;
        loud += by_week.values().filter(|loud| **loud).count() as f64;
    }
    (alerts / cells, loud / weeks, alerts / weeks)
}

#[test]
fn each_rule_keeps_its_promise_on_clean_data() {
    let (rate, ..) = on_clean_data(&["--set", "decision.level=0.99"]);
    assert!((0.002..=0.0125).contains(&rate), "interval: {rate}");

    let percentile = ["--set", "decision.rule=percentile", "--set", "split.plan=split"];
    // Two fifths of a year are judged by a fit that has never seen their season: 0.044 of the clean
    // cells over seeds 1000-1009, by p-value 0.040. The bound keeps it from getting worse.
    let (rate, ..) = on_clean_data(&percentile);
    assert!((0.002..=0.06).contains(&rate), "percentile of a training part: {rate}");

    // All series are clean, so a false discovery is a week with any alert. Asked for is 0.1; found
    // were 0.16 over seeds 1000-1009 and 0.21 over these four: a year of weeks does not pin p-values
    // down at 0.1 / 60. The bound keeps it from getting worse.
    let (_, loud, _) = on_clean_data(&["--set", "decision.rule=fdr"]);
    assert!(loud <= 0.25, "fdr: {loud}");
    let harder = ["--set", "decision.rule=fdr", "--set", "decision.fdr_method=benjamini_yekutieli"];
    let (_, dependent, _) = on_clean_data(&harder);
    assert!(dependent <= loud, "any dependence: {dependent}, not above {loud}");

    let budget = ["--set", "decision.rule=budget", "--set", "decision.budget=1"];
    let (.., a_week) = on_clean_data(&budget);
    assert!(a_week > 0.05 && a_week <= 1.0, "budget: {a_week}");
}

#[test]
fn thresholds_stand_beside_scores_and_say_what_is_flagged() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["run", "weekly", "--out", "out", "--set", "decision.rule=fdr"];
    let own = ["--set", "decision.detectors.nb2.rule=interval"];
    let summary = json(dir.path(), &[&args, SMALL, &own]);
    let rules: Vec<(&str, &str)> = summary["levels"][0]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| (rule["who"].as_str().unwrap(), rule["rule"].as_str().unwrap()))
        .collect();
    assert_eq!(rules, [("ensemble", "fdr"), ("nb2", "interval"), ("seasonal_profile", "fdr")]);
    let table = rows(&dir.path().join("out/flags/flags_key_weekly.csv"));
    let number = |text: &String| text.parse::<f64>().unwrap();
    let (mut flagged, mut thresholds) = (0, BTreeSet::new());
    for row in &table {
        for (score, threshold, flag) in [
            ("ensemble_anomaly_score", "ensemble_threshold", "is_anom"),
            ("nb2_anomaly_score", "nb2_threshold", "nb2_anomaly"),
        ] {
            let above = number(&row[score]) >= number(&row[threshold]) - 1e-9;
            assert_eq!(above, row[flag] == "true", "{row:?}");
        }
        flagged += usize::from(row["is_anom"] == "true");
        thresholds.insert(row["ensemble_threshold"].clone());
    }
    assert!(flagged > 0);
    assert!(thresholds.len() > 1, "steps with more alerts have a lower threshold");
    let page = fs::read_to_string(dir.path().join("out/report.html")).unwrap();
    assert!(page.contains("Decision rules") && page.contains("expected false"));
}

#[test]
fn detect_takes_percentiles_of_the_training_and_not_of_its_own_batch() {
    let dir = tempfile::tempdir().unwrap();
    let rule = ["--set", "decision.rule=percentile", "--set", "decision.percentile=99.5"];
    ok(dir.path(), &["generate", "weekly", "--keys", "20", "--out", "data"]);
    let train = ["train", "weekly", "--out", "model", "--input", "data/events.csv"];
    json(dir.path(), &[&train, SMALL, &rule]);
    // The same keys at another seed live on other levels: most of the batch is anomalous.
    ok(dir.path(), &["generate", "weekly", "--keys", "20", "--seed", "2", "--out", "other"]);
    let detect = ["detect", "weekly", "--checkpoint", "model", "--out", "scored"];
    let input = ["--input", "other/events.csv"];
    let summary = json(dir.path(), &[&detect, &input, SMALL, &rule]);
    let level = &summary["levels"][0];
    let share = level["anomalies"].as_f64().unwrap() / level["points"].as_f64().unwrap();
    assert!(share > 0.1, "a percentile of the batch itself would flag 0.005 of it: {share}");
}

#[test]
fn an_injection_test_measures_every_kind_and_repeats_itself() {
    let dir = tempfile::tempdir().unwrap();
    let small = ["--set", "generate.weekly.keys=12", "--set", "inject.probes=1"];
    let mut told = Vec::new();
    for out in ["a", "b"] {
        let args = ["inject", "weekly", "--repeats", "2", "--out", out];
        json(dir.path(), &[&args, SMALL, &small]);
        let mut bytes = fs::read(dir.path().join(out).join("smallest_key.csv")).unwrap();
        let text = fs::read_to_string(dir.path().join(out).join("inject.json")).unwrap();
        let summary: Value = serde_json::from_str(&text).unwrap();
        bytes.extend(summary["levels"].to_string().bytes());
        told.push((bytes, summary));
    }
    assert!(told[0].0 == told[1].0, "same config, seed and data: same figures");
    let level = &told[0].1["levels"][0];
    let detection = level["detection"].as_array().unwrap();
    let of = |who: &str, kind: &str, factor: f64| {
        let row = detection.iter().find(|row| {
            row["who"] == who && row["kind"] == kind && row["factor"].as_f64() == Some(factor)
        });
        row.unwrap_or_else(|| panic!("{who} {kind} {factor}")).clone()
    };
    for kind in ["spike", "drop", "level_shift", "drift", "outage"] {
        assert!(detection.iter().any(|row| row["kind"] == kind), "{kind}");
    }
    let injected: u64 = detection
        .iter()
        .filter(|row| row["who"] == "ensemble")
        .map(|row| row["injected"].as_u64().unwrap())
        .sum();
    assert!(injected >= 20, "{injected}");
    assert!(of("nb2", "spike", 5.0)["found"].as_u64() >= of("nb2", "spike", 1.5)["found"].as_u64());
    assert!(level["false_alarms"][0]["fpr"].as_f64().unwrap() < 0.05);
    let series = rows(&dir.path().join("a/smallest_key.csv"));
    assert_eq!(series.len(), 12);
    assert!(series.iter().any(|row| !row["smallest_spike_factor"].is_empty()));
    assert!(dir.path().join("a/charts/detection_key_spike.png").is_file());
    assert!(dir.path().join("a/config.toml").is_file());
}

#[test]
fn a_metric_that_cannot_be_injected_is_named_with_those_that_can() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["inject", "weekly", "--out", "out", "--set", "inject.metrics=[\"clicks\"]"];
    let output = anomalist(dir.path(), &[&args, SMALL].concat());
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("clicks") && errors.contains("count"), "{errors}");
    assert!(!dir.path().join("out").exists());
}
