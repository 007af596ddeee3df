//! What provisioning would change on a broker, before it does.

use std::collections::BTreeSet;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::context::GetStreamErrorKind;
use events::catalog::STREAM;
use serde_json::Value;

use crate::stream::broker::Context;
use crate::stream::topology::{ConsumerSpec, ProvisionError, Retention, stream_config};

/// What would be created or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The stream, or a consumer.
    pub what: String,
    /// It is there, and may be in use. Otherwise it is created.
    pub live: bool,
    /// A line for each setting that differs.
    pub lines: Vec<String>,
}

// The settings that are declared; the broker's own are left alone.
const OF_STREAM: &[&str] = &[
    "subjects",
    "retention",
    "discard",
    "storage",
    "max_age",
    "max_bytes",
    "num_replicas",
    "duplicate_window",
    "deny_delete",
    "deny_purge",
    "allow_direct",
];
const OF_CONSUMER: &[&str] = &[
    "filter_subjects",
    "ack_policy",
    "ack_wait",
    "max_deliver",
    "max_ack_pending",
    "priority_policy",
    "priority_groups",
];
// In nanoseconds on the wire.
const DURATIONS: &[&str] = &["max_age", "duplicate_window", "ack_wait"];

/// What provisioning would create or change; nothing when all is as it is declared.
///
/// # Errors
/// When the broker does not say what it has.
pub async fn compare(
    broker: &Context,
    retention: Retention,
    consumers: &[ConsumerSpec],
) -> Result<Vec<Difference>, ProvisionError> {
    let wanted = json(&stream_config(retention));
    let stream = match broker.get_stream(STREAM).await {
        Ok(stream) => Some(json(&stream.cached_info().config)),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(e) if e.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                None
            }
            _ => return Err(ProvisionError::new(format!("stream {STREAM}"), &error)),
        },
    };
    let what = format!("stream {STREAM}");
    let mut all = vec![difference(what, OF_STREAM, stream.as_ref(), &wanted)];
    for spec in consumers {
        let found: Option<Consumer<pull::Config>> = match &stream {
            Some(_) => broker
                .get_consumer_from_stream(&spec.durable, STREAM)
                .await
                .ok(),
            None => None,
        };
        let there = found.map(|consumer| {
            let mut config = json(&consumer.cached_info().config);
            // A single filter may be in a field of its own.
            if let Some(filter) = config["filter_subject"].as_str().filter(|f| !f.is_empty()) {
                config["filter_subjects"] = vec![filter].into();
            }
            config
        });
        let wanted = json(&spec.config(1));
        let what = format!("consumer {}", spec.durable);
        all.push(difference(what, OF_CONSUMER, there.as_ref(), &wanted));
    }
    all.retain(|difference| !difference.live || !difference.lines.is_empty());
    Ok(all)
}

fn json(config: &impl serde::Serialize) -> Value {
    // What is sent to the broker as JSON can be written as JSON.
    serde_json::to_value(config).unwrap_or_default()
}

fn difference(what: String, keys: &[&str], there: Option<&Value>, wanted: &Value) -> Difference {
    let lines = keys.iter().filter_map(|key| match there {
        Some(there) => changed(key, &there[*key], &wanted[*key]),
        None => Some(format!("{key}: {}", shown(key, &wanted[*key]))),
    });
    Difference {
        what,
        live: there.is_some(),
        lines: lines.collect(),
    }
}

/// How a setting would change, if it does.
fn changed(key: &str, there: &Value, wanted: &Value) -> Option<String> {
    if there.is_array() || wanted.is_array() {
        let (there, wanted) = (set(there), set(wanted));
        let added = wanted.difference(&there).map(|one| format!("+ {one}"));
        let gone = there.difference(&wanted).map(|one| format!("- {one}"));
        let all: Vec<String> = added.chain(gone).collect();
        return (!all.is_empty()).then(|| format!("{key}: {}", all.join(", ")));
    }
    let is_same = there == wanted || (is_nothing(there) && is_nothing(wanted));
    (!is_same).then(|| format!("{key}: {} -> {}", shown(key, there), shown(key, wanted)))
}

/// A setting that is not there is false, zero or without a limit.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_i64().is_some_and(|n| n <= 0),
        _ => false,
    }
}

fn set(value: &Value) -> BTreeSet<String> {
    let all = value.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().map(|one| shown("", one)).collect()
}

fn shown(key: &str, value: &Value) -> String {
    match value {
        Value::Null => "not set".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(all) => {
            let all: Vec<String> = all.iter().map(|one| shown(key, one)).collect();
            all.join(", ")
        }
        Value::Number(nanos) if DURATIONS.contains(&key) => {
            format!("{} s", nanos.as_i64().unwrap_or_default() / 1_000_000_000)
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_there_as_declared_does_not_differ() {
        let wanted = super::json(&stream_config(Retention::default()));
        let mut there = wanted.clone();
        // As a broker answers: a list in another order, and what is off left out.
        there["subjects"]
            .as_array_mut()
            .expect("subjects")
            .reverse();
        there["max_bytes"] = json!(-1);
        let same = difference("stream".to_owned(), OF_STREAM, Some(&there), &wanted);
        assert_eq!(same.lines, Vec::<String>::new());
    }

    #[test]
    fn whatever_differs_has_a_line() {
        let wanted = super::json(&stream_config(Retention::default()));
        for (key, value, line) in [
            ("subjects", json!(["order.confirmed", "x.y"]), "- x.y"),
            (
                "max_age",
                json!(60_000_000_000_i64),
                "max_age: 60 s -> 1209600 s",
            ),
            ("deny_purge", json!(false), "deny_purge: false -> true"),
            ("discard", json!("old"), "discard: old -> new"),
            ("num_replicas", json!(3), "num_replicas: 3 -> 1"),
        ] {
            let mut there = wanted.clone();
            there[key] = value;
            let found = difference("stream".to_owned(), OF_STREAM, Some(&there), &wanted);
            assert_eq!(found.lines.len(), 1, "{found:?}");
            assert!(found.lines[0].contains(line), "{line} in {found:?}");
        }
        let new = difference("stream".to_owned(), OF_STREAM, None, &wanted);
        assert!(!new.live && new.lines.len() == OF_STREAM.len());
    }
}
