//! What is looked up when somebody reads the metrics: what waits in the outbox and in the
//! stream, and what should be gone by now. An idle system that nobody looks at does
//! nothing for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::future::{join, join_all};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::fault::Fault;
use crate::hearing::dead_letter;
use crate::operating::metrics::{self, Metrics};
use crate::saying::outbox;
use crate::shell::{Lag, Shell};
use crate::stream::history;

// Whoever asks again within this time gets what was found: reading needs no token.
const FRESH: Duration = Duration::from_secs(1);
// Longer than a healthy look takes; shorter than Prometheus waits.
const PATIENCE: Duration = Duration::from_secs(3);
const HOLDS_EVERY: Duration = Duration::from_secs(15);
// Holds of orders that are older than this are looked at when the process starts.
const HOLDS_BACK: i64 = 60 * 60 * 1000;
const HOLDS_MOST: i64 = 10_000;

/// The metrics of all services of a process, merged.
#[derive(Clone)]
pub(crate) struct Measured {
    samplers: Arc<[Sampler]>,
    metrics: Metrics,
}

impl Measured {
    pub(crate) fn new(shells: &[Shell], metrics: &Metrics) -> Self {
        Self {
            samplers: shells.iter().cloned().map(Sampler::new).collect(),
            metrics: metrics.clone(),
        }
    }

    /// What is measured, as Prometheus reads it.
    pub(crate) async fn answer(&self) -> Response {
        join_all(self.samplers.iter().map(Sampler::look)).await;
        let kind = [(CONTENT_TYPE, metrics::CONTENT_TYPE)];
        (kind, self.metrics.text()).into_response()
    }
}

/// Looks after the gauges of a service.
pub(crate) struct Sampler {
    shell: Shell,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    looked: Option<Instant>,
    looked_at_holds: Option<Instant>,
    // No hold of an order before this one is held.
    held_from: Uuid,
}

impl Sampler {
    pub(crate) fn new(shell: Shell) -> Self {
        Self {
            shell,
            state: Mutex::default(),
        }
    }

    /// Brings the gauges up to date. What cannot be found out keeps its last value; that a
    /// dependency is away has a gauge of its own.
    pub(crate) async fn look(&self) {
        let mut state = self.state.lock().await;
        if state.looked.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        state.looked = Some(Instant::now());
        let meters = self.shell.database().meters();
        let missing = self.shell.missing();
        for dependency in ["nats", "database"] {
            meters.dependency(dependency, !missing.contains(&dependency));
        }
        meters.fenced.set(self.shell.is_fenced().into());
        let both = join(self.look_at_database(&mut state), self.look_at_consumer());
        match tokio::time::timeout(PATIENCE, both).await {
            Ok((Ok(()), ())) => {}
            Ok((Err(fault), ())) => {
                tracing::debug!(service = self.shell.name(), %fault, "measuring");
            }
            Err(_) => tracing::debug!(service = self.shell.name(), "measuring took too long"),
        }
    }

    async fn look_at_database(&self, state: &mut State) -> Result<(), Fault> {
        let database = self.shell.database();
        let (meters, now) = (database.meters(), database.clock().now());
        let backlog = outbox::backlog(database).await?;
        meters.outbox_unpublished.set(backlog.unpublished);
        let oldest = backlog.oldest.map_or(0, |at| (now - at).max(0));
        meters.outbox_oldest.set(oldest as f64 / 1000.0);
        let open = dead_letter::count_open(database).await?;
        meters.dead_letters_open.set(open);
        for (what, sql) in self.shell.counted_overdue() {
            let rows = database.query(sql, vec![now.into()]).await?;
            let count = rows.first().map(|row| row.try_get("", "n")).transpose()?;
            meters.overdue(what, count.unwrap_or(0));
        }
        let due = state
            .looked_at_holds
            .is_none_or(|at| at.elapsed() >= HOLDS_EVERY);
        if due && self.shell.work().keeps_holds() {
            state.looked_at_holds = Some(Instant::now());
            self.look_at_holds(state, now).await?;
        }
        Ok(())
    }

    /// Counts the holds that are past the deadline of their order. Ids of orders sort by
    /// time, so what is settled long ago is passed over without an index that every hold
    /// would have to pay for.
    async fn look_at_holds(&self, state: &mut State, now: i64) -> Result<(), Fault> {
        let recent = order_at(now - HOLDS_BACK);
        let from = std::mem::replace(&mut state.held_from, recent);
        let sql = "SELECT order_id, deadline FROM holds
                   WHERE order_id >= $1 AND state = 'HELD' ORDER BY order_id LIMIT $2";
        let database = self.shell.database();
        // When there are too many to look at all of them in time, the next look begins at
        // the recent ones.
        let held = database
            .query(sql, vec![from.into(), HOLDS_MOST.into()])
            .await?;
        let mut overdue = 0;
        for row in &held {
            overdue += i64::from(row.try_get::<i64>("", "deadline")? < now);
        }
        if let Some(first) = held.first() {
            state.held_from = recent.min(first.try_get("", "order_id")?);
        }
        database.meters().overdue("holds", overdue);
        Ok(())
    }

    async fn look_at_consumer(&self) {
        if !self.shell.work().listens() {
            return;
        }
        let Some(lag) = self.shell.lag().await else {
            return;
        };
        let meters = self.shell.database().meters();
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        meters.consumer_pending.set(whole(lag.to_hear));
        meters.consumer_ack_pending.set(whole(lag.to_ack));
        meters.consumer_ack_pending_most.set(lag.to_ack_most);
        if let Ok(behind) = self.behind(&lag).await {
            meters.consumer_behind.set(behind as f64 / 1000.0);
        }
    }

    /// The age in milliseconds of the oldest event that the service has not acked.
    async fn behind(&self, lag: &Lag) -> Result<i64, Fault> {
        if lag.to_hear + lag.to_ack == 0 {
            return Ok(0);
        }
        let (broker, from) = (self.shell.broker(), lag.acked_until + 1);
        let filters = self.shell.work().filters();
        let first = filters.map(|filter| history::first(broker, filter, from));
        let mut oldest = None;
        for found in join_all(first).await {
            let time = found?.map(|recorded| recorded.envelope.time);
            oldest = oldest.into_iter().chain(time).min();
        }
        let now = self.shell.database().clock().now();
        Ok(oldest.map_or(0, |time: i64| (now - time).max(0)))
    }
}

/// The least id that an order placed at this time can have (`UUIDv7`, RFC 9562).
fn order_at(millis: i64) -> Uuid {
    Uuid::from_u128(u128::try_from(millis).unwrap_or(0) << 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_orders_sort_by_time() {
        let id = crate::clock::new_id();
        let now = crate::clock::wall();
        assert!(order_at(now - 10_000) < id && id < order_at(now + 10_000));
    }
}
