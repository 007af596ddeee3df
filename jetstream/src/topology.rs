//! What there is on the broker: the stream and the durable consumers, as data.
//!
//! One provisioner creates them; services only use them, and need no permission to
//! create, change or delete anything.

use std::time::Duration;

use async_nats::jetstream::{self, consumer, stream};
use events::{Flow, Step, catalog, step};

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

    fn config(&self, from: u64) -> consumer::pull::Config {
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
            max_ack_pending: 4096,
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

fn stream_config(retention: Retention) -> stream::Config {
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
