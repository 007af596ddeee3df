//! Bare readers: what the client can do when nothing is decoded, to hold the reader to.

use async_nats::jetstream;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use events::catalog;
use futures::StreamExt as _;
use serde_json::json;

use crate::clock;
use crate::fault::Fault;
use crate::stream::reader::Start;

/// A way to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bare {
    /// Batched direct gets, one after another.
    DirectGet,
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
        Bare::Consumer => by_consumer(broker, start).await,
    }
}

fn away(error: &dyn std::fmt::Display) -> Fault {
    Fault::Away(format!("the stream: {error}"))
}

async fn by_direct_get(broker: &jetstream::Context, start: Start) -> Result<u64, Fault> {
    let client = broker.client();
    let subject = format!("$JS.API.DIRECT.GET.{}", catalog::STREAM);
    let mut position = match start {
        Start::Sequence(sequence) => json!({ "seq": sequence.max(1) }),
        Start::Time(time) => json!({ "start_time": clock::rfc3339(time.max(0)) }),
    };
    let mut read = 0;
    loop {
        let inbox = client.new_inbox();
        let mut answers = client
            .subscribe(inbox.clone())
            .await
            .map_err(|e| away(&e))?;
        position["batch"] = 8_192.into();
        position["next_by_subj"] = ">".into();
        let request = position.to_string().into();
        let asked = client
            .publish_with_reply(subject.clone(), inbox, request)
            .await;
        asked.map_err(|e| away(&e))?;
        let mut last = None;
        while let Some(message) = answers.next().await {
            if message.status.is_some() {
                break;
            }
            read += 1;
            last = message.headers;
        }
        let Some(headers) = last else { return Ok(read) };
        let number =
            |name: &'static str| -> Option<u64> { headers.get(name)?.as_str().parse().ok() };
        match (number("Nats-Sequence"), number("Nats-Num-Pending")) {
            (Some(sequence), Some(pending)) if pending > 0 => {
                position = json!({ "seq": sequence + 1 });
            }
            _ => return Ok(read),
        }
    }
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
