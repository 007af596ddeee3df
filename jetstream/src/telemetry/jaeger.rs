//! Spans as Jaeger's user interface reads them from a file.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry::{KeyValue, Value as Said};
use opentelemetry_sdk::trace::SpanData;
use serde_json::{Map, Value, json};

/// A trace as a file.
pub(super) fn file(trace: &str, spans: &BTreeMap<&'static str, Vec<SpanData>>) -> Value {
    let processes: Map<String, Value> = spans
        .keys()
        .map(|service| {
            (
                (*service).to_owned(),
                json!({ "serviceName": service, "tags": [] }),
            )
        })
        .collect();
    let spans = spans.iter().flat_map(|(service, spans)| {
        let of_service = spans.iter();
        of_service.map(move |span| one(service, span))
    });
    let spans: Vec<Value> = spans.collect();
    json!({ "data": [{ "traceID": trace, "spans": spans, "processes": processes }] })
}

fn one(service: &str, span: &SpanData) -> Value {
    let context = &span.span_context;
    let trace = context.trace_id().to_string();
    let reference = |kind: &str, trace: String, id: SpanId| json!({ "refType": kind, "traceID": trace, "spanID": id.to_string() });
    let mut references = Vec::new();
    if span.parent_span_id != SpanId::INVALID {
        references.push(reference("CHILD_OF", trace.clone(), span.parent_span_id));
    }
    for link in span.links.iter() {
        let to = &link.span_context;
        references.push(reference(
            "FOLLOWS_FROM",
            to.trace_id().to_string(),
            to.span_id(),
        ));
    }
    let mut tags: Vec<Value> = span.attributes.iter().map(tag).collect();
    let kind = match span.span_kind {
        SpanKind::Client => "client",
        SpanKind::Server => "server",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
        SpanKind::Internal => "internal",
    };
    tags.push(text("span.kind", kind));
    if let Status::Error { description } = &span.status {
        tags.push(json!({ "key": "error", "type": "bool", "value": true }));
        tags.push(text("otel.status_description", description));
    }
    let logs = span.events.iter().map(|event| {
        let named = std::iter::once(text("event", &event.name));
        let fields: Vec<Value> = named.chain(event.attributes.iter().map(tag)).collect();
        json!({ "timestamp": micros(event.timestamp), "fields": fields })
    });
    let started = micros(span.start_time);
    json!({
        "traceID": trace,
        "spanID": context.span_id().to_string(),
        "operationName": span.name,
        "references": references,
        "startTime": started,
        "duration": micros(span.end_time).saturating_sub(started),
        "tags": tags,
        "logs": logs.collect::<Vec<_>>(),
        "processID": service,
    })
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "type": "string", "value": value })
}

fn tag(said: &KeyValue) -> Value {
    let key = said.key.as_str();
    match &said.value {
        Said::Bool(value) => json!({ "key": key, "type": "bool", "value": value }),
        Said::I64(value) => json!({ "key": key, "type": "int64", "value": value }),
        Said::F64(value) => json!({ "key": key, "type": "float64", "value": value }),
        value => text(key, &value.as_str()),
    }
}

fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
