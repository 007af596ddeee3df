//! What there is on the broker: the stream and the durable consumers, as data.
//!
//! One provisioner creates them; services only use them, and need no permission to
//! create, change or delete anything.

use std::time::Duration;

use async_nats::jetstream::{self, consumer, stream};
use events::{Flow, Step, catalog, step};
use futures::TryStreamExt as _;

/// Messages of a consumer that may be delivered and not acked, all instances together.
pub(crate) const MAX_ACK_PENDING: i64 = 4096;

/// The group that the instances of a service pull in: the broker gives its messages to the
/// pull with the lowest priority number (NATS ADR-42), and to others what that one has not
/// asked for.
pub const INSTANCES: &str = "instances";

/// A service's durable consumer: what it hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerSpec {
    /// The durable name: the name of the service.
    pub durable: String,
    /// The filters, sorted.
    pub filters: Vec<String>,
}

impl ConsumerSpec {
    /// A consumer of these subjects.
    #[must_use]
    pub fn new<S: Into<String>>(durable: &str, filters: impl IntoIterator<Item = S>) -> Self {
        let mut filters: Vec<String> = filters.into_iter().map(Into::into).collect();
        filters.sort_unstable();
        filters.dedup();
        Self {
            durable: durable.to_owned(),
            filters,
        }
    }

    /// The consumer of a participant, for the flows that the deployment allows.
    #[must_use]
    pub fn participant(step: Step, flows: &[Flow]) -> Self {
        Self::new(step.name(), step::triggers(step, flows))
    }

    pub(crate) fn config(&self, from: u64) -> consumer::pull::Config {
        consumer::pull::Config {
            durable_name: Some(self.durable.clone()),
            filter_subjects: self.filters.clone(),
            deliver_policy: match from {
                0 | 1 => consumer::DeliverPolicy::All,
                start_sequence => consumer::DeliverPolicy::ByStartSequence { start_sequence },
            },
            ack_policy: consumer::AckPolicy::Explicit,
            ack_wait: Duration::from_secs(5),
            // A limit would park an event silently; dead letters are the application's.
            max_deliver: -1,
            max_ack_pending: MAX_ACK_PENDING,
            // Shared out one by one, messages would come to each instance in small batches.
            priority_policy: consumer::PriorityPolicy::Prioritized,
            priority_groups: vec![INSTANCES.to_owned()],
            ..consumer::pull::Config::default()
        }
    }
}

/// How the stream keeps what it holds.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Events older than this are dropped.
    pub max_age: Duration,
    /// The stream refuses new events beyond this size; negative: no limit.
    pub max_bytes: i64,
    /// Copies in a cluster.
    pub replicas: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(14 * 24 * 60 * 60),
            max_bytes: -1,
            replicas: 1,
        }
    }
}

/// Creates the stream and the consumers, or brings them up to date. Doing it again
/// changes nothing.
///
/// # Errors
/// What the broker says.
pub async fn provision(
    broker: &jetstream::Context,
    retention: Retention,
    consumers: &[ConsumerSpec],
) -> Result<(), ProvisionError> {
    let config = stream_config(retention);
    broker
        .create_or_update_stream(config)
        .await
        .map_err(|e| ProvisionError(format!("stream {}", catalog::STREAM), e.to_string()))?;
    for spec in consumers {
        keep_or_create(broker, spec).await?;
    }
    Ok(())
}

/// Creates a consumer, or brings its filters up to date. Where it begins cannot be changed
/// once it exists, and is kept.
async fn keep_or_create(
    broker: &jetstream::Context,
    spec: &ConsumerSpec,
) -> Result<(), ProvisionError> {
    let existing: Result<consumer::Consumer<consumer::pull::Config>, _> = broker
        .get_consumer_from_stream(&spec.durable, catalog::STREAM)
        .await;
    let from = match existing.map(|found| found.cached_info().config.deliver_policy) {
        Ok(consumer::DeliverPolicy::ByStartSequence { start_sequence }) => start_sequence,
        _ => 1,
    };
    create_consumer(broker, spec, from).await
}

/// Resumes a consumer that was paused, by a message of the broker's API (ADR-60): one
/// without a time resumes.
///
/// # Errors
/// What the broker says.
pub async fn resume(broker: &jetstream::Context, durable: &str) -> Result<(), ProvisionError> {
    let failed = |why: String| ProvisionError(format!("consumer {durable}"), why);
    let subject = format!("$JS.API.CONSUMER.PAUSE.{}.{durable}", catalog::STREAM);
    let answer = broker.client().request(subject, "".into()).await;
    let answer = answer.map_err(|error| failed(error.to_string()))?;
    let answer: serde_json::Value =
        serde_json::from_slice(&answer.payload).map_err(|error| failed(error.to_string()))?;
    match answer["error"]["description"].as_str() {
        Some(error) => Err(failed(error.to_owned())),
        None => Ok(()),
    }
}

/// Creates a consumer that begins at a sequence.
pub(crate) async fn create_consumer(
    broker: &jetstream::Context,
    spec: &ConsumerSpec,
    from: u64,
) -> Result<(), ProvisionError> {
    broker
        .create_consumer_on_stream(spec.config(from), catalog::STREAM)
        .await
        .map(|_| ())
        .map_err(|error| ProvisionError(format!("consumer {}", spec.durable), error.to_string()))
}

pub(crate) fn stream_config(retention: Retention) -> stream::Config {
    stream::Config {
        name: catalog::STREAM.to_owned(),
        subjects: catalog::stream_subjects()
            .into_iter()
            .map(str::to_owned)
            .collect(),
        // Limits: the only retention that allows replay and late consumers, and that
        // remembers message ids over a restart.
        retention: stream::RetentionPolicy::Limits,
        discard: stream::DiscardPolicy::New,
        storage: stream::StorageType::File,
        max_age: retention.max_age,
        max_bytes: retention.max_bytes,
        num_replicas: retention.replicas,
        duplicate_window: Duration::from_secs(120),
        deny_delete: true,
        deny_purge: true,
        allow_direct: true,
        ..stream::Config::default()
    }
}

/// The broker refused to create or change something.
#[derive(Debug, thiserror::Error)]
#[error("cannot provision {0}: {1}")]
pub struct ProvisionError(String, String);

impl ProvisionError {
    pub(crate) fn new(what: String, error: &dyn std::fmt::Display) -> Self {
        Self(what, error.to_string())
    }
}

/// What there is on a broker, whoever created it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The subjects that the stream takes.
    pub stream_subjects: Vec<String>,
    /// Its durable consumers.
    pub consumers: Vec<FoundConsumer>,
    /// The subjects of the messages that are in the stream.
    pub subjects_in_stream: Vec<String>,
}

/// A durable consumer that is on a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundConsumer {
    /// Its name and filters.
    pub spec: ConsumerSpec,
    /// How often it delivers a message that is not acked; -1: until it is.
    pub max_deliver: i64,
}

/// Looks what there is on a broker. Consumers that are not durable go away by themselves
/// and are left out.
///
/// # Errors
/// When the broker is away, or has no such stream.
pub async fn look(broker: &jetstream::Context) -> Result<Found, LookError> {
    let failed = |what: &'static str| {
        move |e: &dyn std::fmt::Display| LookError(what, catalog::STREAM, e.to_string())
    };
    let stream = broker.get_stream(catalog::STREAM).await;
    let stream = stream.map_err(|e| failed("the stream")(&e))?;
    let subjects = stream.info_with_subjects(">").await;
    let subjects = subjects.map_err(|e| failed("the subjects of the stream")(&e))?;
    let subjects_in_stream = subjects.map_ok(|(subject, _)| subject).try_collect();
    let mut found = Found {
        stream_subjects: stream.cached_info().config.subjects.clone(),
        consumers: vec![],
        subjects_in_stream: subjects_in_stream
            .await
            .map_err(|e| failed("the subjects of the stream")(&e))?,
    };
    let mut consumers = stream.consumers();
    let next = |e: stream::ConsumersError| failed("the consumers of the stream")(&e);
    while let Some(info) = consumers.try_next().await.map_err(next)? {
        let config = info.config;
        let Some(durable) = config.durable_name else {
            continue;
        };
        let filters = match config.filter_subject.is_empty() {
            true => config.filter_subjects,
            false => vec![config.filter_subject],
        };
        found.consumers.push(FoundConsumer {
            spec: ConsumerSpec::new(&durable, filters),
            max_deliver: config.max_deliver,
        });
    }
    Ok(found)
}

/// The broker does not say what it has.
#[derive(Debug, thiserror::Error)]
#[error("cannot look at {0} {1}: {2}; `ensemble provision` creates stream and consumers")]
pub struct LookError(&'static str, &'static str, String);
