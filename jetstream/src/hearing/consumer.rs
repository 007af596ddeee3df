//! The batch consumer: pulls events, handles each batch in one transaction, acks after
//! the commit, and never waits for the publish.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_nats::Message;
use async_nats::jetstream::AckKind;
use events::step::Route;
use events::{Envelope, catalog};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::event::Delivery;
use crate::failpoint::{self, Point};
use crate::fault::Fault;
use crate::hearing::backlog::Backlog;
use crate::hearing::batch::{Item, Work};
use crate::hearing::dead_letter::{self, DeadLetter, Origin};
use crate::hearing::pull::{Pull, answer, place};
use crate::hearing::rank::Rank;
use crate::operating::metrics::Meters;
use crate::saying::relay::{Relay, TURN};
use crate::stream::broker::Context;
use crate::telemetry;

// What is handled well inside `ack_wait`, and fills a transaction.
const BATCH: usize = 512;
// Under load, a moment's wait fills the next batch: as long as the last one took, within
// these bounds. An idle system never waits.
const LINGER: [Duration; 2] = [Duration::from_millis(3), Duration::from_millis(12)];
// More than the four answers that a single order has.
const LINGER_FROM: usize = 5;
// Longer than a transaction may take; a connection cut in the middle ends here.
const TRANSACTION: Duration = Duration::from_secs(10);
const PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
];
// A row that others want too is free in a moment.
const CONFLICTS: u64 = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A service's durable consumer.
#[derive(Clone)]
pub(crate) struct Consumer {
    pub(crate) broker: Context,
    pub(crate) work: Arc<Work>,
    pub(crate) relay: Relay,
    pub(crate) rank: Rank,
    // The time of the last event that was handled.
    pub(crate) heard_until: Arc<AtomicI64>,
    pub(crate) stop: CancellationToken,
}

/// A message that was pulled, with what it says.
struct Pulled {
    message: Message,
    item: Item,
}

impl Consumer {
    /// Consumes until it is stopped. What goes wrong on the way is ridden out.
    pub(crate) async fn run(self) {
        let mut pause = Pause::default();
        while !self.stop.is_cancelled() {
            let pulling =
                Pull::start(self.broker.client(), &self.work.consumer, self.rank.clone()).await;
            let ended = match pulling {
                Ok(mut pull) => {
                    let (ended, heard) = self.consume(&mut pull).await;
                    if heard {
                        pause = Pause::default();
                    }
                    pull.end().await;
                    ended
                }
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                let durable = &self.work.consumer;
                tracing::warn!(
                    durable,
                    error,
                    "the consumer cannot be used; if it was never provisioned, run \
                     `ensemble provision`"
                );
                pause.wait(&self.stop).await;
            }
        }
    }

    /// Handles batches until the service is stopped, or the consumer cannot be used any
    /// more: how it ended, and whether there were any.
    async fn consume(&self, pull: &mut Pull) -> (Result<(), String>, bool) {
        let (mut previous, mut took) = (0, Duration::ZERO);
        let mut backlog = Backlog::of(&self.work.consumer, self.broker.clone());
        loop {
            let first = tokio::select! {
                biased;
                () = self.stop.cancelled() => return (Ok(()), previous > 0),
                first = pull.next() => first,
            };
            let most = backlog.most(BATCH);
            let batch = match first {
                Ok(first) if previous < LINGER_FROM => gather(pull, first, None, most).await,
                Ok(first) => gather(pull, first, Some(took), most).await,
                Err(error) => return (Err(error), previous > 0),
            };
            previous = batch.len();
            let behind = batch.last().map_or(0, |last| place(last).pending);
            let begun = Instant::now();
            self.handle(batch).await;
            took = begun.elapsed();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {}
                () = backlog.yielding(previous, behind) => {}
            }
            pull.keep_up(previous, begun.elapsed());
        }
    }

    /// Handles a batch to its end: every message of it is acked or a dead letter when
    /// this returns, unless the service is stopped.
    async fn handle(&self, messages: Vec<Message>) {
        let mut batch = Vec::with_capacity(messages.len());
        for message in messages {
            let deliveries = || place(&message).deliveries;
            if let Some(kind) = failpoint::instead(&message.subject, deliveries) {
                answer(&self.broker.client(), &message, kind).await;
                continue;
            }
            match self.read(&message) {
                Ok(Some(item)) => batch.push(Pulled { message, item }),
                Ok(None) => {
                    self.meters().skipped.inc();
                    self.ack(&message).await;
                }
                Err(_) if failpoint::is_off("R12") => self.ack(&message).await,
                Err(fault) => self.bury(message, None, &fault, 1).await,
            }
        }
        if batch.is_empty() {
            return;
        }
        if failpoint::is_off("R8") {
            self.ack_all(&batch).await;
        }
        match self.until_decided(&batch).await {
            Outcome::Done => self.ack_all(&batch).await,
            Outcome::Stopped => {}
            // One of them is poison: one by one, so that the others get through.
            Outcome::Failed(..) => {
                failpoint::note("isolated", batch.len());
                for pulled in batch {
                    self.handle_alone(pulled).await;
                }
            }
        }
    }

    /// Handles one message of a batch that failed. While it fails, it is given back for a
    /// while, so that others pass it; when it has failed too often, it is a dead letter.
    async fn handle_alone(&self, pulled: Pulled) {
        let (alone, from) = ([pulled], clock::moment());
        let fault = match self.until_decided(&alone).await {
            Outcome::Done => return self.ack_all(&alone).await,
            Outcome::Stopped => return,
            Outcome::Failed(fault) => fault,
        };
        let [Pulled { message, item }] = alone;
        let envelope = &item.delivery.envelope;
        let times = match fault {
            Fault::Permanent(_) => None,
            _ => self.count_failure(envelope).await,
        };
        let again = times.and_then(|times| PAUSES.get(times - 1).map(|pause| (times, *pause)));
        let (tracer, name) = (&self.work.tracer, &self.work.consumer);
        tracer.failed(name, &item.delivery, &fault, from, again.is_none());
        match again {
            Some((times, pause)) => {
                self.meters().retried.inc();
                let (id, order) = (envelope.id, envelope.correlation);
                let trace_id = trace_id(envelope);
                tracing::warn!(
                    consumer = self.work.consumer, event.id = %id, order.id = %order, trace_id, %fault, times,
                    "an event could not be handled; it is tried again"
                );
                let again = AckKind::Nak(Some(jittered(pause)));
                answer(&self.broker.client(), &message, again).await;
            }
            None => {
                let attempts = times.unwrap_or(1);
                self.bury(message, Some(envelope), &fault, attempts).await;
            }
        }
    }

    /// How often an event has failed; nothing when it cannot be counted now.
    async fn count_failure(&self, envelope: &Envelope) -> Option<usize> {
        let id = envelope.id.to_string();
        let counted =
            dead_letter::count_failure(&self.work.database, &self.work.consumer, &id).await;
        match counted {
            Ok(times) => usize::try_from(times).ok(),
            // The database is away: that is no failure of the event.
            Err(_) => Some(1),
        }
    }

    /// Runs the transaction until it has committed or failed. As long as the database is
    /// away it waits, with backoff.
    async fn until_decided(&self, batch: &[Pulled]) -> Outcome {
        let items: Vec<Item> = batch.iter().map(|pulled| pulled.item.clone()).collect();
        let heard: Vec<_> = items.iter().map(|item| &item.delivery).collect();
        let (tracer, name) = (&self.work.tracer, &self.work.consumer);
        let from = clock::moment();
        let mut away = Pause::default();
        let mut conflicts = 0;
        // What comes again is known, and would be a conflict.
        let again = |pulled: &Pulled| place(&pulled.message).deliveries > 1;
        let mut locks = batch.iter().any(again);
        loop {
            failpoint::reach(Point::Deciding).await;
            let run = tokio::time::timeout(TRANSACTION, self.work.run(&items, locks));
            let fault = match run.await {
                Ok(Ok(committed)) => {
                    if let Some(last) = items.last() {
                        let time = last.delivery.envelope.time;
                        self.heard_until.store(time, Ordering::Relaxed);
                    }
                    if !committed.is_empty() {
                        failpoint::reach(Point::Committed).await;
                    }
                    tracer.processed(name, &heard, &committed, from);
                    self.relay.publish(committed);
                    return Outcome::Done;
                }
                Ok(Err(fault)) => fault,
                Err(_) => Fault::Away("a transaction took too long".to_owned()),
            };
            match &fault {
                Fault::Away(reason) => {
                    tracing::warn!(consumer = self.work.consumer, reason, "waiting");
                    away.wait(&self.stop).await;
                    if self.stop.is_cancelled() {
                        return Outcome::Stopped;
                    }
                }
                Fault::Conflict(_) if conflicts < CONFLICTS => {
                    conflicts += 1;
                    locks = true;
                    tokio::time::sleep(Duration::from_millis(conflicts)).await;
                }
                _ => {
                    tracer.rolled_back(name, &heard, &fault, from);
                    return Outcome::Failed(fault);
                }
            }
        }
    }

    /// What a message says; nothing when it is not this service's turn.
    fn read(&self, message: &Message) -> Result<Option<Item>, Fault> {
        let subject = message.subject.as_str();
        let Some(index) = self
            .work
            .subscriptions
            .iter()
            .position(|s| s.hears(subject))
        else {
            return Err(Fault::Permanent(format!("no subscription hears {subject}")));
        };
        let entry = catalog::by_subject(subject)
            .ok_or_else(|| Fault::Permanent(format!("no event is said on {subject}")))?;
        let route = match message
            .headers
            .as_ref()
            .and_then(|headers| headers.get(TURN))
        {
            Some(value) => Some(Route::from_header(value.as_str())?),
            None => None,
        };
        if !self.work.subscriptions[index].handler.is_turn(entry, route) {
            return Ok(None);
        }
        let envelope = Envelope::decode(subject, message.payload.clone())?;
        let place = place(message);
        if place.deliveries > 1 {
            self.meters().redelivered.inc();
            failpoint::note("redelivered", 1);
        }
        let heard = self
            .work
            .tracer
            .hear(&envelope, &self.work.consumer, place.deliveries);
        Ok(Some(Item {
            delivery: Delivery::new(envelope, place.sequence).traced(heard),
            subscription: index,
        }))
    }

    /// Keeps the message as a dead letter, and terminates it once that has committed.
    async fn bury(
        &self,
        message: Message,
        envelope: Option<&Envelope>,
        fault: &Fault,
        attempts: usize,
    ) {
        let mut pause = Pause::default();
        loop {
            let letter = letter(&message, envelope, fault, attempts);
            match self.keep(letter).await {
                Ok(()) => {
                    self.meters().dead_letters.inc();
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, "a dead letter could not be kept; it is tried again");
                    pause.wait(&self.stop).await;
                    if self.stop.is_cancelled() {
                        return;
                    }
                }
            }
        }
        tracing::error!(
            consumer = self.work.consumer,
            subject = message.subject.as_str(),
            event.id = envelope.map(|e| e.id.to_string()),
            order.id = envelope.map(|e| e.correlation.to_string()),
            trace_id = envelope.and_then(trace_id),
            %fault, attempts,
            "an event could not be handled and is a dead letter now"
        );
        answer(&self.broker.client(), &message, AckKind::Term).await;
    }

    async fn ack_all(&self, batch: &[Pulled]) {
        if !failpoint::reach(Point::Acking).await {
            return;
        }
        for pulled in batch {
            self.ack(&pulled.message).await;
        }
    }

    fn meters(&self) -> &Meters {
        self.work.database.meters()
    }

    async fn ack(&self, message: &Message) {
        answer(&self.broker.client(), message, AckKind::Ack).await;
    }

    async fn keep(&self, letter: DeadLetter) -> Result<(), Fault> {
        let tx = self.work.database.begin().await?;
        dead_letter::keep(&tx, letter).await?;
        tx.commit().await
    }
}

enum Outcome {
    Done,
    Stopped,
    Failed(Fault),
}

/// What has come, and under load what comes within a moment.
async fn gather(
    pull: &mut Pull,
    first: Message,
    linger: Option<Duration>,
    most: usize,
) -> Vec<Message> {
    let mut batch = vec![first];
    take_ready(pull, &mut batch, most);
    if let Some(linger) = linger {
        let [least, longest] = LINGER;
        let end = Instant::now() + linger.clamp(least, longest);
        while batch.len() < most {
            match tokio::time::timeout_at(end, pull.next()).await {
                Ok(Ok(message)) => batch.push(message),
                _ => break,
            }
        }
    }
    batch
}

fn take_ready(pull: &mut Pull, batch: &mut Vec<Message>, most: usize) {
    while batch.len() < most {
        match pull.ready() {
            Some(message) => batch.push(message),
            None => return,
        }
    }
}

fn trace_id(envelope: &Envelope) -> Option<&str> {
    envelope
        .traceparent
        .as_deref()
        .and_then(telemetry::trace_id)
}

fn letter(
    message: &Message,
    envelope: Option<&Envelope>,
    fault: &Fault,
    attempts: usize,
) -> DeadLetter {
    let header = |name: &str| {
        let headers = message.headers.as_ref()?;
        Some(headers.get(name)?.as_str().to_owned())
    };
    let names = [
        "Nats-Msg-Id",
        "content-type",
        TURN,
        crate::saying::relay::TRACEPARENT,
    ];
    let headers = names
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), header(name)?.into())));
    DeadLetter {
        id: clock::new_id(),
        origin: Origin::Consumer,
        event_id: header("Nats-Msg-Id").unwrap_or_default(),
        subject: message.subject.to_string(),
        headers: serde_json::Value::Object(headers.collect()).to_string(),
        payload: message.payload.to_vec(),
        stream_sequence: i64::try_from(place(message).sequence).unwrap_or(0),
        correlation: envelope
            .map(|e| e.correlation.to_string())
            .unwrap_or_default(),
        kind: fault.kind().to_owned(),
        reason: fault.to_string(),
        attempts: i64::try_from(attempts).unwrap_or(i64::MAX),
        state: "OPEN".to_owned(),
        died_at: 0,
    }
}

/// Waits longer each time, up to a bound.
#[derive(Default)]
pub(crate) struct Pause {
    times: u32,
}

impl Pause {
    /// Waits, or returns at once when the service is stopped.
    pub(crate) async fn wait(&mut self, stop: &CancellationToken) {
        let pause = Duration::from_millis(100 << self.times.min(6)).min(LONGEST_PAUSE);
        self.times += 1;
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(jittered(pause)) => {}
        }
    }
}

/// Between half of a duration and all of it, so that instances do not march in step.
fn jittered(duration: Duration) -> Duration {
    let share = u32::from(clock::new_id().as_bytes()[15]);
    duration / 2 + duration * share / 510
}
