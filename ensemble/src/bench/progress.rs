//! How far a bench is, on a terminal.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};

/// A bar for the part that runs. Where no person looks, nothing is drawn.
pub(super) struct Progress {
    bar: Mutex<ProgressBar>,
    done: AtomicU64,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            bar: Mutex::new(ProgressBar::hidden()),
            done: AtomicU64::new(0),
        }
    }

    /// Begins a part that takes so many steps.
    pub(super) fn begin(&self, what: &'static str, steps: u64) {
        let bar = ProgressBar::new(steps);
        let style = "{msg:>20} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_message(what);
        self.done.store(0, Relaxed);
        let mut shown = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        shown.finish_and_clear();
        *shown = bar;
    }

    /// So many steps more are done. It costs nothing: the bar moves when it is drawn.
    pub(super) fn advance(&self, steps: u64) {
        self.done.fetch_add(steps, Relaxed);
    }

    /// Draws the bar as it is now.
    pub(super) fn draw(&self) {
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        bar.set_position(self.done.load(Relaxed));
    }

    /// Removes the bar.
    pub(super) fn end(&self) {
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        bar.finish_and_clear();
    }
}
