//! Reading a range of the stream, as fast as it comes.
//!
//! It reads by batched direct gets (NATS ADR-31), so it needs no consumer and no right but
//! `$JS.API.DIRECT.GET.<stream>`. A task of its own takes the messages off the connection
//! and asks for the next batch, while those before are decoded.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream;
use bytes::Bytes;
use events::{Envelope, Malformed, catalog};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::clock;
use crate::fault::Fault;
use crate::stream::history::Recorded;

// Messages that are asked for at once.
const BATCH: u64 = 8_192;
// Messages that are handed over at once, and how many such pages may wait.
const PAGE: usize = 512;
const PAGES: usize = 8;
const PATIENCE: Duration = Duration::from_secs(5);

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At this sequence, or the first after it.
    Sequence(u64),
    /// At what was stored at this time or later, in milliseconds since the Unix epoch.
    Time(i64),
}

/// A message of the stream, as it is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its subject.
    pub subject: String,
    /// Where it stands.
    pub sequence: u64,
    /// Messages after it that match, when it was read.
    pub pending: u64,
    /// The event, encoded.
    pub payload: Bytes,
}

impl Stored {
    /// The event.
    ///
    /// # Errors
    /// When it is none of this build's.
    pub fn decode(self) -> Result<Recorded, Malformed> {
        Ok(Recorded {
            envelope: Envelope::decode(&self.subject, self.payload)?,
            stream_sequence: self.sequence,
        })
    }
}

/// Reads the stream from a place on to its end.
pub struct Reader(mpsc::Receiver<Result<Vec<Stored>, Fault>>);

impl Reader {
    /// Begins to read messages whose subjects match a filter.
    #[must_use]
    pub fn start(broker: &jetstream::Context, filter: &str, start: Start) -> Self {
        let (pages, reader) = mpsc::channel(PAGES);
        let source = Source {
            client: broker.client(),
            filter: filter.to_owned(),
            pages,
        };
        tokio::spawn(source.run(start));
        Self(reader)
    }

    /// The next messages, in stream order; nothing at the end of the stream.
    ///
    /// # Errors
    /// When the broker is away, or has no such stream.
    pub async fn next(&mut self) -> Result<Option<Vec<Stored>>, Fault> {
        self.0.recv().await.transpose()
    }
}

struct Source {
    client: Client,
    filter: String,
    pages: mpsc::Sender<Result<Vec<Stored>, Fault>>,
}

impl Source {
    async fn run(self, start: Start) {
        let mut position = match start {
            Start::Sequence(sequence) => json!({ "seq": sequence.max(1) }),
            Start::Time(time) => json!({ "start_time": clock::rfc3339(time.max(0)) }),
        };
        loop {
            match self.batch(position).await {
                Ok(Some(next)) => position = json!({ "seq": next }),
                Ok(None) => return,
                Err(fault) => {
                    // Who reads may have gone.
                    let _ = self.pages.send(Err(fault)).await;
                    return;
                }
            }
        }
    }

    /// Reads one batch; the sequence to go on from.
    async fn batch(&self, mut position: Value) -> Result<Option<u64>, Fault> {
        let away = |error: &dyn std::fmt::Display| Fault::Away(format!("the stream: {error}"));
        let inbox = self.client.new_inbox();
        let subscribed = self.client.subscribe(inbox.clone()).await;
        let mut answers = subscribed.map_err(|error| away(&error))?;
        position["batch"] = BATCH.into();
        position["next_by_subj"] = self.filter.as_str().into();
        let subject = format!("$JS.API.DIRECT.GET.{}", catalog::STREAM);
        let request = position.to_string().into();
        let asked = self
            .client
            .publish_with_reply(subject, inbox, request)
            .await;
        asked.map_err(|error| away(&error))?;
        let mut page = Vec::with_capacity(PAGE);
        let mut next = None;
        loop {
            let answer = tokio::time::timeout(PATIENCE, answers.next()).await;
            let Ok(Some(message)) = answer else {
                return Err(Fault::Away("the stream does not answer".to_owned()));
            };
            match message.status.map(|status| status.as_u16()) {
                None => {}
                Some(204 | 404) => break,
                Some(503) => {
                    return Err(Fault::Away(
                        "there is no stream EVENTS to read: run `ensemble provision`".to_owned(),
                    ));
                }
                Some(code) => return Err(Fault::Away(format!("the stream answers {code}"))),
            }
            let Some(stored) = stored(message) else {
                continue;
            };
            next = (stored.pending > 0).then_some(stored.sequence + 1);
            page.push(stored);
            if page.len() == PAGE {
                let full = std::mem::replace(&mut page, Vec::with_capacity(PAGE));
                if self.pages.send(Ok(full)).await.is_err() {
                    return Ok(None);
                }
            }
        }
        if !page.is_empty() && self.pages.send(Ok(page)).await.is_err() {
            return Ok(None);
        }
        Ok(next)
    }
}

fn stored(message: async_nats::Message) -> Option<Stored> {
    let headers = message.headers?;
    let text = |name: &'static str| headers.get(name).map(|value| value.as_str());
    Some(Stored {
        subject: text("Nats-Subject")?.to_owned(),
        sequence: text("Nats-Sequence")?.parse().ok()?,
        pending: text("Nats-Num-Pending")?.parse().ok()?,
        payload: message.payload,
    })
}

/// The first and the last sequence of the stream, and how many messages it has.
///
/// # Errors
/// When the broker is away, or has no such stream.
pub async fn bounds(broker: &jetstream::Context) -> Result<(u64, u64), Fault> {
    let stream = broker.get_stream(catalog::STREAM).await;
    let stream = stream.map_err(|error| Fault::Away(format!("the stream: {error}")))?;
    let state = &stream.cached_info().state;
    Ok((state.first_sequence, state.last_sequence))
}
