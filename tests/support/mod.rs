//! Running the program from outside.

use std::{path::Path, process::Output};

use assert_cmd::Command;

pub fn anomalist(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_anomalist"))
        .current_dir(dir)
        .args(args)
        .output()
        .expect("the program starts")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs and expects success; returns stdout.
pub fn ok(dir: &Path, args: &[&str]) -> String {
    let output = anomalist(dir, args);
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{args:?} failed\n{out}\n{errors}");
    out
}
