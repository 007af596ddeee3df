//! Reconciliation: what this service has said is compared with what the stream has.
//!
//! A broker can lose what it has acknowledged (a store that was set back, a damaged block,
//! a power cut between two fsyncs), and neither its counts nor its sequences tell. So
//! events are compared by id. What is missing is said again under the same id. The other
//! way round, events of this service that its database does not know mean that the
//! *database* was set back: then the service is fenced, until a person has looked.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use async_nats::jetstream;
use events::EventId;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::clock;
use crate::database::bulk::Rows;
use crate::failpoint;
use crate::fault::Fault;
use crate::losses::said;
use crate::saying::outbox::{self, Committed};
use crate::saying::relay;
use crate::shell::Shell;
use crate::stream::history::{self, Pages, Recorded};
use crate::stream::reader::Start;

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
    let numbers = said::numbers_since(shell.database(), from).await?;
    compare(shell, numbers, from).await
}

/// Compares what has these numbers, none of which was decided before a time.
pub(crate) async fn compare(
    shell: &Shell,
    numbers: RangeInclusive<i64>,
    from: i64,
) -> Result<Report, Fault> {
    let database = shell.database();
    // What is marked as published by now stands in the stream when it is read.
    let until = database.clock().now();
    let start = match said::stands_from(database, *numbers.start()).await? {
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
        for (id, number) in said::ids(shell.database(), *first..=*last, 2 * own.len()).await? {
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
        let mut rows = said::published(database, &numbers, until, PAGE).await?;
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
    let sql = "SELECT event_id, CAST(0 AS BIGINT) AS pseq FROM accepted_events
               WHERE event_id IN (SELECT id FROM v)
               UNION ALL
               SELECT event_id, pseq FROM outbox WHERE event_id IN (SELECT id FROM v)";
    let rows = shell.database().fetch(Rows::ids(ids), sql, vec![]).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

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
