//! Canceling orders: what users ask for is committed in groups.

use std::collections::BTreeMap;

use events::OrderId;
use futures::future::BoxFuture;
use jetstream::http::Reader;
use jetstream::http::intake::{Commands, Decided};
use jetstream::telemetry::{Along, SpanRef};
use jetstream::{Fault, Shell, Tx};

use crate::domain::{Input, Order, Rules};
use crate::placing;
use crate::store::orders;

/// A request to cancel an order, and who makes it.
pub(crate) struct Cancel {
    pub(crate) id: OrderId,
    pub(crate) reader: Reader,
    pub(crate) asked: Along,
}

/// Why an order is not canceled.
#[derive(Debug, Clone)]
pub(crate) enum NotCanceled {
    /// There is none, or it is not theirs to see.
    Unknown,
    /// It is in a state that cannot be canceled any more.
    TooLate(Box<Order>),
}

/// An order after the cancel, and where it stands in its trace.
pub(crate) type Canceled = (Order, Option<SpanRef>);

/// Decides requests.
pub(crate) struct Canceling {
    shell: Shell,
    rules: Rules,
}

impl Canceling {
    pub(crate) fn new(shell: &Shell) -> Self {
        Self {
            shell: shell.clone(),
            rules: placing::rules(shell.settings()),
        }
    }

    async fn cancel(
        &self,
        tx: &Tx,
        cancels: &[Cancel],
    ) -> Result<Decided<Result<Canceled, NotCanceled>>, Fault> {
        let ids = || cancels.iter().map(|cancel| cancel.id);
        let mut all = orders::load(tx, ids()).await?;
        let traces = orders::traces(tx, &self.shell, ids()).await?;
        let loaded: BTreeMap<_, _> = all.iter().map(|(id, order)| (*id, order.version)).collect();
        let (mut answers, mut emissions) = (Vec::with_capacity(cancels.len()), Vec::new());
        for Cancel { id, reader, asked } in cancels {
            let order = all.get_mut(id);
            let seen = order.filter(|order| reader.sees(&order.context.user_id));
            let Some(order) = seen else {
                answers.push(Err(NotCanceled::Unknown));
                continue;
            };
            if order.can_cancel(tx.now(), &self.rules).is_err() {
                answers.push(Err(NotCanceled::TooLate(Box::new(order.clone()))));
                continue;
            }
            let said = order
                .hear(Input::UserCancel, tx.now(), &self.rules)
                .map_err(|contradiction| Fault::Permanent(contradiction.to_string()))?;
            let trace = traces.get(id).copied();
            let say = |say| placing::from_outside(order, say, trace, "user");
            asked.within(|| emissions.extend(said.iter().map(say)));
            answers.push(Ok((order.clone(), trace)));
        }
        let changed = all
            .iter()
            .filter(|(id, order)| loaded[*id] != order.version);
        orders::save(tx, changed.map(|(id, order)| (order, loaded[id]))).await?;
        Ok((answers, emissions))
    }
}

impl Commands for Canceling {
    type Command = Cancel;
    type Answer = Result<Canceled, NotCanceled>;

    fn decide<'a>(
        &'a self,
        tx: &'a Tx,
        asked: &'a [Cancel],
    ) -> BoxFuture<'a, Result<Decided<Self::Answer>, Fault>> {
        Box::pin(self.cancel(tx, asked))
    }
}
