//! The timeline of an order, read from where its events are remembered to stand: however
//! large the stream is, only they are read.
//!
//! Outboxes remember where the broker put what they said, and order where it heard what the
//! others said. Sequences are hints: after a broker lost its store, something else stands
//! there. So what is read counts only if it is an event of this order, once per event id;
//! and what is said and not there is told by the outbox of who said it.

use std::collections::{BTreeMap, HashMap};

use events::{Envelope, EventId, OrderId};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::clock;
use crate::fault::Fault;
use crate::saying::outbox::{self, Said};
use crate::shell::Shell;
use crate::stream::history::{self, Recorded};
use crate::telemetry;

/// Where an event of a timeline is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the stream, at this sequence.
    Stream(u64),
    /// It was published, but is not in the stream where it was: its outbox tells it.
    Outbox,
    /// It is decided, and not published yet.
    Unpublished,
}

/// An event of a timeline.
#[derive(Debug, Clone)]
pub struct Told {
    /// The event.
    pub envelope: Envelope,
    /// Where it is.
    pub place: Place,
}

/// What is known of an order's events without searching the stream.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    /// The events, in stream order; what is not in the stream comes last.
    pub events: Vec<Told>,
    /// How many events were heard that are not where they were.
    pub missing: usize,
    /// Whether the stream could be read.
    pub stream_read: bool,
}

impl Timeline {
    /// What this service has said of an order, and what it heard at these sequences.
    ///
    /// # Errors
    /// When the database is away. Without the broker, what the service has said is told.
    pub async fn of(shell: &Shell, order: OrderId, heard: &[u64]) -> Result<Self, Fault> {
        let said = outbox::of_order(shell.database(), order).await?;
        let own = said.iter().map(|said| said.sequence);
        let mut sequences: Vec<u64> = own.chain(heard.iter().copied()).collect();
        sequences.retain(|sequence| *sequence > 0);
        sequences.sort_unstable();
        sequences.dedup();
        let read = history::at_each(shell.broker(), &sequences).await;
        let stream_read = read.is_ok();
        let mut timeline = Self::assemble(order, said, heard.len(), read.unwrap_or_default());
        timeline.stream_read = stream_read;
        Ok(timeline)
    }

    fn assemble(order: OrderId, said: Vec<Said>, heard: usize, read: Vec<Recorded>) -> Self {
        let of_this_order = read
            .into_iter()
            .filter(|found| found.envelope.correlation == order.0);
        let mut found: HashMap<EventId, Recorded> = of_this_order
            .map(|found| (found.envelope.id, found))
            .collect();
        let mut in_stream = BTreeMap::new();
        let mut elsewhere = Vec::new();
        for said in said {
            let place = match (found.remove(&said.envelope.id), said.published) {
                (Some(found), _) => Place::Stream(found.stream_sequence),
                (None, true) => Place::Outbox,
                (None, false) => Place::Unpublished,
            };
            let envelope = said.envelope;
            match place {
                Place::Stream(sequence) => drop(in_stream.insert(sequence, envelope)),
                _ => elsewhere.push(Told { envelope, place }),
            }
        }
        // What is left was heard: each event once, whatever stands at the other sequences.
        let missing = heard.saturating_sub(found.len());
        for found in found.into_values() {
            in_stream.insert(found.stream_sequence, found.envelope);
        }
        let in_stream = in_stream.into_iter().map(|(sequence, envelope)| Told {
            envelope,
            place: Place::Stream(sequence),
        });
        Self {
            events: in_stream.chain(elsewhere).collect(),
            missing,
            stream_read: true,
        }
    }
}

impl Told {
    /// As the API answers it, with or without what the event says.
    #[must_use]
    pub fn view(&self, with_body: bool) -> TimelineEvent {
        let envelope = &self.envelope;
        let (source, stream_sequence) = match self.place {
            Place::Stream(sequence) => ("stream", Some(sequence)),
            Place::Outbox => ("outbox", None),
            Place::Unpublished => ("unpublished", None),
        };
        let body = || {
            events::render::body(envelope)
                .unwrap_or_else(|error| json!({ "unreadable": error.to_string() }))
        };
        let trace_id = envelope
            .traceparent
            .as_deref()
            .and_then(telemetry::trace_id);
        TimelineEvent {
            subject: envelope.entry.subject,
            event_id: envelope.id.0,
            cause: envelope.causation.map(|cause| cause.0),
            time: clock::rfc3339(envelope.time),
            service: envelope.entry.writer,
            source,
            stream_sequence,
            trace_id: trace_id.map(Into::into),
            body: with_body.then(body),
        }
    }
}

/// An event of an order.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TimelineEvent {
    #[schema(example = "order.created.pending")]
    subject: &'static str,
    event_id: Uuid,
    /// The event that caused it; null when it came from outside
    cause: Option<Uuid>,
    #[schema(format = DateTime)]
    time: String,
    #[schema(example = "order")]
    service: &'static str,
    /// `stream`; `outbox`: the stream no longer has it; `unpublished`: not yet
    source: &'static str,
    stream_sequence: Option<u64>,
    trace_id: Option<String>,
    /// What it says; for operators
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
}

impl From<Recorded> for Told {
    fn from(recorded: Recorded) -> Self {
        Self {
            place: Place::Stream(recorded.stream_sequence),
            envelope: recorded.envelope,
        }
    }
}

#[cfg(test)]
mod tests {
    use events::catalog::{self, Entry};
    use events::sample::{self, Form};

    use super::*;

    const ORDER: OrderId = OrderId(Uuid::from_u128(7));

    fn event(id: u128, entry: &'static Entry) -> Envelope {
        Envelope {
            id: EventId(Uuid::from_u128(id)),
            correlation: ORDER.0,
            ..sample::envelope(entry, Form::Full)
        }
    }

    fn said(id: u128, published: bool) -> Said {
        Said {
            envelope: event(id, &catalog::ORDER_CREATED),
            published,
            sequence: if published { 1 } else { 0 },
        }
    }

    fn at(stream_sequence: u64, envelope: Envelope) -> Recorded {
        Recorded {
            envelope,
            stream_sequence,
        }
    }

    fn places(timeline: &Timeline) -> Vec<(u128, Place)> {
        let events = timeline.events.iter();
        events
            .map(|told| (told.envelope.id.0.as_u128(), told.place))
            .collect()
    }

    #[test]
    fn what_was_said_and_heard_is_told_in_stream_order() {
        let read = vec![
            at(9, event(2, &catalog::STEPS[0].taken)),
            at(4, event(1, &catalog::ORDER_CREATED)),
        ];
        let timeline = Timeline::assemble(ORDER, vec![said(1, true)], 1, read);
        assert_eq!(
            places(&timeline),
            [(1, Place::Stream(4)), (2, Place::Stream(9))]
        );
        assert_eq!(timeline.missing, 0);
    }

    #[test]
    fn what_the_stream_has_no_longer_is_told_by_the_outbox_and_marked() {
        let rows = vec![said(1, true), said(2, false)];
        let timeline = Timeline::assemble(ORDER, rows, 0, vec![]);
        assert_eq!(
            places(&timeline),
            [(1, Place::Outbox), (2, Place::Unpublished)]
        );
    }

    #[test]
    fn another_event_that_stands_there_now_is_not_taken_for_the_one_that_did() {
        // Another order's event where one of this order stood; and one event of this order
        // at two sequences: two events were heard, so one of them is not there.
        let mut strange = event(5, &catalog::STEPS[0].taken);
        strange.correlation = Uuid::from_u128(8);
        let again = event(2, &catalog::STEPS[0].taken);
        let read = vec![at(3, strange), at(4, again.clone()), at(6, again)];
        let timeline = Timeline::assemble(ORDER, vec![said(1, true)], 3, read);
        let mut ids: Vec<u128> = places(&timeline).iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2]);
        assert_eq!(timeline.missing, 2);
    }
}
