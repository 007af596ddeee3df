//! A representative event of every row of the catalog, in two forms: for documentation,
//! and for the tests of the wire contract.
//!
//! Golden files are written from these once. A new field gets a value here, but a
//! value that is here stays: the golden files hold today's writers to it.

use crate::body::{self, Canceled, Reason, Undone};
use crate::catalog::{Entry, Kind};
use crate::context::{NewOrder, OrderLine};
use crate::fact::{self, CampaignCreated, CouponIssued, ProductListed};
use crate::refusal::FailingLine;
use crate::{
    CampaignId, Coupon, CouponId, Discount, Envelope, EventId, Flow, Money, OrderContext, OrderId,
    ProductId, Refusal, Step, UserId,
};
use bytes::Bytes;
use uuid::Uuid;

/// Which fields are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Every field.
    Full,
    /// Only those that must be.
    Bare,
}

impl Form {
    /// Both forms.
    pub const ALL: [Self; 2] = [Self::Full, Self::Bare];

    /// What the form adds to a file's name.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Full => "",
            Self::Bare => ".bare",
        }
    }

    fn full<T>(self, value: T) -> Option<T> {
        (self == Self::Full).then_some(value)
    }
}

const ORDER: OrderId = OrderId(uuid(0x7001));
const SHIRT: ProductId = ProductId(uuid(0x7002));
const SOCKS: ProductId = ProductId(uuid(0x7003));
const COUPON: CouponId = CouponId(uuid(0x7004));
const CAMPAIGN: CampaignId = CampaignId(uuid(0x7005));
const CAUSE: EventId = EventId(uuid(0x7006));
const NOW: i64 = 1_767_225_600_123;

// Looks like a UUIDv7 of the first day of 2026.
const fn uuid(last: u16) -> Uuid {
    Uuid::from_u128(0x019b_76da_a800_7000_8000_0000_0000_0000 | last as u128)
}

/// The sample of a row of the catalog.
///
/// # Panics
/// When a fact has no sample.
#[must_use]
pub fn envelope(entry: &'static Entry, form: Form) -> Envelope {
    // Derived, so that every sample has its own, and the derivation is held too: two
    // builds that derive differently would say one event twice.
    let id = EventId::derived(CAUSE, entry.writer, entry.subject, 1);
    let about_order = entry.kind != Kind::Fact;
    Envelope {
        id,
        entry,
        aggregate: match about_order {
            true => ORDER.to_string(),
            false => aggregate(entry).to_owned(),
        },
        correlation: if about_order { ORDER.0 } else { id.0 },
        causation: form.full(CAUSE),
        time: NOW,
        pseq: 42,
        traceparent: form
            .full("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        body: body(entry, form),
    }
}

fn aggregate(entry: &Entry) -> &'static str {
    match entry.writer {
        "stock" => "019b76da-a800-7000-8000-000000007002",
        "coupon" => "019b76da-a800-7000-8000-000000007004",
        _ => "alice@example.com",
    }
}

fn body(entry: &Entry, form: Form) -> Bytes {
    let context = context(form);
    match entry.kind {
        Kind::Created | Kind::Confirmed | Kind::Compensated | Kind::Taken(_) => {
            body::plain(&context)
        }
        Kind::Refused(_) => body::refused(&context, &refusal(form)),
        Kind::Undone(_) => {
            let (nothing_to_undo, attempt) = match form {
                Form::Full => (true, 3),
                Form::Bare => (false, 1),
            };
            let undone = Undone {
                nothing_to_undo,
                attempt,
            };
            body::undone(&context, undone)
        }
        Kind::Canceled => {
            let (reason, attempt) = match form {
                Form::Full => (Reason::DeadlinePassed, 2),
                Form::Bare => (Reason::Refused, 1),
            };
            body::canceled(&context, Canceled { reason, attempt })
        }
        Kind::CompensationFailed => {
            let unanswered = form.full(vec![Step::STOCK, Step::CART]);
            body::compensation_failed(&context, &unanswered.unwrap_or_default())
        }
        Kind::Fact => fact(entry.message, form),
    }
}

/// The order that the samples are about.
///
/// # Panics
/// Never: it is a valid order.
#[must_use]
pub fn context(form: Form) -> OrderContext {
    let line = |product_id, quantity, unit_price, price_version| OrderLine {
        product_id,
        quantity,
        unit_price: Money(unit_price),
        price_version,
    };
    let order = NewOrder {
        order_id: ORDER,
        user_id: alice(),
        flow: match form {
            Form::Full => Flow::Parallel,
            Form::Bare => Flow::Sequential,
        },
        needed: match form {
            Form::Full => [Step::STOCK, Step::POINT, Step::COUPON, Step::CART]
                .into_iter()
                .collect(),
            Form::Bare => [Step::STOCK, Step::POINT].into_iter().collect(),
        },
        lines: match form {
            Form::Full => vec![line(SHIRT, 2, 1_999, 7), line(SOCKS, 300, 450, 1)],
            Form::Bare => vec![line(SHIRT, 1, 1_999, 1)],
        },
        discount: Money(form.full(13_899).unwrap_or_default()),
        coupon_id: form.full(COUPON),
        placed_at: NOW,
        deadline: NOW + 20_000,
    };
    OrderContext::new(order).expect("the sample is a valid order")
}

/// Why the sample's step was refused.
#[must_use]
pub fn refusal(form: Form) -> Refusal {
    let bare = Refusal::new("INSUFFICIENT_POINTS");
    let line = |product_id, code: &str, requested, available| FailingLine {
        product_id,
        code: code.to_owned(),
        requested,
        available,
    };
    match form {
        Form::Bare => bare,
        Form::Full => Refusal {
            lines: vec![
                line(SHIRT, "OUT_OF_STOCK", 2, 1),
                line(SOCKS, "UNKNOWN_PRODUCT", 300, 0),
            ],
            needed: Some(Money(125_099)),
            balance: Some(Money(99)),
            reason: "EXPIRED".to_owned(),
            ..bare
        },
    }
}

fn fact(message: &str, form: Form) -> Bytes {
    let quantity = form.full(250).unwrap_or_default();
    match message {
        "ProductListed" => ProductListed {
            product_id: SHIRT,
            name: "Shirt, größer".to_owned(),
            option: form.full("XL, blue".to_owned()).unwrap_or_default(),
            price: Money(1_999),
            version: 7,
            initial_stock: quantity,
        }
        .encode(),
        "StockAdded" => fact::stock_added(SHIRT, quantity),
        "PointCharged" => fact::point_charged(&alice(), Money(5_000_000_000)),
        "CouponCampaignCreated" => CampaignCreated {
            campaign_id: CAMPAIGN,
            name: "Winter".to_owned(),
            terms: terms(form),
            quantity: 1_000,
            expires_at: form.full(NOW + 86_400_000),
        }
        .encode(),
        "CouponIssued" => CouponIssued {
            coupon_id: COUPON,
            campaign_id: CAMPAIGN,
            user_id: alice(),
            terms: terms(form),
            expires_at: form.full(NOW + 86_400_000),
        }
        .encode(),
        "CartChanged" => fact::cart_changed(&alice(), SHIRT, quantity),
        other => panic!("{other} has no sample: say one in events/src/sample.rs"),
    }
}

// The two forms take the two sides of the `oneof`.
fn terms(form: Form) -> Coupon {
    let (discount, min_total) = match form {
        Form::Full => {
            let max = Some(Money(20_000));
            (Discount::Percent { percent: 10, max }, 10_000)
        }
        Form::Bare => (Discount::Amount { amount: Money(500) }, 0),
    };
    Coupon {
        discount,
        min_total: Money(min_total),
    }
}

fn alice() -> UserId {
    UserId::new("alice@example.com").expect("the sample is a valid user")
}
