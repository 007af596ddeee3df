//! Reading orders. Every query carries the owner.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use events::OrderId;
use jetstream::http::auth::Caller;
use jetstream::http::page::Page;
use jetstream::stream::history;
use jetstream::{Problem, Query, Shell, clock, telemetry};
use sea_orm::Value as Sql;
use serde::Deserialize;
use serde_json::{Value, json};

use super::messages::Language;
use super::view;
use crate::domain::{self, Order};
use crate::store::orders::{COLUMNS, read};

pub(super) async fn show(
    State(shell): State<Shell>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let (order, traceparent) = find(&shell, &caller, order_id(&id)?).await?;
    let jaeger = shell.settings().jaeger_url.as_deref();
    Ok(Json(view::whole(&order, Some(&traceparent), jaeger)))
}

pub(super) async fn status(
    State(shell): State<Shell>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let (order, _) = find(&shell, &caller, order_id(&id)?).await?;
    Ok(Json(view::brief(&order, Language::of(&headers))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    state: Option<String>,
    user: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(shell): State<Shell>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, Problem> {
    let page = Page::new(query.limit, query.cursor.as_deref())?;
    let mut values: Vec<Sql> = vec![page.before().into(), page.fetch().into()];
    let mut and = String::new();
    if let Some(state) = &query.state {
        let state = domain::State::named(state).ok_or_else(|| {
            let names: Vec<_> = domain::State::ALL
                .iter()
                .map(|state| state.name())
                .collect();
            Problem::invalid("state", &format!("must be one of: {}", names.join(", ")))
        })?;
        values.push(state.name().into());
        and += &format!(" AND state = ${}", values.len());
    }
    // An operator sees all users' orders, or one's; everybody else their own.
    let owner = match (&query.user, caller.is_operator()) {
        (Some(user), _) => Some(caller.owner(user)?),
        (None, true) => None,
        (None, false) => Some(caller.user().clone()),
    };
    if let Some(owner) = owner {
        values.push(owner.as_str().into());
        and += &format!(" AND user_id = ${}", values.len());
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM orders WHERE order_id < $1{and} ORDER BY order_id DESC LIMIT $2"
    );
    let jaeger = shell.settings().jaeger_url.as_deref();
    let mut orders = Vec::new();
    for row in shell.database().query(&sql, values).await? {
        let order = read(&row)?;
        let traceparent: String = row
            .try_get("", "traceparent")
            .map_err(jetstream::Fault::from)?;
        let id = order.context.order_id.0;
        orders.push((id, view::whole(&order, Some(&traceparent), jaeger)));
    }
    let (orders, next_cursor) = page.cut(orders, |(id, _)| *id);
    let orders: Vec<Value> = orders.into_iter().map(|(_, order)| order).collect();
    Ok(Json(
        json!({ "orders": orders, "next_cursor": next_cursor }),
    ))
}

pub(super) async fn timeline(
    State(shell): State<Shell>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let (order, _) = find(&shell, &caller, order_id(&id)?).await?;
    let recorded = history::of_order(shell.broker(), order.context.order_id).await?;
    let events: Vec<Value> = recorded
        .iter()
        .map(|event| {
            let envelope = &event.envelope;
            let mut view = json!({
                "subject": envelope.entry.subject,
                "event_id": envelope.id,
                "cause": envelope.causation,
                "time": clock::rfc3339(envelope.time),
                "service": envelope.entry.writer,
                "stream_sequence": event.stream_sequence,
                "trace_id": envelope.traceparent.as_deref().and_then(telemetry::trace_id),
            });
            if caller.is_operator() {
                view["body"] = events::render::body(envelope)
                    .unwrap_or_else(|error| json!({ "unreadable": error.to_string() }));
            }
            view
        })
        .collect();
    Ok(Json(
        json!({ "order_id": order.context.order_id, "events": events }),
    ))
}

/// Reads an order id from a path; what is none is simply not there.
pub(super) fn order_id(text: &str) -> Result<OrderId, Problem> {
    text.parse().map_err(|_| Problem::not_found("order"))
}

/// Finds an order that the caller may see.
pub(super) async fn find(
    shell: &Shell,
    caller: &Caller,
    id: OrderId,
) -> Result<(Order, String), Problem> {
    let sql = format!(
        "SELECT {COLUMNS} FROM orders WHERE order_id = $1 AND (user_id = $2 OR CAST($3 AS BIGINT) = 1)"
    );
    let operator = i64::from(caller.is_operator());
    let values = vec![id.0.into(), caller.user().as_str().into(), operator.into()];
    let rows = shell.database().query(&sql, values).await?;
    let row = rows.first().ok_or_else(|| Problem::not_found("order"))?;
    let traceparent: String = row
        .try_get("", "traceparent")
        .map_err(jetstream::Fault::from)?;
    Ok((read(row)?, traceparent))
}
