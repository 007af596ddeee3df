//! The spans of a trace: their names and what they say, by OpenTelemetry's semantic
//! conventions for messaging and HTTP. No bodies, no users.
//!
//! Whether they were made as an order went by or are made from its events afterwards,
//! they are made here.

use std::time::SystemTime;

use events::catalog::{Kind, STREAM};
use events::{Envelope, Refusal, body};
use opentelemetry::trace::{
    Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::traceparent::{SpanRef, publishing};
use super::tracer;

/// A span, from one moment to another.
pub(crate) fn span(
    here: SpanRef,
    parent: Option<SpanRef>,
    kind: SpanKind,
    name: String,
    (from, to): (SystemTime, SystemTime),
) -> SpanData {
    SpanData {
        span_context: context(here),
        parent_span_id: parent.map_or(SpanId::INVALID, |parent| {
            SpanId::from_bytes(parent.span.to_be_bytes())
        }),
        parent_span_is_remote: matches!(kind, SpanKind::Consumer | SpanKind::Server),
        span_kind: kind,
        name: name.into(),
        start_time: from,
        end_time: to.max(from),
        attributes: vec![],
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: tracer::scope(),
    }
}

fn context(place: SpanRef) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(place.trace.to_be_bytes()),
        SpanId::from_bytes(place.span.to_be_bytes()),
        TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    )
}

pub(crate) fn set(span: &mut SpanData, name: &'static str, value: impl Into<Value>) {
    span.attributes.push(KeyValue::new(name, value));
}

pub(crate) fn link(span: &mut SpanData, to: SpanRef, attributes: Vec<KeyValue>) {
    let links = &mut span.links.links;
    links.push(Link::new(context(to), attributes, 0));
}

/// A fault, as an error.
pub(crate) fn fail(span: &mut SpanData, kind: &'static str, message: String) {
    let attributes = vec![
        KeyValue::new("exception.type", kind),
        KeyValue::new("exception.message", message.clone()),
    ];
    let event = Event::new("exception", span.end_time, attributes, 0);
    span.events.events.push(event);
    set(span, "error.type", kind);
    span.status = Status::error(message);
}

/// An event is published: the child of the span in which it was decided.
pub(crate) fn publish(
    envelope: &Envelope,
    trace: SpanRef,
    parent: Option<SpanRef>,
    when: (SystemTime, SystemTime),
) -> SpanData {
    let here = trace.beside(publishing(envelope.id));
    let name = format!("publish {}", envelope.entry.subject);
    let mut span = span(here, parent, SpanKind::Producer, name, when);
    message(&mut span, envelope, "publish", "send");
    span
}

/// A service handles an event: the child of the span in which it was published.
pub(crate) fn process(
    envelope: &Envelope,
    consumer: &str,
    here: SpanRef,
    when: (SystemTime, SystemTime),
) -> SpanData {
    let parent = here.beside(publishing(envelope.id));
    let name = format!("process {}", envelope.entry.subject);
    let mut span = span(here, Some(parent), SpanKind::Consumer, name, when);
    message(&mut span, envelope, "process", "process");
    set(
        &mut span,
        "messaging.consumer.group.name",
        consumer.to_owned(),
    );
    span
}

/// A service handles a batch of events in one transaction: a trace of its own, with links
/// to what happened to each event.
pub(crate) fn batch(consumer: &str, size: usize, when: (SystemTime, SystemTime)) -> SpanData {
    let here = tracer::Tracer::new_trace();
    let name = format!("process {STREAM}");
    let mut span = span(here, None, SpanKind::Consumer, name, when);
    messaging(&mut span, STREAM, "process", "process");
    set(
        &mut span,
        "messaging.consumer.group.name",
        consumer.to_owned(),
    );
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    set(&mut span, "messaging.batch.message_count", size);
    span
}

/// An event is decided in a span of its own: by what was joined, or by somebody outside.
pub(crate) fn decide(
    envelope: &Envelope,
    here: SpanRef,
    parent: SpanRef,
    when: (SystemTime, SystemTime),
) -> SpanData {
    let name = format!("decide {}", envelope.entry.subject);
    let mut span = span(here, Some(parent), SpanKind::Internal, name, when);
    about(&mut span, envelope);
    span
}

fn message(span: &mut SpanData, envelope: &Envelope, operation: &'static str, kind: &'static str) {
    messaging(span, envelope.entry.subject, operation, kind);
    set(span, "messaging.message.id", envelope.id.to_string());
    about(span, envelope);
}

fn messaging(span: &mut SpanData, to: &'static str, operation: &'static str, kind: &'static str) {
    set(span, "messaging.system", "nats");
    set(span, "messaging.destination.name", to);
    set(span, "messaging.operation.name", operation);
    set(span, "messaging.operation.type", kind);
}

/// What an order's spans are searched by.
fn about(span: &mut SpanData, envelope: &Envelope) {
    set(span, "event.id", envelope.id.to_string());
    if envelope.entry.kind == Kind::Fact {
        return;
    }
    set(span, "order.id", envelope.correlation.to_string());
    if let Ok(context) = body::context(envelope.body.clone()) {
        set(span, "flow", context.flow.name());
    }
}

/// A refusal is no error, but what happened: code and facts. What a user has is not said.
pub(crate) fn refused(span: &mut SpanData, answer: &Envelope) {
    let Kind::Refused(step) = answer.entry.kind else {
        return;
    };
    let Ok(refusal) = body::refusal(answer.body.clone()) else {
        return;
    };
    let Refusal {
        code,
        lines,
        needed,
        balance: _,
        reason,
    } = refusal;
    let mut attributes = vec![
        KeyValue::new("refusal.step", step.name()),
        KeyValue::new("refusal.code", code),
    ];
    if !reason.is_empty() {
        attributes.push(KeyValue::new("refusal.reason", reason));
    }
    if let Some(needed) = needed {
        attributes.push(KeyValue::new("refusal.needed", needed.0));
    }
    for line in lines {
        let fact = format!(
            "{} {}: {} requested, {} available",
            line.product_id, line.code, line.requested, line.available
        );
        attributes.push(KeyValue::new("refusal.line", fact));
    }
    let event = Event::new("refused", span.end_time, attributes, 0);
    span.events.events.push(event);
}
