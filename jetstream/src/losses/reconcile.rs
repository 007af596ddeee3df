//! Reconciliation: what this service has said is compared with what the stream has.
//!
//! A broker can lose what it has acknowledged (a store that was set back, a damaged block,
//! a power cut between two fsyncs), and neither its counts nor its sequences tell. So
//! events are compared by id. What is missing is said again under the same id. The other
//! way round, events of this service that its database does not know mean that the
//! *database* was set back: then the service is fenced, until a person has looked.
//!
//! Under load what is new is looked at in samples, and all of it in the daily look:
//! reading everything back at once would cost a sixth of what the whole system can do.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use async_nats::jetstream;
use events::EventId;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock;
use crate::database::bulk::Rows;
use crate::failpoint;
use crate::fault::Fault;
use crate::hearing::consumer::Pause;
use crate::saying::outbox::{self, Committed};
use crate::saying::relay;
use crate::shell::Shell;
use crate::stream::history::{self, Pages, Recorded};
use crate::stream::reader::Start;

// A look at everything begins this long after the oldest that the stream may still have.
const MARGIN: i64 = 10_000;
// The clocks of database and broker may differ by this much.
const CLOCK_DIFFERENCE: i64 = 60_000;
const PAGE: i64 = 2_000;

/// What a reconciliation found and did.
#[derive(Debug, Default, Clone)]
pub(crate) struct Report {
    /// Events of this service in the stream.
    pub(crate) in_stream: usize,
    /// Published rows of the outbox that were compared.
    pub(crate) compared: usize,
    /// Events that were missing and have been said again.
    pub(crate) republished: usize,
    /// Events in the stream that the database does not know, with their numbers.
    pub(crate) unknown: Vec<(EventId, i64)>,
}

impl Report {
    /// As JSON.
    pub(crate) fn to_json(&self) -> Value {
        let unknown: Vec<Value> = self
            .unknown
            .iter()
            .map(|(id, pseq)| json!({ "event_id": id, "pseq": pseq }))
            .collect();
        json!({
            "in_stream": self.in_stream,
            "compared": self.compared,
            "republished": self.republished,
            "unknown": unknown,
        })
    }
}

/// Compares what was decided from a time on (milliseconds since the Unix epoch), says
/// again what is missing, and fences the service if its database was set back. However much
/// there is, it needs a bit of memory for each event.
pub(crate) async fn run(shell: &Shell, from: i64) -> Result<Report, Fault> {
    let numbers = outbox::numbers_since(shell.database(), from).await?;
    compare(shell, numbers, from).await
}

/// Compares what has these numbers, none of which was decided before a time.
async fn compare(shell: &Shell, numbers: RangeInclusive<i64>, from: i64) -> Result<Report, Fault> {
    let database = shell.database();
    // What is marked as published by now stands in the stream when it is read.
    let until = database.clock().now();
    let start = match outbox::stands_from(database, *numbers.start()).await? {
        0 => Start::Time(from - CLOCK_DIFFERENCE),
        sequence => Start::Sequence(sequence),
    };
    let mut report = Report::default();
    let mut there = Numbers::of(&numbers);
    for filter in own_filters(shell.name()) {
        let mut pages = Pages::from(shell.broker(), &filter, start);
        while let Some(page) = pages.next().await? {
            take(shell, page, &mut there, &mut report).await?;
        }
    }
    if !report.unknown.is_empty() {
        // One may stand there twice.
        report
            .unknown
            .sort_unstable_by_key(|(id, pseq)| (*pseq, id.0));
        report.unknown.dedup();
        report.in_stream += report.unknown.len();
        shell.fence(&report.unknown);
        return Ok(report);
    }
    say_again(shell, numbers, until, &there, &mut report).await?;
    failpoint::note("republished", report.republished);
    if report.republished > 0 {
        let meters = database.meters();
        meters.republished.inc_by(report.republished as u64);
        let (service, count) = (shell.name(), report.republished);
        tracing::error!(
            service,
            count,
            "the broker had lost events; they have been said again"
        );
    }
    Ok(report)
}

/// Takes down which events of this service a page of the stream has. They were read before
/// the database is asked: whatever stood in the stream had committed by then.
async fn take(
    shell: &Shell,
    page: Vec<Recorded>,
    there: &mut Numbers,
    report: &mut Report,
) -> Result<(), Fault> {
    let envelopes = page.into_iter().map(|recorded| recorded.envelope);
    let own = envelopes.filter(|envelope| envelope.entry.writer == shell.name());
    let mut own: HashMap<EventId, i64> = own.map(|e| (e.id, e.pseq)).collect();
    let mut here = |number| report.in_stream += usize::from(there.insert(number));
    // Nearly all of them are the rows with their numbers, which lie side by side.
    let numbers = own.values().min().zip(own.values().max());
    if let Some((first, last)) = numbers {
        for (id, number) in outbox::ids(shell.database(), *first..=*last, 2 * own.len()).await? {
            if own.remove(&id).is_some() {
                here(number);
            }
        }
    }
    let known = known(shell, own.keys().map(|id| id.0).collect()).await?;
    for (id, pseq) in own {
        match known.get(&id.0) {
            Some(number) => here(*number),
            None => report.unknown.push((id, pseq)),
        }
    }
    Ok(())
}

/// Says again what was published and is not in the stream.
async fn say_again(
    shell: &Shell,
    mut numbers: RangeInclusive<i64>,
    until: i64,
    there: &Numbers,
    report: &mut Report,
) -> Result<(), Fault> {
    let database = shell.database();
    loop {
        let mut rows = outbox::published(database, &numbers, until, PAGE).await?;
        let Some(last) = rows.last() else {
            return Ok(());
        };
        numbers = last + 1..=*numbers.end();
        report.compared += rows.len();
        rows.retain(|number| !there.contains(*number));
        if rows.is_empty() {
            continue;
        }
        let mut again = Vec::with_capacity(rows.len());
        for event in outbox::numbered(database, &rows).await? {
            let sequence = publish_again(shell.broker(), &event).await?;
            again.push((event.envelope.pseq, sequence));
            report.republished += 1;
        }
        outbox::mark(database, &again).await?;
    }
}

/// The filters that match this service's subjects and few others.
fn own_filters(service: &str) -> HashSet<String> {
    events::catalog::all()
        .filter(|entry| entry.writer == service)
        .filter_map(|entry| entry.subject.split('.').next())
        .map(|token| format!("{token}.>"))
        .collect()
}

/// Of these events, those that the database knows, with their numbers there; 0 for those
/// that a person has accepted.
async fn known(shell: &Shell, ids: Vec<Uuid>) -> Result<HashMap<Uuid, i64>, Fault> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = "SELECT event_id, CAST(0 AS BIGINT) AS pseq FROM accepted_events
               WHERE event_id IN (SELECT id FROM v)
               UNION ALL
               SELECT event_id, pseq FROM outbox WHERE event_id IN (SELECT id FROM v)";
    let tx = shell.database().begin().await?;
    let rows = tx.fetch(Rows::ids(ids), sql, vec![]).await?;
    let known = rows.iter();
    known
        .map(|row| Ok((row.try_get("", "event_id")?, row.try_get("", "pseq")?)))
        .collect()
}

/// Some numbers of a range, in a bit each.
struct Numbers {
    first: i64,
    bits: Vec<u64>,
}

impl Numbers {
    fn of(range: &RangeInclusive<i64>) -> Self {
        let count = usize::try_from(range.end() - range.start() + 1).unwrap_or(0);
        Self {
            first: *range.start(),
            bits: vec![0; count.div_ceil(64)],
        }
    }

    /// Where a number's bit is; none outside of the range.
    fn place(&self, number: i64) -> Option<(usize, u64)> {
        let offset = usize::try_from(number - self.first).ok()?;
        let word = offset / 64;
        (word < self.bits.len()).then_some((word, 1 << (offset % 64)))
    }

    /// Whether it is new.
    fn insert(&mut self, number: i64) -> bool {
        let Some((word, bit)) = self.place(number) else {
            return false;
        };
        let new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        new
    }

    fn contains(&self, number: i64) -> bool {
        let place = self.place(number);
        place.is_some_and(|(word, bit)| self.bits[word] & bit != 0)
    }
}

/// Publishes under the same message id; where the event stands now. When the broker says that
/// it knows the id, it is asked for what it means: after its store was set back, that may be
/// somebody else's.
async fn publish_again(broker: &jetstream::Context, event: &Committed) -> Result<u64, Fault> {
    let away = |error: &dyn std::fmt::Display| Fault::Away(format!("the broker: {error}"));
    let id = event.envelope.id;
    for message_id in [id.to_string(), format!("{id}-{}", clock::new_id())] {
        let message = relay::message(event, &message_id);
        let sent = broker
            .send_publish(event.envelope.entry.subject, message)
            .await;
        let ack = sent.map_err(|e| away(&e))?.await.map_err(|e| away(&e))?;
        if !ack.duplicate {
            return Ok(ack.sequence);
        }
        let there = history::at(broker, ack.sequence).await?;
        if there.is_some_and(|recorded| recorded.envelope.id == id) {
            return Ok(ack.sequence);
        }
    }
    Err(Fault::Unexpected(format!(
        "event {id} cannot be said again"
    )))
}

/// How far the first look goes back at least; when something is missing there, everything that
/// the stream still keeps is compared.
const FIRST_LOOK: i64 = 10 * 60 * 1000;
const NEW_EVERY: Duration = Duration::from_secs(60);
// So many new events are looked at before the minute is over: the broker has them still in
// memory, while later it reads and checks whole files for them. Instances share the work: who
// gets there first does it, so they do not all begin at the same number.
const MANY: RangeInclusive<i64> = 5_000..=10_000;
// Reading an event back costs a good part of what saying it has cost. Where more are said per
// second for a while, so many of them are read now, and the others by the daily look.
const PER_SECOND: i64 = 500;
const ALL_EVERY: i64 = 24 * 60 * 60 * 1000;

/// What makes the service compare with the stream.
pub(crate) struct Watch {
    shell: Shell,
    ready: CancellationToken,
    // What this instance compares has been decided since; none: its first look is to come.
    began_at: Option<i64>,
    compared_all: i64,
    looked: i64,
    // The number up to which all was settled at the last look at the database.
    settled: i64,
    connects: u64,
    many: i64,
}

impl Watch {
    /// `ready` is canceled when the first comparison has succeeded: before it, the service
    /// does not listen.
    pub(crate) fn new(shell: Shell, ready: CancellationToken) -> Self {
        let now = shell.database().clock().now();
        let chance = i64::from(clock::new_id().as_bytes()[15]);
        Self {
            connects: connects(&shell),
            shell,
            ready,
            began_at: None,
            compared_all: now,
            looked: now,
            settled: 0,
            many: MANY.start() + (MANY.end() - MANY.start()) * chance / 255,
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
        let all = now - self.compared_all > ALL_EVERY;
        let new = self.new_numbers().await?;
        let report = match self.began_at {
            _ if all => run(shell, everything).await?,
            Some(_) if self.are_there(&new, now).await? => Report::default(),
            Some(began_at) => compare(shell, new.clone(), began_at).await?,
            None => {
                let recent = outbox::numbers_since(database, now - FIRST_LOOK).await?;
                let kept = outbox::numbers_since(database, everything).await?;
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
        outbox::note_compared(database, *new.end()).await?;
        if all {
            self.compared_all = now;
        }
        self.began_at.get_or_insert(now - FIRST_LOOK);
        self.looked = now;
        Ok(())
    }

    /// Whether there are too many new events to compare them all now, and none is missing of
    /// those that are looked at instead, evenly spread. A store that is set back has lost all
    /// that came within some time.
    async fn are_there(&self, new: &RangeInclusive<i64>, now: i64) -> Result<bool, Fault> {
        let some = sample(new, (now - self.looked) * PER_SECOND / 1000);
        if some.is_empty() {
            return Ok(false);
        }
        let said = outbox::places(self.shell.database(), &some).await?;
        let sequences: Vec<u64> = said.iter().map(|(_, sequence)| *sequence).collect();
        let found = history::at_each(self.shell.broker(), &sequences).await?;
        let found: HashSet<EventId> = found.into_iter().map(|f| f.envelope.id).collect();
        Ok(said.iter().all(|(id, _)| found.contains(id)))
    }

    /// The numbers that are to be compared: from the last one that was, because events that
    /// the database does not know follow on that. When it fails or falls back, another database
    /// may be behind the same address, and older: what was compared is read again.
    async fn new_numbers(&mut self) -> Result<RangeInclusive<i64>, Fault> {
        let new = outbox::uncompared(self.shell.database()).await;
        if !new.as_ref().is_ok_and(|new| *new.end() >= self.settled) {
            self.began_at = None;
        }
        let new = new?;
        self.settled = *new.end();
        Ok((new.start() - 1)..=*new.end())
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
                    match self.new_numbers().await {
                        Ok(new) if new.end() - new.start() < self.many && self.began_at.is_some() => {}
                        _ => return,
                    }
                }
            }
        }
    }
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
    }

    #[test]
    fn a_number_is_taken_down_once_and_only_in_its_range() {
        let mut numbers = Numbers::of(&(100..=300));
        for number in [100, 163, 164, 300] {
            assert!(!numbers.contains(number), "{number}");
            assert!(
                numbers.insert(number) && !numbers.insert(number),
                "{number}"
            );
            assert!(numbers.contains(number), "{number}");
        }
        for number in [0, 99, 1_000] {
            assert!(
                !numbers.insert(number) && !numbers.contains(number),
                "{number}"
            );
        }
        let nothing = RangeInclusive::new(1, 0);
        assert!(!Numbers::of(&nothing).insert(1));
    }
}
