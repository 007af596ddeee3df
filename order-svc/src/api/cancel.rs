//! `POST /orders/{id}/cancel`.

use axum::extract::State;
use events::OrderId;
use jetstream::http::{Accepted, Id, Nothing, Reader};
use jetstream::{Problem, telemetry};

use super::Api;
use super::view::{self, OrderView};
use crate::canceling::{Cancel, NotCanceled};
use crate::domain;

pub(super) async fn cancel(
    reader: Reader,
    State(api): State<Api>,
    Id(id): Id<OrderId>,
    _: Nothing,
) -> Result<Accepted<OrderView>, Problem> {
    let asked = telemetry::along();
    let decided = api.canceling.decide(Cancel { id, reader, asked }).await?;
    let (order, trace) = decided.map_err(|why| problem(&why))?;
    telemetry::concerns(id, order.context.flow, None);
    let jaeger = api.shell.settings().jaeger_url.as_deref();
    let traceparent = trace.map(|place| place.traceparent());
    Ok(Accepted(view::whole(
        &order,
        traceparent.as_deref(),
        jaeger,
    )))
}

fn problem(why: &NotCanceled) -> Problem {
    let order = match why {
        NotCanceled::Unknown => return Problem::not_found("order"),
        NotCanceled::TooLate(order) => order,
    };
    let state = order.state.name();
    let detail = match order.state {
        domain::State::Confirmed => {
            "the order is confirmed, and its time to be canceled is over".to_owned()
        }
        _ => format!("the order is {state} already: there is nothing left to cancel"),
    };
    Problem::conflict("TOO_LATE_TO_CANCEL", detail)
        .with("state", state)
        .with("order_status", view::status(order))
}
