//! Events inside a service: those that came in, and those that a handler returns.

use bytes::Bytes;
use events::catalog::{self, Entry};
use events::step::Route;
use events::{Envelope, EventId, OrderContext};
use uuid::Uuid;

use crate::clock;
use crate::operating::metrics::Ending;
use crate::telemetry::{self, Decision, Heard, SpanRef, Trace};

/// An event that was heard and is to be handled.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The event.
    pub envelope: Envelope,
    /// Where it stands in the stream: a hint for reading, never an identity.
    pub stream_sequence: u64,
    /// Its place in its trace; none: it is not sampled.
    pub(crate) heard: Option<Heard>,
}

impl Delivery {
    /// An event that was heard.
    #[must_use]
    pub fn new(envelope: Envelope, stream_sequence: u64) -> Self {
        Self {
            envelope,
            stream_sequence,
            heard: None,
        }
    }

    /// With its place in its trace.
    pub(crate) fn traced(self, heard: Option<Heard>) -> Self {
        Self { heard, ..self }
    }

    /// The trace of what is decided because of it.
    fn trace(&self) -> Option<Box<Trace>> {
        self.heard.map(|heard| {
            Box::new(Trace {
                parent: heard.here,
                recorded: heard.recorded,
                decision: None,
            })
        })
    }
}

/// An event that a transaction decided; it is said once the transaction has committed.
#[derive(Debug, Clone)]
pub struct Emission {
    pub(crate) id: EventId,
    pub(crate) entry: &'static Entry,
    pub(crate) aggregate: String,
    pub(crate) correlation: Uuid,
    pub(crate) causation: Option<EventId>,
    pub(crate) trace: Option<Box<Trace>>,
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
            trace: cause.trace(),
            ..Self::of_order_from_outside(entry, context, body)
        }
    }

    /// The first event of an order: its id follows from that of the order.
    #[must_use]
    pub fn of_new_order(context: &OrderContext, body: Bytes) -> Self {
        let entry = &catalog::ORDER_CREATED;
        Self {
            id: EventId::created(context.order_id),
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
            trace: telemetry::request::here().map(Trace::in_span),
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
            trace: telemetry::request::here().map(Trace::in_span),
            turn: None,
            body,
            ending: None,
        }
    }

    /// An event that was said before, as it was.
    pub(crate) fn recorded(envelope: &Envelope) -> Self {
        let published = envelope.traceparent.as_deref().and_then(SpanRef::parse);
        let trace = published.map(|parent| {
            Box::new(Trace {
                parent,
                recorded: false,
                decision: None,
            })
        });
        Self {
            id: envelope.id,
            entry: envelope.entry,
            aggregate: envelope.aggregate.clone(),
            correlation: envelope.correlation,
            causation: envelope.causation,
            trace,
            turn: None,
            body: envelope.body.clone(),
            ending: None,
        }
    }

    /// Sets the request in whose trace it was decided, by its `traceparent`, for work that
    /// is shared by several requests.
    #[must_use]
    pub fn traced(self, traceparent: Option<String>) -> Self {
        let here = traceparent.as_deref().and_then(SpanRef::parse);
        Self {
            trace: here.map(Trace::in_span),
            ..self
        }
    }

    /// Says that the order ends with this event: it is counted once it has committed.
    #[must_use]
    pub fn ending(self, ending: Option<Ending>) -> Self {
        Self { ending, ..self }
    }

    /// Goes on with the trace of its order, although somebody outside set it off: a
    /// person, or the clock. The decision gets a span of its own, which links to the
    /// request that asked for it.
    #[must_use]
    pub fn continuing(self, order: Option<SpanRef>, set_off_by: &'static str) -> Self {
        let asked = telemetry::request::here();
        let trace = order.map(|parent| {
            telemetry::request::continues(parent);
            Box::new(Trace {
                parent,
                recorded: true,
                decision: Some(Decision {
                    from: clock::moment(),
                    set_off_by,
                    joined: vec![],
                    asked,
                }),
            })
        });
        Self { trace, ..self }
    }

    /// Says that it is decided by a join: by the answers of these steps. The decision gets
    /// a span of its own, which links to them and names what set it off. They are asked
    /// for only where the trace is sampled.
    #[must_use]
    pub fn joining(
        mut self,
        set_off_by: &'static str,
        joined: impl FnOnce() -> Vec<(&'static str, EventId)>,
    ) -> Self {
        if let Some(trace) = self.trace.as_mut().filter(|trace| trace.recorded) {
            let asked = trace.decision.take().and_then(|decision| decision.asked);
            trace.decision = Some(Decision {
                from: clock::moment(),
                set_off_by,
                joined: joined(),
                asked,
            });
        }
        self
    }
}
