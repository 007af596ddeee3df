//! What operators look at and repair, for every service of the process: dead letters, lag
//! and outbox. Whatever is repaired goes through the service's own decision and leaves an
//! audit row.

use axum::extract::{FromRef, Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use events::{Envelope, render};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::clock;
use crate::fault::Fault;
use crate::hearing::dead_letter::{self, DeadLetter, Resolution};
use crate::http::auth::Caller;
use crate::http::{Body, Problem, Query, text};
use crate::losses::fence;
use crate::losses::reconcile;
use crate::saying::outbox::{self, Committed};
use crate::shell::Shell;

/// The services of the process.
#[derive(Clone)]
struct Services(Vec<Shell>);

impl FromRef<Services> for Shell {
    fn from_ref(services: &Services) -> Self {
        // All of a process have one authenticator; a process without services has no routes.
        services.0[0].clone()
    }
}

/// The routes, for all services of the process.
pub(crate) fn routes(shells: Vec<Shell>) -> Router {
    if shells.is_empty() {
        return Router::new();
    }
    Router::new()
        .route("/dead-letters", get(list))
        .route("/dead-letters/{id}", get(show))
        .route("/dead-letters/{id}/redrive", post(redrive))
        .route("/dead-letters/{id}/discard", post(discard))
        .route("/internals", get(internals))
        .route("/reconcile", post(reconcile_now))
        .route("/fence/lift", post(lift_fence))
        .with_state(Services(shells))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    order: Option<Uuid>,
}

async fn list(
    State(Services(shells)): State<Services>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, Problem> {
    caller.require_operator()?;
    let order = query.order.map(|order| order.to_string());
    let mut letters = Vec::new();
    for shell in &shells {
        let open = dead_letter::open(shell.database(), order.as_deref()).await?;
        letters.extend(open.iter().map(|letter| view(shell, letter)));
    }
    Ok(Json(json!({ "dead_letters": letters })))
}

async fn show(
    State(services): State<Services>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    caller.require_operator()?;
    let (shell, letter) = find(&services, &id).await?;
    let mut shown = view(&shell, &letter);
    let event = Envelope::decode(&letter.subject, letter.payload.clone().into());
    shown["body"] = match event.and_then(|envelope| render::body(&envelope)) {
        Ok(body) => body,
        Err(error) => json!({ "unreadable": error.to_string() }),
    };
    let headers = serde_json::from_str(&letter.headers);
    shown["headers"] = headers.unwrap_or_else(|_| letter.headers.clone().into());
    Ok(Json(shown))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Repair {
    reason: String,
    #[serde(default)]
    dry_run: bool,
}

async fn redrive(
    State(services): State<Services>,
    caller: Caller,
    Path(id): Path<String>,
    Body(repair): Body<Repair>,
) -> Result<Json<Value>, Problem> {
    caller.require_operator()?;
    text("reason", &repair.reason, 1)?;
    let (shell, letter) = find(&services, &id).await?;
    must_be_open(&letter)?;
    // Fails when the service is fenced.
    drop(shell.begin().await?);
    match dead_letter::redrive(shell.work(), &letter, repair.as_resolution(&caller)).await {
        Ok(redriven) => {
            let decided: Vec<Value> = redriven.decided.iter().map(decided).collect();
            if !repair.dry_run {
                shell.publish(redriven.decided);
            }
            let answer = json!({ "id": letter.id, "dry_run": repair.dry_run, "decided": decided });
            Ok(Json(answer))
        }
        // That the letter fails again is an answer, not an error of this request.
        Err(Fault::Permanent(reason) | Fault::Unexpected(reason)) => Err(Problem::conflict(
            "FAILS_AGAIN",
            "the event fails again, so nothing was changed: repair its cause, or discard it",
        )
        .with("reason", reason)),
        Err(fault) => Err(fault.into()),
    }
}

async fn discard(
    State(services): State<Services>,
    caller: Caller,
    Path(id): Path<String>,
    Body(repair): Body<Repair>,
) -> Result<Json<Value>, Problem> {
    caller.require_operator()?;
    text("reason", &repair.reason, 1)?;
    let (shell, letter) = find(&services, &id).await?;
    must_be_open(&letter)?;
    dead_letter::discard(shell.database(), &letter, repair.as_resolution(&caller)).await?;
    Ok(Json(
        json!({ "id": letter.id, "dry_run": repair.dry_run, "state": "DISCARDED" }),
    ))
}

impl Repair {
    fn as_resolution<'a>(&'a self, caller: &'a Caller) -> Resolution<'a> {
        Resolution {
            who: caller.user().as_str(),
            reason: &self.reason,
            dry_run: self.dry_run,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reconcile {
    /// How far to look back; absent: as far as the stream goes.
    minutes: Option<u32>,
}

async fn reconcile_now(
    State(Services(shells)): State<Services>,
    caller: Caller,
    Body(asked): Body<Reconcile>,
) -> Result<Json<Value>, Problem> {
    caller.require_operator()?;
    let mut services = Vec::new();
    for shell in &shells {
        let age = match asked.minutes {
            Some(minutes) => std::time::Duration::from_secs(60 * u64::from(minutes)),
            None => shell.settings().stream_max_age,
        };
        let from = shell.database().clock().now() - clock::millis(age);
        let mut report = reconcile::run(shell, from).await?.to_json();
        report["service"] = shell.name().into();
        services.push(report);
    }
    Ok(Json(json!({ "services": services })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lift {
    service: String,
    reason: String,
}

async fn lift_fence(
    State(Services(shells)): State<Services>,
    caller: Caller,
    Body(lift): Body<Lift>,
) -> Result<Json<Value>, Problem> {
    caller.require_operator()?;
    text("reason", &lift.reason, 1)?;
    let shell = shells
        .iter()
        .find(|shell| shell.name() == lift.service)
        .ok_or_else(|| Problem::not_found("service"))?;
    if shell.fence_state().state().is_none() {
        let detail = format!("{} is not fenced", lift.service);
        return Err(Problem::conflict("NOT_FENCED", detail));
    }
    let accepted = fence::lift(shell, caller.user().as_str(), &lift.reason).await?;
    Ok(Json(
        json!({ "service": shell.name(), "accepted_events": accepted }),
    ))
}

async fn internals(
    State(Services(shells)): State<Services>,
    caller: Caller,
) -> Result<Json<Value>, Problem> {
    caller.require_operator()?;
    let mut services = Vec::new();
    for shell in &shells {
        let database = shell.database();
        let backlog = outbox::backlog(database).await?;
        let lag = shell.lag().await;
        services.push(json!({
            "service": shell.name(),
            "missing": shell.missing(),
            "fenced": shell.fence_state().state().map(|fenced| fenced.message(shell.name())),
            "outbox": {
                "unpublished": backlog.unpublished,
                "oldest_ms": backlog.oldest.map(|at| database.clock().now() - at),
            },
            "consumer": lag.map(|lag| json!({
                "to_hear": lag.to_hear,
                "to_ack": lag.to_ack,
                "redelivered": lag.redelivered,
            })),
            "open_dead_letters": dead_letter::count_open(database).await?,
        }));
    }
    Ok(Json(json!({ "services": services })))
}

async fn find(services: &Services, id: &str) -> Result<(Shell, DeadLetter), Problem> {
    let missing = || Problem::not_found("dead letter");
    let id: Uuid = id.parse().map_err(|_| missing())?;
    for shell in &services.0 {
        if let Some(letter) = dead_letter::find(shell.database(), id).await? {
            return Ok((shell.clone(), letter));
        }
    }
    Err(missing())
}

fn must_be_open(letter: &DeadLetter) -> Result<(), Problem> {
    match letter.state.as_str() {
        "OPEN" => Ok(()),
        state => {
            let detail = "the dead letter is resolved already";
            Err(Problem::conflict("NOT_OPEN", detail).with("state", state))
        }
    }
}

fn view(shell: &Shell, letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id,
        "service": shell.name(),
        "origin": letter.origin.name(),
        "state": letter.state,
        "subject": letter.subject,
        "event_id": letter.event_id,
        "order_id": letter.correlation,
        "stream_sequence": letter.stream_sequence,
        "kind": letter.kind,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "died_at": clock::rfc3339(letter.died_at),
    })
}

fn decided(event: &Committed) -> Value {
    json!({ "subject": event.envelope.entry.subject, "event_id": event.envelope.id })
}
