//! `POST /orders/{id}/resolve`: a person ends what healing could not.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use events::Step;
use jetstream::http::auth::Caller;
use jetstream::http::text;
use jetstream::operating::audit;
use jetstream::{Body, Fault, Problem, Shell};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{read, view};
use crate::domain::{Input, Order, State as OrderState};
use crate::placing;
use crate::store::orders;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resolve {
    action: Action,
    step: Option<String>,
    reason: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    /// Ask the silent steps once more.
    Retry,
    /// A person has undone the step, or seen that there is nothing to undo.
    MarkUndone,
}

pub(super) async fn resolve(
    State(shell): State<Shell>,
    caller: Caller,
    Path(id): Path<String>,
    Body(resolve): Body<Resolve>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    caller.require_operator()?;
    text("reason", &resolve.reason, 1)?;
    let id = read::order_id(&id)?;
    let rules = placing::rules(shell.settings());
    let tx = shell.begin().await?;
    let mut loaded = orders::load(&tx, [id]).await?;
    let order = loaded
        .get_mut(&id)
        .ok_or_else(|| Problem::not_found("order"))?;
    let input = input(&resolve, order)?;
    let (before, version) = (summary(order), order.version);
    let said = order
        .hear(input, tx.now(), &rules)
        .map_err(|contradiction| Fault::Permanent(contradiction.to_string()))?;
    let emissions = said
        .iter()
        .map(|say| placing::from_outside(order, say))
        .collect();
    orders::save(&tx, [(&*order, version)]).await?;
    let action = match resolve.action {
        Action::Retry => "resolve: retry",
        Action::MarkUndone => "resolve: mark undone",
    };
    let entry = audit::Entry {
        who: caller.user().as_str(),
        action,
        target: id.to_string(),
        reason: &resolve.reason,
        before,
        after: summary(order),
    };
    audit::append(&tx, entry).await?;
    let body = view::whole(order, None, shell.settings().jaeger_url.as_deref());
    shell.commit(tx, emissions).await?;
    Ok((StatusCode::ACCEPTED, Json(body)))
}

/// What the order is to hear; only one whose compensation was given up hears it.
fn input(resolve: &Resolve, order: &Order) -> Result<Input, Problem> {
    if order.state != OrderState::CompensationFailed {
        let state = order.state.name();
        return Err(Problem::conflict(
            "NOT_GIVEN_UP",
            format!("only an order in COMPENSATION_FAILED is resolved by hand; it is {state}"),
        )
        .with("state", state));
    }
    let silent = order.silent_steps();
    match (resolve.action, &resolve.step) {
        (Action::Retry, None) => Ok(Input::Retry),
        (Action::Retry, Some(_)) => Err(Problem::invalid(
            "step",
            "is not given with retry: all silent steps are asked",
        )),
        (Action::MarkUndone, step) => {
            let step = step.as_deref().and_then(|name| Step::named(name).ok());
            match step.filter(|step| silent.contains(step)) {
                Some(step) => Ok(Input::MarkUndone(step)),
                None => {
                    let names: Vec<_> = silent.iter().map(|step| step.name()).collect();
                    let rule =
                        format!("must be a step that has not answered: {}", names.join(", "));
                    Err(Problem::invalid("step", &rule))
                }
            }
        }
    }
}

fn summary(order: &Order) -> Value {
    json!({ "state": order.state, "steps": order.flags, "attempt": order.attempt })
}
