//! What a service listens to, and what it does then.

use std::sync::Arc;

use events::catalog::Entry;
use events::step::Route;
use futures::future::BoxFuture;

use crate::database::Tx;
use crate::event::{Delivery, Emission};
use crate::fault::Fault;

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
}

impl Subscription {
    /// A handler for these subjects; a filter may have `*` for a token.
    pub fn new(
        filters: impl IntoIterator<Item = &'static str>,
        proof: Proof,
        handler: impl Handler,
    ) -> Self {
        Self {
            filters: filters.into_iter().collect(),
            proof,
            handler: Arc::new(handler),
        }
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

    pub(crate) fn hears(&self, subject: &str) -> bool {
        self.filters
            .iter()
            .any(|filter| events::catalog::matches(filter, subject))
    }
}
