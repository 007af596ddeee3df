//! What a service said, and what it heard, found in a tape.

use std::collections::{HashMap, HashSet};

use events::catalog::Kind;
use events::{EventId, catalog};
use uuid::Uuid;

use super::tape::Tape;
use crate::hearing::subscription::Subscription;
use crate::stream::history::Recorded;

/// What all services look up.
pub(super) struct Index<'a> {
    pub(super) by_id: HashMap<EventId, &'a Recorded>,
    /// Orders that were placed on the tape.
    pub(super) placed: HashSet<Uuid>,
    /// Orders whose compensation was given up: a person may have acted on them since, and
    /// that is not always said.
    pub(super) given_up: HashSet<Uuid>,
}

impl<'a> Index<'a> {
    pub(super) fn of(tape: &'a Tape) -> Self {
        let of_kind = |kind: Kind| {
            let events = tape.events().iter().map(|event| &event.envelope);
            let orders = events.filter(move |envelope| envelope.entry.kind == kind);
            orders.map(|envelope| envelope.correlation).collect()
        };
        Self {
            by_id: tape.events().iter().map(|e| (e.envelope.id, e)).collect(),
            placed: of_kind(Kind::Created),
            given_up: of_kind(Kind::CompensationFailed),
        }
    }
}

/// One service's part of a tape.
pub(super) struct Part<'a> {
    /// What it said, by number: the order in which it decided.
    pub(super) said: Vec<&'a Recorded>,
    /// What it said because of an event, also what it said later than the tape plays.
    pub(super) answers: HashMap<EventId, Vec<&'a Recorded>>,
    /// What it heard and said nothing to, in stream order.
    pub(super) silent: Vec<&'a Recorded>,
    /// The last event in the stream that it has answered.
    pub(super) heard_until: u64,
}

impl<'a> Part<'a> {
    pub(super) fn of(
        service: &str,
        subscriptions: &[Subscription],
        tape: &'a Tape,
        index: &Index<'a>,
    ) -> Self {
        let own = |event: &&Recorded| event.envelope.entry.writer == service;
        let mut said: Vec<&Recorded> = tape.events().iter().filter(own).collect();
        said.sort_by_key(|event| event.envelope.pseq);
        let mut answers: HashMap<EventId, Vec<&Recorded>> = HashMap::new();
        for event in &said {
            if let Some(cause) = event.envelope.causation {
                answers.entry(cause).or_default().push(event);
            }
        }
        said.retain(|event| tape.plays(event));
        let heard: HashSet<&str> = catalog::all()
            .map(|entry| entry.subject)
            .filter(|subject| subscriptions.iter().any(|s| s.hears(subject)))
            .collect();
        let silent = tape.events().iter().filter(|event| {
            let envelope = &event.envelope;
            tape.plays(event)
                && heard.contains(envelope.entry.subject)
                && !answers.contains_key(&envelope.id)
        });
        let causes = said.iter().filter_map(|event| event.envelope.causation);
        let answered = causes.filter_map(|cause| index.by_id.get(&cause));
        let heard_until = answered.map(|event| event.stream_sequence).max();
        Self {
            silent: silent.collect(),
            heard_until: heard_until.unwrap_or(0),
            said,
            answers,
        }
    }
}
