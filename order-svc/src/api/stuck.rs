//! `GET /orders/stuck`: the work list of operators.

use axum::Json;
use events::OrderId;
use jetstream::http::Operator;
use jetstream::{Fault, Problem};
use serde::Serialize;
use utoipa::ToSchema;

const AT_ONCE: i64 = 100;
// What is only just due is being looked at.
const JUST_DUE: i64 = 2_000;

/// The orders that are past due, the oldest first
#[derive(Serialize, ToSchema)]
pub(super) struct Stuck {
    #[schema(value_type = Vec<Uuid>)]
    orders: Vec<OrderId>,
    /// Whether there are more of them
    more: bool,
}

/// The orders that are past due: not decided by their deadline, not undone when it was first
/// asked for, or given up.
pub(super) async fn stuck(operator: Operator) -> Result<Json<Stuck>, Problem> {
    let due_before = operator.now() - JUST_DUE;
    let sql = "SELECT order_id FROM orders WHERE due_at > 0 AND (due_at <= $1 OR overdue > 0)
               UNION ALL
               SELECT order_id FROM orders WHERE state = 'COMPENSATION_FAILED'
               ORDER BY order_id LIMIT $2";
    let values = vec![due_before.into(), (AT_ONCE + 1).into()];
    let rows = operator.query(sql, values).await?;
    let ids = rows
        .iter()
        .map(|row| Ok(OrderId(row.try_get("", "order_id")?)));
    let mut orders = ids.collect::<Result<Vec<_>, Fault>>()?;
    let more = orders.len() as i64 > AT_ONCE;
    orders.truncate(AT_ONCE as usize);
    Ok(Json(Stuck { orders, more }))
}
