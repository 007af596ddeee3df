//! The stream beside what its writers have published and its hearers have processed: I10
//! and I11. The stream is read once; of each event its number and id are kept.

use std::collections::{BTreeMap, HashSet};

use jetstream::database::snapshot::Snapshot;
use jetstream::hearing::subscription::{Proof, Subscription};
use jetstream::operating::evidence::{self, Letter};
use jetstream::stream::broker::Context;
use jetstream::stream::history;
use jetstream::{Fault, Settings};
use uuid::Uuid;

use super::{Place, Report, Standing, Violation};

// What the stream drops by age is near its beginning; clocks may differ by this much.
const CLOCK_DIFFERENCE: i64 = 60_000;

/// What was read from the stream.
pub(super) struct Heard {
    /// Numbers and ids of the events of each writer, sorted, each once.
    said: BTreeMap<&'static str, Vec<(i64, Uuid)>>,
    /// Ids of the events that each service must have in its inbox, sorted, each once.
    to_process: BTreeMap<&'static str, Vec<Uuid>>,
    /// When the oldest event was decided that somebody has not heard.
    pub(super) oldest_unheard: i64,
    /// What was published before this may have been dropped by age.
    kept_from: i64,
}

/// Reads the whole stream.
pub(super) async fn read(
    broker: &Context,
    settings: &Settings,
    places: &[Place],
    standing: &Standing,
    report: &mut Report,
) -> Result<Heard, Fault> {
    let subscriptions: Vec<(&'static str, u64, Vec<Subscription>)> = places
        .iter()
        .map(|place| {
            let name = place.service.name;
            let all = (place.service.subscriptions)(settings);
            (name, standing.acked_until(name), all)
        })
        .collect();
    let mut heard = Heard {
        said: BTreeMap::new(),
        to_process: BTreeMap::new(),
        oldest_unheard: i64::MAX,
        kept_from: i64::MIN,
    };
    let everything = 0;
    history::scan(broker, ">", everything, |event| {
        let envelope = &event.envelope;
        report.messages += 1;
        if report.messages == 1 && standing.first > 1 {
            heard.kept_from = envelope.time + CLOCK_DIFFERENCE;
        }
        let writer = heard.said.entry(envelope.entry.writer).or_default();
        writer.push((envelope.pseq, envelope.id.0));
        for (name, acked_until, all) in &subscriptions {
            let first = all.iter().find(|s| s.hears(envelope.entry.subject));
            let Some(subscription) = first else { continue };
            if event.stream_sequence > *acked_until {
                heard.oldest_unheard = heard.oldest_unheard.min(envelope.time);
            } else if subscription.proof() == Proof::Inbox {
                heard
                    .to_process
                    .entry(name)
                    .or_default()
                    .push(envelope.id.0);
            }
        }
    })
    .await?;
    for events in heard.said.values_mut() {
        events.sort_unstable();
        events.dedup();
        report.events += events.len() as u64;
    }
    for ids in heard.to_process.values_mut() {
        ids.sort_unstable();
        ids.dedup();
    }
    Ok(heard)
}

/// Compares one service's outbox and inbox with what was read.
pub(super) async fn compare(
    service: &'static str,
    snapshot: &Snapshot,
    heard: &Heard,
    letters: &[Letter],
    begun: i64,
    report: &mut Report,
) -> Result<(), Fault> {
    let nothing = Vec::new();
    let said = heard.said.get(service).unwrap_or(&nothing);
    report.add(outbox(service, snapshot, said, heard.kept_from, begun).await?);
    let to_process = heard.to_process.get(service);
    // What was said again after a loss has a message id that only begins with that of the event.
    let event = |letter: &Letter| letter.event.get(..36).unwrap_or_default().to_owned();
    let dead: HashSet<String> = letters.iter().map(event).collect();
    if let Some(ids) = to_process {
        report.add(inbox(service, snapshot, ids, &dead).await?);
    }
    Ok(())
}

/// What was published and is not in the stream, and what is in the stream and was never
/// decided.
async fn outbox(
    service: &str,
    snapshot: &Snapshot,
    said: &[(i64, Uuid)],
    kept_from: i64,
    begun: i64,
) -> Result<Vec<Violation>, Fault> {
    let violation = |event: Uuid, found: &str| Violation {
        invariant: "I10",
        service: service.to_owned(),
        about: "event",
        id: event.to_string(),
        found: found.to_owned(),
    };
    let accepted = evidence::accepted(snapshot).await?;
    let mut violations = Vec::new();
    let strange = |events: &[(i64, Uuid)], lowest: i64, violations: &mut Vec<Violation>| {
        for (pseq, event) in events {
            // Rows below the lowest have been pruned.
            if *pseq >= lowest && !accepted.contains(event) {
                let found = format!("number {pseq} is in the stream, and not in the outbox");
                violations.push(violation(*event, &found));
            }
        }
    };
    let (mut rest, mut after, mut lowest) = (said, 0, None);
    loop {
        let rows = evidence::said(snapshot, after).await?;
        let Some(last) = rows.last() else { break };
        after = last.pseq;
        for row in &rows {
            let lowest = *lowest.get_or_insert(row.pseq);
            let before = rest.partition_point(|(pseq, _)| *pseq < row.pseq);
            strange(&rest[..before], lowest, &mut violations);
            rest = &rest[before..];
            let same = rest.partition_point(|(pseq, _)| *pseq <= row.pseq);
            let (here, beyond) = rest.split_at(same);
            rest = beyond;
            let (ours, others): (Vec<_>, Vec<_>) = here
                .iter()
                .copied()
                .partition(|(_, event)| *event == row.event);
            strange(&others, lowest, &mut violations);
            // What was published while the stream was read may or may not have been seen.
            let must = |at: i64| at < begun && at > kept_from;
            if ours.is_empty() && row.published_at.is_some_and(must) {
                let found = "it is published, and not in the stream: the broker has lost it; \
                             it is said again within a minute, or by `ensemble reconcile`";
                violations.push(violation(row.event, found));
            }
        }
    }
    strange(rest, lowest.unwrap_or(0), &mut violations);
    Ok(violations)
}

/// What was acked and neither processed nor a dead letter.
async fn inbox(
    service: &str,
    snapshot: &Snapshot,
    ids: &[Uuid],
    dead: &HashSet<String>,
) -> Result<Vec<Violation>, Fault> {
    let mut violations = Vec::new();
    let mut missed = |events: &[Uuid]| {
        let events = events.iter().map(Uuid::to_string);
        for event in events.filter(|event| !dead.contains(event)) {
            violations.push(Violation {
                invariant: "I11",
                service: service.to_owned(),
                about: "event",
                id: event,
                found: "it is acked, and neither in the inbox nor a dead letter".to_owned(),
            });
        }
    };
    let (mut rest, mut after) = (ids, Uuid::nil());
    loop {
        let processed = evidence::inbox(snapshot, service, after).await?;
        let Some(last) = processed.last() else { break };
        after = *last;
        for event in processed {
            let before = rest.partition_point(|id| *id < event);
            missed(&rest[..before]);
            rest = &rest[before..];
            if rest.first() == Some(&event) {
                rest = &rest[1..];
            }
        }
    }
    missed(rest);
    Ok(violations)
}

/// The subjects that a service hears are known by the code.
#[cfg(test)]
mod tests {
    use events::catalog;

    use super::*;

    #[test]
    fn order_keeps_an_inbox_of_the_answers() {
        let subscriptions = (crate::SERVICES[0].subscriptions)(&Settings::default());
        let inbox = |s: &&Subscription| s.proof() == Proof::Inbox;
        let hears = |subject| subscriptions.iter().filter(inbox).any(|s| s.hears(subject));
        assert!(hears(catalog::STEPS[0].taken.subject));
        assert!(!hears(catalog::PRODUCT_LISTED.subject));
    }
}
