//! Reading the stream back: what was said about an order.
//!
//! It reads by direct get, so it needs no consumer and no permission to create one.

use std::collections::HashSet;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::{HeaderMap, Message, Subscriber};
use events::{Envelope, EventId, OrderId, catalog};
use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::clock;
use crate::fault::Fault;
use crate::stream::reader::Start;

const PAGE: u64 = 500;
const AT_ONCE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(3);
// An order's clock and the broker's may differ by this much.
const CLOCK_DIFFERENCE: i64 = 60_000;

/// An event as the stream has it.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The event.
    pub envelope: Envelope,
    /// Where it stands in the stream.
    pub stream_sequence: u64,
}

/// Every event of an order that the stream still has, each once, in stream order.
///
/// The scan begins when the order was placed, which its id says, and reads to the end
/// of the stream.
///
/// # Errors
/// When the broker is away.
pub async fn of_order(broker: &jetstream::Context, order: OrderId) -> Result<Vec<Recorded>, Fault> {
    search(broker, order, |_, _| ()).await
}

/// As [`of_order`], and says after each page how many events it has read, and how many there
/// are to read.
///
/// # Errors
/// When the broker is away.
pub async fn search(
    broker: &jetstream::Context,
    order: OrderId,
    progress: impl FnMut(u64, u64),
) -> Result<Vec<Recorded>, Fault> {
    let placed_at = placed_at(order);
    let mut seen: HashSet<EventId> = HashSet::new();
    let mut recorded = Vec::new();
    let from = placed_at - CLOCK_DIFFERENCE;
    let each = |event: Recorded| {
        if event.envelope.correlation == order.0 && seen.insert(event.envelope.id) {
            recorded.push(event);
        }
    };
    scan_telling(broker, ">", from, each, progress).await?;
    Ok(recorded)
}

/// When an order was placed, which its id says, in milliseconds since the Unix epoch.
#[must_use]
pub fn placed_at(order: OrderId) -> i64 {
    order.0.get_timestamp().map_or(0, |time| {
        let (seconds, nanos) = time.to_unix();
        i64::try_from(seconds).unwrap_or(0) * 1000 + i64::from(nanos / 1_000_000)
    })
}

/// The ids of all events from a time on (milliseconds since the Unix epoch).
///
/// # Errors
/// When the broker is away.
pub async fn ids(broker: &jetstream::Context, from: i64) -> Result<HashSet<EventId>, Fault> {
    let mut ids = HashSet::new();
    scan(broker, ">", from, |event| {
        ids.insert(event.envelope.id);
    })
    .await?;
    Ok(ids)
}

/// Reads the events whose subjects match a filter, from a time on (milliseconds since the
/// Unix epoch) to the end of the stream.
///
/// # Errors
/// When the broker is away.
pub async fn scan(
    broker: &jetstream::Context,
    filter: &str,
    from: i64,
    each: impl FnMut(Recorded),
) -> Result<(), Fault> {
    scan_telling(broker, filter, from, each, |_, _| ()).await
}

/// Events whose subjects match a filter, page by page to the end of the stream.
pub(crate) struct Pages<'a> {
    broker: &'a jetstream::Context,
    filter: &'a str,
    // None: the end was reached.
    position: Option<Value>,
}

impl<'a> Pages<'a> {
    /// From a place on.
    pub(crate) fn from(broker: &'a jetstream::Context, filter: &'a str, start: Start) -> Self {
        Self {
            broker,
            filter,
            position: Some(start.position()),
        }
    }

    /// The next page; nothing after the last. A page without an event of ours is empty.
    ///
    /// # Errors
    /// When the broker is away.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Recorded>>, Fault> {
        let Some(mut position) = self.position.take() else {
            return Ok(None);
        };
        position["next_by_subj"] = self.filter.into();
        let page = read_page(self.broker, position).await?;
        self.position = page.next.map(|sequence| json!({ "seq": sequence }));
        Ok(Some(page.events))
    }
}

async fn scan_telling(
    broker: &jetstream::Context,
    filter: &str,
    from: i64,
    mut each: impl FnMut(Recorded),
    mut progress: impl FnMut(u64, u64),
) -> Result<(), Fault> {
    let mut read = 0;
    let mut position = json!({ "start_time": clock::rfc3339(from.max(0)) });
    loop {
        position["next_by_subj"] = filter.into();
        let page = read_page(broker, position).await?;
        page.events.into_iter().for_each(&mut each);
        read += page.read;
        progress(read, read + page.pending);
        match page.next {
            Some(sequence) => position = json!({ "seq": sequence }),
            None => return Ok(()),
        }
    }
}

/// The event at a sequence of the stream; nothing when there is none.
pub(crate) async fn at(
    broker: &jetstream::Context,
    sequence: u64,
) -> Result<Option<Recorded>, Fault> {
    let position = json!({ "seq": sequence, "next_by_subj": ">" });
    let mut page = read_some(broker, position, 1).await?;
    let found = page.events.drain(..).next();
    Ok(found.filter(|event| event.stream_sequence == sequence))
}

/// The first event from a sequence on whose subject matches a filter.
pub(crate) async fn first(
    broker: &jetstream::Context,
    filter: &str,
    from: u64,
) -> Result<Option<Recorded>, Fault> {
    let position = json!({ "seq": from, "next_by_subj": filter });
    let mut page = read_some(broker, position, 1).await?;
    Ok(page.events.drain(..).next())
}

/// The events that stand at some sequences of the stream now; nothing for a sequence where
/// there is none. Each is read by itself, several at once.
///
/// # Errors
/// When the broker is away.
pub(crate) async fn at_each(
    broker: &jetstream::Context,
    sequences: &[u64],
) -> Result<Vec<Recorded>, Fault> {
    let client = broker.client();
    let subject = format!("$JS.API.DIRECT.GET.{}", catalog::STREAM);
    let reads = sequences.iter().copied().map(|sequence| {
        let request = json!({ "seq": sequence }).to_string();
        client.request(subject.clone(), request.into())
    });
    let mut reads = futures::stream::iter(reads).buffer_unordered(AT_ONCE);
    let mut found = Vec::with_capacity(sequences.len());
    while let Some(answer) = reads.next().await {
        let message = answer.map_err(|e| Fault::Away(format!("the stream: {e}")))?;
        match message.status.map(|status| status.as_u16()) {
            None => found.extend(recorded(message)),
            Some(404) => {}
            Some(code) => return Err(Fault::Away(format!("the stream answers {code}"))),
        }
    }
    Ok(found)
}

/// A message that was read directly; nothing when a stranger said it.
fn recorded(message: Message) -> Option<Recorded> {
    let headers = message.headers?;
    let subject = header(&headers, "Nats-Subject")?;
    let stream_sequence = header(&headers, "Nats-Sequence")?.parse().ok()?;
    match Envelope::decode(subject, message.payload) {
        Ok(envelope) => Some(Recorded {
            envelope,
            stream_sequence,
        }),
        // No event of ours; what reads it says so.
        Err(error) => {
            tracing::debug!(%error, stream_sequence, "skipped");
            None
        }
    }
}

struct Read {
    events: Vec<Recorded>,
    // Messages that were read, whoever said them, and those that are still to be read.
    read: u64,
    pending: u64,
    // The sequence to go on from; none at the end of the stream.
    next: Option<u64>,
}

/// Reads a page with one batched direct get (NATS ADR-31).
async fn read_page(broker: &jetstream::Context, position: Value) -> Result<Read, Fault> {
    read_some(broker, position, PAGE).await
}

async fn read_some(
    broker: &jetstream::Context,
    mut position: Value,
    most: u64,
) -> Result<Read, Fault> {
    let client = broker.client();
    let away = |error: &dyn std::fmt::Display| Fault::Away(format!("the stream: {error}"));
    let inbox = client.new_inbox();
    let mut answers = client
        .subscribe(inbox.clone())
        .await
        .map_err(|e| away(&e))?;
    position["batch"] = most.into();
    let request = position.to_string();
    let subject = format!("$JS.API.DIRECT.GET.{}", catalog::STREAM);
    client
        .publish_with_reply(subject, inbox, request.into())
        .await
        .map_err(|e| away(&e))?;
    let read = collect(&mut answers).await;
    let _ = answers.unsubscribe().await;
    read
}

async fn collect(answers: &mut Subscriber) -> Result<Read, Fault> {
    let mut read = Read {
        events: vec![],
        read: 0,
        pending: 0,
        next: None,
    };
    loop {
        let answer = tokio::time::timeout(PATIENCE, answers.next()).await;
        let Ok(Some(message)) = answer else {
            return Err(Fault::Away("the stream does not answer".to_owned()));
        };
        // 204: end of the batch; 404: nothing there; 408, 413: a request we do not make.
        match message.status.map(|status| status.as_u16()) {
            None => {}
            Some(204 | 404) => return Ok(read),
            Some(code) => return Err(Fault::Away(format!("the stream answers {code}"))),
        }
        let headers = message.headers.unwrap_or_default();
        let text = |name: &str| header(&headers, name);
        let (Some(subject), Some(sequence)) = (
            text("Nats-Subject"),
            text("Nats-Sequence").and_then(|sequence| sequence.parse::<u64>().ok()),
        ) else {
            continue;
        };
        let pending = text("Nats-Num-Pending").and_then(|n| n.parse::<u64>().ok());
        read.next = (pending != Some(0)).then_some(sequence + 1);
        read.read += 1;
        read.pending = pending.unwrap_or(0);
        match Envelope::decode(subject, message.payload) {
            Ok(envelope) => read.events.push(Recorded {
                envelope,
                stream_sequence: sequence,
            }),
            // A stranger's message is no event of ours; what reads it says so.
            Err(error) => tracing::debug!(%error, sequence, "skipped"),
        }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.as_str())
}
