//! Events inside a service: those that came in, and those that a handler returns.

use bytes::Bytes;
use events::catalog::Entry;
use events::step::Route;
use events::{Envelope, EventId, OrderContext};
use tracing::Span;
use uuid::Uuid;

use crate::clock;
use crate::operating::metrics::Ending;
use crate::telemetry;

/// An event that was heard and is to be handled.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The event.
    pub envelope: Envelope,
    /// Where it stands in the stream: a hint for reading, never an identity.
    pub stream_sequence: u64,
    /// The span in which it is handled.
    pub(crate) span: Span,
}

impl Delivery {
    /// An event that was heard. Its span continues the trace of the event; one that is not
    /// traced has none, because a span costs more than all else that is done to an event.
    #[must_use]
    pub fn new(envelope: Envelope, stream_sequence: u64) -> Self {
        let parent = envelope.traceparent.as_deref();
        Self {
            span: parent.map_or_else(Span::none, |parent| processing(&envelope, parent)),
            envelope,
            stream_sequence,
        }
    }

    /// The trace context of what is decided because of it.
    fn traceparent(&self) -> Option<String> {
        telemetry::traceparent(&self.span).or_else(|| self.envelope.traceparent.clone())
    }
}

fn processing(envelope: &Envelope, parent: &str) -> Span {
    let span = tracing::info_span!(
        "process",
        otel.name = format!("process {}", envelope.entry.subject),
        otel.kind = "consumer",
        event.id = %envelope.id,
        order.id = %envelope.correlation,
    );
    telemetry::follow(&span, parent);
    span
}

/// An event that a transaction decided; it is said once the transaction has committed.
#[derive(Debug, Clone)]
pub struct Emission {
    pub(crate) id: EventId,
    pub(crate) entry: &'static Entry,
    pub(crate) aggregate: String,
    pub(crate) correlation: Uuid,
    pub(crate) causation: Option<EventId>,
    pub(crate) traceparent: Option<String>,
    pub(crate) turn: Option<Route>,
    pub(crate) body: Bytes,
    pub(crate) ending: Option<Ending>,
}

impl Emission {
    /// An event of an order that follows from an event.
    ///
    /// Its id is derived: deciding again gives the same event.
    #[must_use]
    pub fn of_order(
        entry: &'static Entry,
        context: &OrderContext,
        body: Bytes,
        cause: &Delivery,
        attempt: u32,
    ) -> Self {
        Self {
            id: EventId::derived(cause.envelope.id, entry.writer, entry.subject, attempt),
            causation: Some(cause.envelope.id),
            traceparent: cause.traceparent(),
            ..Self::of_order_from_outside(entry, context, body)
        }
    }

    /// An event of an order that came from outside: a request, a timer, a person.
    #[must_use]
    pub fn of_order_from_outside(
        entry: &'static Entry,
        context: &OrderContext,
        body: Bytes,
    ) -> Self {
        Self {
            id: EventId(clock::new_id()),
            entry,
            aggregate: context.order_id.to_string(),
            correlation: context.order_id.0,
            causation: None,
            traceparent: telemetry::current(),
            turn: Some(context.route()),
            body,
            ending: None,
        }
    }

    /// A fact: something that came from outside and belongs to no order.
    #[must_use]
    pub fn fact(entry: &'static Entry, aggregate: impl ToString, body: Bytes) -> Self {
        let id = EventId(clock::new_id());
        Self {
            id,
            entry,
            aggregate: aggregate.to_string(),
            correlation: id.0,
            causation: None,
            traceparent: telemetry::current(),
            turn: None,
            body,
            ending: None,
        }
    }

    /// Sets the trace context in which it was decided, for work that is shared by
    /// several requests.
    #[must_use]
    pub fn traced(self, traceparent: Option<String>) -> Self {
        Self {
            traceparent,
            ..self
        }
    }

    /// Says that the order ends with this event: it is counted once it has committed.
    #[must_use]
    pub fn ending(self, ending: Option<Ending>) -> Self {
        Self { ending, ..self }
    }
}
