//! The guard: keeps the stream and the consumers as they are declared, as long as it runs.
//!
//! It belongs to the provisioner, which alone may create and delete them. A stream or a
//! consumer that is gone is created again. When the broker's store was set back, new events
//! take the sequences of lost ones, and a consumer that was further would pass over them:
//! it is set back to where the stream is still the same.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::jetstream::consumer::{Consumer, pull};
use events::{EventId, catalog};

use crate::fault::Fault;
use crate::stream::broker::Context;
use crate::stream::topology::{self, ConsumerSpec, ProvisionError, Retention};
use crate::stream::{history, position};

const EVERY: Duration = Duration::from_secs(1);
// An hour of samples: a store that is set back further is heard from its start.
const SAMPLES: usize = 3600;

/// Keeps stream and consumers.
pub struct Guard {
    broker: Context,
    retention: Retention,
    consumers: Vec<ConsumerSpec>,
    // Sequences and the events that stood there, the newest last.
    samples: VecDeque<(u64, EventId)>,
}

impl Guard {
    /// Guards a stream and its consumers, which have been provisioned.
    #[must_use]
    pub fn new(broker: Context, retention: Retention, consumers: Vec<ConsumerSpec>) -> Self {
        Self {
            broker,
            retention,
            consumers,
            samples: VecDeque::new(),
        }
    }

    /// Looks every second, until it is dropped.
    pub async fn run(mut self) {
        let mut interval = tokio::time::interval(EVERY);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            match self.look().await {
                Ok(mended) => {
                    for what in mended {
                        tracing::error!("mended: {what}");
                    }
                }
                Err(fault) => tracing::debug!(%fault, "guarding; tried again"),
            }
        }
    }

    /// Looks once, and mends; what was mended.
    ///
    /// # Errors
    /// When the broker is away.
    pub async fn look(&mut self) -> Result<Vec<String>, Fault> {
        let stream = match self.broker.get_stream(catalog::STREAM).await {
            Ok(stream) => stream,
            Err(error) if is_missing(&error) => {
                self.samples.clear();
                self.provision().await?;
                return Ok(vec!["the stream was gone and is created again".to_owned()]);
            }
            Err(error) => return Err(away(&error)),
        };
        let last = stream.cached_info().state.last_sequence;
        let same_until = self.same_until().await?;
        let mut mended = Vec::new();
        for spec in self.consumers.clone() {
            mended.extend(self.look_at(&spec, last, same_until).await?);
        }
        self.remember(last).await?;
        Ok(mended)
    }

    /// The last sampled sequence up to which the stream is the one that it was; nothing
    /// when it is the same to the newest sample.
    async fn same_until(&mut self) -> Result<Option<u64>, Fault> {
        let mut set_back = false;
        while let Some((sequence, id)) = self.samples.back().copied() {
            let there = history::at(&self.broker, sequence).await?;
            if there.is_some_and(|recorded| recorded.envelope.id == id) {
                return Ok(set_back.then_some(sequence));
            }
            set_back = true;
            self.samples.pop_back();
        }
        Ok(set_back.then_some(0))
    }

    async fn look_at(
        &self,
        spec: &ConsumerSpec,
        last: u64,
        same_until: Option<u64>,
    ) -> Result<Option<String>, Fault> {
        let name = &spec.durable;
        let consumer: Consumer<pull::Config> = match self
            .broker
            .get_consumer_from_stream(name, catalog::STREAM)
            .await
        {
            Ok(consumer) => consumer,
            Err(_) => {
                // Gone, or the broker is away: then this fails too.
                self.create(spec, 1).await?;
                return Ok(Some(format!(
                    "the consumer {name} was gone and is created again"
                )));
            }
        };
        let info = consumer.cached_info();
        let delivered = info.delivered.stream_sequence;
        // The stream may have grown since `last` was read, and the consumer heard that.
        let ahead = delivered > last && delivered > position::of_stream(&self.broker).await?.1;
        let same_until = match (same_until, ahead) {
            (Some(sequence), _) => sequence,
            (None, true) => 0,
            (None, false) => return Ok(None),
        };
        let from = (same_until + 1).min(info.ack_floor.stream_sequence + 1);
        let deleted = self
            .broker
            .delete_consumer_from_stream(name, catalog::STREAM)
            .await;
        deleted.map_err(|error| away(&error))?;
        self.create(spec, from).await?;
        Ok(Some(format!(
            "the stream was set back: the consumer {name} hears it again from {from}"
        )))
    }

    async fn remember(&mut self, last: u64) -> Result<(), Fault> {
        if last == 0
            || self
                .samples
                .back()
                .is_some_and(|(sequence, _)| *sequence == last)
        {
            return Ok(());
        }
        if let Some(recorded) = history::at(&self.broker, last).await? {
            self.samples.push_back((last, recorded.envelope.id));
            if self.samples.len() > SAMPLES {
                self.samples.pop_front();
            }
        }
        Ok(())
    }

    async fn provision(&self) -> Result<(), Fault> {
        topology::provision(&self.broker, self.retention, &self.consumers)
            .await
            .map_err(|error: ProvisionError| away(&error))
    }

    async fn create(&self, spec: &ConsumerSpec, from: u64) -> Result<(), Fault> {
        topology::create_consumer(&self.broker, spec, from)
            .await
            .map_err(|error| away(&error))
    }
}

fn is_missing(error: &async_nats::jetstream::context::GetStreamError) -> bool {
    use async_nats::jetstream::ErrorCode;
    use async_nats::jetstream::context::GetStreamErrorKind;
    match error.kind() {
        GetStreamErrorKind::JetStream(error) => error.error_code() == ErrorCode::STREAM_NOT_FOUND,
        _ => false,
    }
}

fn away(error: &dyn std::fmt::Display) -> Fault {
    Fault::Away(format!("the broker: {error}"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use futures::StreamExt as _;

    use super::*;
    use crate::stream::broker;
    use crate::stream::local_server::{self, LocalServer};

    #[tokio::test]
    async fn a_consumer_that_heard_what_came_since_the_look_is_left_alone() {
        let given = std::env::var_os("ENSEMBLE_NATS_SERVER").map(PathBuf::from);
        let program = local_server::find(given.as_deref()).expect("a nats-server");
        let folder = tempfile::tempdir().expect("a folder");
        let nats = LocalServer::start(&program, folder.path()).expect("a broker");
        let broker = broker::connect(nats.url(), "test")
            .await
            .expect("it answers");
        let subject = catalog::ORDER_CONFIRMED.subject;
        let spec = ConsumerSpec::new("stock", [subject.to_owned()]);
        let guard = Guard::new(broker.clone(), Retention::default(), vec![spec.clone()]);
        guard.provision().await.expect("provisioned");
        let before = 0;
        let stored = broker.publish(subject, "".into()).await.expect("sent");
        stored.await.expect("stored");
        let consumer: Consumer<pull::Config> = broker
            .get_consumer_from_stream("stock", catalog::STREAM)
            .await
            .expect("the consumer");
        let messages = consumer
            .batch()
            .group(topology::INSTANCES)
            .max_messages(1)
            .expires(EVERY);
        let heard = messages.messages().await.expect("asked").next().await;
        heard.expect("a message").expect("a message");

        let mended = guard
            .look_at(&spec, before, None)
            .await
            .expect("it answers");
        assert_eq!(mended, None);
    }
}
