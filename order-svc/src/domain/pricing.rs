//! What an order costs, by the price list and the coupons that order knows from events.

use std::collections::BTreeMap;

use events::catalog::Demand;
use events::context::{NewOrder, subtotal};
use events::{Coupon, CouponId, Flow, Money, OrderContext, OrderId, OrderLine, ProductId, UserId};

/// What a user asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The id that the order will have.
    pub order_id: OrderId,
    /// Whose order.
    pub user_id: UserId,
    /// Products and quantities; lines of one product are merged.
    pub items: Vec<(ProductId, i64)>,
    /// The coupon to price with.
    pub coupon_id: Option<CouponId>,
    /// The ordered quantities are taken out of the user's cart.
    pub from_cart: bool,
    /// How the steps start.
    pub flow: Flow,
}

/// The price of a product, as stock last said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Price of one unit.
    pub price: Money,
    /// The version of the price.
    pub version: i64,
}

/// A coupon, as it was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Whose it is.
    pub user_id: UserId,
    /// What it takes off.
    pub terms: Coupon,
    /// Milliseconds since the Unix epoch; absent: never.
    pub expires_at: Option<i64>,
}

/// What order knows when it prices.
#[derive(Debug, Default)]
pub struct Known {
    /// The price list.
    pub products: BTreeMap<ProductId, Listed>,
    /// The coupons.
    pub coupons: BTreeMap<CouponId, Issued>,
}

/// Order knows that this request cannot become an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// No such product, or it was created a moment ago.
    UnknownProduct(ProductId),
    /// No such coupon, or it was issued a moment ago. Another user's coupon is unknown too.
    UnknownCoupon(CouponId),
    /// The coupon's time is over.
    ExpiredCoupon(CouponId),
    /// The subtotal is below the coupon's minimum.
    BelowMinimum {
        /// What the lines sum up to.
        subtotal: Money,
        /// What the coupon asks for.
        min_total: Money,
    },
    /// The order costs more than can be counted.
    TooLarge,
}

/// Prices a request: the context of the order that it becomes.
///
/// # Errors
/// What order knows to be wrong.
pub fn price(
    request: &Request,
    known: &Known,
    now: i64,
    deadline: i64,
) -> Result<OrderContext, Wrong> {
    let mut quantities: BTreeMap<ProductId, i64> = BTreeMap::new();
    for (product, quantity) in &request.items {
        let sum = quantities.entry(*product).or_default();
        *sum = sum.checked_add(*quantity).ok_or(Wrong::TooLarge)?;
    }
    let line = |(product_id, quantity): (&ProductId, &i64)| {
        let listed = known
            .products
            .get(product_id)
            .ok_or(Wrong::UnknownProduct(*product_id))?;
        Ok(OrderLine {
            product_id: *product_id,
            quantity: *quantity,
            unit_price: listed.price,
            price_version: listed.version,
        })
    };
    let lines = quantities
        .iter()
        .map(line)
        .collect::<Result<Vec<_>, Wrong>>()?;
    let subtotal = subtotal(&lines).map_err(|_| Wrong::TooLarge)?;
    let discount = match request.coupon_id {
        Some(coupon) => discount(request, coupon, known, subtotal, now)?,
        None => Money::ZERO,
    };
    let demand = Demand {
        to_pay: subtotal > discount,
        coupon: request.coupon_id.is_some(),
        from_cart: request.from_cart,
    };
    OrderContext::new(NewOrder {
        order_id: request.order_id,
        user_id: request.user_id.clone(),
        flow: request.flow,
        needed: demand.steps(),
        lines,
        discount,
        coupon_id: request.coupon_id,
        placed_at: now,
        deadline: now + deadline,
    })
    .map_err(|_| Wrong::TooLarge)
}

fn discount(
    request: &Request,
    coupon: CouponId,
    known: &Known,
    subtotal: Money,
    now: i64,
) -> Result<Money, Wrong> {
    let issued = known
        .coupons
        .get(&coupon)
        .filter(|issued| issued.user_id == request.user_id)
        .ok_or(Wrong::UnknownCoupon(coupon))?;
    if issued.expires_at.is_some_and(|at| at <= now) {
        return Err(Wrong::ExpiredCoupon(coupon));
    }
    issued
        .terms
        .off(subtotal)
        .map_err(|below| Wrong::BelowMinimum {
            subtotal: below.subtotal,
            min_total: below.min_total,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::Discount;
    use uuid::Uuid;

    const NOW: i64 = 1_000;

    fn product(n: u128) -> ProductId {
        ProductId(Uuid::from_u128(n))
    }

    fn coupon() -> CouponId {
        CouponId(Uuid::from_u128(99))
    }

    fn user(name: &str) -> UserId {
        UserId::new(name).expect("valid")
    }

    fn request(items: &[(u128, i64)]) -> Request {
        Request {
            order_id: OrderId(Uuid::from_u128(1)),
            user_id: user("alice"),
            items: items.iter().map(|(n, q)| (product(*n), *q)).collect(),
            coupon_id: None,
            from_cart: false,
            flow: Flow::Parallel,
        }
    }

    fn known() -> Known {
        let listed = |price| Listed {
            price: Money(price),
            version: 3,
        };
        let issued = Issued {
            user_id: user("alice"),
            terms: Coupon {
                discount: Discount::Percent {
                    percent: 10,
                    max: None,
                },
                min_total: Money(1_000),
            },
            expires_at: Some(2_000),
        };
        Known {
            products: [(product(1), listed(500)), (product(2), listed(0))].into(),
            coupons: [(coupon(), issued)].into(),
        }
    }

    fn steps(context: &OrderContext) -> Vec<&str> {
        context
            .needed
            .iter()
            .take(4)
            .map(|step| step.name())
            .collect()
    }

    #[test]
    fn lines_of_one_product_are_merged_and_the_price_is_fixed_with_its_version() {
        let context = price(&request(&[(1, 2), (1, 3)]), &known(), NOW, 20).expect("fine");
        assert_eq!(context.lines.len(), 1);
        assert_eq!(
            (context.lines[0].quantity, context.lines[0].price_version),
            (5, 3)
        );
        assert_eq!((context.total, context.deadline), (Money(2_500), NOW + 20));
        assert_eq!(steps(&context)[..2], ["stock", "point"]);
    }

    #[test]
    fn an_order_that_costs_nothing_needs_no_points() {
        let context = price(&request(&[(2, 1)]), &known(), NOW, 20).expect("fine");
        assert_eq!(steps(&context)[0], "stock");
        assert!(!steps(&context).contains(&"point"));
    }

    #[test]
    fn a_coupon_lowers_the_total() {
        let with = Request {
            coupon_id: Some(coupon()),
            ..request(&[(1, 2)])
        };
        let context = price(&with, &known(), NOW, 20).expect("fine");
        assert_eq!((context.discount, context.total), (Money(100), Money(900)));
        assert_eq!(steps(&context)[..3], ["stock", "point", "coupon"]);
    }

    #[test]
    fn what_is_known_to_be_wrong_is_refused() {
        let with = Request {
            coupon_id: Some(coupon()),
            ..request(&[(1, 2)])
        };
        let of_bob = Request {
            user_id: user("bob"),
            ..with.clone()
        };
        let small = Request {
            coupon_id: Some(coupon()),
            ..request(&[(1, 1)])
        };
        let wrong = |request: &Request, now| price(request, &known(), now, 20).expect_err("wrong");
        assert_eq!(
            wrong(&request(&[(3, 1)]), NOW),
            Wrong::UnknownProduct(product(3))
        );
        assert_eq!(wrong(&of_bob, NOW), Wrong::UnknownCoupon(coupon()));
        assert_eq!(wrong(&with, 2_000), Wrong::ExpiredCoupon(coupon()));
        assert!(matches!(wrong(&small, NOW), Wrong::BelowMinimum { .. }));
    }
}
