//! Bare readers: what the client can do when nothing is decoded, to hold the reader to.

use async_nats::Client;
use async_nats::jetstream;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use events::catalog;
use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::clock;
use crate::fault::Fault;
use crate::stream::reader::Start;

/// A way to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bare {
    /// Batched direct gets, one after another.
    DirectGet,
    /// Batched direct gets, several at once: for a stream without gaps.
    DirectGets,
    /// The client's ordered pull consumer; it needs the right to create one.
    Consumer,
}

/// Reads the stream from a place on to its end, and counts.
///
/// # Errors
/// When the broker is away.
pub async fn read(broker: &jetstream::Context, start: Start, how: Bare) -> Result<u64, Fault> {
    match how {
        Bare::DirectGet => by_direct_get(broker, start).await,
        Bare::DirectGets => by_direct_gets(broker, start).await,
        Bare::Consumer => by_consumer(broker, start).await,
    }
}

fn away(error: &dyn std::fmt::Display) -> Fault {
    Fault::Away(format!("the stream: {error}"))
}

async fn by_direct_get(broker: &jetstream::Context, start: Start) -> Result<u64, Fault> {
    let client = broker.client();
    let mut position = position(start);
    let mut read = 0;
    loop {
        let (messages, next) = batch(&client, position, 8_192).await?;
        read += messages;
        match next {
            Some(next) => position = json!({ "seq": next }),
            None => return Ok(read),
        }
    }
}

async fn by_direct_gets(broker: &jetstream::Context, start: Start) -> Result<u64, Fault> {
    const SIZE: u64 = 2_048;
    let client = broker.client();
    let (mut read, next) = batch(&client, position(start), SIZE).await?;
    let Some(next) = next else {
        return Ok(read);
    };
    let starts = (0..).map(|n| json!({ "seq": next + n * SIZE }));
    let batches = starts.map(|position| batch(&client, position, SIZE));
    let mut batches = futures::stream::iter(batches).buffered(4);
    while let Some(batch) = batches.next().await {
        let (messages, next) = batch?;
        read += messages;
        if next.is_none() {
            break;
        }
    }
    Ok(read)
}

fn position(start: Start) -> Value {
    match start {
        Start::Sequence(sequence) => json!({ "seq": sequence.max(1) }),
        Start::Time(time) => json!({ "start_time": clock::rfc3339(time.max(0)) }),
    }
}

/// How many messages a batch has, and the sequence to go on from, if there are more.
async fn batch(
    client: &Client,
    mut position: Value,
    size: u64,
) -> Result<(u64, Option<u64>), Fault> {
    let inbox = client.new_inbox();
    let subscribed = client.subscribe(inbox.clone()).await;
    let mut answers = subscribed.map_err(|e| away(&e))?;
    position["batch"] = size.into();
    position["next_by_subj"] = ">".into();
    let subject = format!("$JS.API.DIRECT.GET.{}", catalog::STREAM);
    let request = position.to_string().into();
    let asked = client.publish_with_reply(subject, inbox, request).await;
    asked.map_err(|e| away(&e))?;
    let mut read = 0;
    let mut last = None;
    while let Some(message) = answers.next().await {
        if message.status.is_some() {
            break;
        }
        read += 1;
        last = message.headers;
    }
    let next = last.and_then(|headers| {
        let number =
            |name: &'static str| -> Option<u64> { headers.get(name)?.as_str().parse().ok() };
        let pending = number("Nats-Num-Pending")?;
        (pending > 0).then_some(number("Nats-Sequence")? + 1)
    });
    Ok((read, next))
}

async fn by_consumer(broker: &jetstream::Context, start: Start) -> Result<u64, Fault> {
    let stream = broker
        .get_stream(catalog::STREAM)
        .await
        .map_err(|e| away(&e))?;
    let deliver_policy = match start {
        Start::Sequence(sequence) => DeliverPolicy::ByStartSequence {
            start_sequence: sequence.max(1),
        },
        Start::Time(time) => DeliverPolicy::ByStartTime {
            start_time: clock::offset(time.max(0)),
        },
    };
    let config = pull::OrderedConfig {
        deliver_policy,
        ..pull::OrderedConfig::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(|e| away(&e))?;
    let mut messages = consumer.messages().await.map_err(|e| away(&e))?;
    let mut read = 0;
    while let Some(message) = messages.next().await {
        let message = message.map_err(|e| away(&e))?;
        read += 1;
        if message.info().is_ok_and(|info| info.pending == 0) {
            break;
        }
    }
    Ok(read)
}
