//! What operators look at and repair, for every service of the process: dead letters, lag
//! and outbox. Whatever is repaired goes through the service's own decision and leaves an
//! audit row.

use axum::Json;
use axum::extract::{FromRef, State};
use events::{Envelope, OrderId, render};
use futures::future::try_join_all;
use serde::Deserialize;
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::clock;
use crate::fault::Fault;
use crate::hearing::dead_letter::{self, DeadLetter, Resolution};
use crate::http::{Body, Id, Number, Operator, Problem, Query, Routes, Text, doc};
use crate::losses::fence;
use crate::losses::reconcile;
use crate::operating::views::{
    Decided, Discarded, Inside, Internals, Letter, Letters, Lifted, Reconciled, Redriven,
    SaidEvents, ServiceInternals, WholeLetter, Without,
};
use crate::saying::outbox::{self, Committed};
use crate::shell::Shell;
use crate::stream::timeline::Timeline;

/// The services of the process.
#[derive(Clone)]
struct Services(Vec<Shell>);

impl FromRef<Services> for Shell {
    fn from_ref(services: &Services) -> Self {
        // All of a process have one authenticator; a process without services has no routes.
        services.0[0].clone()
    }
}

/// The routes, for all services of the process; without any they only describe themselves.
pub(crate) fn routes(shells: Vec<Shell>) -> Routes {
    Routes::about(
        "operating",
        "What operators look at and repair, in every service",
    )
    .get(
        "/dead-letters",
        list,
        "List the events that could not be handled and are open",
    )
    .get(
        "/dead-letters/{id}",
        show,
        "Show a dead letter, with the event decoded",
    )
    .post(
        "/dead-letters/{id}/redrive",
        redrive,
        doc("Hand an event to its handler again").refuses(409, &["NOT_OPEN", "FAILS_AGAIN"]),
    )
    .post(
        "/dead-letters/{id}/discard",
        discard,
        doc("Give an event up").refuses(409, &["NOT_OPEN"]),
    )
    .get(
        "/outbox",
        said,
        "Show what each service has said of an order, and where it is",
    )
    .get(
        "/internals",
        internals,
        "Show outbox, lag, fence and dead letters of each service",
    )
    .post(
        "/reconcile",
        reconcile_now,
        "Say again what the stream has lost",
    )
    .post(
        "/fence/lift",
        lift_fence,
        doc("Lift the fence of a service whose database was set back")
            .refuses(404, &["NOT_FOUND"])
            .refuses(409, &["NOT_FENCED"]),
    )
    .with_state(Services(shells))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Those of one order
    order: Option<Uuid>,
}

async fn list(
    _: Operator,
    State(Services(shells)): State<Services>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Letters>, Problem> {
    let order = query.order.map(|order| order.to_string());
    let mut dead_letters = Vec::new();
    for shell in &shells {
        let open = dead_letter::open(shell.database(), order.as_deref()).await?;
        dead_letters.extend(open.iter().map(|letter| Letter::new(shell, letter)));
    }
    Ok(Json(Letters { dead_letters }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct SaidQuery {
    /// The order
    order: Uuid,
}

/// What the services of the process have said of an order, and where it is.
async fn said(
    _: Operator,
    State(Services(shells)): State<Services>,
    Query(query): Query<SaidQuery>,
) -> Result<Json<SaidEvents>, Problem> {
    let order = OrderId(query.order);
    let all = shells.iter().map(|shell| Timeline::of(shell, order, &[]));
    let all = try_join_all(all).await?;
    let told = all.iter().flat_map(|timeline| &timeline.events);
    let events = told.map(|told| told.view(true)).collect();
    Ok(Json(SaidEvents {
        order_id: query.order,
        events,
    }))
}

async fn show(
    _: Operator,
    State(services): State<Services>,
    Id(id): Id<Uuid>,
) -> Result<Json<WholeLetter>, Problem> {
    let (shell, letter) = find(&services, id).await?;
    let event = Envelope::decode(&letter.subject, letter.payload.clone().into());
    let body = match event.and_then(|envelope| render::body(&envelope)) {
        Ok(body) => body,
        Err(error) => json!({ "unreadable": error.to_string() }),
    };
    let headers = serde_json::from_str(&letter.headers);
    Ok(Json(WholeLetter {
        headers: headers.unwrap_or_else(|_| letter.headers.clone().into()),
        body,
        letter: Letter::new(&shell, &letter),
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "reason": "repaired by hand", "dry_run": true }))]
struct Repair {
    /// Why: it is kept
    #[schema(inline)]
    reason: Text,
    /// Only say what would happen
    #[serde(default)]
    dry_run: bool,
}

async fn redrive(
    operator: Operator,
    State(services): State<Services>,
    Id(id): Id<Uuid>,
    Body(repair): Body<Repair>,
) -> Result<Json<Redriven>, Problem> {
    let (shell, letter) = find(&services, id).await?;
    must_be_open(&letter)?;
    // Fails when the service is fenced.
    drop(shell.begin().await?);
    match dead_letter::redrive(shell.work(), &letter, repair.by(&operator)).await {
        Ok(redriven) => {
            let decided = redriven.decided.iter().map(decided).collect();
            if !repair.dry_run {
                shell.publish(redriven.decided);
            }
            Ok(Json(Redriven {
                id: letter.id,
                dry_run: repair.dry_run,
                decided,
            }))
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
    operator: Operator,
    State(services): State<Services>,
    Id(id): Id<Uuid>,
    Body(repair): Body<Repair>,
) -> Result<Json<Discarded>, Problem> {
    let (shell, letter) = find(&services, id).await?;
    must_be_open(&letter)?;
    dead_letter::discard(shell.database(), &letter, repair.by(&operator)).await?;
    Ok(Json(Discarded {
        id: letter.id,
        dry_run: repair.dry_run,
        state: "DISCARDED",
    }))
}

impl Repair {
    fn by<'a>(&'a self, operator: &'a Operator) -> Resolution<'a> {
        Resolution {
            who: operator.user().as_str(),
            reason: self.reason.as_str(),
            dry_run: self.dry_run,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Reconcile {
    /// How far to look back; absent: as far as the stream goes
    #[schema(inline)]
    minutes: Option<Minutes>,
}

// Ten years.
type Minutes = Number<0, 5_256_000>;

async fn reconcile_now(
    _: Operator,
    State(Services(shells)): State<Services>,
    Body(asked): Body<Reconcile>,
) -> Result<Json<Reconciled>, Problem> {
    let mut services = Vec::new();
    for shell in &shells {
        let age = match asked.minutes {
            Some(minutes) => minutes.get() * 60_000,
            None => clock::millis(shell.settings().stream_max_age),
        };
        let from = shell.database().clock().now() - age;
        let mut report = reconcile::run(shell, from).await?.to_json();
        report["service"] = shell.name().into();
        services.push(report);
    }
    Ok(Json(Reconciled { services }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "service": "stock", "reason": "restored from a backup" }))]
struct Lift {
    /// Its name
    service: String,
    /// Why: it is kept
    #[schema(inline)]
    reason: Text,
}

async fn lift_fence(
    operator: Operator,
    State(Services(shells)): State<Services>,
    Body(lift): Body<Lift>,
) -> Result<Json<Lifted>, Problem> {
    let shell = shells
        .iter()
        .find(|shell| shell.name() == lift.service)
        .ok_or_else(|| Problem::not_found("service"))?;
    if shell.fence_state().state().is_none() {
        let detail = format!("{} is not fenced", lift.service);
        return Err(Problem::conflict("NOT_FENCED", detail));
    }
    let who = operator.user().as_str();
    Ok(Json(Lifted {
        service: shell.name(),
        accepted_events: fence::lift(shell, who, lift.reason.as_str()).await?,
    }))
}

async fn internals(
    _: Operator,
    State(Services(shells)): State<Services>,
) -> Result<Json<Internals>, Problem> {
    let mut services = Vec::new();
    for shell in &shells {
        let database = shell.database();
        let backlog = match outbox::backlog(database).await {
            Ok(backlog) => backlog,
            // Without its database a service can say no more than that.
            Err(Fault::Away(_)) => {
                services.push(Inside::Without(Without {
                    service: shell.name(),
                    missing: vec!["database"],
                }));
                continue;
            }
            Err(fault) => return Err(fault.into()),
        };
        let dead_letters = dead_letter::count_open(database).await?;
        let lag = shell.lag().await;
        let safety = database.safety().await?;
        let known = ServiceInternals::new(shell, &backlog, lag, dead_letters, safety);
        services.push(Inside::Known(Box::new(known)));
    }
    Ok(Json(Internals { services }))
}

async fn find(services: &Services, id: Uuid) -> Result<(Shell, DeadLetter), Problem> {
    for shell in &services.0 {
        if let Some(letter) = dead_letter::find(shell.database(), id).await? {
            return Ok((shell.clone(), letter));
        }
    }
    Err(Problem::not_found("dead letter"))
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

fn decided(event: &Committed) -> Decided {
    Decided {
        subject: event.envelope.entry.subject,
        event_id: event.envelope.id.0,
    }
}
