//! Change points from outside: a shift in the data is in `change_points.csv`.

use std::{fs, path::Path};

use assert_cmd::Command;

const CONFIG: &str = r#"
name = "shift"
[source]
path = "rows.csv"
layout = "wide"
time_column = "day"
[panel]
step = "day"
[[panel.levels]]
name = "shop"
id_columns = ["shop"]
[[panel.metrics]]
name = "visits"
kind = "count"
[report]
top = 1
[output]
parquet = false
"#;

/// Two shops over 240 days; the visits of the second double from 2025-06-01 on (day 151).
fn write_rows(dir: &Path) {
    let mut text = String::from("day,shop,visits\n");
    let first: jiff::civil::Date = "2025-01-01".parse().unwrap();
    for day in 0..240_i64 {
        let date = first.checked_add(jiff::Span::new().days(day)).unwrap();
        for shop in ["a", "b"] {
            let noise = (day * 7_919 + if shop == "a" { 3 } else { 11 }) % 23;
            let level = if shop == "b" && day >= 151 { 200 } else { 100 };
            text.push_str(&format!("{date},{shop},{}\n", level + noise));
        }
    }
    fs::write(dir.join("rows.csv"), text).unwrap();
    fs::write(dir.join("shift.toml"), CONFIG).unwrap();
}

fn run(dir: &Path, members: &str, out: &str) {
    let members = format!("ensemble.members={members}");
    let output = Command::new(env!("CARGO_BIN_EXE_anomalist"))
        .current_dir(dir)
        .args(["run", "shift.toml", "--out", out, "--device", "cpu", "--set", &members])
        .output()
        .expect("the program starts");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
}

#[test]
fn a_shift_is_written_with_its_moment_size_and_confidence() {
    let dir = tempfile::tempdir().unwrap();
    write_rows(dir.path());
    run(dir.path(), "[\"change_points\", \"zscore\"]", "out");
    let text = fs::read_to_string(dir.path().join("out/change_points.csv")).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    let header =
        "level,series,metric,time,before,after,relative_change,direction,confidence".split(',');
    assert_eq!(lines[0], header.collect::<Vec<_>>());
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(lines[1][..4], ["shop", "b", "visits", "2025-06-01"]);
    assert_eq!(lines[1][7], "above");
    let number = |place: usize| lines[1][place].parse::<f64>().unwrap();
    assert!((number(4) - 111.0).abs() < 8.0 && (number(5) - 211.0).abs() < 12.0, "{text}");
    assert!((number(6) - 0.9).abs() < 0.1 && number(8) > 0.99, "{text}");
    let flags = fs::read_to_string(dir.path().join("out/flags/flags_daily.csv")).unwrap();
    assert!(flags.lines().next().unwrap().contains("changepoint_anomaly_score"));
}

#[test]
fn without_the_detector_there_is_no_file() {
    let dir = tempfile::tempdir().unwrap();
    write_rows(dir.path());
    run(dir.path(), "[\"zscore\"]", "out");
    assert!(!dir.path().join("out/change_points.csv").exists());
}
