//! How a service hears and says: pull, one transaction, publish, await, ack.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::{self, AckKind, Message, stream};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use sqlx::{PgConnection, PgPool};

use crate::Error;
use crate::events::Event;

const STREAM: &str = "HANDWRITTEN";

/// A service: what it hears, and what it does with it.
pub(crate) trait Service: Send + Sync + 'static {
    fn name(&self) -> &'static str;
    fn hears(&self) -> Vec<String>;
    fn database(&self) -> &PgPool;
    /// Handles an event in a transaction; what it says because of it.
    fn handle<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        event: &'a Event,
    ) -> BoxFuture<'a, Result<Decided, Error>>;
    /// Is told what was said, after it was.
    fn said(&self, _: &Event) {}
}

/// What came of an event.
pub(crate) enum Decided {
    /// The transaction is to be committed, and this to be said.
    Commit(Option<Event>),
    /// The transaction is to be rolled back, and this to be said.
    Refuse(Event),
}

pub(crate) async fn connect(url: &str) -> Result<jetstream::Context, Error> {
    let broker = jetstream::new(async_nats::connect(url).await?);
    let config = stream::Config {
        name: STREAM.to_owned(),
        subjects: vec!["hw.>".to_owned()],
        storage: stream::StorageType::File,
        duplicate_window: Duration::from_secs(120),
        ..stream::Config::default()
    };
    broker.get_or_create_stream(config).await?;
    Ok(broker)
}

/// Begins to hear, with several handlers at once.
pub(crate) async fn start(
    broker: &jetstream::Context,
    service: Arc<dyn Service>,
    handlers: usize,
) -> Result<(), Error> {
    let stream = broker.get_stream(STREAM).await?;
    let config = pull::Config {
        durable_name: Some(service.name().to_owned()),
        filter_subjects: service.hears(),
        ack_wait: Duration::from_secs(30),
        max_ack_pending: 4096,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let messages = consumer.messages().await?;
    let broker = broker.clone();
    tokio::spawn(async move {
        let each = messages.for_each_concurrent(handlers, |message| {
            let (broker, service) = (broker.clone(), service.clone());
            async move {
                let Ok(message) = message else { return };
                if let Err(error) = heard(&broker, &*service, &message).await {
                    eprintln!("{}: {error}; it is tried again", service.name());
                    let again = AckKind::Nak(Some(Duration::from_millis(100)));
                    let _ = message.ack_with(again).await;
                }
            }
        });
        each.await;
    });
    Ok(())
}

async fn heard(
    broker: &jetstream::Context,
    service: &dyn Service,
    message: &Message,
) -> Result<(), Error> {
    let event: Event = serde_json::from_slice(&message.payload)?;
    if let Some(reply) = once(service, &event).await? {
        publish(broker, &reply).await?;
        service.said(&reply);
    }
    message.ack().await
}

/// Handles an event in one transaction, or finds what was said when it came before.
async fn once(service: &dyn Service, event: &Event) -> Result<Option<Event>, Error> {
    let mut tx = service.database().begin().await?;
    let reply = match service.handle(&mut tx, event).await? {
        Decided::Commit(reply) => reply,
        Decided::Refuse(reply) => {
            tx.rollback().await?;
            tx = service.database().begin().await?;
            Some(reply)
        }
    };
    let text = reply.as_ref().map(serde_json::to_string).transpose()?;
    let insert = "INSERT INTO inbox (event_id, reply) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    let inserted = sqlx::query(insert)
        .bind(event.id())
        .bind(text)
        .execute(&mut *tx)
        .await?;
    if inserted.rows_affected() == 1 {
        tx.commit().await?;
        return Ok(reply);
    }
    tx.rollback().await?;
    let before: Option<String> = sqlx::query_scalar("SELECT reply FROM inbox WHERE event_id = $1")
        .bind(event.id())
        .fetch_one(service.database())
        .await?;
    Ok(before.map(|text| serde_json::from_str(&text)).transpose()?)
}

/// Publishes an event and waits until the broker has it.
pub(crate) async fn publish(broker: &jetstream::Context, event: &Event) -> Result<(), Error> {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", event.id().to_string());
    let body = serde_json::to_vec(event)?;
    let published = broker
        .publish_with_headers(event.subject.clone(), headers, body.into())
        .await?;
    published.await?;
    Ok(())
}
