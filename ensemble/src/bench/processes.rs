//! What processes cost: their CPU time, memory and writing, as Linux accounts for them.
//!
//! Elsewhere nothing is known of them, and nothing is reported.

use std::fs;

/// A process whose cost is counted, under the name that a report gives it.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub(super) name: String,
    pub(super) pid: u32,
    /// Whether the processes that it started count too, and those that have ended.
    pub(super) with_children: bool,
}

/// What a process has cost since it began. What the system does not tell is none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Cost {
    pub(super) cpu_ms: Option<f64>,
    /// Bytes that it caused to be written to storage.
    pub(super) written: Option<u64>,
}

impl Watched {
    /// A process by itself.
    pub(super) fn alone(name: &str, pid: u32) -> Self {
        Self {
            name: name.to_owned(),
            pid,
            with_children: false,
        }
    }

    /// A server that works with processes that it starts.
    pub(super) fn family(name: &str, pid: u32) -> Self {
        Self {
            with_children: true,
            ..Self::alone(name, pid)
        }
    }

    /// `NAME=PID`, with all that the process starts.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, pid) = text.split_once('=').ok_or("must be like NAME=PID")?;
        let pid = pid.parse().map_err(|_| "must be like NAME=PID")?;
        Ok(Self::family(name, pid))
    }

    /// What it has cost until now.
    pub(super) fn cost(&self) -> Cost {
        let pids = self.pids();
        let cpu: Option<Vec<f64>> = pids.iter().map(|pid| cpu_ms(*pid, self)).collect();
        let written: Option<Vec<u64>> = pids.iter().map(|pid| written(*pid)).collect();
        Cost {
            cpu_ms: cpu.map(|all| all.iter().sum()),
            written: written.map(|all| all.iter().sum()),
        }
    }

    /// The most memory that it has had, in MB; of several processes, what they have now,
    /// and what they share counts once.
    pub(super) fn memory_mb(&self) -> Option<f64> {
        let pids = self.pids();
        let kb: Option<Vec<u64>> = match pids.as_slice() {
            [pid] => Some(vec![line(*pid, "status", "VmHWM:")?]),
            pids => pids
                .iter()
                .map(|pid| line(*pid, "smaps_rollup", "Pss:"))
                .collect(),
        };
        Some(kb?.iter().sum::<u64>() as f64 / 1024.0)
    }

    fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.pid];
        let mut next = 0;
        while self.with_children && next < pids.len() {
            pids.extend(children(pids[next]));
            next += 1;
        }
        pids
    }
}

fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let of_thread = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).ok();
    let lists: Vec<String> = threads.flatten().filter_map(of_thread).collect();
    let numbers = lists.iter().flat_map(|list| list.split_whitespace());
    numbers.filter_map(|pid| pid.parse().ok()).collect()
}

/// User and system time; in a family also that of children that have ended.
fn cpu_ms(pid: u32, watched: &Watched) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = ticks(&stat, watched.with_children)?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(ticks as f64 * 1000.0 / per_second as f64)
}

fn ticks(stat: &str, with_ended_children: bool) -> Option<u64> {
    // The second field is the program's name in brackets, with whatever it has in it.
    let (_, rest) = stat.rsplit_once(')')?;
    let numbers = rest.split_whitespace().skip(11);
    let counted = if with_ended_children { 4 } else { 2 };
    let times: Option<Vec<u64>> = numbers.take(counted).map(|n| n.parse().ok()).collect();
    times
        .filter(|times| times.len() == counted)
        .map(|times| times.iter().sum())
}

fn written(pid: u32) -> Option<u64> {
    line(pid, "io", "write_bytes:")
}

/// The number of a line like `VmHWM:   1234 kB`.
fn line(pid: u32, file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_past_a_name_with_brackets() {
        let stat = "7 (a) b)) S 1 7 7 0 -1 4194560 10 20 0 0 30 40 5 6 20 0 1 0 99 0 0";
        assert_eq!(ticks(stat, false), Some(70));
        assert_eq!(ticks(stat, true), Some(81));
        assert_eq!(ticks("7 (a) S 1 7", false), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_process_costs_is_counted() {
        let own = Watched::alone("own", std::process::id());
        let before = own.cost().cpu_ms.expect("Linux tells");
        let start = std::time::Instant::now();
        while start.elapsed() < std::time::Duration::from_millis(60) {
            std::hint::spin_loop();
        }
        let after = own.cost().cpu_ms.expect("Linux tells");
        assert!(after > before, "{before} {after}");
        assert!(own.memory_mb().is_some_and(|mb| mb > 1.0));
    }

    #[test]
    fn a_process_is_named_on_the_command_line() {
        let watched = Watched::parse("restate=12").expect("a process");
        assert_eq!((watched.name.as_str(), watched.pid), ("restate", 12));
        assert!(Watched::parse("restate").is_err());
        assert!(Watched::parse("restate=x").is_err());
    }
}
