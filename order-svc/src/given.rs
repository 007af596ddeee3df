//! What order said from outside, taken as given when a stream is replayed: an order that
//! was placed, a user who canceled, a deadline that passed, a person who ended what healing
//! could not.

use events::catalog::Kind;
use events::{Envelope, OrderId, body};
use futures::future::BoxFuture;
use jetstream::{Fault, Settings, Tx};

use crate::domain::{Order, Say};
use crate::placing;
use crate::store::orders::{self, Placed};

pub(crate) fn take<'a>(
    tx: &'a Tx,
    settings: &'a Settings,
    said: &'a Envelope,
) -> BoxFuture<'a, Result<(), Fault>> {
    Box::pin(async move {
        match said.entry.kind {
            Kind::Created => created(tx, said).await,
            _ => decided(tx, settings, said).await,
        }
    })
}

/// The order takes the first free slot of its user; that there was one is given.
async fn created(tx: &Tx, said: &Envelope) -> Result<(), Fault> {
    let order = Order::new(body::context(said.body.clone())?);
    // It may stand in the stream twice, or in what the replay begins with.
    let id = order.context.order_id;
    if !orders::load(tx, [id]).await?.is_empty() {
        return Ok(());
    }
    let taken = orders::open_slots_within(tx, order.context.user_id.as_str()).await?;
    let slot = (0..).find(|slot| !taken.contains(slot)).unwrap_or(0);
    let placed = Placed {
        order,
        slot,
        traceparent: said.traceparent.clone(),
    };
    orders::insert(tx, &[placed]).await
}

async fn decided(tx: &Tx, settings: &Settings, said: &Envelope) -> Result<(), Fault> {
    let say = match said.entry.kind {
        Kind::Canceled => Say::Canceled(body::read_canceled(said.body.clone())?),
        Kind::Compensated => Say::Compensated,
        Kind::CompensationFailed => Say::CompensationFailed(vec![]),
        _ => return Ok(()),
    };
    let id = OrderId(said.correlation);
    let mut loaded = orders::load(tx, [id]).await?;
    // Placed before what is replayed begins.
    let Some(order) = loaded.get_mut(&id) else {
        return Ok(());
    };
    let version = order.version;
    order.take_as_given(&say, tx.now(), &placing::rules(settings));
    orders::save(tx, [(&*order, version)]).await
}
