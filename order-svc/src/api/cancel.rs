//! `POST /orders/{id}/cancel`.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use jetstream::http::auth::Caller;
use jetstream::{Fault, Problem, Shell};
use serde_json::Value;

use super::{read, view};
use crate::domain::Input;
use crate::placing;
use crate::store::orders;

// The order's row is contended for a moment only; then somebody else has decided.
const TRIES: usize = 5;

pub(super) async fn cancel(
    State(shell): State<Shell>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let id = read::order_id(&id)?;
    let mut tries = 0;
    loop {
        tries += 1;
        match attempt(&shell, &caller, id).await {
            Err(Failed::Fault(Fault::Conflict(_))) if tries < TRIES => {}
            Err(Failed::Fault(fault)) => return Err(fault.into()),
            Err(Failed::Problem(problem)) => return Err(problem),
            Ok(body) => return Ok((StatusCode::ACCEPTED, Json(body))),
        }
    }
}

enum Failed {
    Fault(Fault),
    Problem(Problem),
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

async fn attempt(shell: &Shell, caller: &Caller, id: events::OrderId) -> Result<Value, Failed> {
    let rules = placing::rules(shell.settings());
    let tx = shell.begin().await?;
    let mut loaded = orders::load(&tx, [id]).await?;
    let order = loaded
        .get_mut(&id)
        .filter(|order| caller.is_operator() || order.context.user_id == *caller.user())
        .ok_or_else(|| Failed::Problem(Problem::not_found("order")))?;
    if order.can_cancel(tx.now(), &rules).is_err() {
        let state = order.state.name();
        let problem = Problem::conflict(
            "TOO_LATE_TO_CANCEL",
            format!("the order is {state} and cannot be canceled any more"),
        );
        let problem = problem
            .with("state", state)
            .with("order_status", view::status(order));
        return Err(Failed::Problem(problem));
    }
    let version = order.version;
    let said = order
        .hear(Input::UserCancel, tx.now(), &rules)
        .map_err(|contradiction| Fault::Permanent(contradiction.to_string()))?;
    let emissions = said
        .iter()
        .map(|say| placing::from_outside(order, say))
        .collect();
    if order.version != version {
        orders::save(&tx, [(&*order, version)]).await?;
    }
    let jaeger = shell.settings().jaeger_url.as_deref();
    let body = view::whole(order, None, jaeger);
    shell.commit(tx, emissions).await?;
    Ok(body)
}
