//! Where the stream ends, and how far its consumers are.

use async_nats::jetstream::consumer::pull;
use events::catalog;

use crate::fault::Fault;
use crate::stream::broker::Context;

/// How far a consumer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Events that it has still to hear.
    pub to_hear: u64,
    /// Events that it has heard and not acked.
    pub to_ack: u64,
    /// Of those, the ones that were delivered more than once.
    pub redelivered: u64,
    /// Everything up to here is acked.
    pub acked_until: u64,
}

/// How far a service's consumer is.
///
/// # Errors
/// When the broker is away, or there is no such consumer.
pub async fn of_consumer(broker: &Context, service: &str) -> Result<Position, Fault> {
    let consumer = broker
        .get_consumer_from_stream::<pull::Config, _, _>(service, catalog::STREAM)
        .await
        .map_err(|error| Fault::Away(format!("the consumer of {service}: {error}")))?;
    let info = consumer.cached_info();
    Ok(Position {
        to_hear: info.num_pending,
        to_ack: info.num_ack_pending as u64,
        redelivered: info.num_redelivered as u64,
        acked_until: info.ack_floor.stream_sequence,
    })
}

/// The first and the last sequence of the stream.
///
/// # Errors
/// When the broker is away, or there is no stream.
pub async fn of_stream(broker: &Context) -> Result<(u64, u64), Fault> {
    let stream = broker.get_stream(catalog::STREAM).await;
    let stream = stream.map_err(|error| Fault::Away(format!("the stream: {error}")))?;
    let state = &stream.cached_info().state;
    Ok((state.first_sequence, state.last_sequence))
}
