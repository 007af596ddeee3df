//! The memory of processes over time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::stage::Outcome;

const SAMPLE_EVERY: Duration = Duration::from_secs(2);
// What may come and go, and what a process may be larger by in the end.
const PLAY_MEGABYTES: f64 = 16.0;
const PLAY: f64 = 1.2;

/// Megabytes that were resident, and when: as a share of the time.
type Samples = BTreeMap<String, Vec<(f64, f64)>>;

/// Samples what is resident, until it is ended.
#[derive(Clone)]
pub(crate) struct Memory {
    samples: Arc<Mutex<Samples>>,
    broker: Arc<AtomicI32>,
    task: tokio::task::AbortHandle,
}

impl Memory {
    /// Watches processes and the broker for a time.
    pub(crate) fn watch(processes: Vec<(String, i32)>, broker: i32, time: Duration) -> Self {
        let samples = Arc::new(Mutex::new(Samples::new()));
        let broker = Arc::new(AtomicI32::new(broker));
        let (into, the_broker) = (samples.clone(), broker.clone());
        let task = tokio::spawn(async move {
            let begun = Instant::now();
            loop {
                let share = begun.elapsed().as_secs_f64() / time.as_secs_f64();
                let broker = ("nats-server".to_owned(), the_broker.load(Ordering::Relaxed));
                for (name, pid) in processes.iter().chain([&broker]) {
                    let Some(resident) = resident(*pid) else {
                        continue;
                    };
                    let mut samples = into.lock().unwrap_or_else(PoisonError::into_inner);
                    let of = samples.entry(name.clone()).or_default();
                    of.push((share, resident));
                }
                tokio::time::sleep(SAMPLE_EVERY).await;
            }
        });
        Self {
            samples,
            broker,
            task: task.abort_handle(),
        }
    }

    /// The broker has been started again.
    pub(crate) fn broker_is(&self, pid: i32) {
        self.broker.store(pid, Ordering::Relaxed);
    }

    /// What is resident now, in megabytes.
    pub(crate) fn now(&self) -> String {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let last = samples.iter().filter_map(|(name, samples)| {
            let (_, megabytes) = samples.last()?;
            Some(format!("{name} {megabytes:.0}"))
        });
        last.collect::<Vec<_>>().join(", ")
    }

    /// What was seen.
    pub(crate) fn end(&self) -> Resident {
        self.task.abort();
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(name, samples): (&String, &Vec<(f64, f64)>)| {
            let quarters = [0.0, 0.25, 0.5, 0.75].map(|from| mean(samples, from, from + 0.25));
            (name.clone(), quarters.map(Option::unwrap_or_default))
        };
        Resident(samples.iter().map(of).collect())
    }
}

fn mean(samples: &[(f64, f64)], from: f64, to: f64) -> Option<f64> {
    let within = samples
        .iter()
        .filter(|(share, _)| (from..to).contains(share));
    let within: Vec<f64> = within.map(|(_, megabytes)| *megabytes).collect();
    let count = within.len();
    (count > 0).then(|| within.iter().sum::<f64>() / count as f64)
}

/// What a process has resident, in megabytes.
fn resident(pid: i32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024.0)
}

/// By process: what was resident in each quarter of the time, in megabytes.
pub(crate) struct Resident(BTreeMap<String, [f64; 4]>);

impl Resident {
    /// A line for what is said beneath the table.
    pub(crate) fn lines(&self) -> Option<String> {
        let of = self.0.iter().map(|(name, quarters)| {
            let quarters = quarters.map(|megabytes| format!("{megabytes:.0}"));
            format!("{name} {}", quarters.join(" → "))
        });
        let of = of.collect::<Vec<_>>().join(", ");
        (!self.0.is_empty())
            .then(|| format!("F36: resident memory in MB, mean of each quarter of the time: {of}."))
    }

    /// Whether nothing has grown. In the first quarter what looks back for minutes fills up:
    /// the broker remembers message ids for 2, and services compare 10 with the stream. The
    /// broker is killed in the first half.
    pub(crate) fn is_flat(&self) -> Outcome {
        let grown = |(name, quarters): (&String, &[f64; 4])| {
            let before = match name.as_str() {
                "nats-server" => quarters[2],
                _ => quarters[1],
            };
            let last = quarters[3];
            (last > before * PLAY + PLAY_MEGABYTES)
                .then(|| format!("{name} grew from {before:.0} to {last:.0} MB"))
        };
        let grown: Vec<String> = self.0.iter().filter_map(grown).collect();
        match grown.is_empty() {
            true => Ok(()),
            false => Err(format!("memory is not flat: {}", grown.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_not_flat() {
        let resident = |last| {
            let quarters = [50.0, 100.0, 0.0, last];
            Resident(BTreeMap::from([("x".to_owned(), quarters)]))
        };
        assert!(resident(130.0).is_flat().is_ok());
        assert!(resident(140.0).is_flat().is_err());
    }

    #[test]
    fn quarters_are_quarters() {
        let samples = [(0.1, 10.0), (0.2, 20.0), (0.3, 90.0), (0.9, 40.0)];
        assert_eq!(mean(&samples, 0.0, 0.25), Some(15.0));
        assert_eq!(mean(&samples, 0.75, 1.0), Some(40.0));
        assert_eq!(mean(&samples, 0.5, 0.75), None);
    }
}
