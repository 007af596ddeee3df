//! What cart decides: no clock, no IO.

use std::collections::BTreeMap;

use events::refusal::FailingLine;
use events::{OrderLine, ProductId, Refusal};
use serde::{Deserialize, Serialize};

/// The code of a line of which the cart has less than was ordered.
pub const SHORT: &str = "CART_SHORT";
/// Different products that a user can put into a cart.
pub const MAX_PRODUCTS: usize = 100;

/// What was taken out of the cart for one line of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLine {
    /// Which product.
    pub product_id: ProductId,
    /// How many.
    pub quantity: i64,
}

/// A user's cart, or the part of it that is loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cart {
    /// Quantities, each above zero: what is not here is not in the cart.
    pub items: BTreeMap<ProductId, i64>,
}

/// The cart has as many different products as it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Cart {
    /// Takes every line out, or none.
    ///
    /// # Errors
    /// A refusal that names every line of which there is not enough.
    pub fn hold(&mut self, lines: &[OrderLine]) -> Result<Vec<HeldLine>, Refusal> {
        let failing: Vec<FailingLine> = lines
            .iter()
            .filter(|line| self.quantity(line.product_id) < line.quantity)
            .map(|line| FailingLine {
                product_id: line.product_id,
                code: SHORT.to_owned(),
                requested: line.quantity,
                available: self.quantity(line.product_id),
            })
            .collect();
        if !failing.is_empty() {
            return Err(Refusal::of_lines(failing));
        }
        let take = |line: &OrderLine| {
            self.add(line.product_id, -line.quantity);
            HeldLine {
                product_id: line.product_id,
                quantity: line.quantity,
            }
        };
        Ok(lines.iter().map(take).collect())
    }

    /// Puts back what was taken out, beside what the user has put in since. The limits
    /// of an edit do not bind here: what was the user's is not thrown away.
    pub fn release(&mut self, held: &[HeldLine]) {
        for line in held {
            self.add(line.product_id, line.quantity);
        }
    }

    /// Sets the quantity of a product, 0 to remove it; whether that changed anything.
    ///
    /// # Errors
    /// [`Full`] when it would be one product too many.
    pub fn set(&mut self, product: ProductId, quantity: i64) -> Result<bool, Full> {
        let before = self.quantity(product);
        if before == 0 && quantity > 0 && self.items.len() >= MAX_PRODUCTS {
            return Err(Full);
        }
        self.add(product, quantity - before);
        Ok(quantity != before)
    }

    /// How much of a product is in the cart.
    #[must_use]
    pub fn quantity(&self, product: ProductId) -> i64 {
        self.items.get(&product).copied().unwrap_or(0)
    }

    fn add(&mut self, product: ProductId, quantity: i64) {
        match self.quantity(product) + quantity {
            0 => self.items.remove(&product),
            sum => self.items.insert(product, sum),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::Money;
    use uuid::Uuid;

    fn id(n: u128) -> ProductId {
        ProductId(Uuid::from_u128(n))
    }

    fn line(n: u128, quantity: i64) -> OrderLine {
        OrderLine {
            product_id: id(n),
            quantity,
            unit_price: Money(500),
            price_version: 1,
        }
    }

    fn cart(items: &[(u128, i64)]) -> Cart {
        Cart {
            items: items.iter().map(|(n, q)| (id(*n), *q)).collect(),
        }
    }

    #[test]
    fn ordered_quantities_are_taken_out_and_other_lines_stay() {
        let mut cart = cart(&[(1, 5), (2, 3), (3, 7)]);
        let held = cart.hold(&[line(1, 2), line(2, 3)]).expect("enough");
        assert_eq!(held.len(), 2);
        assert_eq!(cart, self::cart(&[(1, 3), (3, 7)]));
    }

    #[test]
    fn orders_of_one_batch_see_each_others_effect() {
        let mut cart = cart(&[(1, 5)]);
        assert!(cart.hold(&[line(1, 3)]).is_ok());
        let refusal = cart.hold(&[line(1, 3)]).expect_err("only 2 are left");
        assert_eq!(refusal.code, SHORT);
        assert_eq!(
            (refusal.lines[0].requested, refusal.lines[0].available),
            (3, 2)
        );
        assert!(cart.hold(&[line(1, 2)]).is_ok());
        assert_eq!(cart, Cart::default());
    }

    #[test]
    fn one_short_line_takes_nothing_out_and_every_short_line_is_named() {
        let mut cart = cart(&[(1, 5), (2, 1)]);
        let before = cart.clone();
        let refusal = cart
            .hold(&[line(1, 5), line(2, 2), line(3, 1)])
            .expect_err("two are short");
        let short: Vec<_> = refusal
            .lines
            .iter()
            .map(|l| (l.product_id, l.code.as_str(), l.available))
            .collect();
        assert_eq!(short, [(id(2), SHORT, 1), (id(3), SHORT, 0)]);
        assert_eq!(cart, before);
    }

    #[test]
    fn a_released_hold_leaves_no_trace() {
        let mut cart = cart(&[(1, 5), (2, 3)]);
        let before = cart.clone();
        let held = cart.hold(&[line(1, 5), line(2, 1)]).expect("enough");
        cart.release(&held);
        assert_eq!(cart, before);
    }

    #[test]
    fn what_is_put_back_joins_what_the_user_has_put_in_since() {
        let mut cart = cart(&[(1, 5)]);
        let held = cart.hold(&[line(1, 5)]).expect("enough");
        assert_eq!(cart.set(id(1), 2), Ok(true));
        assert_eq!(cart.set(id(9), 1), Ok(true));
        cart.release(&held);
        assert_eq!(cart, self::cart(&[(1, 7), (9, 1)]));
    }

    #[test]
    fn an_edit_sets_adds_and_removes() {
        let mut cart = cart(&[(1, 5)]);
        assert_eq!(cart.set(id(1), 5), Ok(false), "nothing changed");
        assert_eq!(cart.set(id(1), 6), Ok(true));
        assert_eq!(cart.set(id(2), 1), Ok(true));
        assert_eq!(cart.set(id(1), 0), Ok(true));
        assert_eq!(cart.set(id(1), 0), Ok(false), "it was not there");
        assert_eq!(cart, self::cart(&[(2, 1)]));
    }

    #[test]
    fn a_full_cart_takes_no_other_product_but_all_else() {
        let mut cart = Cart::default();
        for n in 0..MAX_PRODUCTS as u128 {
            assert_eq!(cart.set(id(n), 1), Ok(true));
        }
        let before = cart.clone();
        assert_eq!(cart.set(id(1000), 1), Err(Full));
        assert_eq!(cart, before);
        assert_eq!(cart.set(id(0), 2), Ok(true));
        assert_eq!(cart.set(id(1), 0), Ok(true));
        assert_eq!(cart.set(id(1000), 1), Ok(true));
    }
}
