//! How stock is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use events::hold::Hold;
use events::{Money, OrderContext, ProductId, Refusal, Step};
use jetstream::clock::millis;
use jetstream::database::bulk::{Column, Rows};
use jetstream::hearing::participant::Participant;
use jetstream::{Fault, Tx};

use crate::domain::{HeldLine, Product, Shelf};

/// Takes the step `stock`.
pub(crate) struct Stock {
    honoured_for: i64,
}

impl Stock {
    pub(crate) fn new(order_deadline: Duration) -> Self {
        Self {
            honoured_for: millis(order_deadline),
        }
    }
}

/// The products of a batch, and how they were when they were loaded.
pub(crate) struct Loaded {
    shelf: Shelf,
    before: BTreeMap<ProductId, Product>,
}

impl Participant for Stock {
    const STEP: Step = Step::STOCK;
    type Held = Vec<HeldLine>;
    type Resources = Loaded;

    async fn load(&self, tx: &Tx, orders: &[&OrderContext]) -> Result<Loaded, Fault> {
        let lines = orders.iter().flat_map(|order| &order.lines);
        let ids: BTreeSet<_> = lines.map(|line| line.product_id.0).collect();
        let sql = "SELECT product_id, price, price_version, previous_price, replaced_at,
                          available, held, settled
                   FROM products WHERE product_id IN (SELECT id FROM v) ORDER BY product_id";
        let mut products = BTreeMap::new();
        for row in tx.load(Rows::ids(ids), sql, vec![]).await? {
            let product = Product {
                price: Money(row.try_get("", "price")?),
                price_version: row.try_get("", "price_version")?,
                previous_price: Money(row.try_get("", "previous_price")?),
                replaced_at: row.try_get("", "replaced_at")?,
                available: row.try_get("", "available")?,
                held: row.try_get("", "held")?,
                settled: row.try_get("", "settled")?,
            };
            products.insert(ProductId(row.try_get("", "product_id")?), product);
        }
        Ok(Loaded {
            before: products.clone(),
            shelf: Shelf { products },
        })
    }

    fn hold(
        &self,
        loaded: &mut Loaded,
        order: &OrderContext,
        now: i64,
    ) -> Result<Vec<HeldLine>, Refusal> {
        loaded.shelf.hold(&order.lines, now, self.honoured_for)
    }

    fn release(&self, loaded: &mut Loaded, _: &OrderContext, held: &Vec<HeldLine>, from: Hold) {
        loaded.shelf.release(held, from == Hold::Settled);
    }

    fn settle(&self, loaded: &mut Loaded, _: &OrderContext, held: &Vec<HeldLine>) {
        loaded.shelf.settle(held);
    }

    async fn save(&self, tx: &Tx, loaded: Loaded) -> Result<(), Fault> {
        let mut rows = Rows::of(&[
            ("id", Column::Id),
            ("available", Column::Int),
            ("held", Column::Int),
            ("settled", Column::Int),
            ("had_available", Column::Int),
            ("had_held", Column::Int),
            ("had_settled", Column::Int),
        ]);
        for (id, before) in &loaded.before {
            let Some(product) = loaded.shelf.products.get(id).filter(|now| *now != before) else {
                continue;
            };
            rows.push([
                id.0.into(),
                product.available.into(),
                product.held.into(),
                product.settled.into(),
                before.available.into(),
                before.held.into(),
                before.settled.into(),
            ]);
        }
        let sql = "UPDATE products SET available = v.available, held = v.held,
                       settled = v.settled FROM v WHERE products.product_id = v.id";
        let unchanged = "products.available = v.had_available AND products.held = v.had_held
                         AND products.settled = v.had_settled";
        // The table's CHECKs are the bound.
        tx.write(rows, &tx.as_loaded(sql, unchanged), vec![]).await
    }
}

#[cfg(test)]
mod tests;
