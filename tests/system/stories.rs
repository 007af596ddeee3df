//! The stories of an order: which events, because of which, and what is left in the end.
//!
//! The snapshots are what SQLite and PostgreSQL both give. Nothing in them depends on
//! who is faster: where it would, a service is stopped until its time has come.

use events::{Flow, OrderId, Step};
use integration_tests::{Backend, Shop, World, eventually, on_both_databases};

use crate::held_back::HeldBack;

const STEPS: [Step; 4] = [Step::STOCK, Step::POINT, Step::COUPON, Step::CART];

on_both_databases! {
    parallel_confirmed: confirmed(Flow::Parallel);
    parallel_refused_by_stock_after_its_peers: refused_after_peers(Step::STOCK);
    parallel_refused_by_point_after_its_peers: refused_after_peers(Step::POINT);
    parallel_refused_by_coupon_after_its_peers: refused_after_peers(Step::COUPON);
    parallel_refused_by_cart_after_its_peers: refused_after_peers(Step::CART);
    parallel_refused_by_stock_before_its_peers: refused_before_peers(Step::STOCK);
    parallel_refused_by_point_before_its_peers: refused_before_peers(Step::POINT);
    parallel_refused_by_coupon_before_its_peers: refused_before_peers(Step::COUPON);
    parallel_refused_by_cart_before_its_peers: refused_before_peers(Step::CART);
    parallel_canceled_in_time: canceled_in_time(Flow::Parallel);
    parallel_canceled_after_confirmation: canceled_after_confirmation(Flow::Parallel);
    sequential_confirmed: confirmed(Flow::Sequential);
    sequential_refused_by_stock: refused_in_sequence(Step::STOCK);
    sequential_refused_by_point: refused_in_sequence(Step::POINT);
    sequential_refused_by_coupon: refused_in_sequence(Step::COUPON);
    sequential_refused_by_cart: refused_in_sequence(Step::CART);
    sequential_canceled_in_time: canceled_in_time(Flow::Sequential);
    sequential_canceled_after_confirmation: canceled_after_confirmation(Flow::Sequential);
}

async fn confirmed(backend: Backend, flow: Flow) {
    let world = World::start(backend).await;
    let shop = Shop::open(&world, None).await;
    let order = shop.order(&world, flow).await;
    told(world, &shop, order, &format!("{flow}_confirmed")).await;
}

/// The peers hold before the refusal is decided: they give back.
async fn refused_after_peers(backend: Backend, refuses: Step) {
    let (mut world, shop) = shop_with_hosts(backend, Some(refuses)).await;
    let before = shop.ledger(&world).await;
    world.stop(refuses.name()).await;
    let order = shop.order(&world, Flow::Parallel).await;
    let held: Vec<_> = peers(refuses).map(|peer| (peer, "succeeded")).collect();
    shop.until_steps(&world, order, &held).await;
    world.start_alone(refuses.name()).await;
    let name = format!("parallel_refused_by_{refuses}_after_its_peers");
    untouched(world, &shop, &before, order, &name).await;
}

/// The peers hear the refusal before the order itself: they leave a tombstone, and the
/// order that comes late takes nothing.
async fn refused_before_peers(backend: Backend, refuses: Step) {
    let (mut world, shop) = shop_with_hosts(backend, Some(refuses)).await;
    let before = shop.ledger(&world).await;
    for peer in peers(refuses) {
        world.stop(peer.name()).await;
    }
    let order = shop.order(&world, Flow::Parallel).await;
    shop.until_steps(&world, order, &[(refuses, "refused")])
        .await;
    let mut held_back = HeldBack::default();
    for peer in peers(refuses) {
        let created = "order.created.pending";
        held_back.take(&world, peer.name(), created).await;
    }
    for peer in peers(refuses) {
        world.start_alone(peer.name()).await;
        held_back.keep().await;
    }
    let answered = eventually("answers to the refusal", async || {
        held_back.keep().await;
        let view = world.user("alice").order(order).await;
        match view["state"] == "CANCELED" {
            true => Ok(view),
            false => Err(view["steps"].to_string()),
        }
    });
    answered.await;
    held_back.let_through().await;
    let name = format!("parallel_refused_by_{refuses}_before_its_peers");
    untouched(world, &shop, &before, order, &name).await;
}

async fn refused_in_sequence(backend: Backend, refuses: Step) {
    let world = World::start(backend).await;
    let shop = Shop::open(&world, Some(refuses)).await;
    let before = shop.ledger(&world).await;
    let order = shop.order(&world, Flow::Sequential).await;
    let name = format!("sequential_refused_by_{refuses}");
    untouched(world, &shop, &before, order, &name).await;
}

/// Alice cancels while the coupon has not answered. Coupon then hears the order before
/// the cancellation, as it stands in the stream: it takes its step and gives it back.
async fn canceled_in_time(backend: Backend, flow: Flow) {
    let (mut world, shop) = shop_with_hosts(backend, None).await;
    let before = shop.ledger(&world).await;
    world.stop("coupon").await;
    let order = shop.order(&world, flow).await;
    // In the sequential flow the cart is not reached.
    let (cart, undone) = match flow {
        Flow::Parallel => ("succeeded", "compensated"),
        Flow::Sequential => ("waiting", "void"),
    };
    let flags = |flag, cart| [(Step::STOCK, flag), (Step::POINT, flag), (Step::CART, cart)];
    shop.until_steps(&world, order, &flags("succeeded", cart))
        .await;
    assert_eq!(shop.cancel(&world, order).await.status, 202);
    shop.until_steps(&world, order, &flags("compensated", undone))
        .await;
    world.start_alone("coupon").await;
    let name = format!("{flow}_canceled_in_time");
    untouched(world, &shop, &before, order, &name).await;
}

async fn canceled_after_confirmation(backend: Backend, flow: Flow) {
    let world = World::start(backend).await;
    let shop = Shop::open(&world, None).await;
    let before = shop.ledger(&world).await;
    let order = shop.order(&world, flow).await;
    world.user("alice").until(order, "CONFIRMED").await;
    assert_eq!(shop.cancel(&world, order).await.status, 202);
    let name = format!("{flow}_canceled_after_confirmation");
    untouched(world, &shop, &before, order, &name).await;
}

async fn shop_with_hosts(backend: Backend, refuses: Option<Step>) -> (World, Shop) {
    let mut world = World::empty(backend).await;
    world.start_apart().await;
    let shop = Shop::open(&world, refuses).await;
    (world, shop)
}

fn peers(of: Step) -> impl Iterator<Item = Step> {
    STEPS.into_iter().filter(move |step| *step != of)
}

/// The order leaves no trace: alice and the shop have what they had before it.
async fn untouched(world: World, shop: &Shop, before: &str, order: OrderId, name: &str) {
    world.user("alice").until(order, "CANCELED").await;
    world.quiet().await;
    assert_eq!(shop.ledger(&world).await, before);
    told(world, shop, order, name).await;
}

async fn told(world: World, shop: &Shop, order: OrderId, name: &str) {
    world.quiet().await;
    insta::assert_snapshot!(name, shop.tell(&world, order).await);
    world.replays_equal(name).await;
    world.end().await;
}
