//! What the steps take from: the real domains, and one order's hand in them.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use cart_svc::domain::{Cart, HeldLine as CartLine};
use coupon_svc::domain::{Drawer, Given, State as CouponState};
use events::context::NewOrder;
use events::hold::Hold;
use events::outcome::Resource;
use events::{
    Coupon, CouponId, Discount, Flow, Money, OrderContext, OrderId, OrderLine, ProductId, Refusal,
    Step, UserId,
};
use point_svc::domain::{Account, Accounts};
use stock_svc::domain::{HeldLine as StockLine, Product, Shelf};
use uuid::Uuid;

use crate::rules::{Off, Rule};

/// The four steps.
pub const STEPS: [Step; 4] = [Step::STOCK, Step::POINT, Step::COUPON, Step::CART];
/// The price of a unit; the coupon takes a tenth off.
pub const PRICE: i64 = 100;

/// The place of a step in [`STEPS`].
#[must_use]
pub fn index(step: Step) -> usize {
    STEPS.iter().position(|s| *s == step).unwrap_or(STEPS.len())
}

/// The resources of all four services: one product, one user, one coupon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shop {
    /// Stock's.
    pub shelf: Shelf,
    /// Point's.
    pub accounts: Accounts,
    /// Coupon's.
    pub drawer: Drawer,
    /// Cart's: the user's.
    pub cart: Cart,
}

/// What is held for one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// By stock.
    Units(Vec<StockLine>),
    /// By point.
    Points(Money),
    /// By coupon.
    Coupon(CouponId),
    /// By cart.
    Lines(Vec<CartLine>),
}

/// Numbers of which the shop is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supply {
    /// Units on the shelf.
    pub units: i64,
    /// Points of the user.
    pub points: i64,
    /// Whether the user has the coupon.
    pub coupon: bool,
    /// Units in the cart.
    pub in_cart: i64,
}

/// The product.
#[must_use]
pub fn mug() -> ProductId {
    ProductId(Uuid::from_u128(1))
}

/// The coupon.
#[must_use]
pub fn voucher() -> CouponId {
    CouponId(Uuid::from_u128(2))
}

/// The user.
///
/// # Panics
/// Never: the name is one.
#[must_use]
pub fn alice() -> UserId {
    UserId::new("alice").expect("a name")
}

/// An order of alice's; the steps that it needs are what it asks for.
///
/// # Panics
/// When `quantity` is not above zero, or no step is needed.
#[must_use]
pub fn order(number: usize, flow: Flow, needed: &[Step], quantity: i64) -> OrderContext {
    let coupon = needed.contains(&Step::COUPON);
    OrderContext::new(NewOrder {
        order_id: OrderId(Uuid::from_u128(0x100 + number as u128)),
        user_id: alice(),
        flow,
        needed: needed.iter().copied().collect(),
        lines: vec![OrderLine {
            product_id: mug(),
            quantity,
            unit_price: Money(PRICE),
            price_version: 1,
        }],
        discount: Money(if coupon { quantity * PRICE / 10 } else { 0 }),
        coupon_id: coupon.then(voucher),
        placed_at: 0,
        deadline: 10,
    })
    .expect("a valid order")
}

impl Shop {
    /// A shop with these supplies.
    #[must_use]
    pub fn with(supply: Supply) -> Self {
        let product = Product {
            price: Money(PRICE),
            price_version: 1,
            previous_price: Money::ZERO,
            replaced_at: 0,
            available: supply.units,
            held: 0,
            settled: 0,
        };
        let account = Account {
            balance: Money(supply.points),
            ..Account::default()
        };
        let given = Given {
            owner: alice(),
            terms: Coupon {
                discount: Discount::Percent {
                    percent: 10,
                    max: None,
                },
                min_total: Money::ZERO,
            },
            expires_at: 0,
            state: CouponState::Available,
        };
        let mut cart = Cart::default();
        cart.set(mug(), supply.in_cart).ok();
        Self {
            shelf: Shelf {
                products: BTreeMap::from([(mug(), product)]),
            },
            accounts: Accounts {
                of: BTreeMap::from([(alice(), account)]),
            },
            drawer: Drawer {
                coupons: supply
                    .coupon
                    .then(|| (voucher(), given))
                    .into_iter()
                    .collect(),
            },
            cart,
        }
    }

    /// Available, held and settled units.
    #[must_use]
    pub fn units(&self) -> [i64; 3] {
        let mug = &self.shelf.products[&mug()];
        [mug.available, mug.held, mug.settled]
    }

    /// Points that can be spent, are held, and are spent.
    #[must_use]
    pub fn points(&self) -> [i64; 3] {
        let account = &self.accounts.of[&alice()];
        [account.balance.0, account.held.0, account.settled.0]
    }

    /// The state of the coupon, if there is one.
    #[must_use]
    pub fn coupon(&self) -> Option<CouponState> {
        Some(self.drawer.coupons.get(&voucher())?.state)
    }

    /// Units in the cart.
    #[must_use]
    pub fn in_cart(&self) -> i64 {
        self.cart.quantity(mug())
    }
}

impl Hash for Shop {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.units(), self.points(), self.in_cart()).hash(hasher);
        match self.coupon() {
            None => 0_u128.hash(hasher),
            Some(CouponState::Available) => 1_u128.hash(hasher),
            Some(CouponState::Held(order)) => (order.0.as_u128() * 2).hash(hasher),
            Some(CouponState::Used(order)) => (order.0.as_u128() * 2 + 1).hash(hasher),
        }
    }
}

/// One order's hand in the shop, at one step.
pub(crate) struct Hand<'a> {
    pub(crate) shop: &'a mut Shop,
    pub(crate) step: Step,
    pub(crate) context: &'a OrderContext,
    pub(crate) off: Off,
}

impl Resource<Held> for Hand<'_> {
    fn hold(&mut self) -> Result<Held, Refusal> {
        let (shop, order) = (&mut *self.shop, self.context);
        match index(self.step) {
            0 if self.off.has(Rule::Bound) => Ok(Held::Units(unbounded(shop, order))),
            0 => shop.shelf.hold(&order.lines, 0, 0).map(Held::Units),
            1 => shop
                .accounts
                .hold(&order.user_id, order.total)
                .map(Held::Points),
            2 if self.off.has(Rule::CouponOnce) => Ok(Held::Coupon(grabbed(shop, order))),
            2 => shop.drawer.hold(order, 0).map(Held::Coupon),
            _ => shop.cart.hold(&order.lines).map(Held::Lines),
        }
    }

    fn release(&mut self, held: &Held, from: Hold) {
        let (shop, order) = (&mut *self.shop, self.context);
        let settled = from == Hold::Settled;
        match held {
            Held::Units(lines) => shop.shelf.release(lines, settled),
            Held::Points(points) => shop.accounts.release(&order.user_id, *points, settled),
            Held::Coupon(id) => shop.drawer.release(order.order_id, *id),
            Held::Lines(lines) => shop.cart.release(lines),
        }
    }

    fn settle(&mut self, held: &Held) {
        let (shop, order) = (&mut *self.shop, self.context);
        match held {
            Held::Units(lines) => shop.shelf.settle(lines),
            Held::Points(points) => shop.accounts.settle(&order.user_id, *points),
            Held::Coupon(id) => shop.drawer.settle(order.order_id, *id),
            Held::Lines(_) => {}
        }
    }
}

/// Stock that takes without looking (R10 off).
fn unbounded(shop: &mut Shop, order: &OrderContext) -> Vec<StockLine> {
    let take = |line: &OrderLine| {
        if let Some(product) = shop.shelf.products.get_mut(&line.product_id) {
            product.available -= line.quantity;
            product.held += line.quantity;
        }
        StockLine {
            product_id: line.product_id,
            quantity: line.quantity,
        }
    };
    order.lines.iter().map(take).collect()
}

/// A coupon that is marked whoever has it.
fn grabbed(shop: &mut Shop, order: &OrderContext) -> CouponId {
    if let Some(coupon) = shop.drawer.coupons.get_mut(&voucher()) {
        coupon.state = CouponState::Held(order.order_id);
    }
    voucher()
}

/// What a step must hold for an order.
#[must_use]
pub fn exact(step: Step, order: &OrderContext) -> Held {
    let lines = order.lines.iter();
    match index(step) {
        0 => Held::Units(
            lines
                .map(|line| StockLine {
                    product_id: line.product_id,
                    quantity: line.quantity,
                })
                .collect(),
        ),
        1 => Held::Points(order.total),
        2 => Held::Coupon(voucher()),
        _ => Held::Lines(
            lines
                .map(|line| CartLine {
                    product_id: line.product_id,
                    quantity: line.quantity,
                })
                .collect(),
        ),
    }
}
