//! Nobody coordinates: with any one service away the others do their part, and when it
//! returns everything comes to its end.

use std::collections::BTreeMap;

use events::OrderId;
use integration_tests::{Backend, Client, World, eventually};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::crowd::{Crowd, count, flow, order, refused};

const PARTICIPANTS: [&str; 4] = ["stock", "point", "coupon", "cart"];

/// A world in which every service has a host of its own, and no deadline passes.
async fn five_hosts(backend: Backend) -> World {
    let flags = ["--order-deadline", "600"];
    let mut world = World::with(backend, &ensemble::SERVICES, &flags).await;
    for service in ensemble::SERVICES {
        world.start_alone(service.name).await;
    }
    world
}

/// Users with a coupon and a full cart each; their coupons.
async fn shoppers(
    world: &World,
    crowd: &mut Crowd,
    product: &str,
    users: usize,
    points: impl Fn(usize) -> i64,
) -> Vec<String> {
    crowd.users(world, users, points).await;
    let discount = json!({ "amount": 10 });
    let campaign = world.operator().campaign(discount, 1_000).await;
    let mut coupons = Vec::new();
    for i in 0..users {
        let user = world.user(crowd.user(i));
        user.put_in_cart(product, 1).await;
        coupons.push(user.issue(&campaign).await);
    }
    coupons
}

fn four_steps(product: &str, coupon: &str, flow: &str) -> Value {
    let mut new = order(product, 1, flow);
    new["coupon_id"] = coupon.into();
    new["from_cart"] = true.into();
    new
}

/// The state of each participant's hold, by order.
async fn holds(world: &World) -> BTreeMap<OrderId, Vec<String>> {
    let mut all: BTreeMap<OrderId, Vec<String>> = BTreeMap::new();
    for running in world.hosts().flat_map(|host| host.services()) {
        let sql = "SELECT order_id, state FROM holds";
        let rows = running.database().query(sql, vec![]).await;
        for row in rows.expect("the database answers") {
            let id: Uuid = row.try_get("", "order_id").expect("an id");
            let state: String = row.try_get("", "state").expect("a state");
            all.entry(OrderId(id)).or_default().push(state);
        }
    }
    all
}

async fn participants_finish_without_order(backend: Backend) {
    let mut world = five_hosts(backend).await;
    let mut crowd = Crowd::default();
    let product = crowd.product(&world, 100, 1_000).await;
    let is_poor = |i: usize| i % 10 == 9 || i % 10 == 4;
    let points = |i| if is_poor(i) { 50 } else { 500 };
    let coupons = shoppers(&world, &mut crowd, &product, 100, points).await;
    // Nobody else runs while order accepts, so that order decides none of them.
    for service in PARTICIPANTS {
        world.stop(service).await;
    }
    let orders = crowd
        .place(&world, async |i, _: Client<'_>| {
            four_steps(&product, &coupons[i], flow(i))
        })
        .await;
    world.stop("order").await;
    for service in PARTICIPANTS {
        world.start_alone(service).await;
    }

    eventually("holds and compensations", async || {
        let holds = holds(&world).await;
        for (i, order) in orders.iter().enumerate() {
            let states = holds.get(order).map(Vec::as_slice).unwrap_or_default();
            let undone = |s: &String| matches!(s.as_str(), "REFUSED" | "RELEASED" | "VOID");
            let done = match is_poor(i) {
                true => states.iter().all(undone),
                false => states.iter().all(|state| state == "HELD"),
            };
            if states.len() < PARTICIPANTS.len() || !done {
                return Err(format!("order {order} of user {i}: {states:?}"));
            }
        }
        Ok(())
    })
    .await;

    world.start_alone("order").await;
    let orders = crowd.settle(&world).await;
    assert_eq!(count(&orders, "CONFIRMED"), 80);
    assert_eq!(count(&orders, "CANCELED"), 20);
    assert_eq!(refused(&orders, "point"), 20);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_hold_and_compensate_without_order_on_sqlite() {
    participants_finish_without_order(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_hold_and_compensate_without_order_on_postgres() {
    participants_finish_without_order(Backend::Postgres).await;
}

async fn orders_wait_for(service: &str) {
    let mut world = five_hosts(Backend::Sqlite).await;
    let mut crowd = Crowd::default();
    let product = crowd.product(&world, 100, 1_000).await;
    let coupons = shoppers(&world, &mut crowd, &product, 20, |_| 500).await;
    world.stop(service).await;
    let placed = crowd
        .place(&world, async |i, _: Client<'_>| {
            four_steps(&product, &coupons[i], flow(i))
        })
        .await;
    for (i, order) in placed.iter().enumerate() {
        let view = world.user(crowd.user(i)).order(*order).await;
        assert_eq!(view["state"], "PENDING", "{service} is away: {view}");
    }
    world.start_alone(service).await;
    let orders = crowd.settle(&world).await;
    assert_eq!(count(&orders, "CONFIRMED"), placed.len());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_wait_for_stock_and_are_confirmed_when_it_returns() {
    orders_wait_for("stock").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_wait_for_point_and_are_confirmed_when_it_returns() {
    orders_wait_for("point").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_wait_for_coupon_and_are_confirmed_when_it_returns() {
    orders_wait_for("coupon").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_wait_for_cart_and_are_confirmed_when_it_returns() {
    orders_wait_for("cart").await;
}
