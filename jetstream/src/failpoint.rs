//! Failpoints: places where a fault run has a process die, wait or leave something out, and
//! rules that it switches off. Only with the feature `failpoints`, which nothing that is
//! shipped has; without it, all of this is nothing.
//!
//! `ENSEMBLE_FAILPOINTS` names a file that says what is to happen, a line each. It is read
//! again whenever it has changed, so that a running process can be told:
//!
//! ```text
//! at committed kill 7        die when this place is reached for the seventh time from now
//! at acking skip 1           leave it out from the first time on
//! at deciding pause 3000 2   wait 3000 ms, the second time
//! off R7 reconciliation      rules that do not hold
//! clock 600000               the wall clock is so many milliseconds ahead
//! ```

/// A place between commit, publish, mark and ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "failpoints"), allow(dead_code))]
pub(crate) enum Point {
    /// A batch has been pulled and nothing of it is decided.
    Deciding,
    /// With R11 off: events are published, and their transaction is about to commit.
    Early,
    /// A transaction has committed; nothing of it is published, and no message acked.
    Committed,
    /// The broker has acknowledged an event that is not marked as published.
    Published,
    /// A batch has committed, and its messages are about to be acked.
    Acking,
}

#[cfg(feature = "failpoints")]
pub(crate) use on::{clock_offset, is_off, note, reach};

#[cfg(not(feature = "failpoints"))]
pub(crate) use off::{clock_offset, is_off, note, reach};

#[cfg(not(feature = "failpoints"))]
mod off {
    use super::Point;

    /// Nothing happens here; whether to go on as usual.
    #[inline]
    pub(crate) async fn reach(_: Point) -> bool {
        true
    }

    /// All rules hold.
    #[inline]
    pub(crate) fn is_off(_: &str) -> bool {
        false
    }

    /// Nobody counts.
    #[inline]
    pub(crate) fn note(_: &str, _: usize) {}

    /// The wall clock is right.
    #[inline]
    pub(crate) fn clock_offset() -> i64 {
        0
    }
}

#[cfg(feature = "failpoints")]
mod on {
    use std::path::PathBuf;
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::time::{Duration, Instant, SystemTime};

    use super::Point;

    const FILE: &str = "ENSEMBLE_FAILPOINTS";
    const LOOK_EVERY: Duration = Duration::from_millis(20);

    static PLAN: LazyLock<Mutex<Plan>> = LazyLock::new(|| {
        let file = std::env::var_os(FILE).map(PathBuf::from);
        Mutex::new(Plan {
            file,
            ..Plan::default()
        })
    });

    /// What the file says.
    #[derive(Default)]
    struct Plan {
        file: Option<PathBuf>,
        looked: Option<Instant>,
        written: Option<SystemTime>,
        steps: Vec<Step>,
        off: Vec<String>,
        clock: i64,
    }

    struct Step {
        point: String,
        action: Action,
        // How often the place is still to be reached before.
        left: u64,
    }

    #[derive(Clone, Copy)]
    enum Action {
        Kill,
        Skip,
        Pause(Duration),
    }

    impl Plan {
        fn look(&mut self) {
            let Some(file) = &self.file else { return };
            if self.looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
                return;
            }
            self.looked = Some(Instant::now());
            let written = std::fs::metadata(file).and_then(|m| m.modified()).ok();
            if written == self.written {
                return;
            }
            self.written = written;
            let text = std::fs::read_to_string(file).unwrap_or_default();
            (self.steps, self.off, self.clock) = (vec![], vec![], 0);
            for line in text.lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                match words[..] {
                    ["off", ..] => self.off.extend(words[1..].iter().map(|w| (*w).to_owned())),
                    ["clock", offset] => self.clock = offset.parse().unwrap_or(0),
                    ["at", point, "kill", times] => self.add(point, Action::Kill, times),
                    ["at", point, "skip", times] => self.add(point, Action::Skip, times),
                    ["at", point, "pause", millis, times] => {
                        let pause = Duration::from_millis(millis.parse().unwrap_or(0));
                        self.add(point, Action::Pause(pause), times);
                    }
                    [] => {}
                    _ => tracing::error!(line, "this line of the failpoints says nothing"),
                }
            }
        }

        fn add(&mut self, point: &str, action: Action, times: &str) {
            self.steps.push(Step {
                point: point.to_owned(),
                action,
                left: times.parse().unwrap_or(1),
            });
        }

        fn reach(&mut self, point: &str) -> Option<Action> {
            let here = self.steps.iter_mut().filter(|step| step.point == point);
            let mut due = None;
            for step in here {
                step.left = step.left.saturating_sub(1);
                if step.left == 0 {
                    due = due.or(Some(step.action));
                }
            }
            // What is left out is left out from then on; all else happens once.
            self.steps
                .retain(|step| step.left > 0 || matches!(step.action, Action::Skip));
            due
        }
    }

    fn plan<T>(look: impl FnOnce(&mut Plan) -> T) -> T {
        let mut plan = PLAN.lock().unwrap_or_else(PoisonError::into_inner);
        plan.look();
        look(&mut plan)
    }

    /// Does what is to happen here; whether to go on as usual.
    pub(crate) async fn reach(point: Point) -> bool {
        let name = format!("{point:?}").to_lowercase();
        match plan(|plan| plan.reach(&name)) {
            None => return true,
            Some(Action::Kill) => {
                note(&name, 1);
                // What was sent before this place is on its way.
                tokio::time::sleep(Duration::from_millis(50)).await;
                let _ = rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::KILL,
                );
                std::future::pending().await
            }
            Some(Action::Pause(pause)) => tokio::time::sleep(pause).await,
            Some(Action::Skip) => return false,
        }
        true
    }

    /// Whether a rule is switched off.
    pub(crate) fn is_off(rule: &str) -> bool {
        plan(|plan| plan.off.iter().any(|off| off == rule))
    }

    /// Says that something rare has happened, so that the run can count it, whatever
    /// becomes of this process.
    #[allow(clippy::print_stderr)] // the log may be filtered; this may not
    pub(crate) fn note(what: &str, count: usize) {
        if count > 0 {
            eprintln!("failpoint: {what} {count}");
        }
    }

    /// How far the wall clock is ahead, in milliseconds.
    pub(crate) fn clock_offset() -> i64 {
        plan(|plan| plan.clock)
    }
}
