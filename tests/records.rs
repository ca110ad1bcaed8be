//! Records from outside: generate, run, train, detect, and what the files hold.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use assert_cmd::Command;
use support::{anomalist, ok, text};

fn refused(dir: &Path, args: &[&str]) -> String {
    let output = anomalist(dir, args);
    assert!(!output.status.success(), "{args:?} should fail");
    text(&output.stderr)
}

/// The one CSV file of flags of a run.
fn flags(run: &Path) -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir(run.join("flags"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "csv"))
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn generated(dir: &Path, rows: &str, seed: &str) {
    ok(dir, &["generate", "records", "--rows", rows, "--seed", seed, "--out", "data"]);
}

const INPUT: &str = "interaction_id,timestamp,csat,ies,complaints,aht_seconds,hold_time_seconds,transfers,channel,language,queue";
const ENSEMBLE: &str = "ensemble_score,ensemble_anomaly,ensemble_threshold";
const IFOREST: &str = "iforest_score,iforest_anomaly,iforest_threshold";
const RCF: &str = "rcf_score,rcf_anomaly,rcf_threshold";
const EXTRA: &str = "p_value,anomaly_severity,anomaly_type,context,top_features,in_training";

#[test]
fn a_run_has_the_promised_columns_and_repeats_the_input_letter_by_letter() {
    let dir = tempfile::tempdir().unwrap();
    generated(dir.path(), "4000", "3");
    let input = fs::read_to_string(dir.path().join("data/records.csv")).unwrap();
    assert_eq!(input.lines().next(), Some(INPUT));
    let args = ["--input", "data/records.csv", "--labels", "data/labels.csv", "--out", "out"];
    let said = ok(dir.path(), &[&["run", "records"][..], &args].concat());
    assert!(said.contains("4,000 records in") && said.contains("against the labels"), "{said}");
    let out = dir.path().join("out");
    let file = flags(&out);
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.starts_with("anomalies_ensemble_2025") && name.ends_with("Z.csv"), "{name}");
    let rows = fs::read_to_string(&file).unwrap();
    assert_eq!(rows.lines().next().unwrap(), [INPUT, ENSEMBLE, IFOREST, RCF, EXTRA].join(","));
    assert_eq!(rows.lines().count(), 4_001);
    for (before, after) in input.lines().zip(rows.lines()) {
        assert!(after.starts_with(before), "{before}\n{after}");
    }
    for file in ["config.toml", "run.json", "report.html", "checkpoint/manifest.json"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    for chart in ["score_histogram_ensemble", "score_histogram_rcf", "score_boxes"] {
        assert!(out.join(format!("charts/{chart}.png")).is_file(), "{chart}");
    }
    assert!(file.with_extension("parquet").is_file());
}

#[test]
fn the_same_input_gives_the_same_bytes_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    generated(dir.path(), "3000", "4");
    let on = |threads: &str, out: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_anomalist"))
            .current_dir(dir.path())
            .env("RAYON_NUM_THREADS", threads)
            .args(["run", "records", "--input", "data/records.csv", "--out", out])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let file = flags(&dir.path().join(out));
        (file.file_name().unwrap().to_owned(), fs::read(file).unwrap())
    };
    assert_eq!(on("1", "a"), on("3", "b"));
}

#[test]
fn a_checkpoint_scores_new_records_by_every_model_or_by_one() {
    let dir = tempfile::tempdir().unwrap();
    generated(dir.path(), "4000", "5");
    ok(dir.path(), &["train", "records", "--input", "data/records.csv", "--out", "model"]);
    ok(dir.path(), &["generate", "records", "--rows", "500", "--seed", "6", "--out", "new"]);
    let detect = |model: &str| {
        let args = ["detect", "records", "--input", "new/records.csv", "--checkpoint", "model"];
        let stamp = ["--set", "records.timestamp=nightly", "--model", model, "--out", model];
        ok(dir.path(), &[&args[..], &stamp].concat());
        let file = dir.path().join(model).join(format!("flags/anomalies_{model}_nightly.csv"));
        fs::read_to_string(file).unwrap()
    };
    let header = |text: &str| text.lines().next().unwrap().to_string();
    assert_eq!(header(&detect("ensemble")), [INPUT, ENSEMBLE, IFOREST, RCF, EXTRA].join(","));
    assert_eq!(header(&detect("iforest")), [INPUT, IFOREST, EXTRA].join(","));
    assert_eq!(header(&detect("rcf")), [INPUT, RCF, EXTRA].join(","));
    let args = ["detect", "records", "--input", "new/records.csv", "--checkpoint", "model"];
    let error = refused(dir.path(), &[&args[..], &["--model", "lof"]].concat());
    assert!(error.contains("lof") && error.contains("iforest, rcf"), "{error}");
}

#[test]
fn a_batch_goes_on_where_training_ended() {
    let dir = tempfile::tempdir().unwrap();
    generated(dir.path(), "3000", "7");
    let all = fs::read_to_string(dir.path().join("data/records.csv")).unwrap();
    let (header, rows) = all.split_once('\n').unwrap();
    let rows: Vec<&str> = rows.lines().collect();
    let put = |name: &str, rows: &[&str]| {
        fs::write(dir.path().join(name), format!("{header}\n{}\n", rows.join("\n"))).unwrap();
    };
    put("first.csv", &rows[..2_500]);
    put("last.csv", &rows[2_500..]);
    ok(dir.path(), &["train", "records", "--input", "first.csv", "--out", "model"]);
    let scores = |input: &str, out: &str| {
        let args = ["--input", input, "--checkpoint", "model", "--out", out];
        ok(dir.path(), &[&["detect", "records"][..], &args].concat());
        let file = fs::read_to_string(flags(&dir.path().join(out))).unwrap();
        file.lines().skip(1).map(str::to_string).collect::<Vec<_>>()
    };
    // The last row of `first.csv` is what bursts in `last.csv` are pooled with: one file of both
    // has the same scores there, since its windows hold the same rows by then.
    let (whole, last) = (scores("data/records.csv", "whole"), scores("last.csv", "part"));
    assert_eq!(whole[2_500..], last[..]);
}

#[test]
fn anomalies_are_found_far_better_than_by_chance() {
    let dir = tempfile::tempdir().unwrap();
    generated(dir.path(), "20000", "1000");
    let args = ["--input", "data/records.csv", "--labels", "data/labels.csv", "--out", "out"];
    ok(dir.path(), &[&["run", "records"][..], &args].concat());
    let run: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.path().join("out/run.json")).unwrap()).unwrap();
    let figures: BTreeMap<String, &serde_json::Value> = run["levels"][0]["quality"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["who"].as_str().unwrap().to_string(), &row["figures"]))
        .collect();
    let of = |who: &str, figure: &str| figures[who][figure].as_f64().unwrap();
    // The peer's best variant reaches .72 and .68 at .010.
    assert!(of("ensemble", "auc_pr") >= 0.78, "{:?}", figures["ensemble"]);
    assert!(of("ensemble", "f1") >= 0.70 && of("ensemble", "fpr") <= 0.01);
    for kind in ["point", "contextual", "burst"] {
        assert!(of("ensemble", &format!("recall_{kind}")) > 0.5, "{kind}");
    }
    assert!(of("random scores", "auc_pr") < 0.06);
}

#[test]
fn every_strategy_and_the_third_documents_own_design_run() {
    let dir = tempfile::tempdir().unwrap();
    generated(dir.path(), "2000", "8");
    for (out, set) in [
        ("max", "records.ensemble.strategy=max"),
        ("voting", "records.ensemble.strategy=voting"),
        ("lof", "records.models=[\"iforest\", \"rcf\", \"lof\"]"),
        ("plain", "records.features.groups=[\"plain\", \"one_hot\", \"missing\"]"),
        ("standard", "records.features.scaling=standard"),
    ] {
        let args = ["--input", "data/records.csv", "--set", set, "--out", out];
        ok(dir.path(), &[&["run", "records"][..], &args].concat());
    }
}

#[test]
fn bad_rows_are_kept_with_their_reason_and_missing_cells_are_no_reason() {
    let dir = tempfile::tempdir().unwrap();
    generated(dir.path(), "1000", "9");
    let path = dir.path().join("data/records.csv");
    let mut rows = fs::read_to_string(&path).unwrap();
    rows.push_str(",2025-01-07T00:00:00Z,1,1,1,1,1,1,voice,en,sales\n");
    rows.push_str("x1,never,1,1,1,1,1,1,voice,en,sales\nx2,2025-01-07T00:00:00Z,,,,,,,,,\n");
    fs::write(&path, rows).unwrap();
    let said = ok(dir.path(), &["run", "records", "--input", "data/records.csv", "--out", "out"]);
    assert!(said.contains("missing_key") && said.contains("unparsable_time"), "{said}");
    let rejected = fs::read_to_string(dir.path().join("out/rejected.csv")).unwrap();
    assert_eq!(rejected.lines().count(), 3, "{rejected}");
    let scored = fs::read_to_string(flags(&dir.path().join("out"))).unwrap();
    assert!(scored.lines().any(|line| line.starts_with("x2,")));
}

#[test]
fn what_does_not_fit_is_refused_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let error = refused(dir.path(), &["generate", "records", "--weeks", "3"]);
    assert!(error.contains("--weeks"), "{error}");
    generated(dir.path(), "1000", "9");
    let run = |set: &str| {
        refused(dir.path(), &["run", "records", "--input", "data/records.csv", "--set", set])
    };
    assert!(run("records.output=lof").contains("models"));
    assert!(run("records.features.context=[\"shop\"]").contains("categorical"));
    assert!(run("records.iforest.threshold_percentile=100").contains("below 100"));
    assert!(run("records.features.numeric=[\"nps\"]").contains("is none of `numeric`"));
    assert!(
        run("records.features.categorical=[\"channel\",\"queue\",\"shop\"]")
            .contains("no column `shop`")
    );
    let args = ["detect", "weekly", "--input", "x", "--checkpoint", "y", "--model", "rcf"];
    assert!(refused(dir.path(), &args).contains("[records]"));
}

#[test]
fn a_finished_run_is_measured_again_with_the_same_figures() {
    let dir = tempfile::tempdir().unwrap();
    generated(dir.path(), "4000", "3");
    let args = ["--input", "data/records.csv", "--labels", "data/labels.csv", "--out", "out"];
    ok(dir.path(), &[&["run", "records"][..], &args].concat());
    let figures = |path: &str| -> serde_json::Value {
        let text = fs::read_to_string(dir.path().join(path)).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["levels"].take()
    };
    let said = ok(dir.path(), &["evaluate", "out", "--format", "svg"]);
    assert!(said.contains("1,600 rows measured") || said.contains("1600 rows measured"), "{said}");
    assert!(said.contains("rows found") && !said.contains("POD"), "{said}");
    let (first, again) = (figures("out/metrics.json"), figures("out/evaluation/metrics.json"));
    for place in 0..4 {
        let of = |level: &serde_json::Value| level[0]["scorers"][place].clone();
        assert_eq!(of(&first)["confusion"], of(&again)["confusion"]);
        let auc = |level| of(level)["figures"]["auc_pr"].as_f64().unwrap();
        // The files hold scores to nine digits.
        assert!((auc(&first) - auc(&again)).abs() < 1e-3, "{}", auc(&again));
    }
    assert!(dir.path().join("out/evaluation/evaluation_curves_records.svg").is_file());

    fs::write(dir.path().join("other.csv"), "interaction_id,kind\nnobody,point\n").unwrap();
    let error = refused(dir.path(), &["evaluate", "out", "--labels", "other.csv"]);
    assert!(error.contains("other.csv") && error.contains("interaction_id"), "{error}");
    fs::write(dir.path().join("none.csv"), "interaction_id,kind\n").unwrap();
    let error = refused(dir.path(), &["evaluate", "out", "--labels", "none.csv"]);
    assert!(error.contains("no row"), "{error}");
}

#[test]
fn a_damaged_flag_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    generated(dir.path(), "400", "3");
    let args = ["--input", "data/records.csv", "--labels", "data/labels.csv", "--out", "out"];
    ok(dir.path(), &[&["run", "records"][..], &args].concat());
    let file = flags(&dir.path().join("out"));
    let whole = fs::read_to_string(&file).unwrap();
    let header = whole.lines().next().unwrap();
    for column in ["ensemble_anomaly", "rcf_anomaly", "in_training"] {
        let place = header.split(',').position(|name| name == column).unwrap();
        let mut lines: Vec<String> = whole.lines().map(String::from).collect();
        let mut cells: Vec<&str> = lines[4].split(',').collect();
        assert_eq!(cells.len(), header.split(',').count(), "{}", lines[4]);
        cells[place] = "yes";
        lines[4] = cells.join(",");
        fs::write(&file, lines.join("\n") + "\n").unwrap();
        let error = refused(dir.path(), &["evaluate", "out"]);
        assert!(error.contains("line 5: `yes` is neither true nor false"), "{column}: {error}");
    }
}

#[test]
fn what_is_for_panels_alone_says_so_before_anything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let error = refused(dir.path(), &["inject", "records", "--input", "none.csv"]);
    assert!(error.contains("injection tests are for panels"), "{error}");
    let error = refused(dir.path(), &["compare", "records", "weekly"]);
    assert!(error.contains("`records` is about records") && error.contains("evaluate"), "{error}");
}
