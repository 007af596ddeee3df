//! What the broker says of itself, of the stream and of the consumers, as it is: for those
//! who look and change nothing.
//!
//! The broker's API is asked directly, so that a look needs no more than the permission to
//! ask for exactly this.

use std::time::Duration;

use events::catalog;
use futures::future::join_all;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::clock;
use crate::stream::broker::Context;

/// Why something cannot be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unseen {
    /// The broker says that there is no such thing.
    Missing,
    /// The broker does not say, and why that may be.
    Silent(String),
}

/// The stream as it is.
#[derive(Debug, Clone, Deserialize)]
pub struct Stream {
    /// How it is configured.
    pub config: StreamConfig,
    /// What is in it.
    pub state: StreamState,
    /// The broker's clock, RFC 3339.
    #[serde(default, rename = "ts")]
    time: String,
}

/// How the stream is configured.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct StreamConfig {
    /// How long it keeps events, in nanoseconds; 0: for ever.
    pub max_age: i64,
    /// How large it may become; -1: no limit.
    pub max_bytes: i64,
    /// How many events it may hold; -1: no limit.
    pub max_msgs: i64,
    /// Copies.
    pub num_replicas: u64,
    /// `limits`, `interest` or `workqueue`.
    pub retention: String,
    /// What happens when it is full: `new` or `old`.
    pub discard: String,
    /// `file` or `memory`.
    pub storage: String,
    /// `async` when it acknowledges before it writes.
    pub persist_mode: String,
    /// Whether it can be purged by nobody.
    pub deny_purge: bool,
    /// Whether events can be deleted by nobody.
    pub deny_delete: bool,
    /// Whether it can be read directly.
    pub allow_direct: bool,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            max_age: 0,
            max_bytes: -1,
            max_msgs: -1,
            num_replicas: 1,
            retention: String::new(),
            discard: String::new(),
            storage: String::new(),
            persist_mode: String::new(),
            deny_purge: false,
            deny_delete: false,
            allow_direct: false,
        }
    }
}

/// What is in the stream.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct StreamState {
    /// Events in it.
    pub messages: u64,
    /// Their size.
    pub bytes: u64,
    /// The first event's sequence.
    pub first_seq: u64,
    /// The last event's sequence.
    pub last_seq: u64,
}

impl Stream {
    /// The broker's clock when it answered, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn broker_time(&self) -> Option<i64> {
        clock::parse_rfc3339(&self.time)
    }
}

/// A durable consumer as it is.
#[derive(Debug, Clone, Deserialize)]
pub struct Consumer {
    /// How it is configured.
    pub config: ConsumerConfig,
    /// Events that it has to deliver.
    pub num_pending: u64,
    /// Events that were delivered and not acked.
    pub num_ack_pending: u64,
    /// Of those, events that were delivered more than once.
    pub num_redelivered: u64,
    /// Requests for events that wait; 0: nobody asks.
    pub num_waiting: u64,
    /// Whether it is paused.
    #[serde(default)]
    pub paused: bool,
    /// For how long, in nanoseconds.
    #[serde(default)]
    pause_remaining: i64,
    ack_floor: Position,
}

/// How a consumer is configured.
#[derive(Debug, Clone, Deserialize)]
pub struct ConsumerConfig {
    /// How many events may be delivered and not acked.
    #[serde(default)]
    pub max_ack_pending: i64,
    /// How often it delivers an event that is not acked; -1: until it is.
    #[serde(default)]
    pub max_deliver: i64,
    /// `explicit`, or `none` or `all`.
    #[serde(default)]
    pub ack_policy: String,
    #[serde(default)]
    filter_subject: String,
    #[serde(default)]
    filter_subjects: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Position {
    stream_seq: u64,
    #[serde(default)]
    last_active: Option<String>,
}

impl Consumer {
    /// How much longer it is paused, in milliseconds; 0 when it is not.
    #[must_use]
    pub fn paused_for(&self) -> i64 {
        self.pause_remaining / 1_000_000
    }

    /// Up to which sequence everything is acked.
    #[must_use]
    pub fn acked_until(&self) -> u64 {
        self.ack_floor.stream_seq
    }

    /// When something was last acked, in milliseconds since the Unix epoch; nothing when
    /// nothing was since the broker started. (When something was last delivered says less: a
    /// message that is kept in hand counts again and again.)
    #[must_use]
    pub fn acked_at(&self) -> Option<i64> {
        clock::parse_rfc3339(self.ack_floor.last_active.as_deref()?)
    }

    /// What it hears.
    #[must_use]
    pub fn filters(&self) -> Vec<&str> {
        match self.config.filter_subject.as_str() {
            "" => self.config.filter_subjects.iter().map(|f| &**f).collect(),
            one => vec![one],
        }
    }
}

/// The account that is asked as.
#[derive(Debug, Clone, Deserialize)]
pub struct Account {
    /// Bytes that are stored.
    pub storage: u64,
    /// What it may have.
    pub limits: AccountLimits,
}

/// What an account may have.
#[derive(Debug, Clone, Deserialize)]
pub struct AccountLimits {
    /// Bytes that may be stored; -1: no limit.
    pub max_storage: i64,
}

/// The version of the broker, like `2.12.1`.
#[must_use]
pub fn version(broker: &Context) -> String {
    broker.client().server_info().version
}

/// Looks at the stream.
///
/// # Errors
/// When it is not there, or the broker does not say.
pub async fn stream(broker: &Context) -> Result<Stream, Unseen> {
    ask(broker, &format!("STREAM.INFO.{}", catalog::STREAM)).await
}

/// Looks at the durable consumer of a service.
///
/// # Errors
/// When it is not there, or the broker does not say.
pub async fn consumer(broker: &Context, durable: &str) -> Result<Consumer, Unseen> {
    let path = format!("CONSUMER.INFO.{}.{durable}", catalog::STREAM);
    ask(broker, &path).await
}

/// Looks at the account.
///
/// # Errors
/// When the broker does not say.
pub async fn account(broker: &Context) -> Result<Account, Unseen> {
    ask(broker, "INFO").await
}

/// When the oldest event was stored that a consumer has not acked, in milliseconds since the
/// Unix epoch; nothing when there is none, or the stream cannot be read.
pub async fn oldest_unacked(broker: &Context, consumer: &Consumer) -> Option<i64> {
    if consumer.num_pending + consumer.num_ack_pending == 0 {
        return None;
    }
    let next = consumer.filters().into_iter().map(|filter| {
        let position = json!({ "seq": consumer.acked_until() + 1, "next_by_subj": filter });
        stored_at(broker, position)
    });
    join_all(next).await.into_iter().flatten().min()
}

async fn stored_at(broker: &Context, position: Value) -> Option<i64> {
    let subject = format!("$JS.API.DIRECT.GET.{}", catalog::STREAM);
    let client = broker.client();
    let asked = client.request(subject, position.to_string().into());
    let headers = asked.await.ok()?.headers?;
    clock::parse_rfc3339(headers.get("Nats-Time-Stamp")?.as_str())
}

/// What a broker says of its own configuration on its monitoring port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Monitored {
    /// How long what it has acknowledged may not be on disk.
    pub sync_interval: Option<Duration>,
    /// Whether it writes to disk before it acknowledges.
    pub sync_always: bool,
}

impl Monitored {
    /// Reads the answer of `/jsz?config=true`.
    #[must_use]
    pub fn read(answer: &Value) -> Self {
        let config = &answer["config"];
        let nanos = config["sync_interval"].as_u64();
        Self {
            sync_interval: nanos.map(Duration::from_nanos),
            sync_always: config["sync_always"] == true,
        }
    }
}

async fn ask<T: DeserializeOwned>(broker: &Context, path: &str) -> Result<T, Unseen> {
    let subject = format!("$JS.API.{path}");
    let silent = |why: &dyn std::fmt::Display| {
        Unseen::Silent(format!(
            "the broker does not answer {subject} ({why}): it is away, or the credentials do \
             not allow to ask"
        ))
    };
    let client = broker.client();
    let asked = client.request(subject.clone(), "".into()).await;
    let message = asked.map_err(|error| silent(&error))?;
    let answer: Value = serde_json::from_slice(&message.payload).map_err(|e| silent(&e))?;
    if let Some(error) = answer.get("error") {
        return Err(match error["code"].as_u64() {
            Some(404) => Unseen::Missing,
            _ => silent(&error["description"]),
        });
    }
    serde_json::from_value(answer).map_err(|error| silent(&error))
}
