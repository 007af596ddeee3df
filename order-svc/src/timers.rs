//! Deadlines: of orders that are not decided, and of compensations that are not
//! complete. A timer only attempts; the order decides (R9).

use std::collections::BTreeMap;
use std::time::Duration;

use events::OrderId;
use futures::FutureExt as _;
use jetstream::{Fault, Shell, clock, is_off};

use crate::domain::{Input, State};
use crate::placing;
use crate::store::orders;

const EVERY: Duration = Duration::from_secs(1);
const AT_ONCE: i64 = 500;

pub(crate) fn start(shell: &Shell) {
    shell.every("deadlines", EVERY, |shell| ring(shell).boxed());
    // A deadline that passed a while ago is one that nobody acts on.
    shell.count_overdue(
        "orders",
        "SELECT count(*) AS n FROM orders WHERE due_at > 0 AND due_at < $1 - 5000",
    );
    // These wait for a person.
    shell.count_overdue(
        "compensations",
        "SELECT count(*) AS n FROM orders WHERE state = 'COMPENSATION_FAILED' AND $1 > 0",
    );
}

async fn ring(shell: Shell) -> Result<(), Fault> {
    loop {
        let sql = match is_off("R9") {
            true => "SELECT order_id FROM orders WHERE state = 'CONFIRMED' AND $1 > 0 LIMIT $2",
            false => {
                "SELECT order_id FROM orders WHERE due_at > 0 AND due_at <= $1
                 ORDER BY due_at LIMIT $2"
            }
        };
        let now = shell.now();
        let rows = shell
            .backstage()
            .database()
            .query(sql, vec![now.into(), AT_ONCE.into()])
            .await?;
        if rows.is_empty() {
            return Ok(());
        }
        // Answers that wait to be heard must not become mass cancellation.
        let patience = clock::millis(shell.settings().order_deadline);
        if shell.is_behind(patience).await {
            tracing::warn!(
                due = rows.len(),
                "deadlines wait until the backlog is heard"
            );
            return Ok(());
        }
        let ids = rows
            .iter()
            .map(|row| Ok(OrderId(row.try_get("", "order_id")?)));
        let ids = ids.collect::<Result<Vec<_>, Fault>>()?;
        let full = ids.len() as i64 == AT_ONCE;
        ring_for(&shell, ids).await?;
        if !full {
            return Ok(());
        }
    }
}

async fn ring_for(shell: &Shell, ids: Vec<OrderId>) -> Result<(), Fault> {
    let rules = placing::rules(shell.settings());
    let tx = shell.backstage().begin().await?;
    let mut due = orders::load(&tx, ids.iter().copied()).await?;
    let traces = orders::traces(&tx, shell, ids).await?;
    let loaded: BTreeMap<_, _> = due.iter().map(|(id, order)| (*id, order.version)).collect();
    let mut emissions = Vec::new();
    for order in due.values_mut() {
        if is_off("R9") && order.state == State::Confirmed {
            // It decides, instead of attempting.
            (order.state, order.due_at) = (State::Pending, 1);
        }
        let mut said = order
            .hear(Input::Due, tx.now(), &rules)
            .map_err(|contradiction| Fault::Permanent(contradiction.to_string()))?;
        said.retain(placing::is_said);
        let trace = traces.get(&order.context.order_id).copied();
        let say = |say| placing::from_outside(order, say, trace, "deadline");
        emissions.extend(said.iter().map(say));
    }
    let changed = due
        .iter()
        .filter(|(id, order)| loaded[*id] != order.version);
    orders::save(&tx, changed.map(|(id, order)| (order, loaded[id]))).await?;
    shell.commit(tx, emissions).await
}
