//! An order, as its user sees it.

use events::body::Reason;
use jetstream::{clock, telemetry};
use serde_json::{Map, Value, json};

use super::messages::{Language, message};
use crate::domain::{Order, State};

/// `PROCESSING`, `CONFIRMED`, `FAILED`, or `CANCELED` when the user asked for it.
pub(super) fn status(order: &Order) -> &'static str {
    match order.state {
        State::Pending => "PROCESSING",
        State::Confirmed => "CONFIRMED",
        _ if order.reason == Some(Reason::CanceledByUser) => "CANCELED",
        _ => "FAILED",
    }
}

/// The whole order.
pub(super) fn whole(order: &Order, traceparent: Option<&str>, jaeger: Option<&str>) -> Value {
    let context = &order.context;
    let steps: Map<String, Value> = order
        .flags
        .iter()
        .map(|(step, flag)| (step.name().to_owned(), json!(flag)))
        .collect();
    let refusals: Vec<Value> = order.refusals.iter().map(refusal).collect();
    let items: Vec<Value> = context
        .lines
        .iter()
        .map(|line| {
            json!({
                "product_id": line.product_id,
                "quantity": line.quantity,
                "unit_price": line.unit_price,
            })
        })
        .collect();
    let mut view = json!({
        "order_id": context.order_id,
        "user_id": context.user_id,
        "status": status(order),
        "state": order.state.name(),
        "refusals": refusals,
        "flow": context.flow,
        "steps": steps,
        "items": items,
        "discount": context.discount,
        "total": context.total,
        "placed_at": clock::rfc3339(context.placed_at),
        "deadline": clock::rfc3339(context.deadline),
        "updated_at": clock::rfc3339(order.updated_at),
    });
    let mut add = |name: &str, value: Value| view[name] = value;
    if let Some(reason) = order.reason {
        add("reason", reason.code().into());
    }
    if let Some(coupon) = context.coupon_id {
        add("coupon_id", json!(coupon));
    }
    if order.confirmed_at > 0 {
        add("confirmed_at", clock::rfc3339(order.confirmed_at).into());
    }
    if let Some(trace) = traceparent.and_then(telemetry::trace_id) {
        add("trace_id", trace.into());
        if let Some(jaeger) = jaeger {
            let link = format!("{}/trace/{trace}", jaeger.trim_end_matches('/'));
            add("trace_url", link.into());
        }
    }
    view
}

/// Just how it stands, for polling.
pub(super) fn brief(order: &Order, language: Language) -> Value {
    json!({
        "order_id": order.context.order_id,
        "status": status(order),
        "message": message(order, language),
        "updated_at": clock::rfc3339(order.updated_at),
    })
}

fn refusal(heard: &crate::domain::order::HeardRefusal) -> Value {
    let mut details = json!(heard.refusal);
    if let Some(details) = details.as_object_mut() {
        details.remove("code");
    }
    json!({
        "step": heard.step,
        "code": heard.refusal.code,
        "at": clock::rfc3339(heard.at),
        "details": details,
    })
}
