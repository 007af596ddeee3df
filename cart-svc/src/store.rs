//! How carts are kept.

use std::collections::{BTreeMap, BTreeSet};

use events::hold::Hold;
use events::{OrderContext, ProductId, Refusal, Step, UserId};
use jetstream::database::bulk::{Column, Rows};
use jetstream::hearing::participant::Participant;
use jetstream::{Fault, Tx};

use crate::domain::{Cart, HeldLine};

/// Takes the step `cart`.
pub(crate) struct Carts;

/// Carts, or the loaded parts of them, and how they were when they were loaded.
pub(crate) struct Loaded {
    pub(crate) carts: BTreeMap<UserId, Cart>,
    before: BTreeMap<UserId, Cart>,
}

impl Loaded {
    fn cart(&mut self, user: &UserId) -> &mut Cart {
        self.carts.entry(user.clone()).or_default()
    }
}

impl Participant for Carts {
    const STEP: Step = Step::CART;
    // What was ordered has left the cart when it was held.
    const SETTLING_CHANGES: bool = false;
    type Held = Vec<HeldLine>;
    type Resources = Loaded;

    async fn load(&self, tx: &Tx, orders: &[&OrderContext]) -> Result<Loaded, Fault> {
        let users: BTreeSet<_> = orders.iter().map(|order| order.user_id.as_str()).collect();
        lock(tx, users).await?;
        let ordered = orders.iter().flat_map(|order| {
            let products = order.lines.iter().map(|line| line.product_id.0);
            products.map(|product| (order.user_id.as_str(), product))
        });
        let mut rows = Rows::of(&[("user_id", Column::Text), ("product_id", Column::Id)]);
        for (user, product) in ordered.collect::<BTreeSet<_>>() {
            rows.push([user.into(), product.into()]);
        }
        let sql = "SELECT items.user_id, items.product_id, items.quantity
                   FROM items JOIN v ON items.user_id = v.user_id
                       AND items.product_id = v.product_id";
        loaded(tx, rows, sql).await
    }

    fn hold(
        &self,
        loaded: &mut Loaded,
        order: &OrderContext,
        _: i64,
    ) -> Result<Vec<HeldLine>, Refusal> {
        loaded.cart(&order.user_id).hold(&order.lines)
    }

    fn release(&self, loaded: &mut Loaded, order: &OrderContext, held: &Vec<HeldLine>, _: Hold) {
        loaded.cart(&order.user_id).release(held);
    }

    fn settle(&self, _: &mut Loaded, _: &OrderContext, _: &Vec<HeldLine>) {}

    async fn save(&self, tx: &Tx, loaded: Loaded) -> Result<(), Fault> {
        save(tx, loaded).await
    }
}

/// Loads and locks the whole cart of a user.
pub(crate) async fn load_cart(tx: &Tx, user: &UserId) -> Result<Loaded, Fault> {
    lock(tx, [user.as_str()].into()).await?;
    let sql = "SELECT user_id, product_id, quantity FROM items
               WHERE user_id IN (SELECT id FROM v)";
    loaded(tx, Rows::texts([user.as_str()]), sql).await
}

/// Locks carts, in the order of their users, whether anything is in them or not.
async fn lock(tx: &Tx, users: BTreeSet<&str>) -> Result<(), Fault> {
    let sql = "INSERT INTO carts (user_id, version) SELECT id, 1 FROM v WHERE true ORDER BY id
               ON CONFLICT (user_id) DO UPDATE SET version = carts.version + 1";
    tx.run(Rows::texts(users), sql, vec![]).await?;
    Ok(())
}

async fn loaded(tx: &Tx, rows: Rows, sql: &str) -> Result<Loaded, Fault> {
    let mut carts: BTreeMap<UserId, Cart> = BTreeMap::new();
    for row in tx.fetch(rows, sql, vec![]).await? {
        let user = UserId::new(row.try_get::<String>("", "user_id")?)?;
        let product = ProductId(row.try_get("", "product_id")?);
        let quantity = row.try_get("", "quantity")?;
        carts
            .entry(user)
            .or_default()
            .items
            .insert(product, quantity);
    }
    Ok(Loaded {
        before: carts.clone(),
        carts,
    })
}

/// Writes the items that have changed: rows come and go with their quantities.
pub(crate) async fn save(tx: &Tx, loaded: Loaded) -> Result<(), Fault> {
    let mut kept = Rows::of(&[
        ("user_id", Column::Text),
        ("product_id", Column::Id),
        ("quantity", Column::Int),
    ]);
    let mut gone = Rows::of(&[("user_id", Column::Text), ("product_id", Column::Id)]);
    let nothing = Cart::default();
    for (user, cart) in &loaded.carts {
        let before = loaded.before.get(user).unwrap_or(&nothing);
        for (product, quantity) in &cart.items {
            if before.quantity(*product) != *quantity {
                kept.push([user.as_str().into(), product.0.into(), (*quantity).into()]);
            }
        }
        for product in before.items.keys() {
            if cart.quantity(*product) == 0 {
                gone.push([user.as_str().into(), product.0.into()]);
            }
        }
    }
    let sql = "INSERT INTO items (user_id, product_id, quantity)
               SELECT user_id, product_id, quantity FROM v WHERE true
               ON CONFLICT (user_id, product_id) DO UPDATE SET quantity = excluded.quantity";
    tx.write(kept, sql, vec![]).await?;
    let sql = "DELETE FROM items WHERE (user_id, product_id) IN
                   (SELECT user_id, product_id FROM v)";
    tx.write(gone, sql, vec![]).await
}

#[cfg(test)]
mod tests;
