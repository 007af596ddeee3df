//! Reconciliation: what this service has said is compared with what the stream has.
//!
//! A broker can lose what it has acknowledged (a store that was set back, a damaged block,
//! a power cut between two fsyncs), and neither its counts nor its sequences tell. So
//! events are compared by id. What is missing is said again under the same id. The other
//! way round, events of this service that its database does not know mean that the
//! *database* was set back: then the service is fenced, until a person has looked.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_nats::jetstream;
use events::EventId;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock;
use crate::database::bulk::Rows;
use crate::failpoint;
use crate::fault::Fault;
use crate::hearing::consumer::Pause;
use crate::saying::outbox::{self, Committed};
use crate::saying::relay;
use crate::shell::Shell;
use crate::stream::history;

// Neighbouring looks overlap by this much.
const OVERLAP: i64 = 10_000;
// The clocks of database and broker may differ by this much.
const CLOCK_DIFFERENCE: i64 = 60_000;
const PAGE: i64 = 2_000;

/// What a reconciliation found and did.
#[derive(Debug, Default, Clone)]
pub(crate) struct Report {
    /// Events of this service in the stream.
    pub(crate) in_stream: usize,
    /// Published rows of the outbox that were compared.
    pub(crate) compared: usize,
    /// Events that were missing and have been said again.
    pub(crate) republished: usize,
    /// Events in the stream that the database does not know, with their numbers.
    pub(crate) unknown: Vec<(EventId, i64)>,
}

impl Report {
    /// As JSON.
    pub(crate) fn to_json(&self) -> Value {
        let unknown: Vec<Value> = self
            .unknown
            .iter()
            .map(|(id, pseq)| json!({ "event_id": id, "pseq": pseq }))
            .collect();
        json!({
            "in_stream": self.in_stream,
            "compared": self.compared,
            "republished": self.republished,
            "unknown": unknown,
        })
    }
}

/// Compares what was decided from a time on (milliseconds since the Unix epoch), says
/// again what is missing, and fences the service if its database was set back.
pub(crate) async fn run(shell: &Shell, from: i64) -> Result<Report, Fault> {
    let broker = shell.broker();
    // What is marked as published by now stands in the stream when it is read.
    let until = shell.database().clock().now();
    let mut found: HashMap<EventId, i64> = HashMap::new();
    for filter in own_filters(shell.name()) {
        history::scan(broker, &filter, from - CLOCK_DIFFERENCE, |event| {
            if event.envelope.entry.writer == shell.name() {
                found.insert(event.envelope.id, event.envelope.pseq);
            }
        })
        .await?;
    }
    // The stream was read first: whatever stood in it had committed by then.
    let mut report = Report {
        in_stream: found.len(),
        unknown: unknown(shell, &found).await?,
        ..Report::default()
    };
    if !report.unknown.is_empty() {
        shell.fence(&report.unknown);
        return Ok(report);
    }
    let mut after = 0;
    loop {
        let rows = outbox::published(shell.database(), from, until, after, PAGE).await?;
        let Some(last) = rows.last() else { break };
        after = last.envelope.pseq;
        report.compared += rows.len();
        let mut again = Vec::new();
        for event in rows
            .into_iter()
            .filter(|row| !found.contains_key(&row.envelope.id))
        {
            let sequence = publish_again(broker, &event).await?;
            again.push((event.envelope.pseq, sequence));
            report.republished += 1;
        }
        if !again.is_empty() {
            outbox::mark(shell.database(), &again).await?;
        }
    }
    failpoint::note("republished", report.republished);
    if report.republished > 0 {
        let meters = shell.database().meters();
        meters.republished.inc_by(report.republished as u64);
        let (service, count) = (shell.name(), report.republished);
        tracing::error!(
            service,
            count,
            "the broker had lost events; they have been said again"
        );
    }
    Ok(report)
}

/// The filters that match this service's subjects and few others.
fn own_filters(service: &str) -> HashSet<String> {
    events::catalog::all()
        .filter(|entry| entry.writer == service)
        .filter_map(|entry| entry.subject.split('.').next())
        .map(|token| format!("{token}.>"))
        .collect()
}

/// Events that the database does not know and that no person has accepted.
async fn unknown(
    shell: &Shell,
    found: &HashMap<EventId, i64>,
) -> Result<Vec<(EventId, i64)>, Fault> {
    let ids: Vec<Uuid> = found.keys().map(|id| id.0).collect();
    let tx = shell.database().begin().await?;
    let mut known: HashSet<Uuid> = HashSet::new();
    for some in ids.chunks(PAGE as usize) {
        let sql = "SELECT event_id FROM outbox WHERE event_id IN (SELECT id FROM v)
                   UNION SELECT event_id FROM accepted_events
                   WHERE event_id IN (SELECT id FROM v)";
        for row in tx.fetch(Rows::ids(some.to_vec()), sql, vec![]).await? {
            known.insert(row.try_get("", "event_id")?);
        }
    }
    let strange = found.iter().filter(|(id, _)| !known.contains(&id.0));
    let mut strange: Vec<(EventId, i64)> = strange.map(|(id, pseq)| (*id, *pseq)).collect();
    strange.sort_unstable_by_key(|(_, pseq)| *pseq);
    Ok(strange)
}

/// Publishes under the same message id; where the event stands now. When the broker says that
/// it knows the id, it is asked for what it means: after its store was set back, that may be
/// somebody else's.
async fn publish_again(broker: &jetstream::Context, event: &Committed) -> Result<u64, Fault> {
    let away = |error: &dyn std::fmt::Display| Fault::Away(format!("the broker: {error}"));
    let id = event.envelope.id;
    for message_id in [id.to_string(), format!("{id}-{}", clock::new_id())] {
        let message = relay::message(event, &message_id);
        let sent = broker
            .send_publish(event.envelope.entry.subject, message)
            .await;
        let ack = sent.map_err(|e| away(&e))?.await.map_err(|e| away(&e))?;
        if !ack.duplicate {
            return Ok(ack.sequence);
        }
        let there = history::at(broker, ack.sequence).await?;
        if there.is_some_and(|recorded| recorded.envelope.id == id) {
            return Ok(ack.sequence);
        }
    }
    Err(Fault::Unexpected(format!(
        "event {id} cannot be said again"
    )))
}

/// How far the first look goes back; when something is missing there, everything that the
/// stream still keeps is compared.
const FIRST_LOOK: i64 = 10 * 60 * 1000;
const TAIL_EVERY: i64 = 60 * 1000;
const ALL_EVERY: i64 = 24 * 60 * 60 * 1000;

/// What makes the service compare with the stream.
pub(crate) struct Watch {
    shell: Shell,
    ready: CancellationToken,
    compared_until: Option<i64>,
    compared_all: i64,
    connects: u64,
}

impl Watch {
    /// `ready` is canceled when the first comparison has succeeded: before it, the service
    /// does not listen.
    pub(crate) fn new(shell: Shell, ready: CancellationToken) -> Self {
        let now = shell.database().clock().now();
        Self {
            connects: connects(&shell),
            shell,
            ready,
            compared_until: None,
            compared_all: now,
        }
    }

    /// Compares at the start, after every reconnect, when the broker's numbers fall back,
    /// every minute what is new, and every day everything.
    pub(crate) async fn run(mut self) {
        let stop = self.shell.stopping();
        let mut pause = Pause::default();
        loop {
            match self.look().await {
                Ok(()) => {
                    pause = Pause::default();
                    self.ready.cancel();
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = self.next_reason() => {}
                    }
                }
                Err(fault) => {
                    tracing::debug!(service = self.shell.name(), %fault, "comparing; tried again");
                    pause.wait(&stop).await;
                    if stop.is_cancelled() {
                        return;
                    }
                }
            }
        }
    }

    async fn look(&mut self) -> Result<(), Fault> {
        let now = self.shell.database().clock().now();
        let everything = now - clock::millis(self.shell.settings().stream_max_age) + OVERLAP;
        let all = now - self.compared_all > ALL_EVERY;
        let from = match self.compared_until {
            _ if all => everything,
            Some(until) => until - OVERLAP,
            None => now - FIRST_LOOK,
        };
        let report = run(&self.shell, from).await?;
        if report.republished > 0 && !all {
            // Who lost the end may have lost more.
            run(&self.shell, everything).await?;
        }
        if all {
            self.compared_all = now;
        }
        self.compared_until = Some(now);
        Ok(())
    }

    async fn next_reason(&mut self) {
        let suspect = self.shell.suspect();
        let deadline = tokio::time::Instant::now() + Duration::from_millis(TAIL_EVERY as u64);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return,
                () = suspect.notified() => {
                    // The store was set back: what was compared before may be gone.
                    self.compared_until = None;
                    return;
                }
                () = tokio::time::sleep(Duration::from_secs(1)) => {
                    let connects = connects(&self.shell);
                    if connects != self.connects {
                        self.connects = connects;
                        self.compared_until = None;
                        return;
                    }
                }
            }
        }
    }
}

fn connects(shell: &Shell) -> u64 {
    let statistics = shell.broker().client().statistics();
    statistics
        .connects
        .load(std::sync::atomic::Ordering::Relaxed)
}
