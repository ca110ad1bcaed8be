//! `anomalist compare` from outside.

mod support;

use std::{fs, path::Path};

use serde_json::Value;
use support::{anomalist, ok, text};

fn json(dir: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&ok(dir, &[args, &["--json"]].concat())).unwrap()
}

/// Two small configs that differ in one key and their names.
fn configs() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, members) in [("both", "\"nb2\", \"seasonal_profile\""), ("alone", "\"nb2\"")] {
        let config = format!(
            "name = \"{name}\"\ndevice = \"cpu\"\n[generate.weekly]\nkeys = 8\n[ensemble]\nmembers = [{members}]\n[report]\ntop = 1\n"
        );
        fs::write(dir.path().join(format!("{name}.toml")), config).unwrap();
    }
    dir
}

fn origins(comparison: &Value) -> Vec<String> {
    let configs = comparison["configs"].as_array().unwrap();
    let runs = configs.iter().flat_map(|config| config["runs"].as_array().unwrap());
    runs.map(|run| run["origin"].as_str().unwrap().to_string()).collect()
}

/// A comparison without what tells a first call from a second.
fn without_origins(comparison: &Value) -> String {
    comparison.to_string().replace("\"found\"", "\"ran\"")
}

#[test]
fn a_second_comparison_runs_nothing_and_says_the_same() {
    let dir = configs();
    let args = ["compare", "both.toml", "alone.toml", "--seeds", "1..2", "--out", "out"];
    let first = json(dir.path(), &args);
    assert_eq!(origins(&first), ["ran"; 4]);
    let second = json(dir.path(), &args);
    assert_eq!(origins(&second), ["found"; 4]);
    assert_eq!(without_origins(&first), without_origins(&second));
    let out = ok(dir.path(), &args);
    assert!(out.contains("4 found from before: nothing was run"), "{out}");

    let keys: Vec<&str> = first["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|difference| difference["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, ["ensemble.members"]);
    let level = &first["levels"][0];
    assert_eq!((level["level"].as_str(), level["labelled"].as_bool()), (Some("key"), Some(true)));
    assert_eq!(level["series"], 16, "two seeds make two data sets of 8 series");
    for row in level["figures"].as_array().unwrap() {
        let means: Vec<Option<f64>> =
            row["values"].as_array().unwrap().iter().map(|v| v["mean"].as_f64()).collect();
        let difference = &row["differences"][1]["estimate"];
        if let ([Some(a), Some(b)], Some(difference)) = (&means[..], difference.as_f64()) {
            assert!((b - a - difference).abs() < 1e-9, "{row}");
        }
    }
    let page = fs::read_to_string(dir.path().join("out/compare.html")).unwrap();
    assert!(page.contains("ensemble.members") && !page.contains("https://"));
    let alerts = fs::read_to_string(dir.path().join("out/alert_diff.csv")).unwrap();
    assert!(alerts.starts_with("config,data,seed,level,series,change,start,end"), "{alerts}");
    let totals = |change: &str| -> u64 {
        first["alerts"].as_array().unwrap().iter().map(|t| t[change].as_u64().unwrap()).sum()
    };
    let differ = totals("added") + totals("dropped") + totals("changed");
    assert_eq!(alerts.lines().count() as u64, differ + 1);
}

#[test]
fn finished_runs_are_compared_without_a_fit() {
    let dir = configs();
    ok(dir.path(), &["run", "both.toml", "--out", "one"]);
    ok(dir.path(), &["run", "alone.toml", "--out", "two"]);
    ok(dir.path(), &["generate", "weekly", "--keys", "5", "--seed", "9", "--out", "data"]);
    ok(dir.path(), &["run", "both.toml", "--input", "data/events.csv", "--out", "three"]);

    let found = json(dir.path(), &["compare", "one", "two", "--out", "out"]);
    assert_eq!(origins(&found), ["given"; 2]);
    assert!(!dir.path().join("out/runs").exists());
    // The same figures as the runs themselves reported, up to the digits of the flags files.
    let run: Value =
        serde_json::from_slice(&fs::read(dir.path().join("two/run.json")).unwrap()).unwrap();
    let reported = &run["levels"][0]["quality"][0]["figures"];
    for row in found["levels"][0]["figures"].as_array().unwrap() {
        let name = row["figure"].as_str().unwrap();
        let (mean, own) = (row["values"][1]["mean"].as_f64(), reported[name].as_f64());
        if let (Some(mean), Some(own)) = (mean, own) {
            assert!((mean - own).abs() < 1e-6, "{name}: {mean} {own}");
        }
    }

    let other = json(dir.path(), &["compare", "one", "three", "--out", "out"]);
    let notes = other["notes"].to_string();
    assert!(notes.contains("only shared points are compared"), "{notes}");
    assert!(notes.contains("the runs saw different data"), "{notes}");

    fs::remove_file(dir.path().join("one/data/labels.csv")).unwrap();
    fs::remove_file(dir.path().join("two/data/labels.csv")).unwrap();
    let blind = json(dir.path(), &["compare", "one", "two", "--out", "out"]);
    let figures = blind["levels"][0]["figures"].as_array().unwrap();
    assert_eq!(figures.len(), 2, "{figures:?}");
    assert!(blind["notes"].to_string().contains("labels.csv"), "{}", blind["notes"]);
}

#[test]
fn a_failed_run_does_not_end_a_sweep() {
    let dir = configs();
    let matrix = "[matrix]\ndecision.level = [0.99, 0.9]\n";
    let alone = fs::read_to_string(dir.path().join("alone.toml")).unwrap();
    fs::write(dir.path().join("grid.toml"), format!("{alone}{matrix}")).unwrap();
    ok(dir.path(), &["generate", "weekly", "--keys", "5", "--out", "data"]);
    let args = ["compare", "grid.toml", "--data", "data", "--data", "gone.csv", "--out", "out"];
    let output = anomalist(dir.path(), &[&args[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let failures = found["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 2);
    assert!(failures[0]["error"].as_str().unwrap().contains("gone.csv"), "{failures:?}");
    let names: Vec<&str> =
        found["configs"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["alone level=0.99", "alone level=0.9"]);
    assert!(found["alerts"][0]["added"].as_u64().unwrap() > 0, "{}", found["alerts"]);

    // What is there stays; what was missing is run when it comes.
    fs::copy(dir.path().join("data/events.csv"), dir.path().join("gone.csv")).unwrap();
    let again = json(dir.path(), &args);
    assert_eq!(origins(&again).iter().filter(|origin| *origin == "found").count(), 2);
}

#[test]
fn what_cannot_be_compared_is_refused_with_the_remedy() {
    let dir = configs();
    fs::create_dir(dir.path().join("empty")).unwrap();
    for (args, part) in [
        (&["both.toml", "empty"][..], "is no run"),
        (&["both.toml"], "one config"),
        (&["both.toml", "funnel"], "different kinds of data"),
        (&["both.toml", "alone.toml", "--seeds", "1..x"], "neither a seed nor a range"),
        (
            &["both.toml", "alone.toml", "--seeds", "1..999", "--data", "a", "--data", "b"],
            "of at most 1000",
        ),
        (&["both.toml", "nowhere.toml"], "nowhere.toml"),
    ] {
        let output = anomalist(dir.path(), &[&["compare"], args].concat());
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {errors}");
        assert!(errors.contains(part), "{part} not in {errors}");
        assert!(!dir.path().join("runs").exists(), "{args:?} wrote something");
    }
}
