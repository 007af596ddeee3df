//! What always holds in cart's tables.

use events::OrderContext;
use jetstream::operating::invariants::Invariant;

use crate::domain::HeldLine;

/// What always holds in cart's tables.
pub const INVARIANTS: &[Invariant] = &[Invariant {
    name: "I14",
    rule: "a line in a cart is a quantity above zero, in a cart that is there",
    about: "user",
    sql: |_, _| {
        "SELECT i.user_id AS id, 'a line of ' || i.quantity AS found
         FROM items i LEFT JOIN carts c ON c.user_id = i.user_id
         WHERE i.quantity <= 0 OR c.user_id IS NULL"
            .to_owned()
    },
}];

/// Whether what was taken out of the cart is exactly what an order needs.
#[must_use]
pub fn is_exact(order: &OrderContext, held: &str) -> bool {
    let lines = order.lines.iter().map(|line| HeldLine {
        product_id: line.product_id,
        quantity: line.quantity,
    });
    serde_json::from_str::<Vec<HeldLine>>(held).is_ok_and(|held| held.into_iter().eq(lines))
}
