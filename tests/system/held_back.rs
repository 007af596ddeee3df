//! Events that a service does not hear until the test lets them through.

use async_nats::jetstream::{AckKind, Message};
use events::catalog;
use futures::StreamExt as _;
use integration_tests::World;
use jetstream::stream::broker::PullConfig;
use jetstream::stream::topology::INSTANCES;

/// The next events of services that are not running. The broker delivers each of them
/// again when it is let through, or when it is not kept for `ack_wait`.
#[derive(Default)]
pub(crate) struct HeldBack(Vec<Message>);

impl HeldBack {
    /// Takes the next event of a service away from it.
    pub(crate) async fn take(&mut self, world: &World, service: &str, subject: &str) {
        let consumer = world
            .broker()
            .get_consumer_from_stream::<PullConfig, _, _>(service, catalog::STREAM)
            .await
            .expect("a consumer");
        let fetched = consumer
            .fetch()
            .group(INSTANCES)
            .max_messages(1)
            .messages()
            .await;
        let message = fetched.expect("pulled").next().await;
        let message = message.expect("an event waits").expect("pulled");
        assert_eq!(message.subject.as_str(), subject);
        self.0.push(message);
    }

    /// Asks the broker for another `ack_wait`.
    pub(crate) async fn keep(&self) {
        for message in &self.0 {
            message.ack_with(AckKind::Progress).await.expect("asked");
        }
    }

    /// Lets them through: they are delivered to whoever pulls now.
    pub(crate) async fn let_through(self) {
        for message in self.0 {
            message.ack_with(AckKind::Nak(None)).await.expect("asked");
        }
    }
}
