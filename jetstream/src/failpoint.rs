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
//! at deciding slow 3000 1    wait 3000 ms, from the first time on
//! late order.> 0 500         messages of a subject are given back once, for 0 to 500 ms
//! until point.used 5000 5100 … until then, in milliseconds since the Unix epoch
//! lose order.canceled 20     so many messages of a subject are acked, and have no effect
//! grown                      events are those of a later build: with a field that none knows
//! off R7 reconciliation      rules that do not hold
//! off ranks                  all instances are served in turn, so that each has something to do
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
    /// A transaction has committed with events; none is published, and no message acked.
    Committed,
    /// The broker has acknowledged an event that is not marked as published.
    Published,
    /// A batch has committed, and its messages are about to be acked.
    Acking,
}

#[cfg(feature = "failpoints")]
pub use on::is_off;
#[cfg(feature = "failpoints")]
pub(crate) use on::{clock_offset, grow, instead, note, reach};

#[cfg(not(feature = "failpoints"))]
pub use off::is_off;
#[cfg(not(feature = "failpoints"))]
pub(crate) use off::{clock_offset, grow, instead, note, reach};

#[cfg(not(feature = "failpoints"))]
mod off {
    use async_nats::jetstream::AckKind;

    use super::Point;

    /// Nothing happens here; whether to go on as usual.
    #[inline]
    pub(crate) async fn reach(_: Point) -> bool {
        true
    }

    /// All rules hold.
    #[inline]
    #[must_use]
    pub fn is_off(_: &str) -> bool {
        false
    }

    /// Nobody counts.
    #[inline]
    pub(crate) fn note(_: &str, _: usize) {}

    /// Every message is handled when it comes.
    #[inline]
    pub(crate) fn instead(_: &str, _: impl FnOnce() -> u64) -> Option<AckKind> {
        None
    }

    /// Events are those of this build.
    #[inline]
    pub(crate) fn grow(_: &mut bytes::Bytes) {}

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

    use async_nats::jetstream::AckKind;

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
        late: Vec<Late>,
        lost: Vec<(String, u64)>,
        grown: bool,
        clock: i64,
        // Of the random choices; the same after the same file.
        chosen: u64,
    }

    /// Messages that are given back the first time that they come.
    struct Late {
        filter: String,
        from: i64,
        to: i64,
        // Whether these are times, or how long.
        until: bool,
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
        Slow(Duration),
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
            *self = Self {
                file: self.file.take(),
                looked: self.looked,
                written,
                ..Self::default()
            };
            let pause = |millis: &str| Duration::from_millis(millis.parse().unwrap_or(0));
            for line in text.lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                match words[..] {
                    ["off", ..] => self.off.extend(words[1..].iter().map(|w| (*w).to_owned())),
                    ["clock", offset] => {
                        self.clock = offset.parse().unwrap_or(0);
                        note("clock", 1);
                    }
                    ["grown"] => self.grown = true,
                    ["lose", subject, times] => {
                        let times = times.parse().unwrap_or(0);
                        self.lost.push((subject.to_owned(), times));
                    }
                    [how @ ("late" | "until"), filter, from, to] => self.late.push(Late {
                        filter: filter.to_owned(),
                        from: from.parse().unwrap_or(0),
                        to: to.parse().unwrap_or(0),
                        until: how == "until",
                    }),
                    ["at", point, "kill", times] => self.add(point, Action::Kill, times),
                    ["at", point, "skip", times] => self.add(point, Action::Skip, times),
                    ["at", point, "pause", millis, times] => {
                        self.add(point, Action::Pause(pause(millis)), times);
                    }
                    ["at", point, "slow", millis, times] => {
                        self.add(point, Action::Slow(pause(millis)), times);
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
            // What is left out or slow is so from then on; all else happens once.
            let lasts = |action| matches!(action, Action::Skip | Action::Slow(_));
            self.steps
                .retain(|step| step.left > 0 || lasts(step.action));
            due
        }

        fn loses(&mut self, subject: &str) -> bool {
            let mut lost = self.lost.iter_mut();
            let lost = lost.find(|(lost, left)| lost == subject && *left > 0);
            lost.map(|(_, left)| *left -= 1).is_some()
        }

        fn put_off(&mut self, subject: &str) -> Option<Duration> {
            let matches = |filter: &str| match filter.strip_suffix('>') {
                Some(start) => subject.starts_with(start),
                None => subject == filter,
            };
            let late = self.late.iter().find(|late| matches(&late.filter))?;
            self.chosen = self.chosen.wrapping_mul(6_364_136_223_846_793_005) + 1_442_695_041;
            let range = (late.to - late.from).max(1);
            let chosen = late.from + i64::try_from(self.chosen >> 33).unwrap_or(0) % range;
            let millis = match late.until {
                true => chosen - crate::clock::millis(since_epoch()),
                false => chosen,
            };
            u64::try_from(millis).ok().map(Duration::from_millis)
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
            Some(Action::Pause(pause) | Action::Slow(pause)) => tokio::time::sleep(pause).await,
            Some(Action::Skip) => return false,
        }
        true
    }

    /// Whether a rule is switched off.
    #[must_use]
    pub fn is_off(rule: &str) -> bool {
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

    /// What a message is answered, instead of being handled now.
    pub(crate) fn instead(subject: &str, deliveries: impl FnOnce() -> u64) -> Option<AckKind> {
        plan(|plan| {
            if plan.loses(subject) {
                note("lost", 1);
                return Some(AckKind::Ack);
            }
            let first = deliveries() == 1;
            let later = first.then(|| plan.put_off(subject)).flatten()?;
            Some(AckKind::Nak(Some(later)))
        })
    }

    /// Makes an event one of a later build: with a field that this one does not know.
    pub(crate) fn grow(body: &mut bytes::Bytes) {
        if plan(|plan| plan.grown) {
            // Field 999, a text of three bytes.
            let field = [0xba, 0x3e, 3, b'n', b'e', b'w'];
            *body = [body.as_ref(), &field].concat().into();
            note("grown", 1);
        }
    }

    #[allow(clippy::disallowed_methods)] // a time that the run has given
    fn since_epoch() -> Duration {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap_or_default()
    }

    /// How far the wall clock is ahead, in milliseconds.
    pub(crate) fn clock_offset() -> i64 {
        plan(|plan| plan.clock)
    }
}
