//! One order, from the request to the confirmation.

use integration_tests::{Backend, World};
use serde_json::json;

async fn an_order_is_confirmed(backend: Backend) {
    let world = World::start(backend).await;
    let product = world.operator().product(500, 10).await;
    world.operator().charge("alice", 5_000).await;
    let alice = world.user("alice");
    let items = json!([{ "product_id": product, "quantity": 2 }]);
    let order = alice.place(json!({ "items": items })).await;
    let view = alice.until_final(order).await;
    assert_eq!(view["state"], "CONFIRMED");
    assert_eq!(view["total"], 1_000);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_confirmed_on_sqlite() {
    an_order_is_confirmed(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_confirmed_on_postgres() {
    an_order_is_confirmed(Backend::Postgres).await;
}
