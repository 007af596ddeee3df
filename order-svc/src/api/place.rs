//! `POST /orders`.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use events::{CouponId, EventId, Flow, OrderId, ProductId};
use jetstream::http::auth::Caller;
use jetstream::http::idempotency::{Answered, Once};
use jetstream::http::intake::Call;
use jetstream::http::limits;
use jetstream::http::{Number, objects};
use jetstream::{Problem, Shell, clock, telemetry};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Api;
use super::messages::{Language, message};
use super::view::{self, PlacedView};
use super::wait::Wait;
use crate::domain::Order;
use crate::domain::pricing::{Request, Wrong};
use crate::placing::{Place, Rejected};

const MAX_LINES: usize = 50;
const MAX_QUANTITY: i64 = 10_000;

type Quantity = Number<1, MAX_QUANTITY>;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "items": [{ "product_id": "01890000-0000-7000-8000-000000000000", "quantity": 2 }],
}))]
pub(super) struct NewOrder {
    /// Lines of one product are added up; 50 products at most
    #[schema(min_items = 1, max_items = 200)]
    #[serde(deserialize_with = "objects")]
    items: Vec<Item>,
    coupon_id: Option<Uuid>,
    /// Take what is ordered out of the cart
    #[serde(default)]
    from_cart: bool,
    /// `parallel` or `sequential`; the default is the deployment's
    #[schema(value_type = Option<String>, example = "parallel")]
    flow: Option<Flow>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewOrderItem)]
struct Item {
    product_id: Uuid,
    #[schema(inline)]
    quantity: Quantity,
}

pub(super) async fn place(
    caller: Caller,
    State(api): State<Api>,
    place_in_flight: limits::Place,
    headers: HeaderMap,
    Once { body, key }: Once<NewOrder>,
) -> Result<Response, Problem> {
    let request = request(&api.shell, &caller, body)?;
    let (id, flow) = (request.order_id, request.flow);
    // Before the order is there, so that no change of it is missed.
    let wait = Wait::asked(&headers, &api.watching, id, caller.user());
    let place = Place {
        request,
        traceparent: telemetry::current(),
    };
    let call = Call {
        user: caller.user(),
        limit: &api.limit,
        request: key.map(|key| key.on(&caller, "POST /orders".to_owned())),
    };
    let (shell, language) = (api.shell.clone(), Language::of(&headers));
    let traceparent = place.traceparent.clone();
    let trace = traceparent.clone();
    let render = move |placed: &Result<Order, Rejected>| match placed {
        Ok(order) => accepted(&shell, order, trace.as_deref(), language),
        Err(rejected) => Err(problem(&shell, rejected)),
    };
    let answered = api.placing.answer(call, place, render).await?;
    let answered_id = answered.body()["order_id"].as_str().unwrap_or_default();
    let location = HeaderValue::from_str(&format!("/orders/{answered_id}"));
    // A replay is answered as it was, and waits for nothing.
    let placed_now = answered_id == id.to_string();
    if placed_now {
        telemetry::concerns(id, flow, Some(EventId::created(id)));
    }
    let mut response = match wait.filter(|_| placed_now) {
        None => answered.into_response(),
        Some(mut wait) => {
            place_in_flight.leave();
            let newest = wait.outcome().await;
            let mut response = match &newest {
                Some(order) => {
                    accepted(&api.shell, order, traceparent.as_deref(), language)?.into_response()
                }
                None => answered.into_response(),
            };
            wait.applied(newest.as_ref(), &mut response);
            response
        }
    };
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

fn accepted(
    shell: &Shell,
    order: &Order,
    traceparent: Option<&str>,
    language: Language,
) -> Result<Answered, Problem> {
    let jaeger = shell.settings().jaeger_url.as_deref();
    let placed = PlacedView {
        order: view::whole(order, traceparent, jaeger),
        message: message(order, language),
    };
    Ok(Answered::new(StatusCode::ACCEPTED, &placed)?)
}

/// Checks the shape of what is asked for.
fn request(shell: &Shell, caller: &Caller, new: NewOrder) -> Result<Request, Problem> {
    let flows = &shell.settings().flows;
    let flow = match new.flow {
        None => flows.first().copied().unwrap_or(Flow::Parallel),
        Some(flow) if flows.contains(&flow) => flow,
        Some(_) => {
            let allowed: Vec<_> = flows.iter().map(|flow| flow.name()).collect();
            let rule = format!("must be one of: {}", allowed.join(", "));
            return Err(Problem::invalid("flow", &rule));
        }
    };
    if new.items.is_empty() {
        return Err(Problem::invalid("items", "must name at least one product"));
    }
    let products: BTreeSet<_> = new.items.iter().map(|item| item.product_id).collect();
    if products.len() > MAX_LINES || new.items.len() > 4 * MAX_LINES {
        let rule = format!("must name at most {MAX_LINES} products");
        return Err(Problem::invalid("items", &rule));
    }
    for product in &products {
        let lines = new.items.iter().filter(|item| item.product_id == *product);
        let sum: i64 = lines.map(|item| item.quantity.get()).sum();
        if sum > MAX_QUANTITY {
            let rule = format!("must name at most {MAX_QUANTITY} units of one product");
            return Err(Problem::invalid("items", &rule));
        }
    }
    Ok(Request {
        order_id: OrderId(clock::new_id()),
        user_id: caller.user().clone(),
        items: new
            .items
            .iter()
            .map(|item| (ProductId(item.product_id), item.quantity.get()))
            .collect(),
        coupon_id: new.coupon_id.map(CouponId),
        from_cart: new.from_cart,
        flow,
    })
}

fn problem(shell: &Shell, rejected: &Rejected) -> Problem {
    let wrong = match rejected {
        Rejected::TooManyOpen => {
            let most = shell.settings().open_orders_per_user;
            return Problem::conflict(
                "TOO_MANY_OPEN_ORDERS",
                format!("a user may have {most} order(s) open at once: wait until one is decided"),
            )
            .with("limit", most);
        }
        Rejected::Wrong(wrong) => wrong,
    };
    // What was created a moment ago may not have been heard of yet.
    match wrong {
        Wrong::UnknownProduct(id) => {
            Problem::unprocessable("UNKNOWN_PRODUCT", format!("there is no product {id}"))
                .with("product_id", id.to_string())
                .retry_after(1)
        }
        Wrong::UnknownCoupon(id) => {
            Problem::unprocessable("UNKNOWN_COUPON", format!("you have no coupon {id}"))
                .with("coupon_id", id.to_string())
                .retry_after(1)
        }
        Wrong::ExpiredCoupon(id) => {
            Problem::unprocessable("COUPON_EXPIRED", format!("the coupon {id} has expired"))
                .with("coupon_id", id.to_string())
        }
        Wrong::BelowMinimum {
            subtotal,
            min_total,
        } => Problem::unprocessable(
            "BELOW_COUPON_MINIMUM",
            format!("the coupon needs a subtotal of {min_total}, and this one is {subtotal}"),
        )
        .with("subtotal", subtotal.0)
        .with("min_total", min_total.0),
        Wrong::TooLarge => Problem::unprocessable("TOTAL_TOO_LARGE", "the total is too large"),
    }
}
