//! How the load learns what became of its orders: it hears the decisions on the broker.
//!
//! That costs the system one copy of one event for each order, and one request less than
//! asking for it. A client of the API waits or asks instead; `--outcome wait` does so.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use events::catalog::{Entry, ORDER_COMPENSATED, ORDER_COMPENSATION_FAILED, ORDER_CONFIRMED};
use events::{Envelope, OrderId};
use futures::StreamExt as _;
use jetstream::stream::broker::Context;
use tokio::sync::oneshot;

/// An order that is not decided within this time fails the run.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Confirmed,
    Canceled,
    CompensationFailed,
}

/// The decisions that were heard.
#[derive(Clone, Default)]
pub(super) struct Outcomes(Rc<RefCell<Heard>>);

#[derive(Default)]
struct Heard {
    waiting: HashMap<OrderId, Waiting>,
    // Heard before somebody waited: the answer with the order's id was slower.
    early: HashMap<OrderId, (Outcome, Instant)>,
}

struct Waiting {
    // Of a canceled order it does not matter that it was confirmed before.
    canceled: bool,
    tell: oneshot::Sender<(Outcome, Instant)>,
}

impl Outcomes {
    /// Begins to hear.
    pub(super) async fn listen(broker: &Context) -> Result<Self, String> {
        let outcomes = Self::default();
        let says: [(&'static Entry, Outcome); 3] = [
            (&ORDER_CONFIRMED, Outcome::Confirmed),
            (&ORDER_COMPENSATED, Outcome::Canceled),
            (&ORDER_COMPENSATION_FAILED, Outcome::CompensationFailed),
        ];
        for (entry, outcome) in says {
            let subscribed = broker.client().subscribe(entry.subject).await;
            let mut events = subscribed.map_err(|error| error.to_string())?;
            let outcomes = outcomes.clone();
            tokio::task::spawn_local(async move {
                while let Some(message) = events.next().await {
                    let now = Instant::now();
                    if let Ok(envelope) = Envelope::decode(entry.subject, message.payload) {
                        outcomes.hear(OrderId(envelope.correlation), outcome, now);
                    }
                }
            });
        }
        let flushed = broker.client().flush().await;
        flushed.map_err(|error| error.to_string())?;
        Ok(outcomes)
    }

    fn hear(&self, order: OrderId, outcome: Outcome, now: Instant) {
        let mut heard = self.0.borrow_mut();
        match heard.waiting.remove(&order) {
            None => drop(heard.early.insert(order, (outcome, now))),
            Some(waiting) if waiting.canceled && outcome == Outcome::Confirmed => {
                heard.waiting.insert(order, waiting);
            }
            Some(waiting) => drop(waiting.tell.send((outcome, now))),
        }
    }

    /// Waits for the outcome of an order, and when it was heard.
    pub(super) async fn of(
        &self,
        order: OrderId,
        canceled: bool,
    ) -> Result<(Outcome, Instant), String> {
        let heard = {
            let mut heard = self.0.borrow_mut();
            match heard.early.remove(&order) {
                Some((Outcome::Confirmed, _)) if canceled => {}
                Some(early) => return Ok(early),
                None => {}
            }
            let (tell, told) = oneshot::channel();
            heard.waiting.insert(order, Waiting { canceled, tell });
            told
        };
        match tokio::time::timeout(PATIENCE, heard).await {
            Ok(Ok(outcome)) => Ok(outcome),
            _ => Err(format!("order {order} was not decided within {PATIENCE:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use jetstream::clock;

    use super::*;

    #[tokio::test]
    async fn a_canceled_order_ends_with_its_compensation() {
        let outcomes = Outcomes::default();
        let [one, two] = [clock::new_id(), clock::new_id()].map(OrderId);
        for order in [one, two] {
            outcomes.hear(order, Outcome::Confirmed, Instant::now());
        }
        let confirmed = outcomes.of(one, false).await.expect("heard");
        assert_eq!(confirmed.0, Outcome::Confirmed);
        let (canceled, ()) = tokio::join!(outcomes.of(two, true), async {
            outcomes.hear(two, Outcome::Confirmed, Instant::now());
            outcomes.hear(two, Outcome::Canceled, Instant::now());
        });
        assert_eq!(canceled.expect("heard").0, Outcome::Canceled);
    }
}
