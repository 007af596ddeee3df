//! The map as an `AsyncAPI` 3.0 document: channels, operations and messages, with schemas
//! and examples.

use events::catalog::{self, Kind};
use events::envelope::{self, CONTENT_TYPE};
use events::sample::{self, Form};
use events::{Envelope, render};
use jetstream::{TRACEPARENT, TURN, clock};
use serde_json::{Map as Object, Value, json};

use super::model::{Event, Map};
use super::schema;

const CLOUD_EVENT: &str = "CloudEvent";

/// The document.
pub(crate) fn document(map: &Map) -> Result<Value, String> {
    let mut schemas = schema::all()?;
    schemas.insert(CLOUD_EVENT.to_owned(), cloud_event());
    let mut messages = Object::new();
    let mut channels = Object::new();
    for event in &map.events {
        messages.insert(event.message.clone(), message(event)?);
        channels.insert(event.subject.clone(), channel(event));
    }
    Ok(json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Ensemble",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Order services, choreographed over one NATS JetStream stream. A \
                channel is a subject of the stream, with one service that sends to it.",
            "license": { "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0" },
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": channels,
        "operations": operations(map),
        "components": { "messages": messages, "schemas": schemas },
    }))
}

fn channel(event: &Event) -> Value {
    let message = json!({ "$ref": format!("#/components/messages/{}", event.message) });
    json!({
        "address": event.subject,
        "messages": { &event.message: message },
    })
}

fn operations(map: &Map) -> Object<String, Value> {
    let operation = |action: &str, event: &Event| {
        let channel = format!("#/channels/{}", event.subject);
        let message = format!("{channel}/messages/{}", event.message);
        json!({
            "action": action,
            "channel": { "$ref": channel },
            "messages": [{ "$ref": message }],
        })
    };
    let mut operations = Object::new();
    for event in &map.events {
        let mut send = operation("send", event);
        send["tags"] = json!([{ "name": event.writer }]);
        if map.begins_outside(event) {
            send["summary"] = "Because of a request or a timer.".into();
        }
        operations.insert(format!("{}.send.{}", event.writer, event.subject), send);
        for (hearer, reaction) in map.heard(&event.subject) {
            let says: Vec<_> = reaction.says.iter().map(|s| &s.subject).collect();
            let mut receive = operation("receive", event);
            receive["tags"] = json!([{ "name": hearer.name }]);
            receive["summary"] = reaction.purpose.name().into();
            receive["x-says"] = json!(says);
            operations.insert(
                format!("{}.receive.{}", hearer.name, event.subject),
                receive,
            );
        }
    }
    operations
}

fn message(event: &Event) -> Result<Value, String> {
    let entry = catalog::by_subject(&event.subject);
    let entry = entry.ok_or_else(|| format!("{} is not in the catalog", event.subject))?;
    let sample = sample::envelope(entry, Form::Full);
    let payload = json!({
        "allOf": [
            schema::reference(CLOUD_EVENT),
            {
                "type": "object",
                "properties": {
                    "type": { "const": entry.event_type() },
                    "source": { "const": envelope::source(entry.writer) },
                    "data": schema::reference(entry.message),
                },
            },
        ],
    });
    Ok(json!({
        "name": entry.event_type(),
        "title": entry.message,
        "contentType": CONTENT_TYPE,
        "headers": headers(entry.kind),
        "payload": payload,
        "examples": [{
            "name": "sample",
            "headers": sample_headers(&sample)?,
            "payload": sample_payload(&sample)?,
        }],
    }))
}

/// What travels beside the event, to be used without decoding it.
fn headers(kind: Kind) -> Value {
    let mut headers = json!({
        "type": "object",
        "properties": {
            "Nats-Msg-Id": {
                "type": "string", "format": "uuid",
                "description": "The id of the event; the broker drops what has come before.",
            },
            "content-type": { "const": CONTENT_TYPE },
            (TRACEPARENT): { "type": "string", "description": "The W3C trace context." },
        },
        "required": ["Nats-Msg-Id", "content-type"],
    });
    if kind != Kind::Fact {
        headers["properties"][TURN] = json!({
            "type": "string",
            "pattern": "^[a-z]+ [a-z]+(,[a-z]+)*$",
            "description": "The order's flow and the steps that it needs: whose turn it is.",
        });
        headers["required"] = json!(["Nats-Msg-Id", "content-type", TURN]);
    }
    headers
}

fn sample_headers(sample: &Envelope) -> Result<Value, String> {
    let mut headers = json!({
        "Nats-Msg-Id": sample.id,
        "content-type": CONTENT_TYPE,
        (TRACEPARENT): sample.traceparent,
    });
    if sample.entry.kind != Kind::Fact {
        let context = events::body::context(sample.body.clone()).map_err(|e| e.to_string())?;
        headers[TURN] = context.route().to_header().into();
    }
    Ok(headers)
}

fn sample_payload(sample: &Envelope) -> Result<Value, String> {
    let mut data = render::body(sample).map_err(|e| e.to_string())?;
    // For people the rule of a discount stands apart; in the message it does not.
    if let Some(discount) = data.get_mut("discount").and_then(Value::as_object_mut)
        && let Some(Value::Object(rule)) = discount.remove("rule")
    {
        discount.extend(rule);
    }
    Ok(json!({
        "id": sample.id,
        "source": envelope::source(sample.entry.writer),
        "specversion": "1.0",
        "type": sample.entry.event_type(),
        "subject": sample.aggregate,
        "time": clock::rfc3339(sample.time),
        "dataschema": envelope::schema(sample.entry),
        "aggregatetype": envelope::aggregate_type(sample.entry),
        "correlationid": sample.correlation.to_string(),
        "causationid": sample.causation,
        "pseq": sample.pseq.to_string(),
        "traceparent": sample.traceparent,
        "data": data,
    }))
}

/// The envelope, in the names of `CloudEvents`; on the wire it is in its protobuf format.
fn cloud_event() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({
        "type": "object",
        "description": "CloudEvents 1.0 in its protobuf format, here in the names of its JSON format.",
        "properties": {
            "id": { "type": "string", "format": "uuid" },
            "source": text("The service that says it."),
            "specversion": { "const": "1.0" },
            "type": text("Name and version of the message."),
            "subject": text("The aggregate that it is about: an order, product, user, ..."),
            "time": { "type": "string", "format": "date-time" },
            "dataschema": { "type": "string", "format": "uri" },
            "aggregatetype": text("What kind of aggregate."),
            "correlationid": text("The order id, else the event's own id."),
            "causationid": text("The event that caused it; absent on what came from outside."),
            "pseq": text("Its gapless number among the events of its producer."),
            "traceparent": text("The W3C trace context in which it was decided."),
        },
        "required": [
            "id", "source", "specversion", "type", "subject", "time", "dataschema",
            "aggregatetype", "correlationid", "pseq", "data",
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SERVICES;
    use events::Flow;

    /// Texts of references, anywhere in a document.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    match member.as_str().filter(|_| name == "$ref") {
                        Some(target) => found.push(target.to_owned()),
                        None => references(member, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_subject_is_a_channel_and_every_reference_leads_somewhere() {
        let map = Map::of(&SERVICES, &Flow::ALL);
        let document = document(&map).expect("a document");
        assert_eq!(
            document["channels"].as_object().map(Object::len),
            Some(map.events.len())
        );
        let mut found = vec![];
        references(&document, &mut found);
        assert!(found.len() > 100);
        for target in found {
            let there = document.pointer(target.trim_start_matches('#'));
            assert!(there.is_some(), "{target}");
        }
    }

    /// The schema of every name that a sample has: no field of a message is left out.
    #[test]
    fn the_schemas_have_every_field_of_the_samples() {
        let map = Map::of(&SERVICES, &Flow::ALL);
        let document = document(&map).expect("a document");
        for event in &map.events {
            let message = &document["components"]["messages"][&event.message];
            let data = &message["examples"][0]["payload"]["data"];
            let schema = &document["components"]["schemas"][&event.message];
            for name in data.as_object().expect("an object").keys() {
                let property = &schema["properties"][name];
                assert!(property.is_object(), "{}: {name}", event.message);
            }
        }
    }
}
