//! What always holds in point's tables.

use events::{Money, OrderContext};
use jetstream::operating::invariants::Invariant;

/// What always holds in point's tables.
pub const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "I3",
        rule: "what was charged is there, held or spent",
        about: "user",
        sql: |_, _| {
            "SELECT a.user_id AS id, a.charged_total || ' charged (' || coalesce(c.amount, 0)
                 || ' by the ledger), ' || a.balance || ' there, ' || a.held || ' held, '
                 || a.settled || ' spent' AS found
             FROM accounts a LEFT JOIN
                 (SELECT user_id, CAST(sum(amount) AS BIGINT) AS amount FROM charges GROUP BY user_id) c
                 ON c.user_id = a.user_id
             WHERE a.charged_total <> a.balance + a.held + a.settled OR a.balance < 0
                 OR a.charged_total <> coalesce(c.amount, 0)"
                .to_owned()
        },
    },
    Invariant {
        name: "I2",
        rule: "the account is the sum of the holds",
        about: "user",
        sql: |_, _| {
            "SELECT a.user_id AS id, a.held || ' held, the holds say ' || coalesce(s.held, 0)
                 || '; ' || a.settled || ' spent, the holds say ' || coalesce(s.settled, 0) AS found
             FROM accounts a LEFT JOIN
                 (SELECT user_id,
                      CAST(sum(CASE WHEN state = 'HELD' THEN CAST(held AS BIGINT) ELSE 0 END)
                          AS BIGINT) AS held,
                      CAST(sum(CASE WHEN state = 'SETTLED' THEN CAST(held AS BIGINT) ELSE 0 END)
                          AS BIGINT) AS settled
                  FROM holds WHERE state IN ('HELD', 'SETTLED') GROUP BY user_id) s
                 ON s.user_id = a.user_id
             WHERE a.held <> coalesce(s.held, 0) OR a.settled <> coalesce(s.settled, 0)"
                .to_owned()
        },
    },
];

/// Whether what is held is exactly what an order needs.
#[must_use]
pub fn is_exact(order: &OrderContext, held: &str) -> bool {
    serde_json::from_str::<Money>(held).is_ok_and(|held| held == order.total)
}
