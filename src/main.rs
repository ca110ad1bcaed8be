//! The `anomalist` program. Everything is in [`anomalist::cli`]; here is only the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    anomalist::cli::main()
}
