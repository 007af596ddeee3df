//! Counts orders in windows: so many to warm up, and then so many in each window.
//!
//! A window begins and ends while the load goes on, so what it measures is a system in full
//! swing, without the orders that begin or end alone.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::mpsc::UnboundedSender;

use super::outcomes::Outcome;

// Microseconds: from one to the patience of the load, to three digits.
const LONGEST: u64 = 130_000_000;

/// An order that came to its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    /// When it was to be placed.
    pub(super) intended: Instant,
    /// When it was accepted; none when the answer waited for the end.
    pub(super) accepted: Option<Instant>,
    pub(super) decided: Instant,
    pub(super) outcome: Outcome,
}

/// What was measured of the orders of a window.
#[derive(Debug, Clone)]
pub(super) struct Window {
    pub(super) seconds: f64,
    pub(super) orders: u64,
    pub(super) confirmed: u64,
    pub(super) canceled: u64,
    /// Microseconds from the intended start to the 202.
    pub(super) accept: Histogram<u64>,
    /// Microseconds from the intended start to the end.
    pub(super) complete: Histogram<u64>,
}

/// Sorts orders into windows.
pub(super) struct Meter {
    warm_up: u64,
    size: u64,
    count: u64,
    began: Instant,
    windows: Vec<Window>,
    wanted: usize,
    ended: bool,
    // Told at each bound of a window, for who counts what the processes cost.
    bounds: UnboundedSender<Instant>,
}

impl Meter {
    pub(super) fn new(
        warm_up: u64,
        size: u64,
        windows: usize,
        bounds: UnboundedSender<Instant>,
    ) -> Self {
        Self {
            warm_up,
            size,
            count: 0,
            began: Instant::now(),
            windows: vec![],
            wanted: windows,
            ended: false,
            bounds,
        }
    }

    /// Whether all windows are full, or were ended.
    pub(super) fn is_full(&self) -> bool {
        let full = |window: &Window| window.seconds > 0.0;
        self.ended || self.windows.len() == self.wanted && self.windows.last().is_some_and(full)
    }

    /// Ends the window that is open; there are no more.
    pub(super) fn end(&mut self) {
        self.ended = true;
        if let Some(window) = self.windows.last_mut().filter(|w| w.seconds == 0.0) {
            window.seconds = self.began.elapsed().as_secs_f64();
        }
    }

    /// What was measured, when all windows are full.
    pub(super) fn windows(self) -> Option<Vec<Window>> {
        self.is_full().then_some(self.windows)
    }

    /// An order has come to its end.
    pub(super) fn record(&mut self, done: &Done) -> Result<(), String> {
        if self.is_full() {
            return Ok(());
        }
        self.count += 1;
        if let Some(window) = self.windows.last_mut() {
            window.record(done)?;
            if window.orders < self.size {
                return Ok(());
            }
            window.seconds = (done.decided - self.began).as_secs_f64();
        } else if self.count < self.warm_up {
            return Ok(());
        }
        self.began = done.decided;
        let _ = self.bounds.send(self.began);
        if self.windows.len() < self.wanted {
            self.windows.push(Window::new()?);
        }
        Ok(())
    }
}

impl Window {
    fn new() -> Result<Self, String> {
        let empty = || Histogram::new_with_bounds(1, LONGEST, 3).map_err(|e| e.to_string());
        Ok(Self {
            seconds: 0.0,
            orders: 0,
            confirmed: 0,
            canceled: 0,
            accept: empty()?,
            complete: empty()?,
        })
    }

    fn record(&mut self, done: &Done) -> Result<(), String> {
        self.orders += 1;
        match done.outcome {
            Outcome::Confirmed => self.confirmed += 1,
            Outcome::Canceled | Outcome::CompensationFailed => self.canceled += 1,
        }
        if let Some(accepted) = done.accepted {
            record(&mut self.accept, accepted - done.intended)?;
        }
        record(&mut self.complete, done.decided - done.intended)
    }
}

fn record(histogram: &mut Histogram<u64>, time: Duration) -> Result<(), String> {
    let micros = u64::try_from(time.as_micros()).unwrap_or(LONGEST);
    histogram
        .record(micros.max(1))
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_follow_the_warm_up_without_a_gap() {
        let (bounds, mut told) = tokio::sync::mpsc::unbounded_channel();
        let mut meter = Meter::new(5, 10, 2, bounds);
        let start = Instant::now();
        for n in 1..=30_u32 {
            let decided = start + Duration::from_millis(10) * n;
            let done = Done {
                intended: decided - Duration::from_millis(u64::from(n)),
                accepted: None,
                decided,
                outcome: Outcome::Confirmed,
            };
            meter.record(&done).expect("within bounds");
            assert_eq!(meter.is_full(), n >= 25, "{n}");
        }
        let windows = meter.windows().expect("full");
        assert_eq!(windows.len(), 2);
        for (window, slowest) in windows.iter().zip([15, 25]) {
            assert_eq!((window.orders, window.confirmed), (10, 10));
            assert!((window.seconds - 0.1).abs() < 1e-9);
            assert_eq!(window.complete.max() / 1000, slowest);
            assert!(window.accept.is_empty());
        }
        assert_eq!(std::iter::from_fn(|| told.try_recv().ok()).count(), 3);
    }
}
