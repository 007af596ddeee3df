//! The trace of an order, made from its events: for orders that were not sampled, or whose
//! trace is gone.
//!
//! It has the shape and the ids of the trace that was recorded, as far as events tell. They
//! tell who heard an event only where something was said because of it, and that in
//! milliseconds; requests, failed tries and repairs they do not tell.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use events::body::{self, Reason};
use events::catalog::Kind;
use events::{Envelope, EventId, OrderId};
use opentelemetry::KeyValue;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};

use super::traceparent::{SpanRef, deciding, processing, publishing};
use super::{export, jaeger, span};

/// A trace that was made from events.
#[derive(Debug)]
pub struct Rebuilt {
    trace: u128,
    spans: BTreeMap<&'static str, Vec<SpanData>>,
}

/// Makes the trace of an order from its events. An order that was not sampled has its own
/// id as the id of its trace.
#[must_use]
pub fn rebuild(order: OrderId, events: &[Envelope]) -> Rebuilt {
    let traced = events.iter().find_map(|event| event.traceparent.as_deref());
    let traced = traced.and_then(SpanRef::parse).map(|place| place.trace);
    let rebuilding = Rebuilding {
        trace: SpanRef {
            trace: traced.unwrap_or(order.0.as_u128()),
            span: 0,
        },
        of_id: events.iter().map(|event| (event.id, event)).collect(),
    };
    let mut spans: BTreeMap<_, Vec<SpanData>> = BTreeMap::new();
    let mut processed = HashSet::new();
    for event in events {
        let of_service = spans.entry(event.entry.writer).or_default();
        if let Some(cause) = rebuilding.cause(event)
            && processed.insert((cause.id, event.entry.writer))
        {
            of_service.push(rebuilding.process(cause, event.entry.writer));
        }
        of_service.extend(rebuilding.decide(event));
        of_service.push(rebuilding.publish(event));
    }
    for span in spans.values_mut().flatten() {
        span::set(span, "rebuilt", true);
    }
    Rebuilt {
        trace: rebuilding.trace.trace,
        spans,
    }
}

struct Rebuilding<'a> {
    trace: SpanRef,
    of_id: HashMap<EventId, &'a Envelope>,
}

impl<'a> Rebuilding<'a> {
    fn cause(&self, event: &Envelope) -> Option<&'a Envelope> {
        self.of_id.get(&event.causation?).copied()
    }

    /// The span in which an event was decided, before that has one of its own.
    fn decided_in(&self, event: &Envelope) -> Option<SpanRef> {
        if let Some(cause) = self.cause(event) {
            let here = processing(cause.id, event.entry.writer, 1);
            return Some(self.trace.beside(here));
        }
        // What somebody outside set off goes on with the order.
        let mut all = self.of_id.values();
        let created = all.find(|event| event.entry.kind == Kind::Created)?;
        (created.id != event.id).then(|| self.trace.beside(publishing(created.id)))
    }

    /// What a service did with an event, from its being said to the first of what was said
    /// because of it.
    fn process(&self, cause: &Envelope, service: &'static str) -> SpanData {
        let here = self.trace.beside(processing(cause.id, service, 1));
        let said = self
            .of_id
            .values()
            .filter(|event| event.causation == Some(cause.id) && event.entry.writer == service);
        let mut said: Vec<_> = said.collect();
        said.sort_by_key(|event| event.pseq);
        let until = said.first().map_or(cause.time, |event| event.time);
        let when = (moment(cause.time), moment(until));
        let mut span = span::process(cause, service, here, when);
        for answer in said {
            span::refused(&mut span, answer);
        }
        span
    }

    fn publish(&self, event: &Envelope) -> SpanData {
        let parent = match self.decision(event) {
            Some(_) => Some(self.trace.beside(deciding(event.id))),
            None => self.decided_in(event),
        };
        let when = (moment(event.time), moment(event.time));
        span::publish(event, self.trace.beside(publishing(event.id)), parent, when)
    }

    fn decide(&self, event: &Envelope) -> Option<SpanData> {
        let set_off_by = self.decision(event)?;
        let here = self.trace.beside(deciding(event.id));
        let when = (moment(event.time), moment(event.time));
        let mut span = span::decide(event, here, self.decided_in(event)?, when);
        span::set(&mut span, "set_off_by", set_off_by);
        for (step, answer) in self.joined(event) {
            let answer = here.beside(publishing(answer));
            span::link(&mut span, answer, vec![KeyValue::new("step", step)]);
        }
        Some(span)
    }

    /// What set off an event that has a span of its own for its decision.
    fn decision(&self, event: &Envelope) -> Option<&'static str> {
        let canceled = || body::read_canceled(event.body.clone()).ok();
        match (event.entry.kind, self.cause(event)) {
            (Kind::Confirmed, Some(cause)) => Some(cause.entry.writer),
            (Kind::Canceled, Some(cause)) if canceled()?.attempt == 1 => Some(cause.entry.writer),
            // Its cause is not here any more, so nothing can be told of its decision.
            _ if event.causation.is_some() => None,
            (Kind::Canceled, None) => match canceled()? {
                first if first.attempt > 1 => Some("deadline"),
                first if first.reason == Reason::CanceledByUser => Some("user"),
                _ => Some("deadline"),
            },
            (Kind::Compensated, None) => Some("outside"),
            (Kind::CompensationFailed, None) => Some("deadline"),
            _ => None,
        }
    }

    /// The answers that a decision joined: the last of them, and the successes that had been
    /// said before it.
    fn joined(&self, event: &Envelope) -> Vec<(&'static str, EventId)> {
        let first = match event.entry.kind {
            Kind::Confirmed => true,
            Kind::Canceled => body::read_canceled(event.body.clone()).is_ok_and(|c| c.attempt == 1),
            _ => false,
        };
        if !first {
            return vec![];
        }
        let last = self.cause(event);
        let successes = self.of_id.values().filter(|answer| {
            let success = matches!(answer.entry.kind, Kind::Taken(_));
            let same = last.is_some_and(|last| last.entry.writer == answer.entry.writer);
            success && !same && answer.time <= event.time
        });
        let joined = successes.copied().chain(last);
        let mut joined: Vec<_> = joined
            .map(|answer| (answer.entry.writer, answer.id))
            .collect();
        joined.sort_unstable();
        joined
    }
}

fn moment(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

impl Rebuilt {
    /// The id of the trace, in hexadecimal.
    #[must_use]
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// How many spans it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.values().map(Vec::len).sum()
    }

    /// Whether there were no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// As a file that Jaeger's user interface opens.
    #[must_use]
    pub fn as_jaeger(&self) -> serde_json::Value {
        jaeger::file(&self.trace_id(), &self.spans)
    }

    /// Sends it to an OTLP/gRPC endpoint, under the names of its services.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the endpoint.
    pub async fn send(self, endpoint: &str) -> Result<(), String> {
        for (service, spans) in self.spans {
            let exporter = export::exporter(service, endpoint)?;
            let sent = exporter.export(spans).await;
            sent.map_err(|error| format!("{endpoint} does not take the trace: {error}"))?;
        }
        Ok(())
    }
}
