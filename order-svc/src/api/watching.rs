//! Watching orders: whoever waits for a change of one is told the newest state.
//!
//! One subscription hears the hints of all orders, and one task reads those that changed,
//! together: waiting costs the database one statement for each round of changes, whatever
//! the number of those who wait. As hints may be lost, all are looked at every 2 seconds.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use events::OrderId;
use jetstream::{Fault, Shell};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::view;
use crate::domain::Order;
use crate::store::orders::{self, HINTS};

const LOOK_AGAIN: Duration = Duration::from_secs(2);
// Those who wait at once, in this process.
const MOST: usize = 10_000;
// Orders that are read by one statement.
const AT_ONCE: usize = 500;

/// An order as it was at a version, ready to be sent to everybody who waits for it.
pub(super) struct Snapshot {
    pub(super) order: Order,
    /// What `GET /orders/{id}` answers.
    pub(super) json: String,
}

impl Snapshot {
    pub(super) fn new(shell: &Shell, order: Order, traceparent: &str) -> Self {
        let jaeger = shell.settings().jaeger_url.as_deref();
        let json = view::whole(&order, Some(traceparent), jaeger).to_string();
        Self { order, json }
    }
}

type Newest = Option<Arc<Snapshot>>;

/// The orders that somebody waits for.
#[derive(Clone)]
pub(crate) struct Watching(Arc<Inner>);

struct Inner {
    shell: Shell,
    watched: Mutex<Watched>,
    wake: Notify,
}

#[derive(Default)]
struct Watched {
    // An order is here exactly as long as somebody waits for it.
    orders: HashMap<OrderId, watch::Sender<Newest>>,
    hinted: HashSet<OrderId>,
    waiting: usize,
}

impl Watched {
    fn take_hinted(&mut self) -> Vec<(OrderId, i64)> {
        let hinted = std::mem::take(&mut self.hinted);
        let seen = |id| Some((id, version(self.orders.get(&id)?)));
        hinted.into_iter().filter_map(seen).collect()
    }

    fn all(&self) -> Vec<(OrderId, i64)> {
        let orders = self.orders.iter();
        orders.map(|(id, newest)| (*id, version(newest))).collect()
    }
}

/// The version that was last seen; 0 when the order was not read yet.
fn version(newest: &watch::Sender<Newest>) -> i64 {
    newest
        .borrow()
        .as_ref()
        .map_or(0, |seen| seen.order.version)
}

impl Watching {
    /// Begins to listen for hints, and to look again.
    pub(super) fn start(shell: &Shell) -> Self {
        let watching = Self(Arc::new(Inner {
            shell: shell.clone(),
            watched: Mutex::default(),
            wake: Notify::new(),
        }));
        let hearing = watching.clone();
        shell.on_hint(&format!("{HINTS}*"), move |subject| hearing.hint(subject));
        shell.spawn("watching", watching.clone().run());
        watching
    }

    /// Waits for an order from now on; nothing when too many wait already. Whoever reads
    /// the order after this misses no change.
    pub(super) fn watch(&self, id: OrderId) -> Option<Watch> {
        let mut watched = self.watched();
        if watched.waiting >= MOST {
            return None;
        }
        watched.waiting += 1;
        let newest = watched.orders.entry(id);
        let newest = newest
            .or_insert_with(|| watch::Sender::new(None))
            .subscribe();
        Some(Watch {
            watching: self.clone(),
            id,
            newest,
            closing: self.0.shell.closing(),
        })
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        let watched = self.0.watched.lock();
        watched.unwrap_or_else(PoisonError::into_inner)
    }

    fn hint(&self, subject: &str) {
        let id = subject.strip_prefix(HINTS).and_then(|id| id.parse().ok());
        let Some(id) = id else { return };
        let mut watched = self.watched();
        if watched.orders.contains_key(&id) && watched.hinted.insert(id) {
            self.0.wake.notify_one();
        }
    }

    async fn run(self) {
        let stop = self.0.shell.stopping();
        let mut again = tokio::time::interval(LOOK_AGAIN);
        again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let seen = tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.wake.notified() => self.watched().take_hinted(),
                _ = again.tick() => self.watched().all(),
            };
            for some in seen.chunks(AT_ONCE) {
                if let Err(fault) = self.look(some).await {
                    tracing::warn!(%fault, "watched orders could not be read; they are read again");
                    break;
                }
            }
        }
    }

    /// Reads those that have changed, and tells who waits.
    async fn look(&self, seen: &[(OrderId, i64)]) -> Result<(), Fault> {
        let shell = &self.0.shell;
        for (order, traceparent) in orders::newer(shell.database(), seen).await? {
            let snapshot = Snapshot::new(shell, order, &traceparent);
            let watched = self.watched();
            if let Some(newest) = watched.orders.get(&snapshot.order.context.order_id) {
                newest.send_replace(Some(Arc::new(snapshot)));
            }
        }
        Ok(())
    }
}

/// Somebody who waits for an order; when the last one leaves, it is forgotten.
pub(super) struct Watch {
    watching: Watching,
    id: OrderId,
    newest: watch::Receiver<Newest>,
    closing: CancellationToken,
}

impl Watch {
    /// Waits until the order is newer than a version; nothing when the service is closing.
    pub(super) async fn newer(&mut self, version: i64) -> Newest {
        loop {
            let newest = self.newest.borrow_and_update().clone();
            if newest
                .as_ref()
                .is_some_and(|newest| newest.order.version > version)
            {
                return newest;
            }
            tokio::select! {
                () = self.closing.cancelled() => return None,
                changed = self.newest.changed() => changed.ok()?,
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.watching.watched();
        watched.waiting -= 1;
        let newest = watched.orders.get(&self.id);
        // This one still counts.
        if newest.is_some_and(|newest| newest.receiver_count() <= 1) {
            watched.orders.remove(&self.id);
        }
    }
}
