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

/// Those who wait, and for which orders.
#[derive(Default)]
struct Waiting {
    watched: Mutex<Watched>,
    wake: Notify,
    closing: CancellationToken,
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

impl Waiting {
    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(self: &Arc<Self>, id: OrderId) -> Option<Watch> {
        let mut watched = self.watched();
        if watched.waiting >= MOST {
            return None;
        }
        watched.waiting += 1;
        let newest = watched.orders.entry(id);
        let newest = newest.or_insert_with(|| watch::Sender::new(None));
        Some(Watch {
            newest: newest.subscribe(),
            waiting: self.clone(),
            id,
        })
    }

    fn hint(&self, subject: &str) {
        let id = subject.strip_prefix(HINTS).and_then(|id| id.parse().ok());
        let Some(id) = id else { return };
        let mut watched = self.watched();
        if watched.orders.contains_key(&id) && watched.hinted.insert(id) {
            self.wake.notify_one();
        }
    }

    fn tell(&self, snapshot: Snapshot) {
        let watched = self.watched();
        if let Some(newest) = watched.orders.get(&snapshot.order.context.order_id) {
            newest.send_replace(Some(Arc::new(snapshot)));
        }
    }
}

/// The orders that somebody waits for.
#[derive(Clone)]
pub(crate) struct Watching {
    shell: Shell,
    waiting: Arc<Waiting>,
}

impl Watching {
    /// Begins to listen for hints, and to look again.
    pub(super) fn start(shell: &Shell) -> Self {
        let waiting = Arc::new(Waiting {
            closing: shell.closing(),
            ..Waiting::default()
        });
        let watching = Self {
            shell: shell.clone(),
            waiting: waiting.clone(),
        };
        shell.on_hint(&format!("{HINTS}*"), move |subject| waiting.hint(subject));
        shell.spawn("watching", watching.clone().run());
        watching
    }

    /// Waits for an order from now on; nothing when too many wait already. Whoever reads
    /// the order after this misses no change.
    pub(super) fn watch(&self, id: OrderId) -> Option<Watch> {
        self.waiting.watch(id)
    }

    async fn run(self) {
        let stop = self.shell.stopping();
        let mut again = tokio::time::interval(LOOK_AGAIN);
        again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let seen = tokio::select! {
                () = stop.cancelled() => return,
                () = self.waiting.wake.notified() => self.waiting.watched().take_hinted(),
                _ = again.tick() => self.waiting.watched().all(),
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
        for newer in orders::newer(self.shell.database(), seen).await? {
            match newer {
                Ok((order, traceparent)) => {
                    let snapshot = Snapshot::new(&self.shell, order, &traceparent);
                    self.waiting.tell(snapshot);
                }
                Err(fault) => tracing::error!(%fault, "a watched order cannot be read"),
            }
        }
        Ok(())
    }
}

/// Somebody who waits for an order; when the last one leaves, it is forgotten.
pub(super) struct Watch {
    waiting: Arc<Waiting>,
    id: OrderId,
    newest: watch::Receiver<Newest>,
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
                () = self.waiting.closing.cancelled() => return None,
                changed = self.newest.changed() => changed.ok()?,
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.waiting.watched();
        watched.waiting -= 1;
        let newest = watched.orders.get(&self.id);
        // This one still counts.
        if newest.is_some_and(|newest| newest.receiver_count() <= 1) {
            watched.orders.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use jetstream::clock;

    use super::*;

    #[test]
    fn an_order_is_forgotten_when_the_last_one_leaves() {
        let waiting = Arc::new(Waiting::default());
        let id = OrderId(clock::new_id());
        let one = waiting.watch(id).expect("room");
        let two = waiting.watch(id).expect("room");
        drop(one);
        assert_eq!(waiting.watched().all(), [(id, 0)]);
        drop(two);
        assert_eq!(waiting.watched().all(), []);
        assert_eq!(waiting.watched().waiting, 0);
    }

    #[test]
    fn hints_at_what_nobody_waits_for_are_not_kept() {
        let waiting = Arc::new(Waiting::default());
        let id = OrderId(clock::new_id());
        waiting.hint(&format!("{HINTS}{id}"));
        assert!(waiting.watched().hinted.is_empty());
        let watch = waiting.watch(id).expect("room");
        for subject in ["", HINTS, "notify.order.x", "notify.other.x"] {
            waiting.hint(subject);
        }
        assert!(waiting.watched().hinted.is_empty());
        // Many hints are one look.
        for _ in 0..3 {
            waiting.hint(&format!("{HINTS}{id}"));
        }
        assert_eq!(waiting.watched().take_hinted(), [(id, 0)]);
        waiting.hint(&format!("{HINTS}{id}"));
        drop(watch);
        assert_eq!(
            waiting.watched().take_hinted(),
            [],
            "it left before the look"
        );
    }

    #[test]
    fn not_more_wait_than_there_is_room_for() {
        let waiting = Arc::new(Waiting::default());
        let id = OrderId(clock::new_id());
        let mut all: Vec<_> = (0..MOST)
            .map(|_| waiting.watch(id).expect("room"))
            .collect();
        assert!(waiting.watch(id).is_none());
        all.pop();
        assert!(waiting.watch(id).is_some());
    }
}
