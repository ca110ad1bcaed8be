//! `anomalist evaluate` from outside: the figures of a finished run, its files, its errors.

mod support;

use std::{fs, path::Path};

use serde_json::Value;
use support::{anomalist, ok, text};

/// Runs and expects exit code 1; returns stderr.
fn fails(dir: &Path, args: &[&str]) -> String {
    let output = anomalist(dir, args);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    text(&output.stderr)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A run of generated weekly data with NB2 and the profile, in `dir/out`.
fn run(dir: &Path) {
    let members = "ensemble.members=[\"nb2\", \"seasonal_profile\"]";
    let keys = "generate.weekly.keys=12";
    let args =
        ["run", "weekly", "--out", "out", "--device", "cpu", "--set", keys, "--set", members];
    ok(dir, &[&args[..], &["--set", "report.top=1"]].concat());
}

#[test]
fn a_finished_run_is_measured_as_the_run_measured_itself() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path());
    let text = ok(dir.path(), &["evaluate", "out"]);
    for word in ["level key", "ensemble", "nb2", "random scores", "VUS-PR", "first week", "PPV"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let out = dir.path().join("out");
    let (own, again) =
        (json(&out.join("metrics.json")), json(&out.join("evaluation/metrics.json")));
    assert_eq!(own, again, "what the run kept is exact");
    let row = &again["levels"][0]["scorers"][0];
    assert_eq!(row["who"], "ensemble");
    assert!(row["figures"]["vus_pr"].as_f64().unwrap() > 0.1, "{row}");
    for chart in ["evaluation_curves_key.png", "evaluation_events_key.png"] {
        assert!(out.join("evaluation").join(chart).is_file(), "{chart}");
        assert!(out.join("charts").join(chart).is_file(), "the run draws {chart} too");
    }
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("Precision by recall"), "the page shows the charts");

    let printed = ok(dir.path(), &["evaluate", "out", "--json", "--out", "elsewhere"]);
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), own);
    assert!(dir.path().join("elsewhere/metrics.json").is_file());
}

#[test]
fn other_labels_give_other_figures_and_a_permanent_change_a_week_to_relearn() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path());
    let header = "target_type,insight_type,target_key,start,end,kind\n";
    let row = |kind: &str| format!("{header}*,*,*,2025-03-03,2025-03-17,{kind}\n");
    for kind in ["spike", "changepoint"] {
        fs::write(dir.path().join(format!("{kind}.csv")), row(kind)).unwrap();
        ok(dir.path(), &["evaluate", "out", "--labels", &format!("{kind}.csv"), "--out", kind]);
    }
    let cells = |kind: &str| {
        json(&dir.path().join(kind).join("metrics.json"))["levels"][0]["cells"].clone()
    };
    let (all, less) = (cells("spike").as_u64().unwrap(), cells("changepoint").as_u64().unwrap());
    assert_eq!(all - less, 12, "one week of each of the twelve keys");
}

#[test]
fn labels_that_match_nothing_are_an_error_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path());
    let header = "target_type,insight_type,target_key,start,end,kind";
    let write = |name: &str, row: &str| {
        fs::write(dir.path().join(name), format!("{header}\n{row}\n")).unwrap();
    };
    write("stranger.csv", "nobody,nothing,none,2025-03-03,2025-03-10,spike");
    let message = fails(dir.path(), &["evaluate", "out", "--labels", "stranger.csv"]);
    for part in ["none of the 1 labels matches", "nobody", "level key has", "correct the id"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    write("past.csv", "*,*,*,1999-03-01,1999-03-08,spike");
    let message = fails(dir.path(), &["evaluate", "out", "--labels", "past.csv"]);
    assert!(message.contains("from 2025-01-06"), "{message}");
    fs::write(dir.path().join("empty.csv"), format!("{header}\n")).unwrap();
    let message = fails(dir.path(), &["evaluate", "out", "--labels", "empty.csv"]);
    assert!(message.contains("the file has no row"), "{message}");
    fs::remove_file(dir.path().join("out/data/labels.csv")).unwrap();
    let message = fails(dir.path(), &["evaluate", "out"]);
    assert!(message.contains("the run has no labels: give --labels FILE"), "{message}");
}

#[test]
fn a_folder_that_is_no_run_or_keeps_no_scores_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let message = fails(dir.path(), &["evaluate", "nowhere"]);
    assert!(message.contains("nowhere/run.json") && message.contains("name the folder"));
    run(dir.path());
    fs::remove_dir_all(dir.path().join("out/scores")).unwrap();
    let message = fails(dir.path(), &["evaluate", "out"]);
    assert!(message.contains("scores/levels.json") && message.contains("run again"), "{message}");
}
