//! Progress bars on a terminal, nothing elsewhere.

use std::{io::IsTerminal, sync::Mutex, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::pipeline::Progress;

/// One bar at a time, drawn on stderr, and only where somebody can see it.
pub struct Bars {
    bar: Mutex<Option<ProgressBar>>,
    visible: bool,
}

impl Bars {
    pub fn new(quiet: bool) -> Self {
        Self { bar: Mutex::new(None), visible: !quiet && std::io::stderr().is_terminal() }
    }

    fn with(&self, act: impl FnOnce(&ProgressBar)) {
        // A poisoned lock only means that another thread died: the bar is still good to draw on.
        let bar = self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(bar) = bar.as_ref() {
            act(bar);
        }
    }
}

impl Progress for Bars {
    fn start(&self, stage: &str, total: u64) {
        if !self.visible {
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let template = "{prefix:<28} {bar:32} {percent:>3} %  {elapsed} (left {eta})  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar.set_prefix(stage.to_string());
        bar.enable_steady_tick(Duration::from_millis(250));
        let mut slot = self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(old) = slot.replace(bar) {
            old.finish_and_clear();
        }
    }

    fn advance(&self, units: u64) {
        self.with(|bar| bar.inc(units));
    }

    fn advance_to(&self, units: u64) {
        self.with(|bar| bar.set_position(units));
    }

    fn note(&self, text: &str) {
        self.with(|bar| bar.set_message(text.to_string()));
    }

    fn finish(&self) {
        self.with(ProgressBar::finish_and_clear);
    }
}
