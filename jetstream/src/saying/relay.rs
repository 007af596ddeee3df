//! The relay: publishes what has committed, and marks it once the broker has
//! acknowledged it.
//!
//! Two ways lead here. What an instance commits, it publishes itself, at once, through
//! a bounded window; nobody waits for it. What a crash or a broker that was away left,
//! a sweep takes up. Both may publish the same event: it has the same message id, and
//! its consumers know it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use events::envelope::CONTENT_TYPE;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::clock::{self, millis};
use crate::database::Database;
use crate::hearing::dead_letter;
use crate::saying::outbox::{self, Committed};
use crate::tasks::Tasks;
use crate::telemetry::{self, Tracer};

/// The header that says flow and needed steps, so that an event that is not a
/// consumer's turn need not be decoded.
pub const TURN: &str = "Turn";
/// The W3C trace context.
pub const TRACEPARENT: &str = "traceparent";

// Far more events in flight starve consumers; far fewer leave the wire idle.
const WINDOW: usize = 1024;
// Batches, and events in all, that may wait for the window. Beyond, they stay in the
// database until the sweep takes them: memory stays small while the broker is away.
const QUEUE: usize = 256;
const IN_HAND: usize = 16_384;
const SWEEP_EVERY: Duration = Duration::from_secs(1);
const SWEEP_AGE: Duration = Duration::from_secs(1);
const SWEEP_BATCH: i64 = 1000;

/// Hands committed events to the publisher.
#[derive(Clone)]
pub(crate) struct Relay {
    queue: mpsc::Sender<Vec<Committed>>,
    in_flight: InFlight,
    tracer: Tracer,
}

// Numbers of the rows that the publisher of this process has in hand.
type InFlight = Arc<Mutex<HashSet<i64>>>;

impl Relay {
    /// Starts the publisher and the sweep. When they are stopped, what is in hand is
    /// published first.
    pub(crate) fn start(
        broker: jetstream::Context,
        database: Database,
        suspect: Arc<Notify>,
        tracer: Tracer,
        tasks: &Tasks,
    ) -> Self {
        let (queue, incoming) = mpsc::channel(QUEUE);
        let (acked, to_mark) = mpsc::unbounded_channel();
        let in_flight = InFlight::default();
        let relay = Self {
            queue,
            in_flight: in_flight.clone(),
            tracer: tracer.clone(),
        };
        let stop = tasks.stopping();
        let publisher = Publisher {
            broker,
            database: database.clone(),
            acked,
            in_flight: in_flight.clone(),
            suspect,
            tracer,
        };
        tasks.spawn("publisher", publisher.run(incoming, stop.clone()));
        tasks.spawn("marker", mark(database.clone(), to_mark, in_flight));
        tasks.spawn("sweep", relay.clone().sweep(database, stop));
        relay
    }

    /// Publishes what has just committed. Never waits: when the window is full, or the
    /// process ends, the sweep finds the rows.
    pub(crate) fn publish(&self, events: Vec<Committed>) {
        self.tracer.decided(&events);
        if events.is_empty() || self.in_hand() >= IN_HAND {
            return;
        }
        if let Ok(place) = self.queue.try_reserve() {
            place.send(self.take_in_hand(events));
        }
    }

    fn in_hand(&self) -> usize {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    fn take_in_hand(&self, events: Vec<Committed>) -> Vec<Committed> {
        let mut in_flight = self
            .in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let fresh = events
            .into_iter()
            .filter(|e| in_flight.insert(e.envelope.pseq));
        fresh.collect()
    }

    async fn sweep(self, database: Database, stop: CancellationToken) {
        let mut interval = tokio::time::interval(SWEEP_EVERY);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = interval.tick() => {}
            }
            if let Err(fault) = self.sweep_once(&database).await {
                tracing::warn!(%fault, "the sweep of unpublished events failed; it is tried again");
            }
        }
    }

    async fn sweep_once(&self, database: &Database) -> Result<(), crate::fault::Fault> {
        let before = database.clock().now() - millis(SWEEP_AGE);
        let mut after = 0;
        while self.in_hand() < IN_HAND {
            let rows = outbox::unpublished(database, before, after, SWEEP_BATCH).await?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after = last.envelope.pseq;
            let rows = self.take_in_hand(rows);
            if !rows.is_empty() {
                tracing::info!(
                    count = rows.len(),
                    "publishing events that were left unpublished"
                );
                if self.queue.send(rows).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Publishes through a bounded window.
struct Publisher {
    broker: jetstream::Context,
    database: Database,
    acked: mpsc::UnboundedSender<Acked>,
    in_flight: InFlight,
    // Told when the broker's numbers fall back: its store was set back.
    suspect: Arc<Notify>,
    tracer: Tracer,
}

/// What became of an event.
enum Published {
    Stored {
        pseq: i64,
        sequence: u64,
        duplicate: bool,
    },
    /// Not acknowledged: it may or may not be stored. The sweep says it again.
    Again(i64),
    /// The broker will never take it.
    Never(Box<Committed>, String),
}

impl Publisher {
    async fn run(self, mut incoming: mpsc::Receiver<Vec<Committed>>, stop: CancellationToken) {
        let mut window = FuturesUnordered::new();
        let mut highest = 0;
        loop {
            let batch = tokio::select! {
                biased;
                Some(published) = window.next(), if !window.is_empty() => {
                    self.finish(published, &mut highest).await;
                    continue;
                }
                batch = incoming.recv() => batch,
                () = stop.cancelled(), if window.is_empty() => incoming.try_recv().ok(),
            };
            let Some(batch) = batch else { break };
            for event in batch {
                while window.len() >= WINDOW {
                    if let Some(published) = window.next().await {
                        self.finish(published, &mut highest).await;
                    }
                }
                window.push(publish_one(self.broker.clone(), event, &self.tracer));
            }
        }
        while let Some(published) = window.next().await {
            self.finish(published, &mut highest).await;
        }
    }

    async fn finish(&self, published: Published, highest: &mut u64) {
        let pseq = match published {
            Published::Stored {
                pseq,
                sequence,
                duplicate,
            } => {
                // Acknowledgments overtake each other, but by no more than the window.
                if !duplicate && sequence + (WINDOW as u64) < *highest {
                    self.suspect.notify_one();
                    *highest = sequence;
                }
                *highest = sequence.max(*highest);
                // The marker takes it out of hand once it is marked.
                let _ = self.acked.send(Acked(pseq));
                self.database.meters().published.inc();
                return;
            }
            Published::Again(pseq) => {
                self.database.meters().unacknowledged.inc();
                pseq
            }
            Published::Never(event, reason) => {
                if let Err(fault) = dead_letter::refuse(&self.database, &event, &reason).await {
                    tracing::warn!(%fault, "a refused event could not be kept; it is tried again");
                }
                event.envelope.pseq
            }
        };
        let mut in_flight = self
            .in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        in_flight.remove(&pseq);
    }
}

async fn publish_one(broker: jetstream::Context, event: Committed, tracer: &Tracer) -> Published {
    let from = clock::moment();
    let pseq = event.envelope.pseq;
    let subject = event.envelope.entry.subject;
    let sent = broker
        .send_publish(subject, message(&event, &event.envelope.id.to_string()))
        .await;
    let result = match sent {
        Ok(acknowledged) => acknowledged.await,
        Err(error) => Err(error),
    };
    let error = match result {
        Ok(ack) => {
            tracer.published(&event, from, None);
            return Published::Stored {
                pseq,
                sequence: ack.sequence,
                duplicate: ack.duplicate,
            };
        }
        Err(error) => error,
    };
    let (id, order) = (event.envelope.id, event.envelope.correlation);
    let trace_id = event
        .envelope
        .traceparent
        .as_deref()
        .and_then(telemetry::trace_id);
    if error.kind() == PublishErrorKind::MaxPayloadExceeded {
        tracing::error!(
            event.id = %id, order.id = %order, trace_id, subject, %error,
            "the broker will never take this event"
        );
        tracer.published(&event, from, Some(&error.to_string()));
        return Published::Never(Box::new(event), error.to_string());
    }
    tracing::warn!(
        event.id = %id, order.id = %order, trace_id, subject, %error,
        "not published; it is tried again"
    );
    Published::Again(pseq)
}

/// An event as it is published.
pub(crate) fn message(event: &Committed, message_id: &str) -> PublishMessage {
    let mut message = PublishMessage::build()
        .payload(event.envelope.encode())
        .message_id(message_id)
        .header("content-type", CONTENT_TYPE);
    if !event.turn.is_empty() {
        message = message.header(TURN, event.turn.as_str());
    }
    if let Some(trace) = &event.envelope.traceparent {
        message = message.header(TRACEPARENT, trace.as_str());
    }
    message
}

struct Acked(i64);

/// Marks what was acknowledged, all that has come together in one statement.
async fn mark(database: Database, mut acked: mpsc::UnboundedReceiver<Acked>, in_flight: InFlight) {
    let mut some = Vec::new();
    while acked.recv_many(&mut some, SWEEP_BATCH as usize).await > 0 {
        let pseqs: Vec<_> = some.drain(..).map(|acked| acked.0).collect();
        if let Err(fault) = outbox::mark(&database, &pseqs).await {
            // Published, but not marked: the sweep publishes it again, under the same id.
            tracing::warn!(%fault, count = pseqs.len(), "published events could not be marked");
        }
        let mut in_flight = in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        for pseq in pseqs {
            in_flight.remove(&pseq);
        }
    }
}
