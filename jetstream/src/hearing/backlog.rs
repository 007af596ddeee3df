//! Working off a backlog without keeping others waiting.
//!
//! A service that was away is faster, when it comes back, than those that hear it: live orders
//! that do not need it would wait behind its answers to the old ones. So it looks how much the
//! others have waiting, and goes as fast as they follow. A service that every order needs does
//! not yield: then all of them wait for it.

use std::collections::HashMap;
use std::time::Duration;

use events::Step;
use events::catalog::{self, Demand};
use futures::future::join_all;
use tokio::time::Instant;

use crate::stream::broker::Context;
use crate::stream::position::{self, Position};

// So many events are a backlog, and no moment under load; it is over with so few.
const BACKLOG: u64 = 5_000;
const OVER: u64 = 500;
// What comes at once should not make others wait.
const BATCH: usize = 64;
// More events than a service has waiting that keeps up.
const WAITING: u64 = 32;
const LOOK_EVERY: Duration = Duration::from_millis(100);
// Looks in a row that saw nothing of the others: who cannot see them does not wait for them.
const BLIND: u32 = 20;
// Events per second: at first, at least, and at most, so that it is soon slower.
const FIRST: f64 = 2_000.0;
const LEAST: f64 = 1_000.0;
const MOST: f64 = 20_000.0;
const FASTER: f64 = 1.1;
const SLOWER: f64 = 0.8;

/// What a consumer does while it has a backlog.
pub(crate) struct Backlog {
    service: String,
    broker: Context,
    pace: Option<Pace>,
}

impl Backlog {
    /// Of a service.
    pub(crate) fn of(service: &str, broker: Context) -> Self {
        Self {
            service: service.to_owned(),
            broker,
            pace: None,
        }
    }

    /// Events that a batch may have.
    pub(crate) fn most(&self, usual: usize) -> usize {
        match &self.pace {
            Some(pace) if !pace.is_blind() => BATCH.min(usual),
            _ => usual,
        }
    }

    /// Waits after a batch for as long as others need, while `behind` events are to come. May
    /// be dropped at any time.
    pub(crate) async fn yielding(&mut self, handled: usize, behind: u64) {
        if behind < OVER && self.pace.take().is_some() {
            tracing::info!(service = self.service, "the backlog is worked off");
        }
        if self.pace.is_none() && (behind < BACKLOG || !is_optional(&self.service)) {
            return;
        }
        let pace = self.pace.get_or_insert_with(|| {
            tracing::info!(
                service = self.service,
                behind,
                "works off a backlog, as fast as others follow"
            );
            Pace::new()
        });
        if pace.is_blind() {
            return;
        }
        if pace.looked.elapsed() >= LOOK_EVERY {
            let looks = looks_at(&self.service).into_iter().map(|name| {
                let broker = &self.broker;
                async move { Some((name, position::of_consumer(broker, name).await.ok()?)) }
            });
            let found = tokio::time::timeout(LOOK_EVERY, join_all(looks)).await;
            pace.look(&found.unwrap_or_default().into_iter().flatten().collect());
            if pace.is_blind() {
                tracing::warn!(
                    service = self.service,
                    behind,
                    "cannot see how far the other services are; works off its backlog as fast as \
                     it can"
                );
                return;
            }
        }
        tokio::time::sleep_until(pace.after(handled, Instant::now())).await;
    }
}

/// Whether there are orders that do not need a service, but others.
fn is_optional(service: &str) -> bool {
    let least = Demand {
        to_pay: false,
        coupon: false,
        from_cart: false,
    };
    Step::named(service).is_ok_and(|step| !(step.entry().needed)(&least))
}

/// The consumers that a service looks at: those of the other services that take part in the
/// choreography. Followers do not: nobody waits for them.
pub(crate) fn looks_at(service: &str) -> Vec<&'static str> {
    let writers = catalog::all().map(|entry| entry.writer);
    let mut others: Vec<_> = writers
        .filter(|name| is_optional(service) && *name != service)
        .collect();
    others.sort_unstable();
    others.dedup();
    others
}

/// How fast a backlog is worked off.
struct Pace {
    // Events per second.
    rate: f64,
    due: Instant,
    looked: Instant,
    others: HashMap<&'static str, Position>,
    // Looks in a row that saw none of them.
    unseen: u32,
}

impl Pace {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            rate: FIRST,
            due: now,
            looked: now,
            others: HashMap::new(),
            unseen: 0,
        }
    }

    fn is_blind(&self) -> bool {
        self.unseen >= BLIND
    }

    /// Goes slower while one of the others does not keep up. One that has a backlog of its own,
    /// or stands still, would not be faster if this one waited. When none is seen, it goes on
    /// as before.
    fn look(&mut self, found: &HashMap<&'static str, Position>) {
        self.looked = Instant::now();
        if found.is_empty() {
            self.unseen += 1;
            return;
        }
        self.unseen = 0;
        let late = found.iter().any(|(name, now)| {
            let waiting = now.to_hear + now.to_ack;
            let before = self.others.get(name);
            let moves = before.is_some_and(|before| before.acked_until < now.acked_until);
            (WAITING..BACKLOG).contains(&waiting) && moves
        });
        self.rate = match late {
            true => (self.rate * SLOWER).max(LEAST),
            false => (self.rate * FASTER).min(MOST),
        };
        self.others.clone_from(found);
    }

    /// When the next batch is due after one of so many events. What was slower than it might
    /// have been is not caught up with.
    fn after(&mut self, handled: usize, now: Instant) -> Instant {
        let due = self.due + Duration::from_secs_f64(handled as f64 / self.rate);
        self.due = due.max(now);
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(waiting: u64, acked_until: u64) -> HashMap<&'static str, Position> {
        let position = Position {
            to_hear: waiting / 2,
            to_ack: waiting - waiting / 2,
            redelivered: 0,
            acked_until,
        };
        HashMap::from([("order", position)])
    }

    /// The rate after looks at another service.
    fn rate(looks: impl IntoIterator<Item = (u64, u64)>) -> f64 {
        let mut pace = Pace::new();
        for (waiting, acked_until) in looks {
            pace.look(&found(waiting, acked_until));
        }
        pace.rate
    }

    #[test]
    fn it_is_as_fast_as_others_follow_and_never_stands_still() {
        let many = |waiting| (0..100).map(move |look| (waiting, look * 10));
        assert!(rate(many(0)) > 10_000.0);
        assert!(rate(many(WAITING - 1)) > 10_000.0);
        assert_eq!(rate(many(WAITING)), LEAST);
        assert!(rate(many(BACKLOG)) > 10_000.0, "a backlog of its own");
        let still = (0..100).map(|_| (1_000, 10));
        assert!(rate(still) > 10_000.0, "it stands still");
    }

    #[test]
    fn a_look_that_sees_nobody_changes_nothing_and_many_of_them_end_the_yielding() {
        let mut pace = Pace::new();
        for look in 0..3 {
            for _ in 1..BLIND {
                pace.look(&HashMap::new());
            }
            assert!(!pace.is_blind() && pace.others.len() == look.min(1));
            pace.look(&found(WAITING, look as u64 * 10));
        }
        assert!(pace.rate < FIRST, "it looks at the others again");
        for _ in 0..BLIND {
            pace.look(&HashMap::new());
        }
        assert!(pace.is_blind());
    }

    #[test]
    fn a_batch_is_due_when_the_rate_says_so() {
        let mut pace = Pace::new();
        let began = pace.due;
        let each = Duration::from_secs_f64(200.0 / FIRST);
        assert_eq!(pace.after(200, began), began + each);
        assert_eq!(pace.after(200, began), began + each * 2);
        let later = began + Duration::from_secs(9);
        assert_eq!(pace.after(200, later), later, "not caught up with");
        assert_eq!(pace.after(200, later), later + each);
    }

    #[test]
    fn services_that_every_order_needs_do_not_yield_and_followers_are_not_waited_for() {
        let services = ["order", "stock", "point", "coupon", "cart", "analytics"];
        let yielding: Vec<_> = services.into_iter().filter(|s| is_optional(s)).collect();
        assert_eq!(yielding, ["point", "coupon", "cart"]);
        assert_eq!(looks_at("coupon"), ["cart", "order", "point", "stock"]);
        assert_eq!(looks_at("stock"), [""; 0]);
    }
}
