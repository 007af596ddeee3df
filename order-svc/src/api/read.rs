//! Reading orders.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use events::OrderId;
use jetstream::http::page::Page;
use jetstream::http::{Id, Reader};
use jetstream::stream::history::{self, Recorded};
use jetstream::{Fault, Problem, Query, Shell, clock, telemetry};
use sea_orm::{QueryResult, Value as Sql};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::messages::Language;
use super::view::{self, BriefView, OrderView};
use crate::domain::{self, Order};
use crate::store::orders::{COLUMNS, read};

pub(super) async fn show(
    reader: Reader,
    State(shell): State<Shell>,
    Id(id): Id<OrderId>,
) -> Result<Json<OrderView>, Problem> {
    let (order, traceparent) = find(&reader, id).await?;
    let jaeger = shell.settings().jaeger_url.as_deref();
    Ok(Json(view::whole(&order, Some(&traceparent), jaeger)))
}

pub(super) async fn status(
    reader: Reader,
    Id(id): Id<OrderId>,
    headers: HeaderMap,
) -> Result<Json<BriefView>, Problem> {
    let (order, _) = find(&reader, id).await?;
    Ok(Json(view::brief(&order, Language::of(&headers))))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Those in one state
    state: Option<String>,
    /// Those of one user; for operators
    user: Option<String>,
    /// How many entries a page has at most
    #[param(value_type = Option<i64>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<String>,
    /// The `next_cursor` of the page before
    #[param(value_type = Option<Uuid>)]
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Orders {
    orders: Vec<OrderView>,
    /// The `cursor` of the next page; null on the last
    next_cursor: Option<Uuid>,
}

pub(super) async fn list(
    reader: Reader,
    State(shell): State<Shell>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Orders>, Problem> {
    let page = Page::new(query.limit.as_deref(), query.cursor.as_deref())?;
    let reader = reader.narrowed(query.user.as_deref())?;
    let mut values: Vec<Sql> = vec![page.before().into(), page.fetch().into()];
    let mut and = "";
    if let Some(state) = &query.state {
        values.push(state_named(state)?.name().into());
        and = " AND state = $4";
    }
    // Ids are in the order of their creation, so the last one seen is the cursor.
    let sql = format!(
        "SELECT {COLUMNS} FROM orders WHERE {{mine}} AND order_id < $2{and}
         ORDER BY order_id DESC LIMIT $3"
    );
    let jaeger = shell.settings().jaeger_url.as_deref();
    let mut orders = Vec::new();
    for row in reader.query(&sql, values).await? {
        let (order, traceparent) = with_trace(&row)?;
        let id = order.context.order_id.0;
        orders.push((id, view::whole(&order, Some(&traceparent), jaeger)));
    }
    let (orders, next_cursor) = page.cut(orders, |(id, _)| *id);
    let orders = orders.into_iter().map(|(_, order)| order).collect();
    Ok(Json(Orders {
        orders,
        next_cursor,
    }))
}

fn state_named(name: &str) -> Result<domain::State, Problem> {
    domain::State::named(name).ok_or_else(|| {
        let names = domain::State::ALL.iter().map(|state| state.name());
        let names: Vec<_> = names.collect();
        Problem::invalid("state", &format!("must be one of: {}", names.join(", ")))
    })
}

/// What the stream has of an order.
#[derive(Serialize, ToSchema)]
pub(super) struct Timeline {
    #[schema(value_type = Uuid)]
    order_id: OrderId,
    events: Vec<TimelineEvent>,
}

/// An event of an order.
#[derive(Serialize, ToSchema)]
struct TimelineEvent {
    #[schema(example = "order.created.pending")]
    subject: &'static str,
    event_id: Uuid,
    /// The event that caused it; null when it came from outside
    cause: Option<Uuid>,
    #[schema(format = DateTime)]
    time: String,
    #[schema(example = "order")]
    service: &'static str,
    stream_sequence: u64,
    trace_id: Option<String>,
    /// What it says; for operators
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
}

pub(super) async fn timeline(
    reader: Reader,
    State(shell): State<Shell>,
    Id(id): Id<OrderId>,
) -> Result<Json<Timeline>, Problem> {
    let (order, _) = find(&reader, id).await?;
    let order_id = order.context.order_id;
    let recorded = history::of_order(shell.broker(), order_id).await?;
    let bodies = reader.caller().is_operator();
    let events = recorded.iter().map(|event| timeline_event(event, bodies));
    let events = events.collect();
    Ok(Json(Timeline { order_id, events }))
}

fn timeline_event(event: &Recorded, with_body: bool) -> TimelineEvent {
    let envelope = &event.envelope;
    let body = || {
        let body = events::render::body(envelope);
        body.unwrap_or_else(|error| json!({ "unreadable": error.to_string() }))
    };
    let trace_id = envelope
        .traceparent
        .as_deref()
        .and_then(telemetry::trace_id);
    TimelineEvent {
        subject: envelope.entry.subject,
        event_id: envelope.id.0,
        cause: envelope.causation.map(|cause| cause.0),
        time: clock::rfc3339(envelope.time),
        service: envelope.entry.writer,
        stream_sequence: event.stream_sequence,
        trace_id: trace_id.map(Into::into),
        body: with_body.then(body),
    }
}

/// Finds an order that may be seen.
pub(super) async fn find(reader: &Reader, id: OrderId) -> Result<(Order, String), Problem> {
    let sql = format!("SELECT {COLUMNS} FROM orders WHERE {{mine}} AND order_id = $2");
    let rows = reader.query(&sql, vec![id.0.into()]).await?;
    let row = rows.first().ok_or_else(|| Problem::not_found("order"))?;
    Ok(with_trace(row)?)
}

fn with_trace(row: &QueryResult) -> Result<(Order, String), Fault> {
    Ok((read(row)?, row.try_get("", "traceparent")?))
}
