//! An event of a timeline, as a command is told it.

use std::collections::HashMap;

use events::catalog::{self, Entry, Kind};
use jetstream::clock;
use jetstream::stream::timeline::Told;
use serde_json::Value;

/// An event of an order.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) cause: Option<String>,
    pub(crate) entry: &'static Entry,
    /// Milliseconds since the Unix epoch, on the clock of who said it.
    pub(crate) time: i64,
    /// `stream`, `outbox` or `unpublished`.
    pub(crate) source: String,
    pub(crate) sequence: Option<u64>,
    pub(crate) trace_id: Option<String>,
    pub(crate) body: Value,
    /// All of it.
    pub(crate) view: Value,
}

impl Event {
    /// Reads an event as services tell it; nothing when this program does not know it.
    pub(crate) fn read(view: &Value) -> Option<Self> {
        let text = |name: &str| view[name].as_str().map(str::to_owned);
        Some(Self {
            id: text("event_id")?,
            cause: text("cause"),
            entry: catalog::by_subject(view["subject"].as_str()?)?,
            time: clock::parse_rfc3339(view["time"].as_str()?)?,
            source: text("source").unwrap_or_else(|| "stream".to_owned()),
            sequence: view["stream_sequence"].as_u64(),
            trace_id: text("trace_id"),
            body: view["body"].clone(),
            view: view.clone(),
        })
    }

    /// An event that was read from the stream.
    pub(crate) fn of(told: &Told) -> Option<Self> {
        Self::read(&serde_json::json!(told.view(true)))
    }

    /// What it says beyond its subject, in few words; empty when there is nothing.
    pub(crate) fn says(&self) -> String {
        let body = &self.body;
        match self.entry.kind {
            Kind::Refused(_) => refusal(&body["refusal"]),
            Kind::Undone(_) if body["nothing_to_undo"] == true => "nothing to undo".to_owned(),
            Kind::Canceled => {
                let reason = body["reason"].as_str().unwrap_or_default();
                match body["attempt"].as_u64() {
                    Some(attempt) if attempt > 1 => format!("{reason}, attempt {attempt}"),
                    _ => reason.to_owned(),
                }
            }
            Kind::CompensationFailed => {
                let steps = body["unanswered"].as_array().into_iter().flatten();
                let steps: Vec<_> = steps.filter_map(Value::as_str).collect();
                format!("no answer of {}", steps.join(", "))
            }
            _ => String::new(),
        }
    }
}

/// A refusal in few words: its code and the facts.
pub(crate) fn refusal(refusal: &Value) -> String {
    let mut text = refusal["code"].as_str().unwrap_or_default().to_owned();
    if let (Some(needed), Some(balance)) = (refusal["needed"].as_i64(), refusal["balance"].as_i64())
    {
        text += &format!(": {needed} needed, {balance} there");
    }
    if let Some(reason) = refusal["reason"].as_str() {
        text += &format!(": {reason}");
    }
    for line in refusal["lines"].as_array().into_iter().flatten() {
        let product = line["product_id"].as_str().unwrap_or_default();
        let (requested, available) = (&line["requested"], &line["available"]);
        text += &format!(": {requested} of {product} asked for, {available} there");
    }
    text
}

/// Each event once, in order of time; a cause comes before what follows from it, whatever
/// the clocks of the services say.
pub(crate) fn in_order(events: Vec<Event>) -> Vec<Event> {
    let mut events = events;
    events.sort_by_key(|event| (event.time, event.sequence));
    let mut known: HashMap<String, usize> = HashMap::new();
    let ids: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
    let mut ordered: Vec<Event> = Vec::new();
    let mut rest = events;
    while !rest.is_empty() {
        // Whose cause is told, or is not here at all.
        let next = rest.iter().position(|event| match &event.cause {
            None => true,
            Some(cause) => known.contains_key(cause) || !ids.contains(cause),
        });
        // A circle of causes cannot be; were there one, it would be told in order of time.
        let event = rest.remove(next.unwrap_or(0));
        if known.insert(event.id.clone(), ordered.len()).is_none() {
            ordered.push(event);
        }
    }
    ordered
}
