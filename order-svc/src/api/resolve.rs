//! `POST /orders/{id}/resolve`: a person ends what healing could not.

use axum::extract::State;
use events::{OrderId, Step};
use jetstream::http::{Accepted, Id, Operator, Text};
use jetstream::operating::audit;
use jetstream::{Body, Fault, Problem, Shell, telemetry};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::view::{self, OrderView};
use crate::domain::{Input, Order, State as OrderState};
use crate::placing;
use crate::store::orders;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "action": "retry", "reason": "the broker is back" }))]
pub(super) struct Resolve {
    #[schema(inline)]
    action: Action,
    /// Which step was undone; with `mark_undone` alone
    step: Option<String>,
    /// Why: it is kept
    #[schema(inline)]
    reason: Text,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Action {
    /// Ask the silent steps once more.
    Retry,
    /// A person has undone the step, or seen that there is nothing to undo.
    MarkUndone,
}

pub(super) async fn resolve(
    operator: Operator,
    State(shell): State<Shell>,
    Id(id): Id<OrderId>,
    Body(resolve): Body<Resolve>,
) -> Result<Accepted<OrderView>, Problem> {
    let rules = placing::rules(shell.settings());
    let tx = operator.begin().await?;
    let mut loaded = orders::load(&tx, [id]).await?;
    let order = loaded
        .get_mut(&id)
        .ok_or_else(|| Problem::not_found("order"))?;
    let input = input(&resolve, order)?;
    let (before, version) = (summary(order), order.version);
    let said = order
        .hear(input, tx.now(), &rules)
        .map_err(|contradiction| Fault::Permanent(contradiction.to_string()))?;
    let trace = orders::traces(&tx, &shell, [id]).await?.remove(&id);
    telemetry::concerns(id, order.context.flow, None);
    let emissions = said
        .iter()
        .map(|say| placing::from_outside(order, say, trace, "operator"))
        .collect();
    orders::save(&tx, [(&*order, version)]).await?;
    let action = match resolve.action {
        Action::Retry => "resolve: retry",
        Action::MarkUndone => "resolve: mark undone",
    };
    let entry = audit::Entry {
        who: operator.user().as_str(),
        action,
        target: id.to_string(),
        reason: resolve.reason.as_str(),
        before,
        after: summary(order),
    };
    audit::append(&tx, entry).await?;
    let traceparent = trace.map(|place| place.traceparent());
    let jaeger = shell.settings().jaeger_url.as_deref();
    let body = view::whole(order, traceparent.as_deref(), jaeger);
    shell.commit(tx, emissions).await?;
    Ok(Accepted(body))
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
