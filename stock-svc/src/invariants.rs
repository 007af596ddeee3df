//! What always holds in stock's tables.

use events::OrderContext;
use jetstream::operating::invariants::{Invariant, text_uuid};
use sea_orm::DbBackend;

use crate::domain::HeldLine;

/// What always holds in stock's tables.
pub const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "I1",
        rule: "what came in is available, held or sold",
        about: "product",
        sql: |_, _| {
            "SELECT product_id AS id, initial_stock || ' + ' || restocked_total || ' came in, '
                 || available || ' available, ' || held || ' held, ' || settled || ' sold' AS found
             FROM products WHERE initial_stock + restocked_total <> available + held + settled
                 OR available < 0"
                .to_owned()
        },
    },
    Invariant {
        name: "I2",
        rule: "the counters are the sums of the holds",
        about: "product",
        sql: |backend, _| {
            let lines = match backend {
                DbBackend::Postgres => {
                    "SELECT h.state AS state, l.line->>'product_id' AS product,
                         CAST(l.line->>'quantity' AS BIGINT) AS quantity
                     FROM holds h, json_array_elements(CAST(h.held AS JSON)) AS l(line)
                     WHERE h.state IN ('HELD', 'SETTLED')"
                }
                _ => {
                    "SELECT h.state AS state, json_extract(l.value, '$.product_id') AS product,
                         json_extract(l.value, '$.quantity') AS quantity
                     FROM holds h, json_each(h.held) AS l
                     WHERE h.state IN ('HELD', 'SETTLED')"
                }
            };
            let product = text_uuid(backend, "product");
            format!(
                "SELECT p.product_id AS id, p.held || ' held, the holds say ' || coalesce(s.held, 0)
                     || '; ' || p.settled || ' sold, the holds say ' || coalesce(s.settled, 0) AS found
                 FROM products p LEFT JOIN
                     (SELECT {product} AS product_id,
                          CAST(sum(CASE WHEN state = 'HELD' THEN quantity ELSE 0 END) AS BIGINT) AS held,
                          CAST(sum(CASE WHEN state = 'SETTLED' THEN quantity ELSE 0 END) AS BIGINT)
                              AS settled
                      FROM ({lines}) AS lines GROUP BY product) s ON s.product_id = p.product_id
                 WHERE p.held <> coalesce(s.held, 0) OR p.settled <> coalesce(s.settled, 0)"
            )
        },
    },
];

/// Whether what is held is exactly what an order needs.
#[must_use]
pub fn is_exact(order: &OrderContext, held: &str) -> bool {
    let lines = order.lines.iter().map(|line| HeldLine {
        product_id: line.product_id,
        quantity: line.quantity,
    });
    serde_json::from_str::<Vec<HeldLine>>(held).is_ok_and(|held| held.into_iter().eq(lines))
}
