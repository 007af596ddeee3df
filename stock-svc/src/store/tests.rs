use super::*;
use events::context::NewOrder;
use events::{Flow, OrderId, OrderLine, UserId};
use jetstream::hearing::laws::{Sample, participant_laws};
use jetstream::hearing::participant::subscription;
use uuid::Uuid;

fn order(n: u128, quantity: i64) -> OrderContext {
    OrderContext::new(NewOrder {
        order_id: OrderId(Uuid::from_u128(n)),
        user_id: UserId::new("alice").expect("valid"),
        flow: Flow::Parallel,
        needed: [Step::STOCK, Step::POINT].into_iter().collect(),
        lines: vec![OrderLine {
            product_id: ProductId(Uuid::from_u128(1)),
            quantity,
            unit_price: Money(500),
            price_version: 1,
        }],
        discount: Money::ZERO,
        coupon_id: None,
        placed_at: 0,
        deadline: 0,
    })
    .expect("valid")
}

async fn ten_units(tx: &Tx) {
    let sql = "INSERT INTO products VALUES
                   ($1, 'mug', '', 500, 1, 0, 0, 10, 0, 10, 0, 0, 0, 0)";
    let values = vec![Uuid::from_u128(1).into()];
    tx.execute(sql, values).await.expect("listed");
}

#[tokio::test]
async fn stock_obeys_the_laws_of_a_participant() {
    let sample = Sample {
        service: &crate::SERVICE,
        subscription: subscription(Stock::new(Duration::ZERO), &Flow::ALL),
        step: Step::STOCK,
        seen: "SELECT available || ' ' || held || ' ' || settled AS seen FROM products",
        held: order(1, 7),
        refused: order(2, 11),
    };
    participant_laws(&sample, ten_units).await;
}
