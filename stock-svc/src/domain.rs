//! What stock decides: no clock, no IO.

use std::collections::BTreeMap;

use events::refusal::FailingLine;
use events::{Money, OrderLine, ProductId, Refusal};
use serde::{Deserialize, Serialize};

/// A product, as far as an order touches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Price of one unit.
    pub price: Money,
    /// 1 when it was created; one more for each change.
    pub price_version: i64,
    /// The price before the last change.
    pub previous_price: Money,
    /// When it was replaced; 0: never.
    pub replaced_at: i64,
    /// Units that can be ordered.
    pub available: i64,
    /// Units held for orders that are not decided.
    pub held: i64,
    /// Units sold.
    pub settled: i64,
}

/// Units held for one line of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLine {
    /// Of which product.
    pub product_id: ProductId,
    /// How many.
    pub quantity: i64,
}

/// The products that a batch of orders touches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shelf {
    /// By id; a product that is not here does not exist.
    pub products: BTreeMap<ProductId, Product>,
}

impl Shelf {
    /// Holds every line, or none.
    ///
    /// A price that was replaced less than `honoured_for` ago is still honoured, so that
    /// an order is not refused for a price that changed while it was on its way.
    ///
    /// # Errors
    /// A refusal that names every line that fails.
    pub fn hold(
        &mut self,
        lines: &[OrderLine],
        now: i64,
        honoured_for: i64,
    ) -> Result<Vec<HeldLine>, Refusal> {
        let failing: Vec<FailingLine> = lines
            .iter()
            .filter_map(|line| {
                let product = self.products.get(&line.product_id);
                let code = match product {
                    None => "UNKNOWN_PRODUCT",
                    Some(p) if !p.honours(line, now, honoured_for) => "PRICE_CHANGED",
                    Some(p) if p.available < line.quantity => "OUT_OF_STOCK",
                    Some(_) => return None,
                };
                Some(FailingLine {
                    product_id: line.product_id,
                    code: code.to_owned(),
                    requested: line.quantity,
                    available: product.map_or(0, |p| p.available),
                })
            })
            .collect();
        if !failing.is_empty() {
            return Err(Refusal::of_lines(failing));
        }
        let mut held = Vec::with_capacity(lines.len());
        for line in lines {
            if let Some(product) = self.products.get_mut(&line.product_id) {
                product.available -= line.quantity;
                product.held += line.quantity;
            }
            held.push(HeldLine {
                product_id: line.product_id,
                quantity: line.quantity,
            });
        }
        Ok(held)
    }

    /// Gives units back; `settled` when they were sold already.
    pub fn release(&mut self, held: &[HeldLine], settled: bool) {
        for line in held {
            if let Some(product) = self.products.get_mut(&line.product_id) {
                match settled {
                    true => product.settled -= line.quantity,
                    false => product.held -= line.quantity,
                }
                product.available += line.quantity;
            }
        }
    }

    /// Sells what is held.
    pub fn settle(&mut self, held: &[HeldLine]) {
        for line in held {
            if let Some(product) = self.products.get_mut(&line.product_id) {
                product.held -= line.quantity;
                product.settled += line.quantity;
            }
        }
    }
}

impl Product {
    fn honours(&self, line: &OrderLine, now: i64, honoured_for: i64) -> bool {
        let current = line.price_version == self.price_version && line.unit_price == self.price;
        let just_replaced = line.price_version == self.price_version - 1
            && line.unit_price == self.previous_price
            && now - self.replaced_at < honoured_for;
        current || just_replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const NOW: i64 = 100_000;
    const HONOURED_FOR: i64 = 20_000;

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

    fn product(available: i64) -> Product {
        Product {
            price: Money(500),
            price_version: 1,
            previous_price: Money(0),
            replaced_at: 0,
            available,
            held: 0,
            settled: 0,
        }
    }

    fn shelf(stock: &[(u128, i64)]) -> Shelf {
        Shelf {
            products: stock.iter().map(|(n, a)| (id(*n), product(*a))).collect(),
        }
    }

    #[test]
    fn what_is_held_cannot_be_ordered_again() {
        let mut shelf = shelf(&[(1, 10)]);
        assert!(shelf.hold(&[line(1, 7)], NOW, HONOURED_FOR).is_ok());
        let refusal = shelf
            .hold(&[line(1, 4)], NOW, HONOURED_FOR)
            .expect_err("only 3 are left");
        assert_eq!(refusal.code, "OUT_OF_STOCK");
        assert_eq!(
            (refusal.lines[0].requested, refusal.lines[0].available),
            (4, 3)
        );
    }

    #[test]
    fn one_line_that_fails_holds_nothing_and_every_failing_line_is_named() {
        let mut shelf = shelf(&[(1, 10), (2, 1)]);
        let before = shelf.clone();
        let lines = [line(1, 1), line(2, 2), line(3, 1)];
        let refusal = shelf
            .hold(&lines, NOW, HONOURED_FOR)
            .expect_err("two lines fail");
        let codes: Vec<_> = refusal.lines.iter().map(|l| l.code.as_str()).collect();
        assert_eq!(codes, ["OUT_OF_STOCK", "UNKNOWN_PRODUCT"]);
        assert_eq!(shelf, before);
    }

    #[test]
    fn a_released_hold_leaves_no_trace() {
        let mut shelf = shelf(&[(1, 10), (2, 5)]);
        let before = shelf.clone();
        let held = shelf
            .hold(&[line(1, 3), line(2, 5)], NOW, HONOURED_FOR)
            .expect("enough");
        shelf.release(&held, false);
        assert_eq!(shelf, before);
    }

    #[test]
    fn a_settled_hold_is_sold_and_can_still_be_given_back() {
        let mut shelf = shelf(&[(1, 10)]);
        let held = shelf
            .hold(&[line(1, 3)], NOW, HONOURED_FOR)
            .expect("enough");
        shelf.settle(&held);
        let p = &shelf.products[&id(1)];
        assert_eq!((p.available, p.held, p.settled), (7, 0, 3));
        shelf.release(&held, true);
        let p = &shelf.products[&id(1)];
        assert_eq!((p.available, p.held, p.settled), (10, 0, 0));
    }

    #[test]
    fn a_price_that_was_just_replaced_is_honoured_for_a_while() {
        let mut changed = product(10);
        changed.price = Money(900);
        changed.price_version = 2;
        changed.previous_price = Money(500);
        changed.replaced_at = NOW;
        let mut shelf = Shelf {
            products: [(id(1), changed)].into(),
        };
        let almost = NOW + HONOURED_FOR - 1;
        assert!(shelf.hold(&[line(1, 1)], almost, HONOURED_FOR).is_ok());
        let late = NOW + HONOURED_FOR;
        let refusal = shelf
            .hold(&[line(1, 1)], late, HONOURED_FOR)
            .expect_err("too late");
        assert_eq!(refusal.code, "PRICE_CHANGED");
    }
}
