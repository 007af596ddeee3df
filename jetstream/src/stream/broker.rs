//! The connection to NATS.

use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream;

/// A connection to the broker.
pub type Context = jetstream::Context;
/// The configuration of a pull consumer, as the broker has it.
pub type PullConfig = jetstream::consumer::pull::Config;

/// The broker cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot connect to NATS at {url}: {detail}; check --nats-url, and that nats-server runs with \
     JetStream (-js)"
)]
pub struct ConnectError {
    url: String,
    detail: String,
}

/// Connects to the broker. Once connected, it reconnects for ever, with a backoff.
///
/// # Errors
/// When the first connection fails.
pub async fn connect(url: &str, name: &str) -> Result<jetstream::Context, ConnectError> {
    let client = ConnectOptions::new()
        .name(format!("ensemble-{name}"))
        .connection_timeout(Duration::from_secs(3))
        .request_timeout(Some(Duration::from_secs(3)))
        // A half-open connection is noticed within two intervals.
        .ping_interval(Duration::from_secs(5))
        .reconnect_delay_callback(backoff)
        .event_callback(|event| async move { tracing::info!(%event, "nats") })
        .subscription_capacity(65_536)
        .connect(url)
        .await
        .map_err(|error| ConnectError {
            url: url.to_owned(),
            detail: error.to_string(),
        })?;
    Ok(jetstream::ContextBuilder::new()
        .timeout(Duration::from_secs(5))
        .ack_timeout(Duration::from_secs(5))
        .build(client))
}

fn backoff(attempts: usize) -> Duration {
    let exponent = u32::try_from(attempts.saturating_sub(1))
        .unwrap_or(u32::MAX)
        .min(5);
    Duration::from_millis(50 << exponent)
}
