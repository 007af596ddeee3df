//! Watching orders: whoever waits for a change of one is told the newest state.
//!
//! While somebody waits, one subscription hears the hints of all orders, and one task reads
//! those that changed, together: waiting costs the database one statement for each round of
//! changes, whatever the number of those who wait. As hints may be lost, all are looked at
//! every 2 seconds.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use events::{OrderId, UserId};
use jetstream::saying::hint::Heard;
use jetstream::{Fault, Problem, Shell};
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
        let whole = view::whole(&order, Some(traceparent), jaeger);
        let json = serde_json::to_string(&whole).unwrap_or_default();
        Self { order, json }
    }
}

type Newest = Option<Arc<Snapshot>>;

/// Those who wait, and for which orders.
#[derive(Default)]
struct Waiting {
    watched: Mutex<Watched>,
    wake: Notify,
    // Whether anybody waits, so that hints are heard.
    anybody: watch::Sender<bool>,
    closing: CancellationToken,
}

#[derive(Default)]
struct Watched {
    // An order is here exactly as long as somebody waits for it.
    orders: HashMap<OrderId, watch::Sender<Newest>>,
    hinted: HashSet<OrderId>,
    waiting: usize,
    // How often each user waits.
    users: HashMap<UserId, usize>,
}

/// Why somebody cannot wait here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// Too many wait in this process.
    Here,
    /// This user waits too often.
    User,
}

impl From<Full> for Problem {
    fn from(full: Full) -> Self {
        let (status, detail) = match full {
            Full::Here => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too many clients wait here; try again, or ask for the status",
            ),
            Full::User => (
                StatusCode::TOO_MANY_REQUESTS,
                "you follow too many orders at once; end a stream, or ask for the status",
            ),
        };
        Problem::new(status, "TOO_MANY_STREAMS", detail).retry_after(5)
    }
}

impl Watched {
    /// Counts one more of a user's, if there is room.
    fn admit(&mut self, user: &UserId, per_user: usize) -> Result<(), Full> {
        if self.waiting >= MOST {
            return Err(Full::Here);
        }
        let own = self.users.entry(user.clone()).or_default();
        if *own >= per_user {
            return Err(Full::User);
        }
        *own += 1;
        self.waiting += 1;
        Ok(())
    }

    fn dismiss(&mut self, user: &UserId) {
        self.waiting -= 1;
        if let Some(own) = self.users.get_mut(user) {
            *own -= 1;
            if *own == 0 {
                self.users.remove(user);
            }
        }
    }

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

    fn watch(self: &Arc<Self>, id: OrderId, user: &UserId, per_user: usize) -> Result<Watch, Full> {
        let mut watched = self.watched();
        watched.admit(user, per_user)?;
        let newest = watched.orders.entry(id);
        let newest = newest.or_insert_with(|| watch::Sender::new(None));
        self.anybody
            .send_if_modified(|anybody| !std::mem::replace(anybody, true));
        Ok(Watch {
            newest: newest.subscribe(),
            waiting: self.clone(),
            user: user.clone(),
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

    /// Has all orders looked at: hints at them may have been lost.
    fn hint_at_all(&self) {
        let mut watched = self.watched();
        watched.hinted = watched.orders.keys().copied().collect();
        self.wake.notify_one();
    }

    /// Ends listening when nobody waits any more.
    fn rest(&self) {
        let watched = self.watched();
        let nobody = watched.orders.is_empty();
        self.anybody
            .send_if_modified(|anybody| nobody && std::mem::replace(anybody, false));
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
        let anybody = waiting.anybody.subscribe();
        shell.on_hint(&format!("{HINTS}*"), anybody, move |heard| match heard {
            Heard::Begins => waiting.hint_at_all(),
            Heard::Hint(subject) => waiting.hint(subject),
        });
        shell.spawn("watching", watching.clone().run());
        watching
    }

    /// Waits for an order from now on, on behalf of a user. Whoever reads the order after
    /// this misses no change.
    ///
    /// # Errors
    /// When too many wait already, here or for this user.
    pub(super) fn watch(&self, id: OrderId, user: &UserId) -> Result<Watch, Full> {
        let per_user = self.shell.settings().limits.waits_per_user;
        self.waiting.watch(id, user, per_user)
    }

    async fn run(self) {
        let stop = self.shell.stopping();
        let mut again = tokio::time::interval(LOOK_AGAIN);
        again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let seen = tokio::select! {
                () = stop.cancelled() => return,
                () = self.waiting.wake.notified() => self.waiting.watched().take_hinted(),
                _ = again.tick() => {
                    self.waiting.rest();
                    self.waiting.watched().all()
                }
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
        for newer in orders::newer(self.shell.backstage().database(), seen).await? {
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
    user: UserId,
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
        watched.dismiss(&self.user);
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

    fn alice() -> UserId {
        UserId::new("alice").expect("a user id")
    }

    #[test]
    fn an_order_is_forgotten_when_the_last_one_leaves() {
        let waiting = Arc::new(Waiting::default());
        let id = OrderId(clock::new_id());
        let one = waiting.watch(id, &alice(), MOST).expect("room");
        let two = waiting.watch(id, &alice(), MOST).expect("room");
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
        let watch = waiting.watch(id, &alice(), MOST).expect("room");
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
            .map(|_| waiting.watch(id, &alice(), MOST).expect("room"))
            .collect();
        let one_more = waiting.watch(id, &alice(), MOST + 1);
        assert_eq!(one_more.err(), Some(Full::Here));
        all.pop();
        assert!(waiting.watch(id, &alice(), MOST).is_ok());
    }

    #[test]
    fn one_user_leaves_room_for_the_others() {
        let waiting = Arc::new(Waiting::default());
        let id = OrderId(clock::new_id());
        let bob = UserId::new("bob").expect("a user id");
        let own: Vec<_> = (0..2)
            .map(|_| waiting.watch(id, &alice(), 2).expect("room"))
            .collect();
        assert_eq!(waiting.watch(id, &alice(), 2).err(), Some(Full::User));
        assert!(waiting.watch(id, &bob, 2).is_ok());
        drop(own);
        assert!(waiting.watch(id, &alice(), 2).is_ok());
        assert!(waiting.watched().users.is_empty(), "nobody is remembered");
    }
}
