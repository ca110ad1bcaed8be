//! The dependency rules between the rooms of `src/`, read off the `use crate::` lines and paths.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const ROOMS: &[&str] = &[
    "cli",
    "config",
    "source",
    "panel",
    "features",
    "math",
    "detectors",
    "device",
    "ensemble",
    "analysis",
    "evaluation",
    "report",
    "sink",
    "checkpoint",
    "pipeline",
];

/// Room -> the rooms that it may import. `tests` modules are held to the same rules.
const ALLOWED: &[(&str, &[&str])] = &[
    ("math", &[]),
    ("device", &["math"]),
    ("panel", &["math"]),
    ("source", &["panel", "math"]),
    ("features", &["panel", "math"]),
    ("detectors", &["panel", "features", "math", "device"]),
    ("ensemble", &["panel", "math", "detectors"]),
    ("analysis", &["panel", "math", "ensemble"]),
    ("evaluation", &["panel", "math", "ensemble"]),
    ("report", &["panel", "math", "ensemble", "evaluation", "analysis"]),
    ("sink", &["panel", "math", "ensemble"]),
    ("checkpoint", &["detectors", "ensemble", "panel", "math", "config"]),
    (
        "config",
        &[
            "source",
            "panel",
            "detectors",
            "ensemble",
            "evaluation",
            "features",
            "device",
            "math",
            "report",
        ],
    ),
    (
        "pipeline",
        &[
            "config",
            "source",
            "panel",
            "features",
            "math",
            "detectors",
            "device",
            "ensemble",
            "analysis",
            "evaluation",
            "report",
            "sink",
            "checkpoint",
        ],
    ),
    // The command line makes a job and prints results. It names no detector and builds no panel.
    ("cli", &["config", "pipeline", "source", "device", "evaluation"]),
];

/// External crates -> the places that alone may name them.
const CRATES: &[(&str, &[&str])] = &[
    ("burn", &["device", "detectors/lstm_autoencoder"]),
    ("burn_cubecl", &["detectors/lstm_autoencoder/cell"]),
    ("wgpu", &["device"]),
    ("clap", &["cli"]),
    ("indicatif", &["cli"]),
    ("ctrlc", &["cli"]),
    ("plotters", &["report"]),
    ("polars", &["source", "panel", "sink"]),
    ("csv", &["source", "sink"]),
];

const DETECTORS: &[&str] = &[
    "lstm_autoencoder",
    "nb2",
    "seasonal_profile",
    "prophet",
    "change_points",
    "zscore",
    "rolling",
    "isolation_forest",
    "random_cut_forest",
    "lof",
    "spectral_residual",
    "subsequence_pca",
];

struct File {
    /// Path inside `src`, with `/`.
    path: String,
    text: String,
}

fn rust_files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("src is readable") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

fn files() -> Vec<File> {
    let src = Path::new("src");
    let mut paths = Vec::new();
    rust_files(src, &mut paths);
    paths
        .into_iter()
        .map(|path| File {
            text: fs::read_to_string(&path).expect("utf-8"),
            path: path.strip_prefix(src).expect("in src").to_string_lossy().replace('\\', "/"),
        })
        .collect()
}

fn room(path: &str) -> Option<&str> {
    path.split_once('/').map(|(room, _)| room)
}

/// The code of a file without comments and doc comments.
fn code(text: &str) -> String {
    text.lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code))
        .collect::<Vec<_>>()
        .join("\n")
}

/// What follows each `crate::` in the code: the first path segment, or every one in braces.
fn crate_paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut item = String::new();
            for c in group.chars() {
                match c {
                    '}' if depth == 0 => break,
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.insert(segment(&item));
                        item.clear();
                    }
                    _ if depth == 0 => item.push(c),
                    _ => {}
                }
            }
            found.insert(segment(&item));
        } else {
            found.insert(segment(rest));
        }
    }
    found
}

fn segment(text: &str) -> String {
    text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn rooms_import_only_what_lies_before_them() {
    let mut broken = Vec::new();
    for file in files() {
        let Some(from) = room(&file.path) else { continue };
        let allowed = ALLOWED
            .iter()
            .find(|(room, _)| *room == from)
            .unwrap_or_else(|| panic!("{}: `{from}` is a new room: give it a rule", file.path))
            .1;
        for to in crate_paths(&code(&file.text)) {
            if ROOMS.contains(&to.as_str()) && to != from && !allowed.contains(&to.as_str()) {
                broken.push(format!("{} imports {to}", file.path));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn detectors_never_import_each_other() {
    let mut broken = Vec::new();
    for file in files() {
        let Some(rest) = file.path.strip_prefix("detectors/") else {
            if file.path.starts_with("ensemble/") || file.path.starts_with("report/") {
                for name in DETECTORS {
                    if code(&file.text).contains(&format!("detectors::{name}")) {
                        broken.push(format!("{} imports {name}", file.path));
                    }
                }
            }
            continue;
        };
        let own = rest.split(['/', '.']).next().unwrap_or_default();
        for name in DETECTORS.iter().filter(|name| **name != own && DETECTORS.contains(&own)) {
            let text = code(&file.text);
            if text.contains(&format!("detectors::{name}"))
                || text.contains(&format!("super::{name}"))
            {
                broken.push(format!("{} imports {name}", file.path));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn crates_stay_in_their_rooms() {
    let mut broken = Vec::new();
    for file in files() {
        let text = code(&file.text);
        for (name, places) in CRATES {
            let names_it = text.lines().any(|line| {
                let line = line.trim_start();
                line.starts_with(&format!("use {name}::"))
                    || line.starts_with(&format!("use {name};"))
                    || [" ", "(", "<", "&", "[", "="]
                        .iter()
                        .any(|before| line.contains(&format!("{before}{name}::")))
            });
            if names_it && !places.iter().any(|place| file.path.starts_with(place)) {
                broken.push(format!("{} names the crate {name}", file.path));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn main_imports_nothing_but_the_command_line() {
    let file = files().into_iter().find(|f| f.path == "main.rs").expect("main.rs");
    let text = code(&file.text);
    let paths: Vec<String> = text
        .match_indices("anomalist::")
        .map(|(at, found)| segment(&text[at + found.len()..]))
        .collect();
    assert_eq!(paths, ["cli"]);
}

#[test]
fn the_reader_of_imports_sees_what_it_must() {
    let paths = crate_paths("use crate::{panel::{A, B}, math::x};\nlet y = crate::device::cpu();");
    assert_eq!(paths.into_iter().collect::<Vec<_>>(), ["device", "math", "panel"]);
}
