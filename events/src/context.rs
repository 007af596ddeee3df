//! The order context: what an order is, fixed when it was placed.
//!
//! Every event of the order carries it, so nobody has to ask anybody. It is decoded
//! and checked once and then passed on as the bytes that it came in.

use bytes::Bytes;
use prost::Message;

use crate::step::Route;
use crate::{
    CouponId, EventId, Flow, Malformed, Money, OrderId, ProductId, Step, StepSet, UserId, wire,
};

/// An order, as every event of it says. Immutable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderContext {
    /// The order, and the identity of its saga.
    pub order_id: OrderId,
    /// Whose order it is.
    pub user_id: UserId,
    /// How its steps start.
    pub flow: Flow,
    /// The steps that it needs (R4).
    pub needed: StepSet,
    /// What is ordered; each product once.
    pub lines: Vec<OrderLine>,
    /// What the coupon takes off.
    pub discount: Money,
    /// What the user pays.
    pub total: Money,
    /// The coupon that the discount comes from.
    pub coupon_id: Option<CouponId>,
    /// Milliseconds since the Unix epoch, on the clock of the order database.
    pub placed_at: i64,
    /// When the order is canceled unless it is decided; same clock.
    pub deadline: i64,
    encoded: Bytes,
}

/// A product, how much of it, and the price that was honoured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderLine {
    /// What is ordered.
    pub product_id: ProductId,
    /// Units, at least 1.
    pub quantity: i64,
    /// Price of one unit.
    pub unit_price: Money,
    /// The version of the product's price that it was taken from.
    pub price_version: i64,
}

/// What a new order context is made of; see [`OrderContext`] for the fields.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct NewOrder {
    pub order_id: OrderId,
    pub user_id: UserId,
    pub flow: Flow,
    pub needed: StepSet,
    pub lines: Vec<OrderLine>,
    pub discount: Money,
    pub coupon_id: Option<CouponId>,
    pub placed_at: i64,
    pub deadline: i64,
}

impl OrderContext {
    /// Fixes a new order; the total follows from lines and discount.
    ///
    /// # Errors
    /// When the order breaks a rule that every reader would refuse it for.
    pub fn new(order: NewOrder) -> Result<Self, Malformed> {
        let total = subtotal(&order.lines)?
            .minus(order.discount)
            .map_err(too_large)?;
        let context = Self {
            order_id: order.order_id,
            user_id: order.user_id,
            flow: order.flow,
            needed: order.needed,
            lines: order.lines,
            discount: order.discount,
            total,
            coupon_id: order.coupon_id,
            placed_at: order.placed_at,
            deadline: order.deadline,
            encoded: Bytes::new(),
        };
        context.check()?;
        let encoded = context.to_wire().encode_to_vec().into();
        Ok(Self { encoded, ..context })
    }

    /// Reads and checks what an event carries. The bytes are kept, to be passed on.
    ///
    /// # Errors
    /// When the bytes are no order context, or one that breaks a rule.
    pub fn decode(encoded: Bytes) -> Result<Self, Malformed> {
        let message = wire::OrderContext::decode(encoded.clone())
            .map_err(|e| Malformed::encoding("OrderContext", &e))?;
        let context = Self {
            order_id: OrderId::from_wire(&message.order_id)?,
            user_id: UserId::new(message.user_id.as_str())?,
            flow: flow_from_wire(message.flow())?,
            needed: message
                .needed
                .iter()
                .map(|name| Step::named(name))
                .collect::<Result<_, _>>()?,
            lines: message
                .lines
                .iter()
                .map(OrderLine::from_wire)
                .collect::<Result<_, _>>()?,
            discount: Money(message.discount),
            total: Money(message.total),
            coupon_id: match message.coupon_id.is_empty() {
                true => None,
                false => Some(CouponId::from_wire(&message.coupon_id)?),
            },
            placed_at: message.placed_at_ms,
            deadline: message.deadline_ms,
            encoded,
        };
        context.check()?;
        Ok(context)
    }

    /// The bytes that it travels in.
    #[must_use]
    pub fn encoded(&self) -> Bytes {
        self.encoded.clone()
    }

    /// The needed steps with the ids of the events that say that they succeeded: each is
    /// caused by the order, or in the sequential flow by the success before it.
    pub fn success_ids(&self) -> impl Iterator<Item = (Step, EventId)> {
        let created = EventId::created(self.order_id);
        let mut before = created;
        self.needed.iter().map(move |step| {
            let cause = match self.flow {
                Flow::Parallel => created,
                Flow::Sequential => before,
            };
            let taken = &step.entry().taken;
            before = EventId::derived(cause, taken.writer, taken.subject, 1);
            (step, before)
        })
    }

    /// Flow and needed steps.
    #[must_use]
    pub fn route(&self) -> Route {
        Route {
            flow: self.flow,
            needed: self.needed,
        }
    }

    // Events are input too: what a reader relies on is checked, whoever wrote it.
    fn check(&self) -> Result<(), Malformed> {
        let rule = |holds: bool, what, rule: &str| match holds {
            true => Ok(()),
            false => Err(Malformed::field(what, rule)),
        };
        rule(!self.needed.is_empty(), "needed", "must name a step")?;
        rule(!self.lines.is_empty(), "lines", "must not be empty")?;
        for line in &self.lines {
            rule(line.quantity > 0, "quantity", "must be above 0")?;
            rule(
                line.unit_price >= Money::ZERO,
                "unit_price",
                "must not be negative",
            )?;
        }
        let mut products: Vec<_> = self.lines.iter().map(|line| line.product_id).collect();
        products.sort_unstable();
        products.dedup();
        rule(
            products.len() == self.lines.len(),
            "lines",
            "must name each product once",
        )?;
        let subtotal = subtotal(&self.lines)?;
        rule(
            self.discount >= Money::ZERO,
            "discount",
            "must not be negative",
        )?;
        rule(self.total >= Money::ZERO, "total", "must not be negative")?;
        rule(
            subtotal.minus(self.discount) == Ok(self.total),
            "total",
            "must be the sum of the lines less the discount",
        )
    }

    fn to_wire(&self) -> wire::OrderContext {
        wire::OrderContext {
            order_id: self.order_id.to_wire(),
            user_id: self.user_id.to_string(),
            flow: match self.flow {
                Flow::Parallel => wire::Flow::Parallel,
                Flow::Sequential => wire::Flow::Sequential,
            }
            .into(),
            needed: self.needed.iter().map(|s| s.name().to_owned()).collect(),
            lines: self.lines.iter().map(|line| line.to_wire()).collect(),
            discount: self.discount.0,
            total: self.total.0,
            coupon_id: self.coupon_id.map(CouponId::to_wire).unwrap_or_default(),
            placed_at_ms: self.placed_at,
            deadline_ms: self.deadline,
        }
    }
}

/// The sum of price times quantity.
///
/// # Errors
/// When it does not fit.
pub fn subtotal(lines: &[OrderLine]) -> Result<Money, Malformed> {
    lines.iter().try_fold(Money::ZERO, |sum, line| {
        let line = line.unit_price.times(line.quantity).map_err(too_large)?;
        sum.plus(line).map_err(too_large)
    })
}

fn too_large(error: crate::money::Overflow) -> Malformed {
    Malformed::field("total", error.to_string())
}

fn flow_from_wire(flow: wire::Flow) -> Result<Flow, Malformed> {
    match flow {
        wire::Flow::Parallel => Ok(Flow::Parallel),
        wire::Flow::Sequential => Ok(Flow::Sequential),
        wire::Flow::Unspecified => Err(Malformed::unknown("flow", "unspecified")),
    }
}

impl OrderLine {
    fn to_wire(self) -> wire::OrderLine {
        wire::OrderLine {
            product_id: self.product_id.to_wire(),
            quantity: self.quantity,
            unit_price: self.unit_price.0,
            price_version: self.price_version,
        }
    }

    fn from_wire(message: &wire::OrderLine) -> Result<Self, Malformed> {
        Ok(Self {
            product_id: ProductId::from_wire(&message.product_id)?,
            quantity: message.quantity,
            unit_price: Money(message.unit_price),
            price_version: message.price_version,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    pub(crate) fn order(lines: Vec<OrderLine>, discount: i64) -> NewOrder {
        NewOrder {
            order_id: OrderId(Uuid::from_u128(1)),
            user_id: UserId::new("alice").expect("valid"),
            flow: Flow::Parallel,
            needed: [Step::STOCK, Step::POINT].into_iter().collect(),
            lines,
            discount: Money(discount),
            coupon_id: None,
            placed_at: 1_000,
            deadline: 21_000,
        }
    }

    fn line(product: u128, quantity: i64, price: i64) -> OrderLine {
        OrderLine {
            product_id: ProductId(Uuid::from_u128(product)),
            quantity,
            unit_price: Money(price),
            price_version: 1,
        }
    }

    #[test]
    fn it_reads_back_and_keeps_its_bytes() {
        let context = OrderContext::new(order(vec![line(1, 2, 500), line(2, 1, 99)], 99));
        let context = context.expect("valid");
        assert_eq!(context.total, Money(1000));
        let read = OrderContext::decode(context.encoded()).expect("valid");
        assert_eq!(read, context);
    }

    #[test]
    fn a_context_that_breaks_a_rule_is_refused() {
        for (lines, discount) in [
            (vec![], 0),
            (vec![line(1, 0, 5)], 0),
            (vec![line(1, 1, -5)], 0),
            (vec![line(1, 1, 5), line(1, 1, 5)], 0),
            (vec![line(1, 1, 5)], 6),
            (vec![line(1, i64::MAX, 5)], 0),
        ] {
            assert!(OrderContext::new(order(lines, discount)).is_err());
        }
        let mut wrong = OrderContext::new(order(vec![line(1, 1, 5)], 0)).expect("valid");
        wrong.total = Money(4);
        let encoded = wrong.to_wire().encode_to_vec().into();
        assert!(OrderContext::decode(encoded).is_err(), "total must add up");
    }
}
