//! The checks at the end of every test, seen red: a check that never failed proves
//! nothing.

use events::Flow;
use integration_tests::{Backend, Shop, World, eventually, on_both_databases};
use jetstream::Database;
use jetstream::clock::new_id;
use sea_orm::Value;

use crate::held_back::HeldBack;

// Beyond the reach of the sweep, which publishes what is older than a second.
const FAR_FUTURE: i64 = 1 << 50;

on_both_databases! {
    an_event_that_is_not_published_is_noticed: unpublished();
    an_event_that_is_not_heard_or_not_acked_is_noticed: unacked();
    what_is_left_behind_is_noticed: left_behind();
}

async fn unpublished(backend: Backend) {
    let world = World::start(backend).await;
    world.quiet().await;
    let stock = world.database("stock");
    let insert = "INSERT INTO outbox (pseq, event_id, subject, aggregate, correlation, causation,
                      traceparent, turn, decided_at, body)
                  VALUES (1, $1, 'nobody.says.this', '', $1, $1, '', '', $2, $3)";
    let values = vec![new_id().into(), FAR_FUTURE.into(), vec![0_u8].into()];
    execute(&stock, insert, values).await;
    let noticed = world.is_quiet().await;
    assert_eq!(noticed, Err("stock has 1 unpublished events".to_owned()));
    execute(&stock, "DELETE FROM outbox", vec![]).await;
    world.end().await;
}

async fn unacked(backend: Backend) {
    let mut world = World::empty(backend).await;
    world.start_apart().await;
    let shop = Shop::open(&world, None).await;
    // Cart has nothing to do for this order, but hears of it.
    world.stop("cart").await;
    let mut request = shop.request(Flow::Sequential);
    request["from_cart"] = false.into();
    world.user("alice").place(request).await;
    noticed(&world, "cart has 5 events to hear and 0 to ack").await;

    let mut held_back = HeldBack::default();
    for subject in [
        "order.created.pending",
        "product.reserved",
        "point.used",
        "coupon.used",
        "order.confirmed",
    ] {
        held_back.take(&world, "cart", subject).await;
    }
    noticed(&world, "cart has 0 events to hear and 5 to ack").await;
    held_back.let_through().await;
    world.start_alone("cart").await;
    world.end().await;
}

async fn left_behind(backend: Backend) {
    let world = World::start(backend).await;
    world.quiet().await;
    assert_eq!(world.is_clean().await, Ok(()));
    let point = world.database("point");

    let order = new_id();
    let insert = "INSERT INTO holds (order_id, state, user_id, held, refusal, answered, deadline,
                      created_at) VALUES ($1, 'HELD', 'alice', '5', '', 1, 0, 0)";
    execute(&point, insert, vec![order.into()]).await;
    left(
        &world,
        &format!(
            "I5 point: order {order}: HELD, and order does not know it\n\
             I9 point: order {order}: each transition is said once: HELD, asked 1 times, said 0 \
             times that it is taken, 0 refused, 0 undone"
        ),
    )
    .await;
    execute(&point, "DELETE FROM holds", vec![]).await;

    let insert = "INSERT INTO accounts (user_id, balance, held, settled, charged_total)
                  VALUES ('alice', 0, 5, 0, 5)";
    execute(&point, insert, vec![]).await;
    left(
        &world,
        "I2 point: user alice: the account is the sum of the holds: 5 held, the holds say 0; 0 \
         spent, the holds say 0\n\
         I3 point: user alice: what was charged is there, held or spent: 5 charged (0 by the \
         ledger), 0 there, 5 held, 0 spent",
    )
    .await;
    execute(&point, "DELETE FROM accounts", vec![]).await;

    // Only order hears of this, and cannot read it.
    let sent = world.broker().publish("coupon.issued", "no event".into());
    sent.await.expect("sent").await.expect("stored");
    world.quiet().await;
    let noticed = world.is_clean().await.expect_err("a dead letter");
    let expected = "dead letter of order: coupon.issued ";
    assert!(noticed.starts_with(expected), "{noticed}");
    let order = world.database("order");
    execute(&order, "DELETE FROM dead_letters", vec![]).await;
    world.end().await;
}

async fn left(world: &World, noticed: &str) {
    assert_eq!(world.is_clean().await, Err(noticed.to_owned()));
}

/// Waits until nothing else is left to do.
async fn noticed(world: &World, what: &str) {
    eventually(what, async || match world.is_quiet().await {
        Err(noticed) if noticed == what => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

async fn execute(database: &Database, sql: &str, values: Vec<Value>) {
    database.execute(sql, values).await.expect("executed");
}
