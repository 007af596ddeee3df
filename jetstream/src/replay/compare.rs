//! What was recorded and what this build says, side by side.

use events::{Envelope, EventId, OrderId, render};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::event::Emission;
use crate::stream::history::Recorded;

/// An event that this build says otherwise than it was recorded.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// The service that says it.
    pub service: &'static str,
    /// The order that it is about.
    pub order_id: OrderId,
    /// The event that it is said because of.
    pub cause: Heard,
    /// What was recorded; absent: nothing.
    pub recorded: Option<Words>,
    /// What this build says; absent: nothing.
    pub replayed: Option<Words>,
    /// Why this build says nothing, if it fails.
    pub fault: Option<String>,
    /// Where the two differ, field by field.
    pub fields: Vec<Field>,
}

/// An event that was heard.
#[derive(Debug, Clone, Serialize)]
pub struct Heard {
    /// Its subject.
    pub subject: &'static str,
    /// Its id.
    pub event_id: EventId,
    /// Where it stands in the stream.
    pub stream_sequence: u64,
}

/// What an event says.
#[derive(Debug, Clone, Serialize)]
pub struct Words {
    /// Its subject.
    pub subject: &'static str,
    /// Where it stands in the stream; absent for what was only said now.
    pub stream_sequence: Option<u64>,
    /// Its body.
    pub body: Value,
}

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Its path, like `body.refusal.code`.
    pub field: String,
    /// As it was recorded; null where there is none.
    pub recorded: Value,
    /// As this build says it; null where there is none.
    pub replayed: Value,
}

impl Difference {
    /// Where it stands in the stream, or what it was said because of.
    #[must_use]
    pub fn stream_sequence(&self) -> u64 {
        let recorded = self
            .recorded
            .as_ref()
            .and_then(|words| words.stream_sequence);
        recorded.unwrap_or(self.cause.stream_sequence)
    }
}

/// Whether the same is said, in whatever order.
pub(super) fn same(recorded: &[&Recorded], said: &[Emission]) -> bool {
    let key = |subject, body| (subject, body);
    let mut recorded: Vec<_> = recorded
        .iter()
        .map(|event| key(event.envelope.entry.subject, &event.envelope.body))
        .collect();
    let mut said: Vec<_> = said
        .iter()
        .map(|emission| key(emission.entry.subject, &emission.body))
        .collect();
    recorded.sort_unstable();
    said.sort_unstable();
    recorded == said
}

/// What differs, event by event.
pub(super) fn between(
    service: &'static str,
    cause: &Recorded,
    recorded: &[&Recorded],
    said: &[Emission],
    fault: Option<String>,
) -> Vec<Difference> {
    let mut said: Vec<&Emission> = said.iter().collect();
    let mut left: Vec<&Recorded> = Vec::new();
    for event in recorded {
        let envelope = &event.envelope;
        let equal = |s: &&Emission| s.entry == envelope.entry && s.body == envelope.body;
        match said.iter().position(equal) {
            Some(index) => drop(said.remove(index)),
            None => left.push(event),
        }
    }
    let mut pairs: Vec<(Option<&Recorded>, Option<&Emission>)> = Vec::new();
    for event in left {
        let subject = event.envelope.entry.subject;
        let of_subject = said.iter().position(|s| s.entry.subject == subject);
        let other = of_subject.or((!said.is_empty()).then_some(0));
        pairs.push((Some(event), other.map(|index| said.remove(index))));
    }
    pairs.extend(said.into_iter().map(|emission| (None, Some(emission))));
    if pairs.is_empty() && fault.is_some() {
        pairs.push((None, None));
    }
    pairs
        .into_iter()
        .map(|(recorded, said)| difference(service, cause, recorded, said, fault.clone()))
        .collect()
}

fn difference(
    service: &'static str,
    cause: &Recorded,
    recorded: Option<&Recorded>,
    said: Option<&Emission>,
    fault: Option<String>,
) -> Difference {
    let recorded = recorded.map(|event| Words {
        subject: event.envelope.entry.subject,
        stream_sequence: Some(event.stream_sequence),
        body: body(&event.envelope),
    });
    let replayed = said.map(|emission| Words {
        subject: emission.entry.subject,
        stream_sequence: None,
        body: body(&as_envelope(emission)),
    });
    let mut fields = Vec::new();
    if let (Some(recorded), Some(replayed)) = (&recorded, &replayed) {
        let (a, b) = (json!(recorded.subject), json!(replayed.subject));
        walk("subject", &a, &b, &mut fields);
        walk("body", &recorded.body, &replayed.body, &mut fields);
        if fields.is_empty() {
            // They read the same and are not the same bytes: the encoding has changed.
            fields.push(Field {
                field: "the bytes of the body".to_owned(),
                recorded: Value::Null,
                replayed: Value::Null,
            });
        }
    }
    Difference {
        service,
        order_id: OrderId(cause.envelope.correlation),
        cause: Heard {
            subject: cause.envelope.entry.subject,
            event_id: cause.envelope.id,
            stream_sequence: cause.stream_sequence,
        },
        recorded,
        replayed,
        fault,
        fields,
    }
}

fn body(envelope: &Envelope) -> Value {
    render::body(envelope).unwrap_or_else(|error| json!({ "unreadable": error.to_string() }))
}

fn as_envelope(emission: &Emission) -> Envelope {
    Envelope {
        id: EventId(Uuid::nil()),
        entry: emission.entry,
        aggregate: emission.aggregate.clone(),
        correlation: emission.correlation,
        causation: emission.causation,
        time: 0,
        pseq: 0,
        traceparent: None,
        body: emission.body.clone(),
    }
}

/// Collects the leaves that differ.
fn walk(path: &str, recorded: &Value, replayed: &Value, into: &mut Vec<Field>) {
    match (recorded, replayed) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                let of = |map: &serde_json::Map<String, Value>| {
                    map.get(key).cloned().unwrap_or(Value::Null)
                };
                walk(&format!("{path}.{key}"), &of(a), &of(b), into);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for index in 0..a.len().max(b.len()) {
                let of = |list: &[Value]| list.get(index).cloned().unwrap_or(Value::Null);
                walk(&format!("{path}[{index}]"), &of(a), &of(b), into);
            }
        }
        (a, b) if a == b => {}
        (a, b) => into.push(Field {
            field: path.to_owned(),
            recorded: a.clone(),
            replayed: b.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_that_differ_are_named_by_their_path() {
        let recorded = json!({ "a": { "b": [1, 2] }, "c": "x" });
        let replayed = json!({ "a": { "b": [1, 3, 4] }, "d": "y" });
        let mut fields = Vec::new();
        walk("body", &recorded, &replayed, &mut fields);
        let text: Vec<_> = fields
            .iter()
            .map(|f| format!("{} {} {}", f.field, f.recorded, f.replayed))
            .collect();
        assert_eq!(
            text,
            [
                "body.a.b[1] 2 3",
                "body.a.b[2] null 4",
                r#"body.c "x" null"#,
                r#"body.d null "y""#,
            ]
        );
    }
}
