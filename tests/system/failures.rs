//! The three failures of an order in the sequential flow, in the words in which they
//! were asked for.

use events::catalog::Kind;
use events::{Flow, OrderId, Step, body};
use integration_tests::{Backend, Shop, World, on_both_databases};

on_both_databases! {
    stock_refused_order_canceled_nothing_to_undo_elsewhere: stock_refused();
    point_refused_stock_released_order_canceled: point_refused();
    coupon_refused_points_refunded_stock_released_order_canceled: coupon_refused();
}

async fn stock_refused(backend: Backend) {
    let done = [
        "order.created.pending",
        "product.reserve.failed",
        "order.canceled",
        "order.compensated",
    ];
    only_these(backend, Step::STOCK, &done).await;
}

async fn point_refused(backend: Backend) {
    let done = [
        "order.created.pending",
        "product.reserved",
        "point.use.failed",
        "product.released",
        "order.canceled",
        "order.compensated",
    ];
    only_these(backend, Step::POINT, &done).await;
}

async fn coupon_refused(backend: Backend) {
    let done = [
        "order.created.pending",
        "product.reserved",
        "point.used",
        "coupon.use.failed",
        "point.refunded",
        "product.released",
        "order.canceled",
        "order.compensated",
    ];
    only_these(backend, Step::COUPON, &done).await;
}

/// These events and no other, but for answers that there was nothing to undo. Which of
/// the answers to a refusal comes first is nobody's business.
async fn only_these(backend: Backend, refuses: Step, expected: &[&str]) {
    let world = World::start(backend).await;
    let shop = Shop::open(&world, Some(refuses)).await;
    let before = shop.ledger(&world).await;
    let order = shop.order(&world, Flow::Sequential).await;
    world.user("alice").until(order, "CANCELED").await;
    world.quiet().await;
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(deeds(&world, order).await, expected);
    assert_eq!(shop.ledger(&world).await, before);
    world.end().await;
}

/// The subjects of the events that did something, sorted.
async fn deeds(world: &World, order: OrderId) -> Vec<&'static str> {
    let mut deeds = Vec::new();
    for event in world.story(order).await {
        let entry = event.envelope.entry;
        let idle = matches!(entry.kind, Kind::Undone(_))
            && body::read_undone(event.envelope.body)
                .expect("an answer")
                .nothing_to_undo;
        if !idle {
            deeds.push(entry.subject);
        }
    }
    deeds.sort_unstable();
    deeds
}
