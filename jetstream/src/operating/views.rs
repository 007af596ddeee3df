//! What operators are answered.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::clock;
use crate::hearing::dead_letter::DeadLetter;
use crate::saying::outbox::Backlog;
use crate::shell::{Lag, Shell};
use crate::stream::timeline::TimelineEvent;

/// An event that could not be handled or published.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub(crate) struct Letter {
    id: Uuid,
    service: &'static str,
    /// `CONSUMER`: it was heard; `OUTBOX`: it was decided, and the broker will not take it
    origin: &'static str,
    /// `OPEN`, `REDRIVEN` or `DISCARDED`
    state: String,
    subject: String,
    event_id: String,
    order_id: String,
    stream_sequence: i64,
    kind: String,
    reason: String,
    attempts: i64,
    #[schema(format = DateTime)]
    died_at: String,
}

impl Letter {
    pub(crate) fn new(shell: &Shell, letter: &DeadLetter) -> Self {
        Self {
            id: letter.id,
            service: shell.name(),
            origin: letter.origin.name(),
            state: letter.state.clone(),
            subject: letter.subject.clone(),
            event_id: letter.event_id.clone(),
            order_id: letter.correlation.clone(),
            stream_sequence: letter.stream_sequence,
            kind: letter.kind.clone(),
            reason: letter.reason.clone(),
            attempts: letter.attempts,
            died_at: clock::rfc3339(letter.died_at),
        }
    }
}

/// Those that are open.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetters)]
pub(crate) struct Letters {
    pub(crate) dead_letters: Vec<Letter>,
}

/// One, with its event.
#[derive(Serialize, ToSchema)]
#[schema(as = WholeDeadLetter)]
pub(crate) struct WholeLetter {
    #[serde(flatten)]
    pub(crate) letter: Letter,
    /// What came beside the event
    pub(crate) headers: Value,
    /// The event, decoded; `unreadable` when it cannot be
    pub(crate) body: Value,
}

/// An event that was decided.
#[derive(Serialize, ToSchema)]
pub(crate) struct Decided {
    pub(crate) subject: &'static str,
    pub(crate) event_id: Uuid,
}

/// What handling the event came to.
#[derive(Serialize, ToSchema)]
pub(crate) struct Redriven {
    pub(crate) id: Uuid,
    pub(crate) dry_run: bool,
    pub(crate) decided: Vec<Decided>,
}

/// The event was given up.
#[derive(Serialize, ToSchema)]
pub(crate) struct Discarded {
    pub(crate) id: Uuid,
    pub(crate) dry_run: bool,
    pub(crate) state: &'static str,
}

/// What was compared and said again, by service.
#[derive(Serialize, ToSchema)]
pub(crate) struct Reconciled {
    #[schema(value_type = Vec<Comparison>)]
    pub(crate) services: Vec<Value>,
}

/// What the comparison of an outbox with the stream found.
#[derive(ToSchema)]
#[allow(dead_code)] // it stands for its schema
struct Comparison {
    service: String,
    in_stream: u64,
    compared: u64,
    republished: u64,
    unknown: Vec<Value>,
}

/// The fence was lifted.
#[derive(Serialize, ToSchema)]
pub(crate) struct Lifted {
    pub(crate) service: &'static str,
    pub(crate) accepted_events: usize,
}

/// How the services are, inside.
#[derive(Serialize, ToSchema)]
pub(crate) struct Internals {
    pub(crate) services: Vec<Inside>,
}

/// How a service is, inside.
#[derive(Serialize, ToSchema)]
pub(crate) struct ServiceInternals {
    service: &'static str,
    missing: Vec<&'static str>,
    /// Why it is fenced; null when it is not
    fenced: Option<String>,
    outbox: Outbox,
    /// Null when the broker is away
    consumer: Option<Consumer>,
    open_dead_letters: i64,
    /// Which database it has, and what its commits rest on
    database: Value,
}

/// A service that can say nothing of itself but what is missing, or how it is inside.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Inside {
    /// Its database answers
    Known(Box<ServiceInternals>),
    /// Its database is away
    Without(Without),
}

/// A service that can say nothing of itself.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Without {
    /// Its name
    pub(crate) service: &'static str,
    /// What is missing
    pub(crate) missing: Vec<&'static str>,
}

/// What is decided and not published.
#[derive(Serialize, ToSchema)]
struct Outbox {
    unpublished: i64,
    oldest_ms: Option<i64>,
}

/// What is said and not handled.
#[derive(Serialize, ToSchema)]
struct Consumer {
    to_hear: u64,
    to_ack: u64,
    redelivered: u64,
}

impl ServiceInternals {
    pub(crate) fn new(
        shell: &Shell,
        backlog: &Backlog,
        lag: Option<Lag>,
        open_dead_letters: i64,
        database: Value,
    ) -> Self {
        let now = shell.database().clock().now();
        let fenced = shell.fence_state().state();
        Self {
            service: shell.name(),
            missing: shell.missing(),
            fenced: fenced.map(|fenced| fenced.message(shell.name())),
            outbox: Outbox {
                unpublished: backlog.unpublished,
                oldest_ms: backlog.oldest.map(|at| now - at),
            },
            consumer: lag.map(|lag| Consumer {
                to_hear: lag.to_hear,
                to_ack: lag.to_ack,
                redelivered: lag.redelivered,
            }),
            open_dead_letters,
            database,
        }
    }
}

/// What the services have said of an order.
#[derive(Serialize, ToSchema)]
pub(crate) struct SaidEvents {
    pub(crate) order_id: Uuid,
    pub(crate) events: Vec<TimelineEvent>,
}
