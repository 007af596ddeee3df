//! A request that is sent again with its key has its effect once.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use integration_tests::{
    Answer, Backend, Client, Signal, System, World, eventually, on_both_databases,
};
use serde_json::{Value, json};

on_both_databases! {
    of_200_placements_with_one_key_one_is_an_order: placed_once();
    of_200_placements_with_keys_of_their_own_one_is_an_order: keys_of_their_own();
    a_key_with_another_body_is_refused: another_body();
    a_decided_order_is_answered_as_it_was: after_the_decision();
    a_refused_placement_may_succeed_later: refused_is_not_kept();
    a_charge_with_a_key_is_made_once: charged_once();
    a_restock_with_a_key_is_made_once: restocked_once();
    a_coupon_with_a_key_is_issued_once: issued_once();
    a_key_that_cannot_be_one_is_named: wrong_key();
    a_key_outlives_a_kill_in_between: killed_in_between();
    keys_are_forgotten_after_a_week: forgotten();
}

fn one(product: &str) -> Value {
    json!({ "items": [{ "product_id": product, "quantity": 1 }] })
}

/// Alice has points, and there is a product that order has heard of.
async fn shop(backend: Backend) -> (World, String) {
    let world = World::start(backend).await;
    let product = world.operator().product(500, 1_000).await;
    world.operator().charge("alice", 100_000).await;
    world.quiet().await;
    (world, product)
}

async fn at_once(
    client: &Client<'_>,
    times: usize,
    key: &str,
    path: &str,
    body: Value,
) -> Vec<Answer> {
    let requests = (0..times).map(|_| client.post_once(key, path, body.clone()));
    join_all(requests).await
}

/// One answer is new; the others repeat it, or say that it is on its way.
fn one_effect<'a>(answers: &'a [Answer], status: u16, field: &str) -> &'a Answer {
    let ok = |answer: &&Answer| answer.status == status;
    let new: Vec<_> = answers
        .iter()
        .filter(ok)
        .filter(|a| !a.is_replayed())
        .collect();
    assert_eq!(new.len(), 1, "{answers:?}");
    for answer in answers {
        match answer.is_replayed() {
            true => assert_eq!((answer.status, &answer.body), (status, &new[0].body)),
            false if answer.status == status => {}
            false => assert_eq!(answer.problem(), (409, "IDEMPOTENCY_IN_PROGRESS")),
        }
    }
    assert!(!new[0].body[field].is_null());
    new[0]
}

async fn orders_of(client: &Client<'_>) -> usize {
    let orders = client.get("/orders").await.ok();
    orders["orders"].as_array().map_or(0, Vec::len)
}

async fn placed_once(backend: Backend) {
    let (world, product) = shop(backend).await;
    let alice = world.user("alice");
    let answers = at_once(&alice, 200, "k1", "/orders", one(&product)).await;
    let new = one_effect(&answers, 202, "order_id");
    let replays = answers.iter().filter(|answer| answer.is_replayed());
    for replay in replays.clone() {
        assert_eq!(replay.header("location"), new.header("location"));
    }
    assert!(replays.count() > 0, "some are replays");
    assert_eq!(orders_of(&alice).await, 1);
    world.end().await;
}

async fn keys_of_their_own(backend: Backend) {
    let mut world = World::empty(backend).await;
    world.start_apart().await;
    let product = world.operator().product(500, 1_000).await;
    world.operator().charge("alice", 100_000).await;
    world.quiet().await;
    world.stop("point").await;
    let alice = world.user("alice");
    let keys: Vec<_> = (0..200).map(|n| format!("k{n}")).collect();
    let requests = keys
        .iter()
        .map(|key| alice.post_once(key, "/orders", one(&product)));
    let answers = join_all(requests).await;
    let placed = answers.iter().filter(|answer| answer.status == 202).count();
    let full = (409, "TOO_MANY_OPEN_ORDERS");
    let refused = answers
        .iter()
        .filter(|answer| answer.problem() == full)
        .count();
    assert_eq!((placed, refused), (1, 199), "{answers:?}");
    world.start_alone("point").await;
    world.end().await;
}

async fn another_body(backend: Backend) {
    let (world, product) = shop(backend).await;
    let alice = world.user("alice");
    let first = alice.post_once("k1", "/orders", one(&product)).await;
    assert_eq!((first.status, first.is_replayed()), (202, false));
    let mut more = one(&product);
    more["items"][0]["quantity"] = 2.into();
    let reused = alice.post_once("k1", "/orders", more).await;
    assert_eq!(reused.problem(), (422, "IDEMPOTENCY_KEY_REUSED"));
    // Another user's key is another key.
    let bob = world
        .user("bob")
        .post_once("k1", "/orders", one(&product))
        .await;
    assert_eq!((bob.status, bob.is_replayed()), (202, false));
    world.end().await;
}

async fn after_the_decision(backend: Backend) {
    let (mut world, product) = shop(backend).await;
    let first = world
        .user("alice")
        .post_once("k1", "/orders", one(&product))
        .await;
    let order = first.body["order_id"].as_str().expect("an id").parse();
    let order = order.expect("an id");
    world.user("alice").until(order, "CONFIRMED").await;
    for restart in [false, true] {
        if restart {
            world.stop("all").await;
            world.start_together("all").await;
        }
        let alice = world.user("alice");
        let again = alice.post_once("k1", "/orders", one(&product)).await;
        assert_eq!(
            (again.status, again.is_replayed()),
            (202, true),
            "{again:?}"
        );
        assert_eq!(again.body, first.body, "as it was, not as it is");
        assert_eq!(again.header("location"), format!("/orders/{order}"));
        assert_eq!(orders_of(&alice).await, 1);
    }
    world.end().await;
}

async fn refused_is_not_kept(backend: Backend) {
    let (world, product) = shop(backend).await;
    let alice = world.user("alice");
    let discount = json!({ "amount": 100 });
    let campaign = world.operator().campaign(discount, 1).await;
    let path = format!("/coupons/{campaign}/issue");
    assert_eq!(world.user("bob").post(&path, json!({})).await.status, 201);
    for _ in 0..2 {
        let gone = alice.post_once("k1", &path, json!({})).await;
        assert_eq!(gone.problem(), (409, "SOLD_OUT"));
    }
    let nothing = "01890000-0000-7000-8000-000000000000";
    let unknown = alice.post_once("k1", "/orders", one(nothing)).await;
    assert_eq!(unknown.problem(), (422, "UNKNOWN_PRODUCT"));
    let placed = alice.post_once("k1", "/orders", one(&product)).await;
    assert_eq!((placed.status, placed.is_replayed()), (202, false));
    world.end().await;
}

async fn charged_once(backend: Backend) {
    let world = World::start(backend).await;
    let operator = world.operator();
    let path = "/points/alice/charge";
    let answers = at_once(&operator, 50, "k1", path, json!({ "amount": 7 })).await;
    one_effect(&answers, 200, "balance");
    let again = operator.post_once("k1", path, json!({ "amount": 7 })).await;
    assert!(again.is_replayed() && again.status == 200, "{again:?}");
    let other = operator.post_once("k1", path, json!({ "amount": 8 })).await;
    assert_eq!(other.problem(), (422, "IDEMPOTENCY_KEY_REUSED"));
    // Another user's account is another request.
    let bob = operator
        .post_once("k1", "/points/bob/charge", json!({ "amount": 7 }))
        .await;
    assert_eq!((bob.status, bob.is_replayed()), (200, false));
    let account = operator.get("/points/alice").await.ok();
    assert_eq!(account["charged_total"], 7);
    world.end().await;
}

async fn restocked_once(backend: Backend) {
    let world = World::start(backend).await;
    let operator = world.operator();
    let product = operator.product(500, 10).await;
    let path = format!("/products/{product}/restock");
    let answers = at_once(&operator, 50, "k1", &path, json!({ "quantity": 3 })).await;
    one_effect(&answers, 200, "available");
    let again = operator
        .post_once("k1", &path, json!({ "quantity": 3 }))
        .await;
    assert!(again.is_replayed() && again.status == 200, "{again:?}");
    let shown = operator.get(&format!("/products/{product}")).await.ok();
    assert_eq!(shown["restocked_total"], 3);
    world.end().await;
}

async fn issued_once(backend: Backend) {
    let world = World::start(backend).await;
    let discount = json!({ "percent": 10 });
    let campaign = world.operator().campaign(discount, 10).await;
    let path = format!("/coupons/{campaign}/issue");
    let alice = world.user("alice");
    let answers = at_once(&alice, 50, "k1", &path, json!({})).await;
    let new = one_effect(&answers, 201, "coupon_id");
    // No body is the same as an empty one; without the key the user has one already.
    let again = alice.post_once("k1", &path, Value::Null).await;
    assert!(again.is_replayed() && again.body == new.body, "{again:?}");
    let other = alice.post_once("k2", &path, json!({})).await;
    assert_eq!(other.problem(), (409, "ALREADY_ISSUED"));
    let coupons = alice.get("/users/alice/coupons").await.ok();
    assert_eq!(coupons["coupons"].as_array().map(Vec::len), Some(1));
    world.end().await;
}

async fn wrong_key(backend: Backend) {
    let world = World::start(backend).await;
    let long = "x".repeat(256);
    for key in ["", "two words", &long] {
        let path = "/points/alice/charge";
        let answer = world
            .operator()
            .post_once(key, path, json!({ "amount": 7 }))
            .await;
        assert_eq!(answer.problem(), (422, "INVALID"), "{key}");
        assert_eq!(answer.body["field"], "Idempotency-Key");
    }
    world.end().await;
}

async fn forgotten(backend: Backend) {
    let mut world = World::start(backend).await;
    let charge = json!({ "amount": 7 });
    let path = "/points/alice/charge";
    for key in ["old", "new"] {
        world
            .operator()
            .post_once(key, path, charge.clone())
            .await
            .ok();
    }
    let day = 24 * 60 * 60 * 1000_i64;
    let sql = "UPDATE idempotency_keys SET at = at - $1 WHERE key = $2";
    for (key, days) in [("old", 8), ("new", 6)] {
        let values = vec![(days * day).into(), key.into()];
        let aged = world.database("point").execute(sql, values).await;
        assert_eq!(aged.expect("aged"), 1);
    }
    world.stop("all").await;
    world.start_together("all").await;
    let sql = "SELECT key FROM idempotency_keys";
    eventually("forgetting", async || {
        let rows = world
            .database("point")
            .query(sql, vec![])
            .await
            .expect("read");
        let keys: Vec<String> = rows
            .iter()
            .map(|row| row.try_get("", "key").expect("text"))
            .collect();
        match keys == ["new"] {
            true => Ok(()),
            false => Err(format!("{keys:?}")),
        }
    })
    .await;
    let again = world.operator().post_once("new", path, charge).await;
    assert!(again.is_replayed(), "{again:?}");
    world.end().await;
}

/// 200 requests with one key, and everything is killed when some of them are answered: the
/// clients come back, and there is one order.
async fn killed_in_between(backend: Backend) {
    let mut system = System::new(backend);
    system.start().await;
    let product = system.operator().product(500, 1_000).await;
    // Then order has heard of the product.
    system.user("bob").place(one(&product)).await;
    for (round, answered) in [0, 1, 20, 100].into_iter().enumerate() {
        let name = format!("user{round}");
        let alice = system.user(&name);
        let request = || alice.try_post_once("k1", "/orders", one(&product));
        let mut requests: FuturesUnordered<_> = (0..200).map(|_| request()).collect();
        let mut seen = vec![];
        for _ in 0..answered {
            seen.push(requests.next().await.expect("an answer").expect("it lives"));
        }
        system.process().signal(Signal::KILL);
        seen.extend(
            requests
                .filter_map(async |answer| answer.ok())
                .collect::<Vec<_>>()
                .await,
        );
        system.take().ended().await;
        system.has_no_broker().await;
        system.start().await;

        let alice = system.user(&name);
        seen.extend(at_once(&alice, 200, "k1", "/orders", one(&product)).await);
        let ids: BTreeSet<_> = seen
            .iter()
            .filter_map(|a| a.body["order_id"].as_str())
            .collect();
        assert_eq!(ids.len(), 1, "round {round}: {ids:?}");
        assert_eq!(orders_of(&alice).await, 1);
    }
    system.end().await;
}

/// The second instance does not see what the first has not committed yet.
#[tokio::test(flavor = "multi_thread")]
async fn two_instances_with_one_key_have_one_effect() {
    let mut world = World::empty(Backend::Postgres).await;
    world.start_together("one").await;
    world.start_together("two").await;
    let product = world.operator().product(500, 1_000).await;
    world.operator().charge("alice", 100_000).await;
    world.quiet().await;
    let hosts: Vec<_> = world.hosts().map(|host| host.address()).collect();
    for round in 0..20 {
        let name = format!("user{round}");
        let alice = world.user(&name);
        let requests = (0..40).map(|n| {
            let host = hosts[n % hosts.len()];
            alice.post_once_at(host, "k1", "/orders", one(&product))
        });
        let answers = join_all(requests).await;
        one_effect(&answers, 202, "order_id");
        assert_eq!(orders_of(&alice).await, 1);
        let operator = world.operator();
        let path = format!("/points/{name}/charge");
        let requests = (0..40).map(|n| {
            let host = hosts[n % hosts.len()];
            operator.post_once_at(host, "k1", &path, json!({ "amount": 7 }))
        });
        one_effect(&join_all(requests).await, 200, "balance");
    }
    world.end().await;
}
