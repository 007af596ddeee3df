//! Reading orders.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use events::OrderId;
use jetstream::http::page::Page;
use jetstream::http::{Id, Reader};
use jetstream::stream::timeline::{self, TimelineEvent};
use jetstream::{Fault, Problem, Query, Shell, clock};
use sea_orm::{QueryResult, Value as Sql};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::messages::Language;
use super::view::{self, BriefView, OrderView};
use crate::domain::{self, Order};
use crate::store::orders::{self, COLUMNS, read};

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

/// What happened to an order.
#[derive(Serialize, ToSchema)]
pub(super) struct Timeline {
    #[schema(value_type = Uuid)]
    order_id: OrderId,
    /// The trace of the order; null when it is not sampled
    trace_id: Option<String>,
    /// Where the trace can be seen; null without an address of Jaeger's pages
    trace_url: Option<String>,
    events: Vec<TimelineEvent>,
    /// How many events order has heard that the stream no longer has where they were
    missing: usize,
    /// Whether the stream could be read
    stream_read: bool,
    /// How often compensation was asked for; for operators
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    /// When something is due; for operators
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    due_at: Option<String>,
}

pub(super) async fn timeline(
    reader: Reader,
    State(shell): State<Shell>,
    Id(id): Id<OrderId>,
) -> Result<Json<Timeline>, Problem> {
    let (order, traceparent) = find(&reader, id).await?;
    let jaeger = shell.settings().jaeger_url.as_deref();
    let (trace_id, trace_url) = view::trace(Some(&traceparent), jaeger);
    let order_id = order.context.order_id;
    let heard = orders::heard(&reader, order_id).await?;
    let timeline = timeline::Timeline::of(&shell, order_id, &heard).await?;
    let operator = reader.caller().is_operator();
    let events = timeline.events.iter().map(|told| told.view(operator));
    let due = Some(order.due_at).filter(|due| *due != 0);
    Ok(Json(Timeline {
        order_id,
        trace_id,
        trace_url,
        events: events.collect(),
        missing: timeline.missing,
        stream_read: timeline.stream_read,
        attempt: operator.then_some(order.attempt),
        due_at: due.filter(|_| operator).map(clock::rfc3339),
    }))
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
