//! What a scenario is measured by.

use std::collections::BTreeMap;
use std::time::Duration;

/// The figures of one scenario.
#[derive(Debug, Default, Clone)]
pub(crate) struct Figures {
    pub(crate) orders: u64,
    pub(crate) confirmed: u64,
    pub(crate) canceled: u64,
    pub(crate) events: u64,
    pub(crate) faults: u64,
    pub(crate) duplicates: u64,
    pub(crate) redelivered: u64,
    pub(crate) republished: u64,
    pub(crate) voids: u64,
    pub(crate) dead_letters: u64,
    pub(crate) violations: Vec<String>,
    pub(crate) recovery: Vec<Duration>,
    /// What is said beneath the table.
    pub(crate) remarks: Vec<String>,
}

impl Figures {
    pub(crate) fn noted(&mut self, notes: &BTreeMap<String, u64>) {
        let of = |what: &str| notes.get(what).copied().unwrap_or(0);
        self.duplicates = of("duplicates");
        self.redelivered = of("redelivered");
        self.republished = of("republished");
    }

    /// The recovery times: half of them are below the first, 99 % below the second, all
    /// below the third.
    pub(crate) fn recovery_times(&self) -> Option<[Duration; 3]> {
        let mut times = self.recovery.clone();
        times.sort_unstable();
        let last = times.len().checked_sub(1)?;
        let at = |percent: usize| times[(last * percent).div_ceil(100)];
        Some([at(50), at(99), at(100)])
    }

    /// Adds what another has; recovery times are put together.
    pub(crate) fn add(&mut self, other: &Self) {
        self.orders += other.orders;
        self.confirmed += other.confirmed;
        self.canceled += other.canceled;
        self.events += other.events;
        self.faults += other.faults;
        self.duplicates += other.duplicates;
        self.redelivered += other.redelivered;
        self.republished += other.republished;
        self.voids += other.voids;
        self.dead_letters += other.dead_letters;
        self.violations.extend(other.violations.iter().cloned());
        self.recovery.extend(&other.recovery);
        self.remarks.extend(other.remarks.iter().cloned());
    }
}

/// Seconds, as they are read.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_off_the_sorted_list() {
        let mut figures = Figures::default();
        assert_eq!(figures.recovery_times(), None);
        figures.recovery = (1..=100).rev().map(Duration::from_secs).collect();
        let [half, most, all] = figures.recovery_times().expect("times");
        assert_eq!(
            (half.as_secs(), most.as_secs(), all.as_secs()),
            (51, 100, 100)
        );
    }
}
