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
        let ordered = orders.iter().flat_map(|order| {
            let products = order.lines.iter().map(|line| line.product_id.0);
            products.map(|product| (order.user_id.as_str(), product))
        });
        let mut rows = Rows::of(&[("user_id", Column::Text), ("product_id", Column::Id)]);
        for (user, product) in ordered.collect::<BTreeSet<_>>() {
            rows.push([user.into(), product.into()]);
        }
        let sql = "SELECT user_id, product_id, quantity FROM items
                   WHERE (user_id, product_id) IN (SELECT user_id, product_id FROM v)
                   ORDER BY user_id, product_id";
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

/// Loads the whole cart of a user, for an edit. One edit at a time: the cart is locked, whether
/// anything is in it or not, so that two edits do not put too many products into it.
pub(crate) async fn load_cart(tx: &Tx, user: &UserId) -> Result<Loaded, Fault> {
    let sql = "INSERT INTO carts (user_id, version) VALUES ($1, 1)
               ON CONFLICT (user_id) DO UPDATE SET version = carts.version + 1";
    tx.execute(sql, vec![user.as_str().into()]).await?;
    let sql = "SELECT user_id, product_id, quantity FROM items
               WHERE user_id IN (SELECT id FROM v) ORDER BY user_id, product_id";
    loaded(tx, Rows::texts([user.as_str()]), sql).await
}

async fn loaded(tx: &Tx, rows: Rows, sql: &str) -> Result<Loaded, Fault> {
    let mut carts: BTreeMap<UserId, Cart> = BTreeMap::new();
    for row in tx.load(rows, sql, vec![]).await? {
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
///
/// # Errors
/// A conflict, now or when the transaction ends, when one of them was changed meanwhile, or
/// was put into the cart.
pub(crate) async fn save(tx: &Tx, loaded: Loaded) -> Result<(), Fault> {
    const ITEM: &[(&str, Column)] = &[
        ("user_id", Column::Text),
        ("product_id", Column::Id),
        ("quantity", Column::Int),
        ("had", Column::Int),
    ];
    let (mut new, mut kept, mut gone) = (Rows::of(ITEM), Rows::of(ITEM), Rows::of(ITEM));
    let nothing = Cart::default();
    for (user, cart) in &loaded.carts {
        let before = loaded.before.get(user).unwrap_or(&nothing);
        let products: BTreeSet<_> = before.items.keys().chain(cart.items.keys()).collect();
        for product in products {
            let (had, has) = (before.quantity(*product), cart.quantity(*product));
            let rows = match (had, has) {
                _ if had == has => continue,
                (0, _) => &mut new,
                (_, 0) => &mut gone,
                _ => &mut kept,
            };
            let (user, product) = (user.as_str().into(), product.0.into());
            rows.push([user, product, has.into(), had.into()]);
        }
    }
    let sql = "INSERT INTO items (user_id, product_id, quantity)
               SELECT user_id, product_id, quantity FROM v WHERE true";
    tx.write(new, sql, vec![]).await?;
    let sql = "UPDATE items SET quantity = v.quantity
               FROM v WHERE items.user_id = v.user_id AND items.product_id = v.product_id";
    let sql = tx.as_loaded(sql, "items.quantity = v.had");
    tx.write(kept, &sql, vec![]).await?;
    let sql = "DELETE FROM items WHERE (user_id, product_id, quantity) IN
                   (SELECT user_id, product_id, had FROM v)";
    tx.write(gone, sql, vec![]).await
}

#[cfg(test)]
mod tests;
