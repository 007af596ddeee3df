//! The relay: publishes what has committed, and marks it once the broker has
//! acknowledged it.
//!
//! Two ways lead here. What an instance commits, it publishes itself, at once, through
//! a bounded window; nobody waits for it. What a crash or a broker that was away left,
//! a sweep takes up. Both may publish the same event: it has the same message id, and
//! its consumers know it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_nats::connection::State;
use async_nats::jetstream::message::PublishMessage;
use async_nats::{Client, HeaderMap};
use events::envelope::CONTENT_TYPE;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::clock::{self, millis};
use crate::database::Database;
use crate::failpoint::{self, Point};
use crate::hearing::dead_letter;
use crate::hearing::rank::Rank;
use crate::saying::outbox::{self, Committed};
use crate::saying::window::{Landed, NotSent, WINDOW, Window};
use crate::stream::broker::Context;
use crate::tasks::Tasks;
use crate::telemetry::{self, Tracer};

/// The header that says flow and needed steps, so that an event that is not a
/// consumer's turn need not be decoded.
pub const TURN: &str = "Turn";
/// The W3C trace context.
pub const TRACEPARENT: &str = "traceparent";

// Batches, and events in all, that may wait for the window. Beyond, they stay in the
// database until the sweep takes them: memory stays small while the broker is away.
const QUEUE: usize = 256;
const IN_HAND: usize = 16_384;
const GATHER_MARKS: Duration = Duration::from_millis(50);
const LOOK_FOR_LATE: Duration = Duration::from_secs(1);
const SWEEP_EVERY: Duration = Duration::from_secs(1);
const SWEEP_AGE: Duration = Duration::from_secs(1);
// What the broker takes at all it has taken by then.
const LATE_AGE: Duration = Duration::from_secs(60);
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
        broker: Context,
        database: Database,
        rank: Rank,
        suspect: Arc<Notify>,
        tracer: Tracer,
        tasks: &Tasks,
    ) -> Self {
        let (queue, incoming) = mpsc::channel(QUEUE);
        let (acked, to_mark) = mpsc::unbounded_channel();
        let (refused, to_refuse) = mpsc::unbounded_channel();
        let in_flight = InFlight::default();
        let relay = Self {
            queue,
            in_flight: in_flight.clone(),
            tracer: tracer.clone(),
        };
        let stop = tasks.stopping();
        let client = broker.client();
        let publisher = Publisher {
            broker,
            database: database.clone(),
            acked,
            refused,
            in_flight: in_flight.clone(),
            highest: 0,
            suspect,
            tracer,
            traced: HashMap::new(),
        };
        tasks.spawn("publisher", publisher.run(incoming, stop.clone()));
        tasks.spawn("marker", mark(database.clone(), to_mark, in_flight.clone()));
        tasks.spawn("refuser", refuse(database.clone(), to_refuse, in_flight));
        tasks.spawn("sweep", relay.clone().sweep(client, database, rank, stop));
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

    /// Looks every second where it is first in rank, every second second where it is next, and
    /// so on, every ten seconds at least: all instances look at the same rows.
    async fn sweep(self, client: Client, database: Database, rank: Rank, stop: CancellationToken) {
        let mut interval = tokio::time::interval(SWEEP_EVERY);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut passed = u8::MAX;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = interval.tick() => passed = passed.saturating_add(1),
            }
            if passed <= rank.now() || client.connection_state() != State::Connected {
                continue;
            }
            passed = 0;
            if let Err(fault) = self.sweep_once(&database).await {
                tracing::warn!(%fault, "the sweep of unpublished events failed; it is tried again");
            }
        }
    }

    async fn sweep_once(&self, database: &Database) -> Result<(), crate::fault::Fault> {
        let now = database.clock().now();
        outbox::move_up(database, now - millis(LATE_AGE)).await?;
        let before = now - millis(SWEEP_AGE);
        let mut after = 0;
        while self.in_hand() < IN_HAND && !failpoint::is_off("R7") {
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
    broker: Context,
    database: Database,
    acked: mpsc::UnboundedSender<Acked>,
    refused: mpsc::UnboundedSender<(i64, String)>,
    in_flight: InFlight,
    // The highest sequence that was acknowledged.
    highest: u64,
    // Told when the broker's numbers fall back: its store was set back.
    suspect: Arc<Notify>,
    tracer: Tracer,
    // Sampled events in the window, and since when: their spans end with the answer.
    traced: HashMap<i64, (Committed, SystemTime)>,
}

impl Publisher {
    async fn run(mut self, mut incoming: mpsc::Receiver<Vec<Committed>>, stop: CancellationToken) {
        let mut refusals = self.broker.refusals();
        let Some(mut window) = Window::open(self.broker.client()).await else {
            return;
        };
        let mut look = tokio::time::interval(LOOK_FOR_LATE);
        // What has no room in the window yet.
        let mut waiting: VecDeque<Committed> = VecDeque::new();
        let mut closed = false;
        loop {
            while !window.is_full()
                && let Some(event) = waiting.pop_front()
            {
                self.send(&mut window, event).await;
            }
            let idle = waiting.is_empty() && window.is_empty();
            if idle && closed {
                return;
            }
            tokio::select! {
                biased;
                // Some are missed when there are too many; what was in flight is said again.
                Ok(subject) = refusals.recv() => window.forbidden(&subject),
                landed = window.landed(), if !window.is_empty() => match landed.is_empty() {
                    false => self.finish(landed),
                    true => return,
                },
                batch = incoming.recv(), if waiting.is_empty() && !closed => match batch {
                    Some(batch) => waiting.extend(batch),
                    None => closed = true,
                },
                _ = look.tick() => self.finish(window.give_up()),
                () = stop.cancelled(), if idle && !closed => incoming.close(),
            }
        }
    }

    async fn send(&mut self, window: &mut Window, event: Committed) {
        let from = clock::moment();
        let envelope = &event.envelope;
        let (pseq, subject) = (envelope.pseq, envelope.entry.subject);
        let headers = headers(&event, &envelope.id.to_string());
        let sent = window.send(pseq, subject, headers, envelope.encode()).await;
        match sent {
            Ok(()) => {
                if event.trace.is_some() {
                    self.traced.insert(pseq, (event, from));
                }
                return;
            }
            // The sweep says it again.
            Err(NotSent::Away) => {}
            Err(NotSent::Never(reason)) => {
                self.tracer.published(&event, from, Some(&reason));
                // The refuser takes it out of hand.
                let _ = self.refused.send((pseq, reason));
                return;
            }
        }
        out_of_hand(&self.in_flight, [pseq]);
    }

    fn finish(&mut self, landed: Vec<Landed>) {
        let meters = self.database.meters();
        let mut unknown = Vec::new();
        for landed in landed {
            match landed {
                Landed::Stored {
                    pseq,
                    sequence,
                    duplicate,
                } => {
                    // Acknowledgments overtake each other, but by no more than the window.
                    if !duplicate && sequence + (WINDOW as u64) < self.highest {
                        self.suspect.notify_one();
                        self.highest = sequence;
                    }
                    self.highest = sequence.max(self.highest);
                    // The marker takes it out of hand once it is marked.
                    let _ = self.acked.send(Acked { pseq, sequence });
                    if let Some((event, from)) = self.traced.remove(&pseq) {
                        self.tracer.published(&event, from, None);
                    }
                    meters.published.inc();
                }
                Landed::Unknown { pseq, why } => unknown.push((pseq, why)),
                Landed::Refused { pseq, why } => {
                    if let Some((event, from)) = self.traced.remove(&pseq) {
                        self.tracer.published(&event, from, Some(&why));
                    }
                    let _ = self.refused.send((pseq, why));
                }
            }
        }
        if let Some((_, why)) = unknown.first() {
            let count = unknown.len();
            meters.unacknowledged.inc_by(count as u64);
            tracing::warn!(
                count,
                why,
                "events were not published; they are tried again"
            );
            for (pseq, _) in &unknown {
                self.traced.remove(pseq);
            }
            out_of_hand(&self.in_flight, unknown.iter().map(|(pseq, _)| *pseq));
        }
    }
}

fn out_of_hand(in_flight: &InFlight, pseqs: impl IntoIterator<Item = i64>) {
    let mut in_flight = in_flight.lock().unwrap_or_else(PoisonError::into_inner);
    for pseq in pseqs {
        in_flight.remove(&pseq);
    }
}

/// The headers of an event: what is used without decoding it.
fn headers(event: &Committed, message_id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", message_id);
    headers.insert("content-type", CONTENT_TYPE);
    if !event.turn.is_empty() {
        headers.insert(TURN, event.turn.as_str());
    }
    if let Some(trace) = &event.envelope.traceparent {
        headers.insert(TRACEPARENT, trace.as_str());
    }
    headers
}

/// An event as it is published.
pub(crate) fn message(event: &Committed, message_id: &str) -> PublishMessage {
    PublishMessage::build()
        .payload(event.envelope.encode())
        .headers(headers(event, message_id))
}

struct Acked {
    pseq: i64,
    // Where the event stands in the stream.
    sequence: u64,
}

/// Marks what was acknowledged, all that comes within a moment in one statement: nobody
/// waits for it, and each statement is a commit.
async fn mark(database: Database, mut acked: mpsc::UnboundedReceiver<Acked>, in_flight: InFlight) {
    let mut some = Vec::new();
    while acked.recv_many(&mut some, SWEEP_BATCH as usize).await > 0 {
        tokio::time::sleep(GATHER_MARKS).await;
        while some.len() < SWEEP_BATCH as usize
            && let Ok(one) = acked.try_recv()
        {
            some.push(one);
        }
        let stored: Vec<_> = some.drain(..).map(|a| (a.pseq, a.sequence)).collect();
        failpoint::reach(Point::Published).await;
        if let Err(fault) = outbox::mark(&database, &stored).await {
            // Published, but not marked: the sweep publishes it again, under the same id.
            tracing::warn!(%fault, count = stored.len(), "published events could not be marked");
        }
        out_of_hand(&in_flight, stored.iter().map(|(pseq, _)| *pseq));
    }
}

/// Keeps what the broker will never take with the dead letters, all that has come in one
/// transaction. The publisher does not wait for it: the other events flow.
async fn refuse(
    database: Database,
    mut refused: mpsc::UnboundedReceiver<(i64, String)>,
    in_flight: InFlight,
) {
    let mut some = Vec::new();
    while refused.recv_many(&mut some, SWEEP_BATCH as usize).await > 0 {
        match dead_letter::refuse(&database, &some).await {
            Ok(events) => events.iter().for_each(say_refused),
            Err(fault) => {
                tracing::warn!(%fault, "refused events could not be kept; they are tried again");
            }
        }
        out_of_hand(&in_flight, some.drain(..).map(|(pseq, _)| pseq));
    }
}

fn say_refused((event, reason): &(Committed, String)) {
    let envelope = &event.envelope;
    let trace_id = envelope
        .traceparent
        .as_deref()
        .and_then(telemetry::trace_id);
    tracing::error!(
        event.id = %envelope.id, order.id = %envelope.correlation, trace_id,
        subject = envelope.entry.subject, reason,
        "the broker will never take this event"
    );
}
