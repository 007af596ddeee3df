//! Reading a range of the stream, as fast as it comes.
//!
//! It reads by batched direct gets (NATS ADR-31), so it needs no consumer and no right but
//! `$JS.API.DIRECT.GET.<stream>`. Where much is to be read, and a consumer may be created, it
//! reads by an ordered one, which costs the broker less than half; the broker forgets it. A
//! task of its own takes the messages off the connection and has the next batches on their
//! way, while those before are decoded.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use bytes::Bytes;
use events::{Envelope, Malformed, catalog};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::clock;
use crate::fault::Fault;
use crate::stream::broker::Context;
use crate::stream::history::Recorded;

// Messages of a batch, and batches that are asked for at once.
const BATCH: u64 = 2_048;
const AT_ONCE: usize = 4;
// Batches that may wait for who reads.
const PAGES: usize = 4;
// For fewer messages a consumer is not worth it.
const MANY: u64 = 20_000;
const PATIENCE: Duration = Duration::from_secs(5);

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At this sequence, or the first after it.
    Sequence(u64),
    /// At what was stored at this time or later, in milliseconds since the Unix epoch.
    Time(i64),
}

impl Start {
    /// In the words of a direct get.
    pub(crate) fn position(self) -> Value {
        match self {
            Self::Sequence(sequence) => json!({ "seq": sequence.max(1) }),
            Self::Time(time) => json!({ "start_time": clock::rfc3339(time.max(0)) }),
        }
    }
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
    pub fn start(broker: &Context, filter: &str, start: Start) -> Self {
        let (pages, reader) = mpsc::channel(PAGES);
        let source = Source {
            broker: broker.clone(),
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
    broker: Context,
    client: Client,
    filter: String,
    pages: mpsc::Sender<Result<Vec<Stored>, Fault>>,
}

impl Source {
    async fn run(self, start: Start) {
        if let Err(fault) = self.read(start).await {
            // Who reads may have gone.
            let _ = self.pages.send(Err(fault)).await;
        }
    }

    async fn read(&self, start: Start) -> Result<(), Fault> {
        let mut position = start.position();
        let mut is_first = true;
        loop {
            let batch = self.batch(position).await?;
            let left = batch.messages.last().map_or(0, |stored| stored.pending);
            if !self.hand_over(batch.messages).await {
                return Ok(());
            }
            let Some(next) = batch.next else {
                return Ok(());
            };
            if is_first && left >= MANY && self.read_by_consumer(next).await? {
                return Ok(());
            }
            is_first = false;
            if self.filter == ">" {
                return self.read_ahead(next).await;
            }
            position = json!({ "seq": next });
        }
    }

    /// Reads everything from a sequence on by an ordered consumer; whether that was possible.
    /// Where it is not, nothing has been read.
    async fn read_by_consumer(&self, from: u64) -> Result<bool, Fault> {
        let mut refusals = self.broker.refusals();
        // Who may not create a consumer, or not pull from it, is answered with nothing else.
        let mut refused = std::pin::pin!(async {
            while let Ok(subject) = refusals.recv().await {
                if subject.starts_with("$JS.API.CONSUMER.") {
                    return;
                }
            }
        });
        let opened = tokio::select! {
            opened = self.consumer(from) => opened,
            () = &mut refused => None,
        };
        let Some(messages) = opened else {
            return Ok(false);
        };
        let mut pages = messages.ready_chunks(BATCH as usize);
        let mut consumer = String::new();
        loop {
            let page = tokio::select! {
                page = tokio::time::timeout(PATIENCE, pages.next()) => page,
                () = &mut refused, if consumer.is_empty() => return Ok(false),
            };
            let Ok(Some(page)) = page else {
                return Err(Fault::Away("the stream does not answer".to_owned()));
            };
            let mut messages = Vec::with_capacity(page.len());
            for message in page {
                let message = message.map_err(|e| Fault::Away(format!("the stream: {e}")))?;
                let place = message.info().map_err(|e| Fault::Away(e.to_string()))?;
                if place.consumer != consumer {
                    place.consumer.clone_into(&mut consumer);
                }
                messages.push(Stored {
                    subject: message.subject.to_string(),
                    sequence: place.stream_sequence,
                    pending: place.pending,
                    payload: message.payload.clone(),
                });
            }
            let at_the_end = messages.last().is_some_and(|stored| stored.pending == 0);
            if !self.hand_over(messages).await || at_the_end {
                break;
            }
        }
        // It would be forgotten by itself, half a minute later.
        let stream = self.broker.get_stream_no_info(catalog::STREAM).await;
        if let Ok(stream) = stream {
            let _ = stream.delete_consumer(&consumer).await;
        }
        Ok(true)
    }

    /// An ordered consumer from a sequence on; nothing when there can be none.
    async fn consumer(&self, from: u64) -> Option<pull::Ordered> {
        let config = pull::OrderedConfig {
            description: Some("reads a range".to_owned()),
            filter_subject: self.filter.clone(),
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: from,
            },
            ..pull::OrderedConfig::default()
        };
        let stream = self.broker.get_stream_no_info(catalog::STREAM).await.ok()?;
        let consumer = stream.create_consumer(config).await.ok()?;
        consumer.messages().await.ok()
    }

    /// Reads everything from a sequence on, several batches at once. A batch has as many
    /// messages as the sequences to where the next one begins: all of them, and more if some
    /// are gone, which are the next one's.
    async fn read_ahead(&self, from: u64) -> Result<(), Fault> {
        let starts = (0..).map(|n| from + n * BATCH);
        let reads = starts.map(async |start| {
            let mut batch = self.batch(json!({ "seq": start })).await?;
            let own = |stored: &Stored| stored.sequence < start + BATCH;
            let beyond = batch.messages.iter().any(|stored| !own(stored));
            batch.messages.retain(own);
            let more = beyond || batch.next.is_some();
            Ok::<_, Fault>((batch.messages, more))
        });
        let mut batches = futures::stream::iter(reads).buffered(AT_ONCE);
        while let Some(batch) = batches.next().await {
            let (messages, more) = batch?;
            if !self.hand_over(messages).await || !more {
                break;
            }
        }
        Ok(())
    }

    /// Whether anybody still reads.
    async fn hand_over(&self, messages: Vec<Stored>) -> bool {
        messages.is_empty() || self.pages.send(Ok(messages)).await.is_ok()
    }

    async fn batch(&self, mut position: Value) -> Result<Batch, Fault> {
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
        let mut batch = Batch::default();
        loop {
            let answer = tokio::time::timeout(PATIENCE, answers.next()).await;
            let Ok(Some(message)) = answer else {
                return Err(Fault::Away("the stream does not answer".to_owned()));
            };
            match message.status.map(|status| status.as_u16()) {
                None => {}
                Some(204 | 404) => return Ok(batch),
                Some(503) => {
                    return Err(Fault::Away(
                        "there is no stream EVENTS to read: run `ensemble provision`".to_owned(),
                    ));
                }
                Some(code) => return Err(Fault::Away(format!("the stream answers {code}"))),
            }
            if let Some(stored) = stored(message) {
                batch.next = (stored.pending > 0).then_some(stored.sequence + 1);
                batch.messages.push(stored);
            }
        }
    }
}

#[derive(Default)]
struct Batch {
    messages: Vec<Stored>,
    // The sequence to go on from; none at the end of the stream.
    next: Option<u64>,
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
pub async fn bounds(broker: &Context) -> Result<(u64, u64), Fault> {
    let stream = broker.get_stream(catalog::STREAM).await;
    let stream = stream.map_err(|error| Fault::Away(format!("the stream: {error}")))?;
    let state = &stream.cached_info().state;
    Ok((state.first_sequence, state.last_sequence))
}
