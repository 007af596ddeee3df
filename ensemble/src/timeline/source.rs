//! Where a timeline comes from: order remembers it, the outboxes know what each service
//! said, and the stream can be searched.

use std::collections::{BTreeSet, HashSet};

use events::OrderId;
use futures::future::join_all;
use jetstream::stream::history;
use jetstream::stream::timeline::Told;
use serde_json::Value;

use super::event::{Event, in_order};
use crate::SERVICES;
use crate::api::Operator;
use crate::reach::Reach;
use crate::terminal::Progress;

/// The events of an order, and how they were found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// In order of time.
    pub(crate) events: Vec<Event>,
    /// Where the trace of the order can be seen, if its service knows.
    pub(crate) trace_url: Option<String>,
    /// What the reader must know about them, a sentence each.
    pub(crate) notes: Vec<String>,
}

impl Found {
    /// The trace of the order, when it is sampled.
    pub(crate) fn trace_id(&self) -> Option<&str> {
        self.events.iter().find_map(|e| e.trace_id.as_deref())
    }
}

/// What the services know of an order.
#[derive(Debug, Default)]
struct Asked {
    events: Vec<Event>,
    answered: BTreeSet<String>,
    order: Option<Value>,
    unknown_to_order: bool,
    notes: Vec<String>,
}

/// All that can be found.
pub(crate) async fn of_order(order: OrderId, reach: &Reach) -> Result<Found, String> {
    let asked = match reach.services() {
        Ok(operator) => ask(&operator, order).await,
        Err(error) => Asked {
            notes: vec![error],
            ..Asked::default()
        },
    };
    if asked.unknown_to_order && asked.events.is_empty() {
        return Err(format!("there is no order {order}: check its id"));
    }
    let complete = match &asked.order {
        // Whoever said an event tells it, also what order has not heard.
        Some(_) if asked.answered.len() == SERVICES.len() => true,
        Some(timeline) => timeline["missing"] == 0 && timeline["stream_read"] == true,
        None => false,
    };
    let link = asked.order.as_ref().and_then(|o| o["trace_url"].as_str());
    let mut found = Found {
        trace_url: link.map(str::to_owned),
        ..Found::default()
    };
    let mut events = asked.events;
    if !complete {
        let why = match &asked.order {
            None if asked.unknown_to_order => "order does not know it",
            None => "order does not answer",
            Some(_) => "events that order heard are not where they were",
        };
        match search(order, reach).await {
            Ok(in_stream) => {
                found.notes.push(format!(
                    "{why}, so the stream was searched from when the order was placed"
                ));
                events = merge(in_stream, events);
            }
            Err(error) if events.is_empty() => return Err(error),
            Err(error) => {
                found.notes.extend(asked.notes);
                found.notes.push(format!(
                    "{why}, and the stream cannot be searched ({error}): events may be missing"
                ));
            }
        }
    }
    if events.is_empty() {
        return Err(format!(
            "the stream has no event of order {order}: it was never placed here, or its events \
             are older than the stream keeps them"
        ));
    }
    found.events = in_order(events);
    if found.events.iter().any(|event| event.source == "outbox") {
        found.notes.push(
            "events marked `from the outbox` are not in the stream where they were published"
                .to_owned(),
        );
    }
    Ok(found)
}

async fn ask(operator: &Operator, order: OrderId) -> Asked {
    let timeline = format!("/orders/{order}/timeline");
    let outbox = format!("/outbox?order={order}");
    let answers = operator.urls.iter().map(async |url| {
        futures::join!(
            operator.who_is_at(url),
            operator.get(url, &timeline),
            operator.get(url, &outbox),
        )
    });
    let mut asked = Asked::default();
    for (names, timeline, outbox) in join_all(answers).await {
        let names = match names {
            Ok(names) => names,
            Err(error) => {
                asked.notes.push(error);
                continue;
            }
        };
        if names.iter().any(|name| name == "order") {
            match timeline {
                Ok(timeline) => {
                    asked.events = merge(read(&timeline), asked.events);
                    asked.order = Some(timeline);
                }
                Err(refused) if refused.not_found => asked.unknown_to_order = true,
                Err(refused) => asked.notes.push(refused.text),
            }
        }
        match outbox {
            Ok(outbox) => {
                asked.answered.extend(names);
                asked.events = merge(asked.events, read(&outbox));
            }
            Err(refused) => asked.notes.push(refused.text),
        }
    }
    asked
}

fn read(answer: &Value) -> Vec<Event> {
    let events = answer["events"].as_array().into_iter().flatten();
    events.filter_map(Event::read).collect()
}

/// Each event once, as the first has it.
fn merge(first: Vec<Event>, second: Vec<Event>) -> Vec<Event> {
    let known: HashSet<String> = first.iter().map(|event| event.id.clone()).collect();
    let more = second
        .into_iter()
        .filter(|event| !known.contains(&event.id));
    let more: Vec<Event> = more.collect();
    first.into_iter().chain(more).collect()
}

async fn search(order: OrderId, reach: &Reach) -> Result<Vec<Event>, String> {
    let broker = reach.broker("timeline").await?;
    let mut progress = Progress::new("searching the stream");
    let found = history::search(&broker, order, |done, all| progress.at(done, all)).await;
    let found = found.map_err(|error| error.to_string())?;
    let told = found.into_iter().map(Told::from);
    Ok(told.filter_map(|told| Event::of(&told)).collect())
}
