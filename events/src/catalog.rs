//! Every event on one screen: its subject, its message, its one writer.
//!
//! An event is in this file or it does not exist: publishing, subscribing, decoding
//! and documentation all read these tables.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::step::Step;

/// The stream that holds every subject below.
pub const STREAM: &str = "EVENTS";

// ---- said by order ------------------ subject -------------------- message ----------- version
/// An order was accepted: every needed participant takes its step, or the first does.
pub const ORDER_CREATED: Entry = order("order.created.pending", "OrderCreated", 1, Kind::Created);
/// Every needed step succeeded: participants settle what they hold.
pub const ORDER_CONFIRMED: Entry = order("order.confirmed", "OrderConfirmed", 1, Kind::Confirmed);
/// A step was refused, the user canceled, or the deadline passed: participants compensate.
pub const ORDER_CANCELED: Entry = order("order.canceled", "OrderCanceled", 1, Kind::Canceled);
/// Every needed step is refused, void or compensated.
pub const ORDER_COMPENSATED: Entry = order(
    "order.compensated",
    "OrderCompensated",
    1,
    Kind::Compensated,
);
/// Compensation was given up: a person is needed.
pub const ORDER_COMPENSATION_FAILED: Entry = order(
    "order.compensation.failed",
    "OrderCompensationFailed",
    1,
    Kind::CompensationFailed,
);

/// The list of steps. The join, the flows, the filters and the API iterate over it:
/// a new step is one more entry.
pub const STEPS: &[StepEntry] = &[
    step(
        (0, "stock", |_| true),
        ("product.reserved", "StockDeducted", 1),
        ("product.reserve.failed", "StockDeductionFailed", 1),
        ("product.released", "StockReleased", 1),
    ),
    step(
        (1, "point", |demand| demand.to_pay),
        ("point.used", "PointDeducted", 1),
        ("point.use.failed", "PointDeductionFailed", 1),
        ("point.refunded", "PointRefunded", 1),
    ),
    step(
        (2, "coupon", |demand| demand.coupon),
        ("coupon.used", "CouponUsed", 1),
        ("coupon.use.failed", "CouponUseFailed", 1),
        ("coupon.restored", "CouponRestored", 1),
    ),
    step(
        (3, "cart", |demand| demand.from_cart),
        ("cart.cleared", "CartCleared", 1),
        ("cart.clear.failed", "CartClearFailed", 1),
        ("cart.restored", "CartRestored", 1),
    ),
    #[cfg(feature = "gift-wrap")]
    step(
        (4, "wrap", |_| true),
        ("wrap.reserved", "GiftWrapped", 1),
        ("wrap.reserve.failed", "GiftWrapFailed", 1),
        ("wrap.released", "GiftUnwrapped", 1),
    ),
];

// ---- facts -------------------------- subject -------------------- message ------- version - writer
/// A product was created, or its price changed: order keeps its price list.
pub const PRODUCT_LISTED: Entry = fact("product.listed", "ProductListed", 1, "stock");
/// Stock came in.
pub const STOCK_ADDED: Entry = fact("product.restocked", "StockAdded", 1, "stock");
/// Points came in.
pub const POINT_CHARGED: Entry = fact("point.charged", "PointCharged", 1, "point");
/// A campaign began.
pub const CAMPAIGN_CREATED: Entry = fact(
    "coupon.campaign.created",
    "CouponCampaignCreated",
    1,
    "coupon",
);
/// A coupon was given to a user: order keeps the discount it prices with.
pub const COUPON_ISSUED: Entry = fact("coupon.issued", "CouponIssued", 1, "coupon");
/// The user edited the cart.
pub const CART_CHANGED: Entry = fact("cart.changed", "CartChanged", 1, "cart");

const ORDER_EVENTS: &[Entry] = &[
    ORDER_CREATED,
    ORDER_CONFIRMED,
    ORDER_CANCELED,
    ORDER_COMPENSATED,
    ORDER_COMPENSATION_FAILED,
];
const FACTS: &[Entry] = &[
    PRODUCT_LISTED,
    STOCK_ADDED,
    POINT_CHARGED,
    CAMPAIGN_CREATED,
    COUPON_ISSUED,
    CART_CHANGED,
];

/// The one filter under which a participant hears every peer's refusal. It also
/// matches `order.compensation.failed`, which is nobody's turn.
pub const EVERY_REFUSAL: &str = "*.*.failed";

/// The subjects of the stream: everything that a service may say.
#[must_use]
pub fn stream_subjects() -> Vec<&'static str> {
    all().map(|entry| entry.subject).collect()
}

/// Every event that there is.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    let steps = STEPS.iter().flat_map(|s| [&s.taken, &s.refused, &s.undone]);
    ORDER_EVENTS.iter().chain(steps).chain(FACTS)
}

/// The event that is said on a subject.
#[must_use]
pub fn by_subject(subject: &str) -> Option<&'static Entry> {
    static ALL: LazyLock<HashMap<&str, &Entry>> =
        LazyLock::new(|| all().map(|entry| (entry.subject, entry)).collect());
    ALL.get(subject).copied()
}

/// Whether a NATS filter (`*` for one token) matches a subject.
#[must_use]
pub fn matches(filter: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    let all_match = filter
        .split('.')
        .all(|f| tokens.next().is_some_and(|token| f == "*" || f == token));
    all_match && tokens.next().is_none()
}

/// One event: what is said where, by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The NATS subject.
    pub subject: &'static str,
    /// The name of the protobuf message in `ensemble.v1`.
    pub message: &'static str,
    /// The version of the message.
    pub version: u32,
    /// The one service that says it.
    pub writer: &'static str,
    /// What it means.
    pub kind: Kind,
}

impl Entry {
    /// The `CloudEvents` type: name and version.
    #[must_use]
    pub fn event_type(&self) -> String {
        format!("ensemble.{}.v{}", self.message, self.version)
    }
}

/// What an event means to those who hear it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The order was accepted.
    Created,
    /// The order was confirmed.
    Confirmed,
    /// The order was canceled, or compensation is asked for again.
    Canceled,
    /// The order's compensation is complete.
    Compensated,
    /// The order's compensation was given up.
    CompensationFailed,
    /// A step succeeded: something is held.
    Taken(Step),
    /// A step was refused.
    Refused(Step),
    /// A step was compensated, or there was nothing to undo.
    Undone(Step),
    /// An event that needs no handler and belongs to no order.
    Fact,
}

impl Kind {
    /// Whether some service has to react to it: without one, an order would hang or
    /// something would stay held. Facts, and what is said for followers, need nobody.
    #[must_use]
    pub fn needs_handler(self) -> bool {
        !matches!(
            self,
            Self::Fact | Self::Compensated | Self::CompensationFailed
        )
    }
}

/// A step: its name, when an order needs it, and its three answers.
#[derive(Debug)]
pub struct StepEntry {
    /// The name of the step and of the service that takes it.
    pub name: &'static str,
    /// Whether an order needs it; decided once, when the order is placed (R4).
    pub needed: fn(&Demand) -> bool,
    /// Said when it is held.
    pub taken: Entry,
    /// Said when it is refused.
    pub refused: Entry,
    /// Said when it is given back, or when there was nothing to give back.
    pub undone: Entry,
}

/// What decides which steps an order needs.
#[derive(Debug, Clone, Copy)]
pub struct Demand {
    /// The total is above zero.
    pub to_pay: bool,
    /// A coupon was given.
    pub coupon: bool,
    /// The order comes from the cart.
    pub from_cart: bool,
}

impl Demand {
    /// The steps that the order needs.
    #[must_use]
    pub fn steps(&self) -> crate::StepSet {
        Step::all()
            .filter(|step| (step.entry().needed)(self))
            .collect()
    }
}

const fn order(subject: &'static str, message: &'static str, version: u32, kind: Kind) -> Entry {
    Entry {
        subject,
        message,
        version,
        writer: "order",
        kind,
    }
}

const fn fact(
    subject: &'static str,
    message: &'static str,
    version: u32,
    writer: &'static str,
) -> Entry {
    Entry {
        subject,
        message,
        version,
        writer,
        kind: Kind::Fact,
    }
}

type Head = (u8, &'static str, fn(&Demand) -> bool);
type Answer = (&'static str, &'static str, u32);

const fn step(head: Head, taken: Answer, refused: Answer, undone: Answer) -> StepEntry {
    let (index, name, needed) = head;
    let this = Step(index);
    StepEntry {
        name,
        needed,
        taken: answer(name, taken, Kind::Taken(this)),
        refused: answer(name, refused, Kind::Refused(this)),
        undone: answer(name, undone, Kind::Undone(this)),
    }
}

const fn answer(writer: &'static str, answer: Answer, kind: Kind) -> Entry {
    let (subject, message, version) = answer;
    Entry {
        subject,
        message,
        version,
        writer,
        kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_step_is_the_index_of_its_entry() {
        for (index, step) in Step::all().enumerate() {
            assert_eq!(usize::from(step.0), index);
            assert_eq!(step.entry().taken.kind, Kind::Taken(step), "{step}");
        }
    }

    #[test]
    fn a_subject_and_a_message_are_used_once() {
        let subjects: HashSet<_> = all().map(|entry| entry.subject).collect();
        let messages: HashSet<_> = all().map(|entry| entry.message).collect();
        assert_eq!(subjects.len(), all().count());
        assert_eq!(messages.len(), all().count());
    }

    #[test]
    fn the_filter_for_refusals_matches_every_refusal_and_no_other_answer() {
        for entry in all() {
            let refusal = matches!(entry.kind, Kind::Refused(_) | Kind::CompensationFailed);
            assert_eq!(
                matches(EVERY_REFUSAL, entry.subject),
                refusal,
                "{}",
                entry.subject
            );
        }
    }

    #[test]
    fn steps_are_needed_by_what_the_order_asks_for() {
        let names = |to_pay, coupon, from_cart| {
            let demand = Demand {
                to_pay,
                coupon,
                from_cart,
            };
            let needed = demand.steps();
            needed.iter().take(4).map(Step::name).collect::<Vec<_>>()
        };
        assert_eq!(names(false, false, false)[..1], ["stock"]);
        assert_eq!(
            names(true, true, true)[..4],
            ["stock", "point", "coupon", "cart"]
        );
        assert_eq!(names(false, true, false)[..2], ["stock", "coupon"]);
    }
}
