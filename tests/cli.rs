//! The program from outside: exit codes, messages, files.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use support::{anomalist, ok, text};

/// A run small enough for a test: no LSTM, few keys.
const SMALL: &[&str] = &[
    "--set",
    "generate.weekly.keys=8",
    "--set",
    "ensemble.members=[\"nb2\", \"seasonal_profile\"]",
    "--set",
    "report.top=2",
    "--device",
    "cpu",
];

fn small<'a>(first: &[&'a str], rest: &[&'a str]) -> Vec<&'a str> {
    [first, SMALL, rest].concat()
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn a_run_leaves_everything_that_it_promises() {
    let dir = tempfile::tempdir().unwrap();
    let out = ok(dir.path(), &small(&["run", "weekly", "--out", "out"], &[]));
    assert!(out.contains("against the labels") && out.contains("out/report.html"), "{out}");
    for file in [
        "config.toml",
        "run.json",
        "run.log",
        "report.html",
        "report.json",
        "flags/flags_key_weekly.csv",
        "flags/flags_pair_weekly.csv",
        "checkpoint/manifest.json",
    ] {
        assert!(dir.path().join("out").join(file).is_file(), "{file} is missing");
    }
    let header = fs::read_to_string(dir.path().join("out/flags/flags_key_weekly.csv")).unwrap();
    let header: Vec<&str> = header.lines().next().unwrap().split(',').collect();
    for column in [
        "target_type",
        "insight_type",
        "target_key",
        "week_start",
        "count",
        "mu_hat",
        "pi_low",
        "pi_high",
        "is_anom",
        "nb2_is_anom",
        "ensemble_anomaly_score",
        "anomaly_severity",
    ] {
        assert!(header.contains(&column), "{column} not in {header:?}");
    }
    assert!(
        !fs::read_dir(dir.path())
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().contains("partial") })
    );
}

#[test]
fn the_same_seed_gives_the_same_flags_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    for out in ["a", "b"] {
        ok(dir.path(), &small(&["run", "weekly", "--out", out], &["--seed", "5"]));
    }
    let flags = |out: &str| -> Vec<(PathBuf, Vec<u8>)> {
        let root = dir.path().join(out).join("flags");
        files_below(&root)
            .into_iter()
            .map(|path| (path.strip_prefix(&root).unwrap().into(), fs::read(&path).unwrap()))
            .collect()
    };
    assert!(flags("a") == flags("b"));
}

#[test]
fn a_checkpoint_scores_the_data_it_was_trained_on_like_the_training_did() {
    let dir = tempfile::tempdir().unwrap();
    ok(dir.path(), &["generate", "weekly", "--keys", "8", "--out", "data"]);
    let input = ["--input", "data/events.csv", "--labels", "data/labels.csv"];
    ok(dir.path(), &small(&["train", "weekly", "--out", "model"], &input));
    assert!(dir.path().join("model/manifest.json").is_file());
    let out = ok(
        dir.path(),
        &small(&["detect", "weekly", "--checkpoint", "model", "--out", "scored"], &input),
    );
    assert!(out.contains("scored/report.html"), "{out}");

    let inside = ["--checkpoint", "scored/checkpoint", "--out", "scored"];
    fs::create_dir(dir.path().join("scored/checkpoint")).unwrap();
    fs::copy(
        dir.path().join("model/manifest.json"),
        dir.path().join("scored/checkpoint/manifest.json"),
    )
    .unwrap();
    let output =
        anomalist(dir.path(), &small(&["detect", "weekly"], &[&inside[..], &input].concat()));
    assert!(text(&output.stderr).contains("--out"), "it would delete the checkpoint that it reads");
    assert!(dir.path().join("scored/checkpoint/manifest.json").exists());

    // A byte of the checkpoint changed: refused, with the file's name.
    let victim = dir.path().join("model/key/nb2.json");
    let mut bytes = fs::read(&victim).unwrap();
    bytes[10] ^= 1;
    fs::write(&victim, bytes).unwrap();
    let output = anomalist(
        dir.path(),
        &small(&["detect", "weekly", "--checkpoint", "model", "--out", "again"], &input),
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("key/nb2.json"), "{}", text(&output.stderr));
    assert!(!dir.path().join("again").exists());
}

#[test]
fn the_shipped_checkpoint_scores_new_data_at_once() {
    let dir = tempfile::tempdir().unwrap();
    ok(dir.path(), &["generate", "weekly", "--seed", "2", "--keys", "10", "--out", "data"]);
    let checkpoint = std::path::absolute("checkpoints/demo_weekly").unwrap();
    let checkpoint = checkpoint.to_str().unwrap();
    let args = ["detect", "weekly", "--checkpoint", checkpoint, "--input", "data/events.csv"];
    let out = ok(
        dir.path(),
        &[&args[..], &["--labels", "data/labels.csv", "--out", "scored", "--device", "cpu"]]
            .concat(),
    );
    assert!(out.contains("lstm_autoencoder") && out.contains("against the labels"), "{out}");
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let code = |args: &[&str]| anomalist(dir.path(), args).status.code();
    assert_eq!(code(&["config", "check", "weekly"]), Some(0));
    assert_eq!(code(&["config", "check", "weekly", "--set", "sed=1"]), Some(2));
    assert_eq!(code(&["config", "check", "nowhere.toml"]), Some(2));
    assert_eq!(code(&["config", "show", "nothing"]), Some(2));
    assert_eq!(code(&["frobnicate"]), Some(2));
    assert_eq!(code(&["run", "weekly", "--input", "missing.csv"]), Some(2));
    assert_eq!(code(&["run", "weekly", "--device", "gpu:99"]), Some(2));
    assert_eq!(code(&["report", "."]), Some(1));
    assert_eq!(code(&["run", "weekly", "--device", "quantum"]), Some(2));
    assert_eq!(code(&small(&["run", "weekly", "--fail-on", "low", "--out", "x"], &[])), Some(3));
}

#[test]
fn config_errors_come_all_at_once_with_their_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine.toml");
    fs::write(&path, "sed = 1\n\n[nb2]\ninterval_level = 2\n\n[panel]\nstep = \"fortnight\"\n")
        .unwrap();
    let output = anomalist(dir.path(), &["config", "check", "mine.toml"]);
    let errors = text(&output.stderr);
    for part in ["mine.toml:1:1", "did you mean `seed`", "mine.toml:7:", "fortnight"] {
        assert!(errors.contains(part), "{part} not in {errors}");
    }
    assert!(text(&output.stdout).is_empty());
}

#[test]
fn bad_rows_are_kept_with_their_line_and_reason() {
    let dir = tempfile::tempdir().unwrap();
    ok(dir.path(), &["generate", "weekly", "--keys", "6", "--out", "data"]);
    let path = dir.path().join("data/events.csv");
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_slice(
        b"x,risk,client,K1,insight_hit,event,1,RUN-2025W01-001,not a time,SoW\n",
    );
    bytes.extend_from_slice(b"x,risk,client\n");
    bytes.extend_from_slice(
        b"x,risk,client,\xff\xfe,insight_hit,event,1,RUN,2025-01-06 06:00:00,SoW\n",
    );
    fs::write(&path, bytes).unwrap();
    let input = ["--input", "data/events.csv", "--out", "out", "--json"];
    let out = ok(dir.path(), &small(&["run", "weekly"], &input));
    let summary: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(summary["rejected"]["unparsable_time"], 1);
    assert_eq!(summary["rejected"]["wrong_column_count"], 1);
    assert_eq!(summary["rejected"]["broken_utf8"], 1);
    let rejected = fs::read_to_string(dir.path().join("out/rejected.csv")).unwrap();
    assert!(rejected.contains("not a time"), "{rejected}");

    let strict = small(
        &["run", "weekly", "--input", "data/events.csv", "--out", "strict"],
        &["--set", "source.max_rejected_share=0"],
    );
    let output = anomalist(dir.path(), &strict);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("max_rejected_share"), "{}", text(&output.stderr));
    assert!(!dir.path().join("strict").exists());
    let kept = fs::read_to_string(dir.path().join("strict.rejected.csv")).unwrap();
    assert!(kept.contains("not a time"), "{kept}");
}

#[test]
fn files_that_are_not_what_they_say_are_refused_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("empty.csv"), "").unwrap();
    fs::write(dir.path().join("other.csv"), "a,b\n1,2\n").unwrap();
    fs::write(dir.path().join("fake.parquet"), "a,b\n1,2\n").unwrap();
    for (file, part) in [
        ("empty.csv", "empty"),
        ("other.csv", "no column"),
        ("fake.parquet", "fake.parquet"),
        ("missing.csv", "missing.csv"),
    ] {
        let output = anomalist(dir.path(), &["run", "weekly", "--input", file, "--out", "out"]);
        let errors = text(&output.stderr);
        let code = if file == "missing.csv" { 2 } else { 1 };
        assert_eq!(output.status.code(), Some(code), "{errors}");
        assert!(errors.contains(part), "{part} not in {errors}");
        assert!(!errors.contains("panicked"), "{errors}");
        assert!(!dir.path().join("out").exists());
    }
}

#[test]
fn generated_data_follow_their_seed() {
    let dir = tempfile::tempdir().unwrap();
    for (seed, out) in [("3", "a"), ("3", "b"), ("4", "c")] {
        let args = ["generate", "funnel", "--brands", "3", "--days", "14", "--seed", seed];
        ok(dir.path(), &[&args[..], &["--out", out]].concat());
    }
    let data = |out: &str| fs::read(dir.path().join(out).join("funnel.csv")).unwrap();
    assert!(data("a") == data("b"));
    assert!(data("a") != data("c"));
    assert!(dir.path().join("a/known_events.csv").is_file());
}

#[test]
fn a_report_is_drawn_again_as_svg() {
    let dir = tempfile::tempdir().unwrap();
    ok(dir.path(), &small(&["run", "weekly", "--out", "out"], &[]));
    fs::write(dir.path().join("out/charts/mine.txt"), "a note").unwrap();
    ok(dir.path(), &["report", "out", "--format", "svg", "--top", "1"]);
    let files = files_below(&dir.path().join("out/charts"));
    let count = |extension: &str| {
        files.iter().filter(|path| path.extension().is_some_and(|e| e == extension)).count()
    };
    assert!(count("svg") >= 1);
    assert_eq!((count("png"), count("txt")), (0, 1), "old pictures go, what is no picture stays");
}

#[test]
fn a_slip_in_a_name_is_guessed_and_an_error_is_json_where_json_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let output = anomalist(dir.path(), &["run", "weeky", "--json"]);
    assert!(text(&output.stderr).contains("did you mean the shipped config `weekly`"));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["exit_code"], 2);
    assert!(told["error"].as_str().unwrap().contains("weeky"), "{told}");
}

#[test]
fn a_new_column_name_that_is_taken_is_refused_before_anything_is_fitted() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["run", "weekly", "--out", "out", "--set", "output.rename.mu_hat=pi_low"];
    let output = anomalist(dir.path(), &args);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("`pi_low`, which is a column"));
    assert!(!dir.path().join("out").exists());
}

#[test]
fn detect_says_which_settings_have_no_effect_and_what_was_in_force() {
    let dir = tempfile::tempdir().unwrap();
    ok(dir.path(), &small(&["train", "weekly", "--out", "checkpoint"], &[]));
    ok(dir.path(), &["generate", "weekly", "--seed", "2", "--keys", "8", "--out", "data"]);
    let args = ["detect", "weekly", "--checkpoint", "checkpoint", "--input", "data/events.csv"];
    let more =
        ["--set", "nb2.trend=false", "--set", "decision.level=0.999", "--json", "--out", "x"];
    let told: serde_json::Value =
        serde_json::from_str(&ok(dir.path(), &small(&args, &more))).unwrap();
    let notes = told["warnings"].to_string();
    assert!(notes.contains("[nb2] of the config") && !notes.contains("decision"), "{notes}");
    assert!(told["checkpoint"].as_str().unwrap().ends_with("checkpoint"));
    let config = fs::read_to_string(dir.path().join("x/config.toml")).unwrap();
    assert!(config.contains("level = 0.999") && !config.contains("trend = false"), "{config}");
}

#[test]
fn a_week_that_the_data_cover_in_part_is_left_out_with_a_note() {
    let dir = tempfile::tempdir().unwrap();
    let mut rows = String::from("target_type,insight_type,target_key,insight_date_time\n");
    for day in 0..40 * 7 + 2 {
        let date = jiff::civil::date(2024, 1, 1) + jiff::Span::new().days(day);
        rows.push_str(&format!("a,b,c,{} 10:00\n", date.strftime("%Y/%m/%d")));
    }
    fs::write(dir.path().join("events.csv"), rows).unwrap();
    let args = ["run", "weekly", "--input", "events.csv", "--out", "out"];
    let out = ok(dir.path(), &small(&args, &[]));
    assert!(out.contains("x 40 steps") && out.contains("panel.edges"), "{out}");
    let out = ok(dir.path(), &small(&args, &["--set", "panel.edges=keep"]));
    assert!(out.contains("x 41 steps"), "{out}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_anomalist"))
        .current_dir(dir.path())
        .args(["run", "funnel", "--device", "cpu", "--out", "out", "--set"])
        .arg("lstm_autoencoder.epochs=500")
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Generated data are there: the run is past its first stage, and far from its last.
    let begun = || files_below(dir.path()).iter().any(|path| path.ends_with("known_events.csv"));
    while !begun() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn devices_always_names_the_cpu() {
    let dir = tempfile::tempdir().unwrap();
    let out = ok(dir.path(), &["devices"]);
    assert!(out.contains("cpu") && out.contains("auto"), "{out}");
    let json: serde_json::Value =
        serde_json::from_str(&ok(dir.path(), &["devices", "--json"])).unwrap();
    assert!(json.is_object());
}
