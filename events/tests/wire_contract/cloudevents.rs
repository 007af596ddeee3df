//! The envelope is the protobuf format of `CloudEvents` 1.0, as others read it.
//!
//! The messages here follow `cloudevents.proto` of the specification and share
//! nothing with `events::envelope`.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::{Message, Oneof};

use crate::golden_files::{Golden, RETIRED, committed_bytes};

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
    attributes: BTreeMap<String, CloudEventAttributeValue>,
    #[prost(oneof = "Data", tags = "6, 7, 8")]
    data: Option<Data>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Data {
    #[prost(bytes, tag = "6")]
    Binary(Vec<u8>),
    #[prost(string, tag = "7")]
    Text(String),
    #[prost(message, tag = "8")]
    Proto(prost_types::Any),
}

#[derive(Clone, PartialEq, Message)]
struct CloudEventAttributeValue {
    #[prost(oneof = "Attr", tags = "1, 2, 3, 4, 5, 6, 7")]
    attr: Option<Attr>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Attr {
    #[prost(bool, tag = "1")]
    Boolean(bool),
    #[prost(int32, tag = "2")]
    Integer(i32),
    #[prost(string, tag = "3")]
    String(String),
    #[prost(bytes, tag = "4")]
    Bytes(Vec<u8>),
    #[prost(string, tag = "5")]
    Uri(String),
    #[prost(string, tag = "6")]
    UriRef(String),
    #[prost(message, tag = "7")]
    Timestamp(prost_types::Timestamp),
}

/// The recorded bytes of every event, and those that are said today.
fn envelopes() -> Vec<(String, Bytes)> {
    let both = |golden: Golden| {
        let recorded = committed_bytes(&golden.name);
        let today = golden.sample().map(|sample| sample.encode());
        let today = today.map(|bytes| (format!("{} of today", golden.name), bytes));
        recorded
            .map(|bytes| (golden.name, bytes))
            .into_iter()
            .chain(today)
    };
    Golden::all(RETIRED).into_iter().flat_map(both).collect()
}

fn cloud_event(name: &str, bytes: &Bytes) -> CloudEvent {
    CloudEvent::decode(bytes.clone())
        .unwrap_or_else(|e| panic!("{name} must be a CloudEvent ({e}): keep to the format"))
}

#[test]
fn an_envelope_has_no_field_that_the_format_has_not() {
    for (name, bytes) in envelopes() {
        let again = cloud_event(&name, &bytes).encode_to_vec();
        assert!(
            again == bytes,
            "{name} has a field that the format has not: say it as an extension attribute"
        );
    }
}

#[test]
fn the_required_attributes_are_there() {
    for (name, bytes) in envelopes() {
        let event = cloud_event(&name, &bytes);
        assert_eq!(event.spec_version, "1.0", "specversion of {name}");
        assert!(!event.id.is_empty(), "{name} must have an id");
        assert!(!event.r#type.is_empty(), "{name} must have a type");
        assert!(
            is_uri_reference(&event.source),
            "the source of {name} must be a URI reference, not `{}`",
            event.source
        );
    }
}

#[test]
fn the_other_attributes_have_allowed_names_and_their_types() {
    for (name, bytes) in envelopes() {
        for (attribute, value) in cloud_event(&name, &bytes).attributes {
            let value = value.attr.unwrap_or_else(|| {
                panic!("`{attribute}` of {name} must have a value, or be left out")
            });
            if let Err(rule) = check(&attribute, &value) {
                panic!("`{attribute}` of {name} {rule}");
            }
        }
    }
}

#[test]
fn the_data_is_the_message_that_the_type_names() {
    for (name, bytes) in envelopes() {
        let event = cloud_event(&name, &bytes);
        let Some(Data::Proto(data)) = event.data else {
            panic!("{name} must carry its message as proto_data");
        };
        let message = data
            .type_url
            .strip_prefix("type.googleapis.com/ensemble.v1.");
        let message = message.expect("the type URL names a message of the package");
        let (of_type, _) = event
            .r#type
            .rsplit_once(".v")
            .expect("a type has a version");
        assert_eq!(of_type, format!("ensemble.{message}"), "type of {name}");
        let schema = format!("https://{}", data.type_url);
        assert_eq!(
            event.attributes["dataschema"].attr,
            Some(Attr::Uri(schema)),
            "the dataschema of {name} must be the type URL of its data"
        );
    }
}

#[test]
fn todays_envelopes_still_have_every_attribute_that_was_recorded() {
    for golden in Golden::all(RETIRED) {
        let name = &golden.name;
        let (Some(bytes), Some(sample)) = (committed_bytes(name), golden.sample()) else {
            continue;
        };
        let recorded = cloud_event(name, &bytes);
        let today = cloud_event(name, &sample.encode());
        for (what, then, now) in [
            ("id", recorded.id, today.id),
            ("source", recorded.source, today.source),
            ("type", recorded.r#type, today.r#type),
        ] {
            assert_eq!(then, now, "the {what} of {name} must stay what it was");
        }
        for (attribute, value) in recorded.attributes {
            assert_eq!(
                today.attributes.get(&attribute),
                Some(&value),
                "`{attribute}` of {name} must still be said, since builds out there read it"
            );
        }
    }
}

/// The rules of the specification for optional attributes and extensions.
fn check(name: &str, value: &Attr) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if name.is_empty() || name.len() > 20 || !name.chars().all(allowed) {
        return Err("must be named with 1 to 20 lower-case letters and digits");
    }
    let right = match (name, value) {
        ("id" | "source" | "type" | "specversion" | "data", _) => {
            return Err("has a field of its own and must not be in the map");
        }
        ("subject" | "datacontenttype", Attr::String(text)) => !text.is_empty(),
        ("dataschema", Attr::Uri(uri)) => is_absolute_uri(uri),
        ("time", Attr::Timestamp(time)) => (0..1_000_000_000).contains(&time.nanos),
        ("subject" | "datacontenttype" | "dataschema" | "time", _) => false,
        (_, Attr::Uri(uri)) => is_absolute_uri(uri),
        (_, Attr::UriRef(uri)) => is_uri_reference(uri),
        (_, Attr::String(text)) => !text.chars().any(char::is_control),
        (_, Attr::Boolean(_) | Attr::Integer(_) | Attr::Bytes(_) | Attr::Timestamp(_)) => true,
    };
    match right {
        true => Ok(()),
        false => Err("must have the type and form that the specification gives it"),
    }
}

fn is_uri_reference(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#[]@!$&'()*+,;=%".contains(c);
    !text.is_empty() && text.chars().all(allowed)
}

// RFC 3986, 4.3: with a scheme, without a fragment.
fn is_absolute_uri(text: &str) -> bool {
    let scheme = text.split_once(':').map(|(scheme, _)| scheme);
    let scheme = scheme.is_some_and(|s| s.starts_with(|c: char| c.is_ascii_alphabetic()));
    scheme && !text.contains('#') && is_uri_reference(text)
}

#[test]
fn the_rules_for_attributes_see_what_breaks_them() {
    let text = || Attr::String("text".to_owned());
    let uri = |uri: &str| Attr::Uri(uri.to_owned());
    for (name, value) in [
        ("pseq", text()),
        ("abcdefghij0123456789", Attr::Integer(1)),
        ("dataschema", uri("https://example.com/a")),
    ] {
        assert_eq!(check(name, &value), Ok(()), "{name}");
    }
    for (name, value) in [
        ("", text()),
        ("causationId", text()),
        ("causation_id", text()),
        ("abcdefghij01234567890", text()),
        ("id", text()),
        ("subject", Attr::String(String::new())),
        ("time", text()),
        ("dataschema", uri("a/b.proto")),
        ("dataschema", uri("https://example.com/a#b")),
        (
            "dataschema",
            Attr::UriRef("https://example.com/a".to_owned()),
        ),
        ("pseq", Attr::String("a\nb".to_owned())),
    ] {
        assert!(check(name, &value).is_err(), "{name}");
    }
}
