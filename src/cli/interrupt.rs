//! Ctrl-C: the first asks the command to stop and clean up, the second stops at once.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

/// What a shell reports for a command that Ctrl-C ended.
pub const EXIT_CODE: u8 = 130;

static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// The flag that Ctrl-C raises; the first call starts listening.
pub fn flag() -> Arc<AtomicBool> {
    let listen = || {
        let flag = Arc::new(AtomicBool::new(false));
        let raised = flag.clone();
        let handler = move || {
            if raised.swap(true, Ordering::Relaxed) {
                std::process::exit(EXIT_CODE.into());
            }
            eprintln!("stopping, nothing half-done will stay; once more stops at once");
        };
        if let Err(error) = ctrlc::set_handler(handler) {
            tracing::warn!("Ctrl-C will stop without cleaning up: {error}");
        }
        flag
    };
    FLAG.get_or_init(listen).clone()
}

/// Whether somebody asked to stop.
pub fn is_raised() -> bool {
    FLAG.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}
