//! The command line: arguments to a job, a job's summary to text or JSON, errors to exit codes.
//!
//! stdout is data, stderr is everything else. Exit codes: 0 done; 1 the run failed; 2 the
//! arguments, the config or a path in them are wrong; 3 anomalies were found and `--fail-on` asked
//! for it; 130 interrupted. With `--json` an error is an object on stdout too.

mod args;
mod commands;
mod compare;
mod evaluation_text;
mod inject_text;
mod interrupt;
mod progress;
mod text;

use std::process::ExitCode;

use clap::Parser;

use crate::{config::ConfigError, pipeline::PipelineError};

/// What ends a command early.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    #[error("stdout: {0}")]
    Stdout(#[from] std::io::Error),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// `--fail-on` asked for it.
    Found,
    /// Some runs of a comparison failed; the rest was compared.
    Failed,
}

impl CliError {
    fn code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) => 2,
            Self::Pipeline(error) if error.is_usage() => 2,
            Self::Pipeline(_) | Self::Stdout(_) => 1,
        }
    }

    /// The reader of a pipe went away, as `head` does: no error to speak of.
    fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Stdout(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let json = cli.json;
    let level = if cli.quiet { tracing::Level::ERROR } else { tracing::Level::WARN };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        .with_ansi(false)
        .init();
    match commands::dispatch(cli) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Found) => ExitCode::from(3),
        Ok(Outcome::Failed) => ExitCode::from(1),
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(_) if interrupt::is_raised() => {
            eprintln!("interrupted: nothing half-done was left");
            ExitCode::from(interrupt::EXIT_CODE)
        }
        Err(error) => {
            if json {
                // Whoever reads stdout as JSON finds JSON there; a closed pipe is no second error.
                let told =
                    serde_json::json!({ "error": error.to_string(), "exit_code": error.code() });
                let _ = commands::print_json(&told);
            }
            let text = error.to_string();
            for (i, line) in text.lines().enumerate() {
                eprintln!("{}{line}", if i == 0 { "error: " } else { "       " });
            }
            ExitCode::from(error.code())
        }
    }
}
