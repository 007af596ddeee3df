//! When a service compares what it has said with the stream.
//!
//! Under load what is new is looked at in samples, and all of it in the daily look:
//! reading everything back at once would cost a sixth of what the whole system can do.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use events::EventId;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::fault::Fault;
use crate::hearing::consumer::Pause;
use crate::losses::reconcile::{Report, compare, run};
use crate::losses::said::{self, Compared};
use crate::shell::Shell;
use crate::stream::history;

// A look at everything begins this long after the oldest that the stream may still have.
const MARGIN: i64 = 10_000;

/// How far the first look goes back at least; when something is missing there, everything that
/// the stream still keeps is compared.
const FIRST_LOOK: i64 = 10 * 60 * 1000;
const NEW_EVERY: Duration = Duration::from_secs(60);
// So many new events are looked at before the minute is over: the broker has them still in
// memory, while later it reads and checks whole files for them. Instances share the work: who
// gets there first does it, so they do not all begin at the same number.
const MANY: RangeInclusive<i64> = 5_000..=10_000;
// Reading an event back costs as much as saying it. Where more are said per second for a while,
// so many of them are read now, and the others by the daily look. A broker that falls back has
// lost a piece of time, as a rule all that came since its last sync (100 ms): ten of these.
const PER_SECOND: i64 = 100;
// Each instance waits an hour longer at most, and by another time: the first one does it for all.
const ALL_EVERY: i64 = 24 * 60 * 60 * 1000;
const ALL_LATER: i64 = 60 * 60 * 1000;

/// What makes the service compare with the stream.
pub(crate) struct Watch {
    shell: Shell,
    ready: CancellationToken,
    // What this instance compares has been decided since; none: its first look is to come.
    began_at: Option<i64>,
    // The number up to which all was settled at the last look at the database.
    settled: i64,
    connects: u64,
    many: i64,
    all_every: i64,
}

impl Watch {
    /// `ready` is canceled when the first comparison has succeeded: before it, the service
    /// does not listen.
    pub(crate) fn new(shell: Shell, ready: CancellationToken) -> Self {
        let chance = i64::from(clock::new_id().as_bytes()[15]);
        Self {
            connects: connects(&shell),
            shell,
            ready,
            began_at: None,
            settled: 0,
            many: MANY.start() + (MANY.end() - MANY.start()) * chance / 255,
            all_every: ALL_EVERY + ALL_LATER * chance / 255,
        }
    }

    /// Compares at the start, after every reconnect, and when the broker's numbers fall back;
    /// what is new when it is much, or every minute; and every day everything.
    pub(crate) async fn run(mut self) {
        let stop = self.shell.stopping();
        let mut pause = Pause::default();
        loop {
            match self.look().await {
                Ok(()) => {
                    pause = Pause::default();
                    self.ready.cancel();
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = self.next_reason() => {}
                    }
                }
                Err(fault) => {
                    tracing::debug!(service = self.shell.name(), %fault, "comparing; tried again");
                    pause.wait(&stop).await;
                    if stop.is_cancelled() {
                        return;
                    }
                }
            }
        }
    }

    async fn look(&mut self) -> Result<(), Fault> {
        let shell = &self.shell.clone();
        let database = shell.database();
        let now = database.clock().now();
        let everything = now - clock::millis(shell.settings().stream_max_age) + MARGIN;
        let Compared { new, all_at } = self.compared().await?;
        // The first look is a short one: the service waits for it.
        let all = self.began_at.is_some() && self.all_is_due(all_at, now);
        let report = match self.began_at {
            _ if all => run(shell, everything).await?,
            Some(_) if self.are_there(&new, now).await? => Report::default(),
            Some(began_at) => compare(shell, new.clone(), began_at).await?,
            None => {
                let recent = said::numbers_since(database, now - FIRST_LOOK).await?;
                let kept = said::numbers_since(database, everything).await?;
                let first = *recent.start().min(new.start().max(kept.start()));
                compare(shell, first..=*recent.end(), everything).await?
            }
        };
        if report.republished > 0 && !all {
            // Who lost the end may have lost more.
            run(shell, everything).await?;
        }
        if !report.unknown.is_empty() {
            // It is fenced, and nothing was said again.
            return Ok(());
        }
        said::note_compared(database, *new.end()).await?;
        if all {
            said::note_compared_all(database, now).await?;
        }
        self.began_at.get_or_insert(now - FIRST_LOOK);
        Ok(())
    }

    /// Whether there are too many new events to compare them all now, and none is missing of
    /// those that are looked at instead, evenly spread. A store that is set back has lost all
    /// that came within some time.
    async fn are_there(&self, new: &RangeInclusive<i64>, now: i64) -> Result<bool, Fault> {
        let database = self.shell.database();
        let since = said::decided_at(database, *new.start()).await?;
        let some = sample(new, since.map_or(0, |since| in_time(now - since)));
        if some.is_empty() {
            return Ok(false);
        }
        let said = said::places(database, &some).await?;
        let sequences: Vec<u64> = said.iter().map(|(_, sequence)| *sequence).collect();
        let found = history::at_each(self.shell.broker(), &sequences).await?;
        let found: HashSet<EventId> = found.into_iter().map(|f| f.envelope.id).collect();
        Ok(said.iter().all(|(id, _)| found.contains(id)))
    }

    /// What is to be compared: the numbers from the last one that was, because events that
    /// the database does not know follow on that. When it fails or falls back, another database
    /// may be behind the same address, and older: what was compared is read again.
    async fn compared(&mut self) -> Result<Compared, Fault> {
        let compared = said::compared(self.shell.database()).await;
        let goes_on = |compared: &Compared| *compared.new.end() >= self.settled;
        if !compared.as_ref().is_ok_and(goes_on) {
            self.began_at = None;
        }
        let Compared { new, all_at } = compared?;
        self.settled = *new.end();
        Ok(Compared {
            new: (new.start() - 1)..=*new.end(),
            all_at,
        })
    }

    fn all_is_due(&self, all_at: i64, now: i64) -> bool {
        now - all_at > self.all_every
    }

    /// Whether there is something to compare before the minute is over.
    async fn is_due(&mut self) -> bool {
        let Ok(Compared { new, all_at }) = self.compared().await else {
            return true;
        };
        let now = self.shell.database().clock().now();
        let many = new.end() - new.start() >= self.many;
        many || self.began_at.is_none() || self.all_is_due(all_at, now)
    }

    async fn next_reason(&mut self) {
        let suspect = self.shell.suspect();
        let deadline = tokio::time::Instant::now() + NEW_EVERY;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return,
                () = suspect.notified() => {
                    // The store was set back: what was compared before may be gone.
                    self.began_at = None;
                    return;
                }
                () = tokio::time::sleep(Duration::from_secs(1)) => {
                    let connects = connects(&self.shell);
                    if connects != self.connects {
                        self.connects = connects;
                        self.began_at = None;
                        return;
                    }
                    if self.is_due().await {
                        return;
                    }
                }
            }
        }
    }
}

/// How many events are read back of those that were said within a time, in milliseconds.
fn in_time(time: i64) -> i64 {
    time.max(1000) * PER_SECOND / 1000
}

/// So many numbers of a range, evenly spread; none when there are not more.
fn sample(numbers: &RangeInclusive<i64>, most: i64) -> Vec<i64> {
    let (first, count) = (*numbers.start(), numbers.end() - numbers.start() + 1);
    match count > most {
        true => (0..most).map(|i| first + i * count / most).collect(),
        false => vec![],
    }
}

fn connects(shell: &Shell) -> u64 {
    let statistics = shell.broker().client().statistics();
    statistics
        .connects
        .load(std::sync::atomic::Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_spread_over_all_of_the_numbers() {
        assert_eq!(sample(&(11..=20), 10), [0; 0]);
        assert_eq!(sample(&(11..=20), 5), [11, 13, 15, 17, 19]);
        assert_eq!(sample(&(11..=20), 3), [11, 14, 17]);
        assert_eq!(sample(&(11..=20), 0), [0; 0]);
        let nothing = RangeInclusive::new(1, 0);
        assert_eq!(sample(&nothing, 5), [0; 0]);
        assert_eq!([in_time(0), in_time(1990)], [PER_SECOND, 199]);
    }
}
