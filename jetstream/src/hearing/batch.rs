//! One batch of events in one transaction: the unit of work.

use crate::database::{Database, Tx};
use crate::event::{Delivery, Emission};
use crate::failpoint;
use crate::fault::Fault;
use crate::hearing::inbox;
use crate::hearing::participant;
use crate::hearing::subscription::{Proof, Subscription};
use crate::saying::outbox;
use crate::saying::outbox::Committed;
use crate::telemetry::Tracer;

/// An event and the subscription that it belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) delivery: Delivery,
    // Index into the subscriptions.
    pub(crate) subscription: usize,
}

/// What every batch of a consumer is handled with.
pub(crate) struct Work {
    pub(crate) consumer: String,
    pub(crate) database: Database,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) tracer: Tracer,
}

impl Work {
    /// Handles the items in one transaction, which locks or does not; the events that it
    /// decided have committed when this returns.
    pub(crate) async fn run(&self, items: &[Item], locks: bool) -> Result<Vec<Committed>, Fault> {
        let tx = match locks {
            true => self.database.begin().await?,
            false => self.database.begin_optimistic().await?,
        };
        let emissions = self.decide(&tx, items).await?;
        let committed = outbox::append(&tx, emissions).await?;
        tx.commit().await?;
        self.database.meters().batch(items.len());
        Ok(committed)
    }

    /// Whether there is anything to listen to.
    pub(crate) fn listens(&self) -> bool {
        !self.subscriptions.is_empty()
    }

    /// Whether it takes a step of orders, and so keeps the table of holds.
    pub(crate) fn keeps_holds(&self) -> bool {
        let mut subscriptions = self.subscriptions.iter();
        subscriptions.any(|s| s.proof == Proof::NaturalRow(participant::TABLE))
    }

    /// The subjects that it listens to.
    pub(crate) fn filters(&self) -> impl Iterator<Item = &'static str> {
        let filters = self.subscriptions.iter().flat_map(Subscription::filters);
        filters.copied()
    }

    /// Hands each handler its slice, in stream order.
    pub(crate) async fn decide(&self, tx: &Tx, items: &[Item]) -> Result<Vec<Emission>, Fault> {
        let mut emissions: Vec<Emission> = Vec::new();
        for (index, subscription) in self.subscriptions.iter().enumerate() {
            let slice = items.iter().filter(|item| item.subscription == index);
            let mut slice: Vec<Delivery> = slice.map(|item| item.delivery.clone()).collect();
            if subscription.proof == Proof::Inbox && !slice.is_empty() && !failpoint::is_off("R1") {
                let heard = slice.len();
                slice = inbox::record(tx, &self.consumer, slice).await?;
                failpoint::note("duplicates", heard - slice.len());
            }
            if !slice.is_empty() {
                let said = subscription.handler.handle(tx, &slice).await?;
                subscription.hold_to(&slice, &said)?;
                emissions.extend(said);
            }
        }
        Ok(emissions)
    }
}
