//! What always holds in order's tables, and its orders for those who look at them beside
//! other services' tables.

use jetstream::Fault;
use jetstream::database::snapshot::Snapshot;
use jetstream::operating::evidence::PAGE;
use jetstream::operating::invariants::{Invariant, text_uuid};
use sea_orm::DbBackend;
use uuid::Uuid;

use crate::domain::Order;
use crate::store::orders;

/// What always holds in order's tables.
pub const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "I8",
        rule: "an order is confirmed and canceled only when its user cancels it afterwards",
        about: "order",
        sql: |_, _| {
            "SELECT order_id AS id, state || ', ' || reason AS found FROM orders
             WHERE confirmed_at > 0 AND attempt > 0 AND reason <> 'CANCELED_BY_USER'"
                .to_owned()
        },
    },
    Invariant {
        name: "I9",
        rule: "each decision is said once, and asking again is counted",
        about: "order",
        sql: |_, _| {
            "SELECT id, state || ', asked ' || attempt || ' times; said: ' || created || ' created, '
                 || confirmed || ' confirmed, ' || canceled || ' canceled, ' || compensated
                 || ' compensated, ' || failed || ' given up' AS found
             FROM (SELECT o.order_id AS id, o.state AS state, o.attempt AS attempt,
                       o.confirmed_at AS confirmed_at, coalesce(s.created, 0) AS created,
                       coalesce(s.confirmed, 0) AS confirmed, coalesce(s.canceled, 0) AS canceled,
                       coalesce(s.compensated, 0) AS compensated, coalesce(s.failed, 0) AS failed
                   FROM orders o LEFT JOIN
                       (SELECT correlation,
                            sum(CASE subject WHEN 'order.created.pending' THEN 1 ELSE 0 END) AS created,
                            sum(CASE subject WHEN 'order.confirmed' THEN 1 ELSE 0 END) AS confirmed,
                            sum(CASE subject WHEN 'order.canceled' THEN 1 ELSE 0 END) AS canceled,
                            sum(CASE subject WHEN 'order.compensated' THEN 1 ELSE 0 END) AS compensated,
                            sum(CASE subject WHEN 'order.compensation.failed' THEN 1 ELSE 0 END) AS failed
                        FROM outbox GROUP BY correlation) s ON s.correlation = o.order_id
                   WHERE o.placed_at >= (SELECT coalesce(min(decided_at), 0) FROM outbox)) AS told
             WHERE created <> 1
                 OR confirmed <> CASE WHEN confirmed_at > 0 THEN 1 ELSE 0 END
                 OR canceled <> attempt
                 OR compensated <> CASE WHEN state = 'CANCELED' THEN 1 ELSE 0 END
                 OR (state = 'COMPENSATION_FAILED' AND failed = 0)"
                .to_owned()
        },
    },
    Invariant {
        name: "I9",
        rule: "nothing is said without an order",
        about: "order",
        sql: |_, _| {
            "SELECT DISTINCT b.correlation AS id, b.subject AS found FROM outbox b
             WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.order_id = b.correlation)"
                .to_owned()
        },
    },
    Invariant {
        name: "I15",
        rule: "a request that was accepted has its order",
        about: "request",
        sql: |backend, _| {
            let named = match backend {
                DbBackend::Postgres => "CAST(k.answer AS JSON)->>'order_id'",
                _ => "json_extract(k.answer, '$.order_id')",
            };
            let order = text_uuid(backend, named);
            format!(
                "SELECT k.user_id || ' ' || k.key AS id, k.answer AS found FROM idempotency_keys k
                 WHERE k.route = 'POST /orders' AND k.status BETWEEN 200 AND 299
                     AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.order_id = {order})"
            )
        },
    },
];

/// A page of orders after an order, by id.
///
/// # Errors
/// When the database is away.
pub async fn page(snapshot: &Snapshot, after: Uuid) -> Result<Vec<Order>, Fault> {
    let columns = orders::COLUMNS;
    let sql =
        format!("SELECT {columns} FROM orders WHERE order_id > $1 ORDER BY order_id LIMIT {PAGE}");
    let rows = snapshot.query(&sql, vec![after.into()]).await?;
    rows.iter().map(orders::read).collect()
}

/// The version that an order has now; 0: there is none.
///
/// # Errors
/// When the database is away.
pub async fn version(snapshot: &Snapshot, order: Uuid) -> Result<i64, Fault> {
    let sql = "SELECT version FROM orders WHERE order_id = $1";
    let rows = snapshot.query(sql, vec![order.into()]).await?;
    match rows.first() {
        Some(row) => Ok(row.try_get("", "version")?),
        None => Ok(0),
    }
}
