//! What is replayed: events in stream order, and which of them are compared.

use std::collections::{BTreeSet, HashSet};

use events::{EventId, OrderId};

use crate::stream::history::Recorded;

/// Where the state before the compared events comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// From everything that was said since the stream began, or since a copy of the
    /// databases was made. Where numbers of a service's events are missing, its state is
    /// missing too.
    Everything,
    /// From a selection of earlier events: all that the compared ones depend on.
    Selection,
    /// Nowhere.
    Missing,
}

/// Events to replay.
#[derive(Debug, Clone)]
pub struct Tape {
    /// In stream order, each id once.
    pub(crate) events: Vec<Recorded>,
    /// The first sequence that is compared.
    pub first: u64,
    /// The last sequence that is compared, and the last that is played. Events beyond it
    /// only tell that an answer came later.
    pub last: u64,
    /// Only events of these orders are compared; absent: all.
    pub orders: Option<BTreeSet<OrderId>>,
    /// Where the state before them comes from.
    pub before: Before,
}

impl Tape {
    /// All of these events, compared from the first to the last.
    #[must_use]
    pub fn new(events: Vec<Recorded>, before: Before) -> Self {
        let mut seen: HashSet<EventId> = HashSet::with_capacity(events.len());
        let mut events: Vec<Recorded> = events
            .into_iter()
            // An event that was said again after a loss stands twice.
            .filter(|event| seen.insert(event.envelope.id))
            .collect();
        events.sort_by_key(|event| event.stream_sequence);
        let sequence = |event: Option<&Recorded>| event.map_or(0, |event| event.stream_sequence);
        Self {
            first: sequence(events.first()),
            last: sequence(events.last()),
            events,
            orders: None,
            before,
        }
    }

    /// Its events, in stream order.
    #[must_use]
    pub fn events(&self) -> &[Recorded] {
        &self.events
    }

    /// Stops after a sequence, so that the state is as it was then.
    #[must_use]
    pub fn until(mut self, last: u64) -> Self {
        self.last = self.last.min(last);
        self
    }

    /// Whether an event is compared, if it was caused by an event.
    #[must_use]
    pub fn compares(&self, event: &Recorded) -> bool {
        let sequence = event.stream_sequence;
        let order = OrderId(event.envelope.correlation);
        let chosen = self
            .orders
            .as_ref()
            .is_none_or(|orders| orders.contains(&order));
        self.first <= sequence && sequence <= self.last && chosen
    }

    pub(crate) fn plays(&self, event: &Recorded) -> bool {
        event.stream_sequence <= self.last
    }
}
