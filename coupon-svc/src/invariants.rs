//! What always holds in coupon's tables.

use events::{CouponId, OrderContext};
use jetstream::operating::invariants::Invariant;

/// What always holds in coupon's tables.
pub const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "I4",
        rule: "a coupon is held or used by the one order whose hold says so",
        about: "coupon",
        sql: |_, _| {
            "SELECT c.coupon_id AS id, c.state || ', but its hold is ' || coalesce(h.state, 'none') AS found
             FROM coupons c LEFT JOIN holds h ON h.order_id = c.order_id
             WHERE c.state <> 'AVAILABLE' AND coalesce(h.state, '')
                 <> CASE c.state WHEN 'HELD' THEN 'HELD' ELSE 'SETTLED' END"
                .to_owned()
        },
    },
    Invariant {
        name: "I4",
        rule: "an order that holds or used a coupon has one",
        about: "order",
        sql: |_, _| {
            "SELECT h.order_id AS id, h.state || ', but its coupon is ' || coalesce(c.state, 'none') AS found
             FROM holds h LEFT JOIN coupons c ON c.order_id = h.order_id AND c.state <> 'AVAILABLE'
             WHERE h.state IN ('HELD', 'SETTLED') AND coalesce(c.state, '')
                 <> CASE h.state WHEN 'HELD' THEN 'HELD' ELSE 'USED' END"
                .to_owned()
        },
    },
    Invariant {
        name: "I19",
        rule: "no more coupons are given than there are, and each is counted",
        about: "campaign",
        sql: |_, _| {
            "SELECT id, quantity || ' there, ' || issued || ' counted, ' || given || ' given' AS found
             FROM (SELECT a.campaign_id AS id, a.quantity AS quantity, a.issued AS issued,
                       (SELECT count(*) FROM coupons c WHERE c.campaign_id = a.campaign_id) AS given
                   FROM campaigns a) AS campaigns
             WHERE issued > quantity OR issued <> given"
                .to_owned()
        },
    },
    Invariant {
        name: "I19",
        rule: "a user has at most one coupon of a campaign",
        about: "campaign",
        sql: |_, _| {
            "SELECT campaign_id AS id, user_id || ' has ' || count(*) AS found FROM coupons
             GROUP BY campaign_id, user_id HAVING count(*) > 1"
                .to_owned()
        },
    },
];

/// Whether what is held is exactly what an order needs.
#[must_use]
pub fn is_exact(order: &OrderContext, held: &str) -> bool {
    serde_json::from_str::<CouponId>(held).is_ok_and(|held| order.coupon_id == Some(held))
}
