//! What a service listens to, and what it does then.

use std::collections::HashMap;
use std::sync::Arc;

use events::EventId;
use events::catalog::{self, Entry};
use events::step::Route;
use futures::future::BoxFuture;

use crate::database::Tx;
use crate::event::{Delivery, Emission};
use crate::fault::Fault;
use crate::hearing::reaction::{Purpose, Reaction};

/// Handles a slice of events in one transaction.
///
/// A handler is given a transaction and returns events: it cannot publish, so it cannot
/// do one without the other. It is called with every event of a batch that is its own,
/// in stream order, and must treat them as if they had come one by one.
pub trait Handler: Send + Sync + 'static {
    /// Reads, decides, saves; returns the events that were decided.
    ///
    /// # Errors
    /// A [`Fault`] rolls everything back. A business no is no fault: it is an event.
    fn handle<'a>(
        &'a self,
        tx: &'a Tx,
        slice: &'a [Delivery],
    ) -> BoxFuture<'a, Result<Vec<Emission>, Fault>>;

    /// Whether an event is this handler's turn, judged by its subject and the header
    /// that carries flow and steps. Others are acked without being decoded.
    fn is_turn(&self, _entry: &Entry, _route: Option<Route>) -> bool {
        true
    }
}

/// What proves that an event has had its effect (R1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A row of the service itself: a participant's hold, a versioned projection.
    NaturalRow(&'static str),
    /// A row in the inbox.
    Inbox,
}

/// One line of a service's `subscriptions.rs`: these subjects, to this handler.
#[derive(Clone)]
pub struct Subscription {
    pub(crate) filters: Vec<&'static str>,
    pub(crate) proof: Proof,
    pub(crate) handler: Arc<dyn Handler>,
    // What each event that it hears does; absent where that is nothing.
    reactions: HashMap<&'static str, Reaction>,
}

impl Subscription {
    /// A handler for these subjects; a filter may have `*` for a token. It keeps what it
    /// hears, and says nothing because of it, unless it is declared to.
    pub fn new(
        filters: impl IntoIterator<Item = &'static str>,
        proof: Proof,
        handler: impl Handler,
    ) -> Self {
        Self {
            filters: filters.into_iter().collect(),
            proof,
            handler: Arc::new(handler),
            reactions: HashMap::new(),
        }
        .reacting(|_| {
            let (purpose, says) = (Purpose::Keep, vec![]);
            Some(Reaction { purpose, says })
        })
    }

    /// Declares what each event that it hears does, and what may be said because of it.
    /// A handler that says anything else fails.
    #[must_use]
    pub fn reacting(mut self, declare: impl Fn(&'static Entry) -> Option<Reaction>) -> Self {
        let heard: Vec<_> = catalog::all()
            .filter(|entry| self.hears(entry.subject))
            .collect();
        self.reactions = heard
            .into_iter()
            .filter_map(|entry| Some((entry.subject, declare(entry)?)))
            .collect();
        self
    }

    /// What an event does to the service; nothing when it is not heard, or nobody's turn.
    #[must_use]
    pub fn reaction(&self, subject: &str) -> Option<&Reaction> {
        self.reactions.get(subject)
    }

    /// The filters of the subjects it hears.
    #[must_use]
    pub fn filters(&self) -> &[&'static str] {
        &self.filters
    }

    /// What proves that an event has had its effect.
    #[must_use]
    pub fn proof(&self) -> Proof {
        self.proof
    }

    /// Whether it hears a subject.
    #[must_use]
    pub fn hears(&self, subject: &str) -> bool {
        self.filters
            .iter()
            .any(|filter| catalog::matches(filter, subject))
    }

    /// Holds a handler to what is declared: the map is drawn from the declaration, so what
    /// is not declared must not be said.
    ///
    /// # Errors
    /// A permanent fault: the code contradicts itself.
    pub(crate) fn hold_to(&self, slice: &[Delivery], said: &[Emission]) -> Result<(), Fault> {
        if said.is_empty() {
            return Ok(());
        }
        let heard = slice.iter().map(|delivery| &delivery.envelope);
        let heard: HashMap<EventId, &str> = heard.map(|e| (e.id, e.entry.subject)).collect();
        for emission in said {
            let cause = emission.causation.and_then(|id| heard.get(&id).copied());
            let reaction = cause.and_then(|subject| self.reaction(subject));
            let declared = reaction.is_some_and(|reaction| {
                let mut says = reaction.says.iter();
                says.any(|saying| saying.entry == emission.entry)
            });
            if !declared {
                return Err(Fault::Permanent(format!(
                    "{} was said because of {}, which is not declared: declare it where the \
                     subscription is built, or do not say it",
                    emission.entry.subject,
                    cause.unwrap_or("nothing that was heard"),
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hearing::reaction::Saying;
    use bytes::Bytes;
    use events::catalog::{CART_CHANGED, ORDER_CONFIRMED, POINT_CHARGED, STOCK_ADDED};
    use events::{Envelope, Step};

    struct Nothing;

    impl Handler for Nothing {
        fn handle<'a>(
            &'a self,
            _: &'a Tx,
            _: &'a [Delivery],
        ) -> BoxFuture<'a, Result<Vec<Emission>, Fault>> {
            Box::pin(async { Ok(vec![]) })
        }
    }

    fn heard(n: u128, entry: &'static Entry) -> Delivery {
        let id = EventId(uuid::Uuid::from_u128(n));
        let envelope = Envelope {
            id,
            entry,
            aggregate: String::new(),
            correlation: id.0,
            causation: None,
            time: 0,
            pseq: 1,
            traceparent: None,
            body: Bytes::new(),
        };
        Delivery::new(envelope, 1)
    }

    fn said(entry: &'static Entry, cause: Option<&Delivery>) -> [Emission; 1] {
        let causation = cause.map(|delivery| delivery.envelope.id);
        let fact = Emission::fact(entry, "", Bytes::new());
        [Emission { causation, ..fact }]
    }

    #[test]
    fn a_handler_that_says_what_is_not_declared_fails() {
        let filters = [POINT_CHARGED.subject, CART_CHANGED.subject];
        let subscription = Subscription::new(filters, Proof::Inbox, Nothing).reacting(|entry| {
            let says = match *entry == POINT_CHARGED {
                true => vec![Saying::again(&STOCK_ADDED)],
                false => vec![],
            };
            let purpose = Purpose::Keep;
            Some(Reaction { purpose, says })
        });
        let slice = [heard(1, &POINT_CHARGED), heard(2, &CART_CHANGED)];
        let [charged, changed] = &slice;
        let hold_to = |said: &[Emission]| subscription.hold_to(&slice, said);
        assert!(hold_to(&[]).is_ok());
        assert!(hold_to(&said(&STOCK_ADDED, Some(charged))).is_ok());
        for wrong in [
            said(&ORDER_CONFIRMED, Some(charged)),
            said(&STOCK_ADDED, Some(changed)),
            said(&STOCK_ADDED, None),
        ] {
            assert!(matches!(hold_to(&wrong), Err(Fault::Permanent(_))));
        }
    }

    #[test]
    fn what_is_not_declared_says_nothing() {
        let filters = [Step::STOCK.entry().taken.subject];
        let follower = Subscription::new(filters, Proof::Inbox, Nothing);
        let reaction = follower.reaction(filters[0]).expect("it is heard");
        assert_eq!((reaction.purpose, reaction.says.len()), (Purpose::Keep, 0));
        assert_eq!(follower.reaction("order.confirmed"), None);
    }
}
