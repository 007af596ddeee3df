//! An order, as its user sees it.

use std::collections::BTreeMap;

use events::body::Reason;
use events::{Flow, Money, OrderId, ProductId, Refusal, UserId};
use jetstream::{clock, telemetry};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::messages::{Language, message};
use crate::domain::order::{Flag, HeardRefusal};
use crate::domain::{Order, State};

/// An order.
#[derive(Serialize, ToSchema)]
#[schema(as = Order)]
pub(super) struct OrderView {
    #[schema(value_type = Uuid)]
    order_id: OrderId,
    #[schema(value_type = String, example = "alice")]
    user_id: UserId,
    /// `PROCESSING`, `CONFIRMED`, `FAILED`, or `CANCELED` when its user asked for it
    #[schema(example = "PROCESSING")]
    status: &'static str,
    /// `PENDING`, `CONFIRMED`, `COMPENSATING`, `CANCELED` or `COMPENSATION_FAILED`
    #[schema(example = "PENDING")]
    state: &'static str,
    /// Why it is not confirmed: `REFUSED`, `CANCELED_BY_USER` or `DEADLINE_PASSED`
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    refusals: Vec<RefusalView>,
    #[schema(value_type = String, example = "parallel")]
    flow: Flow,
    /// Those that it needs, and how each stands: `waiting`, `succeeded`, `refused`,
    /// `compensated` or `void`
    #[schema(value_type = BTreeMap<String, String>)]
    steps: BTreeMap<&'static str, Flag>,
    items: Vec<ItemView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    coupon_id: Option<Uuid>,
    #[schema(value_type = i64)]
    discount: Money,
    #[schema(value_type = i64)]
    total: Money,
    #[schema(format = DateTime)]
    placed_at: String,
    /// When it is canceled if it is not decided
    #[schema(format = DateTime)]
    deadline: String,
    #[schema(format = DateTime)]
    updated_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    confirmed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_url: Option<String>,
}

/// A line of an order.
#[derive(Serialize, ToSchema)]
#[schema(as = OrderItem)]
struct ItemView {
    #[schema(value_type = Uuid)]
    product_id: ProductId,
    quantity: i64,
    #[schema(value_type = i64)]
    unit_price: Money,
}

/// Why a step said no.
#[derive(Serialize, ToSchema)]
#[schema(as = Refusal)]
struct RefusalView {
    step: &'static str,
    #[schema(example = "OUT_OF_STOCK")]
    code: String,
    #[schema(format = DateTime)]
    at: String,
    #[schema(value_type = Object)]
    details: Details,
}

/// The facts of a refusal, beside its code.
#[derive(Serialize)]
struct Details {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines: Vec<events::refusal::FailingLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    needed: Option<Money>,
    #[serde(skip_serializing_if = "Option::is_none")]
    balance: Option<Money>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

/// A server-sent event: an order as it is now.
#[derive(ToSchema)]
#[allow(dead_code)] // it stands for its schema
pub(super) struct OrderEvent {
    /// The order's version
    #[schema(example = "3")]
    id: String,
    /// The order, as JSON
    data: String,
}

/// An order that was placed, with a sentence for its user.
#[derive(Serialize, ToSchema)]
#[schema(as = PlacedOrder)]
pub(super) struct PlacedView {
    #[serde(flatten)]
    pub(super) order: OrderView,
    #[schema(example = "Your order is being processed.")]
    pub(super) message: String,
}

/// How an order stands.
#[derive(Serialize, ToSchema)]
#[schema(as = OrderStatus)]
pub(super) struct BriefView {
    #[schema(value_type = Uuid)]
    order_id: OrderId,
    #[schema(example = "CONFIRMED")]
    status: &'static str,
    #[schema(example = "Your order is confirmed.")]
    message: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

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
pub(super) fn whole(order: &Order, traceparent: Option<&str>, jaeger: Option<&str>) -> OrderView {
    let context = &order.context;
    let items = context.lines.iter().map(|line| ItemView {
        product_id: line.product_id,
        quantity: line.quantity,
        unit_price: line.unit_price,
    });
    let confirmed = order.confirmed_at > 0;
    let (trace_id, trace_url) = trace(traceparent, jaeger);
    OrderView {
        order_id: context.order_id,
        user_id: context.user_id.clone(),
        status: status(order),
        state: order.state.name(),
        reason: order.reason.map(Reason::code),
        refusals: order.refusals.iter().map(refusal).collect(),
        flow: context.flow,
        steps: order
            .flags
            .iter()
            .map(|(step, flag)| (step.name(), *flag))
            .collect(),
        items: items.collect(),
        coupon_id: context.coupon_id.map(|coupon| coupon.0),
        discount: context.discount,
        total: context.total,
        placed_at: clock::rfc3339(context.placed_at),
        deadline: clock::rfc3339(context.deadline),
        updated_at: clock::rfc3339(order.updated_at),
        confirmed_at: confirmed.then(|| clock::rfc3339(order.confirmed_at)),
        trace_id,
        trace_url,
    }
}

/// The id of the trace, and where it can be seen.
pub(super) fn trace(
    traceparent: Option<&str>,
    jaeger: Option<&str>,
) -> (Option<String>, Option<String>) {
    let id = traceparent.and_then(telemetry::trace_id);
    let link = |(id, url): (&str, &str)| format!("{}/trace/{id}", url.trim_end_matches('/'));
    (id.map(Into::into), id.zip(jaeger).map(link))
}

/// Just how it stands, for polling.
pub(super) fn brief(order: &Order, language: Language) -> BriefView {
    BriefView {
        order_id: order.context.order_id,
        status: status(order),
        message: message(order, language),
        updated_at: clock::rfc3339(order.updated_at),
    }
}

fn refusal(heard: &HeardRefusal) -> RefusalView {
    let Refusal {
        code,
        lines,
        needed,
        balance,
        reason,
    } = heard.refusal.clone();
    let details = Details {
        lines,
        needed,
        balance,
        reason,
    };
    RefusalView {
        step: heard.step.name(),
        code,
        at: clock::rfc3339(heard.at),
        details,
    }
}
