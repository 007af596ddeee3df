//! The envelope: `CloudEvents` 1.0 in its protobuf format (structured mode).
//!
//! The attributes travel inside the body, because headers cost far more; only what
//! is needed without decoding is a header too (the runtime adds those).
//! Source: `CloudEvents` 1.0.2, protobuf event format.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use uuid::Uuid;

use crate::catalog::{self, Entry};
use crate::{EventId, Malformed};

/// The content type of an event on the wire.
pub const CONTENT_TYPE: &str = "application/cloudevents+protobuf";

/// What is said about an event, whatever the event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The identity of the event; deciding again gives the same one.
    pub id: EventId,
    /// Its row in the catalog: subject, type and version, writer.
    pub entry: &'static Entry,
    /// The aggregate that it is about: an order, product, user, ...
    pub aggregate: String,
    /// The order id, else the event's own id.
    pub correlation: Uuid,
    /// The event that caused it; absent on what came from outside.
    pub causation: Option<EventId>,
    /// Milliseconds since the Unix epoch, when it was decided.
    pub time: i64,
    /// Its gapless number among the events of its producer.
    pub pseq: i64,
    /// The W3C trace context in which it was decided.
    pub traceparent: Option<String>,
    /// The event's own protobuf message.
    pub body: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct CloudEvent {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    source: String,
    #[prost(string, tag = "3")]
    spec_version: String,
    #[prost(string, tag = "4")]
    r#type: String,
    #[prost(btree_map = "string, message", tag = "5")]
    attributes: BTreeMap<String, Attribute>,
    #[prost(message, optional, tag = "8")]
    proto_data: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(oneof = "Value", tags = "3, 5, 7")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "3")]
    String(String),
    #[prost(string, tag = "5")]
    Uri(String),
    #[prost(message, tag = "7")]
    Timestamp(prost_types::Timestamp),
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

impl Envelope {
    /// As it travels.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let text = |value: String| Attribute {
            value: Some(Value::String(value)),
        };
        let mut attributes = BTreeMap::from([
            (
                "aggregatetype".to_owned(),
                text(aggregate_type(self.entry).to_owned()),
            ),
            (
                "correlationid".to_owned(),
                text(self.correlation.to_string()),
            ),
            ("pseq".to_owned(), text(self.pseq.to_string())),
            ("subject".to_owned(), text(self.aggregate.clone())),
            (
                "time".to_owned(),
                Attribute {
                    value: Some(Value::Timestamp(timestamp(self.time))),
                },
            ),
            (
                "dataschema".to_owned(),
                Attribute {
                    value: Some(Value::Uri(schema(self.entry))),
                },
            ),
        ]);
        if let Some(cause) = self.causation {
            attributes.insert("causationid".to_owned(), text(cause.to_string()));
        }
        if let Some(trace) = &self.traceparent {
            attributes.insert("traceparent".to_owned(), text(trace.clone()));
        }
        let event = CloudEvent {
            id: self.id.to_string(),
            source: source(self.entry.writer),
            spec_version: "1.0".to_owned(),
            r#type: self.entry.event_type(),
            attributes,
            proto_data: Some(Any {
                type_url: type_url(self.entry),
                value: self.body.clone(),
            }),
        };
        event.encode_to_vec().into()
    }

    /// Reads and checks an event that came on a subject.
    ///
    /// # Errors
    /// When the bytes are no such event, the type or version is unknown (R12), or the
    /// producer is not the one writer of the subject.
    pub fn decode(subject: &str, bytes: Bytes) -> Result<Self, Malformed> {
        let event = CloudEvent::decode(bytes)
            .map_err(|e| Malformed::encoding("CloudEvents envelope", &e))?;
        let entry =
            catalog::by_subject(subject).ok_or_else(|| Malformed::unknown("subject", subject))?;
        if event.r#type != entry.event_type() {
            return Err(Malformed::unknown("event type", event.r#type));
        }
        if event.spec_version != "1.0" {
            return Err(Malformed::unknown(
                "CloudEvents version",
                event.spec_version,
            ));
        }
        if event.source != source(entry.writer) {
            let rule = format!(
                "only `{}` may say {subject}, not `{}`",
                entry.writer, event.source
            );
            return Err(Malformed::field("source", rule));
        }
        let mut attributes = event.attributes;
        let mut text = |name: &str| match attributes.remove(name)?.value? {
            Value::String(text) | Value::Uri(text) => Some(text),
            Value::Timestamp(_) => None,
        };
        let missing = |what| Malformed::field(what, "is missing or not a valid value");
        let envelope = Self {
            id: event.id.parse().map_err(|_| missing("id"))?,
            entry,
            aggregate: text("subject").ok_or_else(|| missing("subject"))?,
            correlation: text("correlationid")
                .and_then(|id| id.parse().ok())
                .ok_or_else(|| missing("correlationid"))?,
            causation: match text("causationid") {
                Some(id) => Some(id.parse().map_err(|_| missing("causationid"))?),
                None => None,
            },
            pseq: text("pseq")
                .and_then(|n| n.parse().ok())
                .ok_or_else(|| missing("pseq"))?,
            traceparent: text("traceparent"),
            time: match attributes.remove("time").and_then(|a| a.value) {
                Some(Value::Timestamp(time)) => millis(&time),
                _ => return Err(missing("time")),
            },
            body: event.proto_data.ok_or_else(|| missing("data"))?.value,
        };
        Ok(envelope)
    }
}

/// The source of what a service says.
#[must_use]
pub fn source(writer: &str) -> String {
    format!("/ensemble/{writer}")
}

fn type_url(entry: &Entry) -> String {
    format!("type.googleapis.com/ensemble.v1.{}", entry.message)
}

/// The schema of an event's data.
#[must_use]
pub fn schema(entry: &Entry) -> String {
    // The format asks for the type URL of the data, and the attribute is an absolute
    // URI: a type URL without a scheme means https.
    format!("https://{}", type_url(entry))
}

/// What kind of aggregate an event is about.
#[must_use]
pub fn aggregate_type(entry: &Entry) -> &'static str {
    match entry.kind {
        catalog::Kind::Fact => entry.writer,
        _ => "order",
    }
}

fn timestamp(millis: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: millis.div_euclid(1000),
        nanos: i32::try_from(millis.rem_euclid(1000) * 1_000_000).unwrap_or(0),
    }
}

fn millis(time: &prost_types::Timestamp) -> i64 {
    time.seconds
        .saturating_mul(1000)
        .saturating_add(i64::from(time.nanos) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            id: EventId(Uuid::from_u128(1)),
            entry: &catalog::ORDER_CONFIRMED,
            aggregate: "order".to_owned(),
            correlation: Uuid::from_u128(2),
            causation: Some(EventId(Uuid::from_u128(3))),
            time: 1_700_000_000_123,
            pseq: 42,
            traceparent: Some("00-1-2-01".to_owned()),
            body: Bytes::from_static(b"body"),
        }
    }

    #[test]
    fn it_reads_back() {
        let e = envelope();
        assert_eq!(Envelope::decode("order.confirmed", e.encode()), Ok(e));
    }

    #[test]
    fn a_stranger_is_refused() {
        let bytes = envelope().encode();
        assert!(matches!(
            Envelope::decode("order.canceled", bytes.clone()),
            Err(Malformed::Unknown {
                what: "event type",
                ..
            })
        ));
        assert!(Envelope::decode("order.nonsense", bytes).is_err());
        assert!(Envelope::decode("order.confirmed", Bytes::from_static(b"\xff\xff")).is_err());

        let mut event = CloudEvent::decode(envelope().encode()).expect("valid");
        event.source = "/ensemble/stock".to_owned();
        let forged = event.encode_to_vec().into();
        assert!(Envelope::decode("order.confirmed", forged).is_err());
    }
}
