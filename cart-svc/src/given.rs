//! What cart said from outside, taken as given when a stream is replayed: the tables come
//! to hold what the request did.

use events::{Envelope, catalog, fact};
use futures::future::BoxFuture;
use jetstream::{Fault, Settings, Tx};

use crate::store::{load_cart, save};

pub(crate) fn take<'a>(
    tx: &'a Tx,
    _: &'a Settings,
    said: &'a Envelope,
) -> BoxFuture<'a, Result<(), Fault>> {
    Box::pin(async move {
        match *said.entry == catalog::CART_CHANGED {
            true => changed(tx, said).await,
            false => Ok(()),
        }
    })
}

async fn changed(tx: &Tx, said: &Envelope) -> Result<(), Fault> {
    let (user, product, quantity) = fact::read_cart_changed(said.body.clone())?;
    let mut loaded = load_cart(tx, &user).await?;
    let cart = loaded.carts.entry(user).or_default();
    // The limit bound the user who edited: what was allowed then is not asked again.
    match quantity {
        0 => cart.items.remove(&product),
        _ => cart.items.insert(product, quantity),
    };
    save(tx, loaded).await
}
