//! `POST /orders/{id}/cancel`.

use axum::extract::State;
use events::OrderId;
use jetstream::http::{Accepted, Id, Nothing, Reader};
use jetstream::{Fault, Problem, Shell, telemetry};

use super::view::{self, OrderView};
use crate::domain::Input;
use crate::placing;
use crate::store::orders;

// The order's row is contended for a moment only; then somebody else has decided.
const TRIES: usize = 5;

pub(super) async fn cancel(
    reader: Reader,
    State(shell): State<Shell>,
    Id(id): Id<OrderId>,
    _: Nothing,
) -> Result<Accepted<OrderView>, Problem> {
    let mut tries = 0;
    loop {
        tries += 1;
        match attempt(&shell, &reader, id).await {
            Err(Failed::Fault(Fault::Conflict(_))) if tries < TRIES => {}
            Err(Failed::Fault(fault)) => return Err(fault.into()),
            Err(Failed::Problem(problem)) => return Err(problem),
            Ok(order) => return Ok(Accepted(order)),
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

async fn attempt(shell: &Shell, reader: &Reader, id: OrderId) -> Result<OrderView, Failed> {
    let rules = placing::rules(shell.settings());
    let tx = reader.begin().await?;
    let missing = || Failed::Problem(Problem::not_found("order"));
    let mut order = orders::load_seen(&tx, reader, id)
        .await?
        .ok_or_else(missing)?;
    if order.can_cancel(tx.now(), &rules).is_err() {
        let state = order.state.name();
        let problem = Problem::conflict(
            "TOO_LATE_TO_CANCEL",
            format!("the order is {state} and cannot be canceled any more"),
        );
        let problem = problem
            .with("state", state)
            .with("order_status", view::status(&order));
        return Err(Failed::Problem(problem));
    }
    let version = order.version;
    let said = order
        .hear(Input::UserCancel, tx.now(), &rules)
        .map_err(|contradiction| Fault::Permanent(contradiction.to_string()))?;
    let trace = orders::traces(&tx, shell, [id]).await?.remove(&id);
    telemetry::concerns(id, order.context.flow, None);
    let emissions = said
        .iter()
        .map(|say| placing::from_outside(&order, say, trace, "user"))
        .collect();
    if order.version != version {
        orders::save(&tx, [(&order, version)]).await?;
    }
    let jaeger = shell.settings().jaeger_url.as_deref();
    let traceparent = trace.map(|place| place.traceparent());
    let body = view::whole(&order, traceparent.as_deref(), jaeger);
    shell.commit(tx, emissions).await?;
    Ok(body)
}
