//! What the run is at, on the terminal.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Says where a scenario is: a line per phase.
#[derive(Clone)]
pub(crate) struct Progress {
    id: &'static str,
    begun: Instant,
    run: Instant,
    last: Arc<Mutex<String>>,
}

impl Progress {
    pub(crate) fn of(id: &'static str, run: Instant) -> Self {
        Self {
            id,
            begun: Instant::now(),
            run,
            last: Arc::default(),
        }
    }

    /// The scenario has come to a phase.
    pub(crate) fn phase(&self, phase: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != phase {
            *last = phase.to_owned();
            let (id, run, own) = (self.id, self.run.elapsed(), self.begun.elapsed());
            eprintln!(
                "[{:>6.1} s] {id:<4} {:>5.1} s  {phase}",
                run.as_secs_f64(),
                own.as_secs_f64()
            );
        }
    }
}
