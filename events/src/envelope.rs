//! The envelope: `CloudEvents` 1.0 in its protobuf format (structured mode).
//!
//! The attributes travel inside the body, because headers cost far more; only what
//! is needed without decoding is a header too (the runtime adds those).
//! Source: `CloudEvents` 1.0.2, protobuf event format.

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::Bytes;
use prost::Message;
use uuid::Uuid;

use crate::catalog::{self, Entry};
use crate::{EventId, Malformed};

/// The content type of an event on the wire.
pub const CONTENT_TYPE: &str = "application/cloudevents+protobuf";
const SPEC_VERSION: &[u8] = b"1.0";

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

// Texts are bytes here: the same on the wire, and a decoded event shares the bytes that it
// came in instead of copying each of its dozen texts. So is the map of attributes a list.
#[derive(Clone, PartialEq, Message)]
struct CloudEvent {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    source: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    spec_version: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    r#type: Bytes,
    #[prost(message, repeated, tag = "5")]
    attributes: Vec<Attribute>,
    #[prost(message, optional, tag = "8")]
    proto_data: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(bytes = "bytes", tag = "1")]
    name: Bytes,
    #[prost(message, optional, tag = "2")]
    value: Option<AttributeValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeValue {
    #[prost(oneof = "Value", tags = "3, 5, 7")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(bytes = "bytes", tag = "3")]
    String(Bytes),
    #[prost(bytes = "bytes", tag = "5")]
    Uri(Bytes),
    #[prost(message, tag = "7")]
    Timestamp(prost_types::Timestamp),
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(bytes = "bytes", tag = "1")]
    type_url: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

impl Attribute {
    fn new(name: &'static str, value: Value) -> Self {
        Self {
            name: Bytes::from_static(name.as_bytes()),
            value: Some(AttributeValue { value: Some(value) }),
        }
    }

    fn text(name: &'static str, text: impl Into<Bytes>) -> Self {
        Self::new(name, Value::String(text.into()))
    }
}

/// What is the same for every event of a kind.
#[derive(Clone)]
struct Names {
    event_type: Bytes,
    source: Bytes,
    schema: Bytes,
    type_url: Bytes,
}

impl Names {
    fn of(entry: &Entry) -> Self {
        Self {
            event_type: entry.event_type().into(),
            source: source(entry.writer).into(),
            schema: schema(entry).into(),
            type_url: type_url(entry).into(),
        }
    }
}

fn names(entry: &Entry) -> Names {
    static ALL: LazyLock<HashMap<&str, Names>> = LazyLock::new(|| {
        let all = catalog::all();
        all.map(|entry| (entry.subject, Names::of(entry))).collect()
    });
    let known = ALL.get(entry.subject).cloned();
    known.unwrap_or_else(|| Names::of(entry))
}

impl Envelope {
    /// As it travels.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let names = names(self.entry);
        // Sorted by name, as a map would be.
        let mut attributes = Vec::with_capacity(8);
        let kind = aggregate_type(self.entry);
        attributes.push(Attribute::text("aggregatetype", kind));
        if let Some(cause) = self.causation {
            attributes.push(Attribute::text("causationid", cause.to_string()));
        }
        attributes.extend([
            Attribute::text("correlationid", self.correlation.to_string()),
            Attribute::new("dataschema", Value::Uri(names.schema)),
            Attribute::text("pseq", self.pseq.to_string()),
            Attribute::text("subject", self.aggregate.clone()),
            Attribute::new("time", Value::Timestamp(timestamp(self.time))),
        ]);
        if let Some(trace) = &self.traceparent {
            attributes.push(Attribute::text("traceparent", trace.clone()));
        }
        let event = CloudEvent {
            id: self.id.to_string().into(),
            source: names.source,
            spec_version: Bytes::from_static(SPEC_VERSION),
            r#type: names.event_type,
            attributes,
            proto_data: Some(Any {
                type_url: names.type_url,
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
        let names = names(entry);
        if event.r#type != names.event_type {
            return Err(Malformed::unknown("event type", shown(&event.r#type)));
        }
        if event.spec_version != SPEC_VERSION {
            let version = shown(&event.spec_version);
            return Err(Malformed::unknown("CloudEvents version", version));
        }
        if event.source != names.source {
            let rule = format!(
                "only `{}` may say {subject}, not `{}`",
                entry.writer,
                shown(&event.source)
            );
            return Err(Malformed::field("source", rule));
        }
        let value = |name: &str| {
            let mut attributes = event.attributes.iter();
            let found = attributes.rfind(|attribute| attribute.name == name)?;
            found.value.as_ref()?.value.as_ref()
        };
        let text = |name: &str| match value(name)? {
            Value::String(text) | Value::Uri(text) => std::str::from_utf8(text).ok(),
            Value::Timestamp(_) => None,
        };
        let missing = |what| Malformed::field(what, "is missing or not a valid value");
        let id = std::str::from_utf8(&event.id).ok();
        let envelope = Self {
            id: id
                .and_then(|id| id.parse().ok())
                .ok_or_else(|| missing("id"))?,
            entry,
            aggregate: text("subject")
                .ok_or_else(|| missing("subject"))?
                .to_owned(),
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
            traceparent: text("traceparent").map(str::to_owned),
            time: match value("time") {
                Some(Value::Timestamp(time)) => millis(time),
                _ => return Err(missing("time")),
            },
            body: event
                .proto_data
                .as_ref()
                .ok_or_else(|| missing("data"))?
                .value
                .clone(),
        };
        Ok(envelope)
    }
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
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
        event.source = Bytes::from_static(b"/ensemble/stock");
        let forged = event.encode_to_vec().into();
        assert!(Envelope::decode("order.confirmed", forged).is_err());
    }
}
