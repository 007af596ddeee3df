//! The rules of the shop that need more than one service.

use events::Flow;
use futures::future::join_all;
use integration_tests::{Answer, Backend, Shop, World, on_both_databases};
use reqwest::Method;
use serde_json::{Value, json};

on_both_databases! {
    a_user_has_one_order_open_at_a_time: one_open_order();
    of_fifty_placements_at_once_one_is_accepted: fifty_at_once();
    what_was_refused_cannot_be_canceled: cancel_too_late();
    canceling_again_is_fine: cancel_again();
    an_order_that_costs_nothing_needs_no_points: nothing_to_pay();
    an_order_needs_no_coupon_and_no_cart_when_it_names_none: no_coupon();
    an_unknown_product_may_be_known_in_a_moment: unknown_product();
    another_users_order_is_not_there: another_users_order();
    of_a_thousand_users_a_hundred_get_a_coupon: first_come_first_served();
    a_user_gets_one_coupon_of_a_campaign: one_coupon_each();
    a_coupon_serves_one_of_two_open_orders: one_coupon_two_orders();
    a_cart_keeps_what_was_not_ordered: cart_keeps_the_rest();
    a_field_that_is_missing_is_named: missing_field();
    a_flow_that_is_not_allowed_is_refused: flow_not_allowed(Flow::Parallel, Flow::Sequential);
    the_other_flow_that_is_not_allowed_is_refused: flow_not_allowed(Flow::Sequential, Flow::Parallel);
}

fn one(product: &str) -> Value {
    json!({ "items": [{ "product_id": product, "quantity": 1 }] })
}

/// A world in which orders stay open until point is started.
async fn world_without_point(backend: Backend) -> (World, String) {
    let mut world = World::empty(backend).await;
    world.start_apart().await;
    let product = world.operator().product(500, 10).await;
    world.operator().charge("alice", 5_000).await;
    world.quiet().await;
    world.stop("point").await;
    (world, product)
}

async fn one_open_order(backend: Backend) {
    let (mut world, product) = world_without_point(backend).await;
    let first = world.user("alice").place(one(&product)).await;
    let second = world.user("alice").post("/orders", one(&product)).await;
    assert_eq!(second.problem(), (409, "TOO_MANY_OPEN_ORDERS"));
    assert_eq!(second.body["limit"], 1);
    let other = world.user("bob").post("/orders", one(&product)).await;
    assert_eq!(other.status, 202, "bob has none open");

    world.start_alone("point").await;
    let alice = world.user("alice");
    alice.until(first, "CONFIRMED").await;
    let third = alice.post("/orders", one(&product)).await;
    assert_eq!(third.status, 202, "the first is decided");
    world.end().await;
}

async fn fifty_at_once(backend: Backend) {
    let (mut world, product) = world_without_point(backend).await;
    let alice = world.user("alice");
    let placements = (0..50).map(|_| alice.post("/orders", one(&product)));
    let answers = join_all(placements).await;
    assert_eq!(with_status(&answers, 202), 1);
    let refused = answers.iter().filter(|answer| answer.status != 202);
    for answer in refused {
        assert_eq!(answer.problem(), (409, "TOO_MANY_OPEN_ORDERS"));
    }
    let orders = alice.get("/orders").await.ok();
    assert_eq!(orders["orders"].as_array().map(Vec::len), Some(1));
    world.start_alone("point").await;
    world.end().await;
}

async fn cancel_too_late(backend: Backend) {
    let world = World::start(backend).await;
    let product = world.operator().product(500, 10).await;
    let alice = world.user("alice");
    let order = alice.place(one(&product)).await;
    alice.until(order, "CANCELED").await;
    let path = format!("/orders/{order}/cancel");
    let canceled = alice.post(&path, Value::Null).await;
    assert_eq!(canceled.problem(), (409, "TOO_LATE_TO_CANCEL"));
    assert_eq!(canceled.body["state"], "CANCELED");
    assert_eq!(canceled.body["order_status"], "FAILED");
    world.end().await;
}

async fn cancel_again(backend: Backend) {
    let world = World::start(backend).await;
    let shop = Shop::open(&world, None).await;
    let order = shop.order(&world, Flow::Parallel).await;
    world.user("alice").until(order, "CONFIRMED").await;
    assert_eq!(shop.cancel(&world, order).await.status, 202);
    assert_eq!(shop.cancel(&world, order).await.status, 202);
    world.user("alice").until(order, "CANCELED").await;
    let again = shop.cancel(&world, order).await;
    assert_eq!(
        (again.status, &again.body["state"]),
        (202, &"CANCELED".into())
    );
    world.quiet().await;
    let story = world.story(order).await;
    let said = story.iter().map(|event| event.envelope.entry.subject);
    let canceled = said.filter(|subject| *subject == "order.canceled").count();
    assert_eq!(canceled, 1, "it is said once");
    world.end().await;
}

async fn nothing_to_pay(backend: Backend) {
    let world = World::start(backend).await;
    let product = world.operator().product(500, 10).await;
    let discount = json!({ "amount": 1_000 });
    let campaign = world.operator().campaign(discount, 1).await;
    // Alice has no points.
    let alice = world.user("alice");
    let coupon = alice.issue(&campaign).await;
    let mut request = one(&product);
    request["coupon_id"] = coupon.into();
    let order = alice.place(request).await;
    let view = alice.until_final(order).await;
    assert_eq!(view["state"], "CONFIRMED", "{view}");
    assert_eq!(
        (&view["discount"], &view["total"]),
        (&500.into(), &0.into())
    );
    let steps = json!({ "stock": "succeeded", "coupon": "succeeded" });
    assert_eq!(view["steps"], steps);
    world.end().await;
}

async fn no_coupon(backend: Backend) {
    let world = World::start(backend).await;
    let product = world.operator().product(500, 10).await;
    world.operator().charge("alice", 500).await;
    let alice = world.user("alice");
    let order = alice.place(one(&product)).await;
    let view = alice.until_final(order).await;
    assert_eq!(view["state"], "CONFIRMED", "{view}");
    let steps = json!({ "stock": "succeeded", "point": "succeeded" });
    assert_eq!(view["steps"], steps);
    assert_eq!(view["coupon_id"], Value::Null);
    world.end().await;
}

async fn unknown_product(backend: Backend) {
    let world = World::start(backend).await;
    let nothing = "01890000-0000-7000-8000-000000000000";
    let answer = world.user("alice").post("/orders", one(nothing)).await;
    assert_eq!(answer.problem(), (422, "UNKNOWN_PRODUCT"));
    assert_eq!(answer.body["product_id"], nothing);
    assert_eq!(answer.retry_after, Some(1));
    world.end().await;
}

async fn another_users_order(backend: Backend) {
    let world = World::start(backend).await;
    let product = world.operator().product(500, 10).await;
    world.operator().charge("alice", 500).await;
    let order = world.user("alice").place(one(&product)).await;
    world.user("alice").until(order, "CONFIRMED").await;
    let mallory = world.user("mallory");
    for (method, path) in [
        (Method::GET, ""),
        (Method::GET, "/status"),
        (Method::GET, "/timeline"),
        (Method::POST, "/cancel"),
    ] {
        let path = format!("/orders/{order}{path}");
        let answer = mallory.send(method, &path, Value::Null).await;
        assert_eq!(answer.problem(), (404, "NOT_FOUND"), "{path}");
    }
    let list = mallory.get("/orders").await.ok();
    assert_eq!(list["orders"], json!([]));
    let view = world.user("alice").order(order).await;
    assert_eq!(view["state"], "CONFIRMED", "mallory canceled nothing");
    world.end().await;
}

async fn first_come_first_served(backend: Backend) {
    let world = World::start(backend).await;
    let discount = json!({ "percent": 10 });
    let campaign = world.operator().campaign(discount, 100).await;
    let path = format!("/coupons/{campaign}/issue");
    let users: Vec<_> = (0..1_000)
        .map(|n| world.user(&format!("user{n}")))
        .collect();
    let answers = join_all(users.iter().map(|user| user.post(&path, json!({})))).await;
    assert_eq!(with_status(&answers, 201), 100);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!(answer.problem(), (409, "SOLD_OUT"));
    }
    world.end().await;
}

async fn one_coupon_each(backend: Backend) {
    let world = World::start(backend).await;
    let discount = json!({ "percent": 10 });
    let campaign = world.operator().campaign(discount, 10).await;
    let path = format!("/coupons/{campaign}/issue");
    let alice = world.user("alice");
    let answers = join_all((0..20).map(|_| alice.post(&path, json!({})))).await;
    assert_eq!(with_status(&answers, 201), 1);
    for answer in &answers {
        let same = &answers[0].body["coupon_id"];
        assert_eq!(answer.body["coupon_id"], *same, "all name the one coupon");
    }
    let coupons = alice.get("/users/alice/coupons").await.ok();
    assert_eq!(coupons["coupons"].as_array().map(Vec::len), Some(1));
    world.end().await;
}

async fn one_coupon_two_orders(backend: Backend) {
    let flags = ["--open-orders", "2"];
    let mut world = World::with(backend, &ensemble::SERVICES, &flags).await;
    world.start_apart().await;
    let shop = Shop::open(&world, None).await;
    world.stop("coupon").await;
    let first = shop.order(&world, Flow::Parallel).await;
    let second = shop.order(&world, Flow::Parallel).await;
    let third = world.user("alice").post("/orders", one(&shop.pen)).await;
    assert_eq!(third.problem(), (409, "TOO_MANY_OPEN_ORDERS"));
    world.start_alone("coupon").await;
    let alice = world.user("alice");
    let views = [
        alice.until_final(first).await,
        alice.until_final(second).await,
    ];
    let mut states = views.each_ref().map(|view| view["state"].as_str());
    states.sort_unstable();
    assert_eq!(states, [Some("CANCELED"), Some("CONFIRMED")]);
    let refusals = views.iter().filter_map(|view| view["refusals"].get(0));
    let reasons: Vec<_> = refusals.map(|r| &r["details"]["reason"]).collect();
    assert_eq!(reasons, ["used"]);
    world.quiet().await;
    let one_order = "mugs: 8 available, 0 held, 2 sold\n\
                     points: 4100 available, 0 held, 900 spent\n\
                     coupon: USED\n\
                     cart: 18 mugs, 3 pens\n";
    assert_eq!(shop.ledger(&world).await, one_order);
    world.end().await;
}

async fn cart_keeps_the_rest(backend: Backend) {
    let world = World::start(backend).await;
    let shop = Shop::open(&world, None).await;
    let cart = async |expected: &str| {
        let ledger = shop.ledger(&world).await;
        assert!(ledger.ends_with(expected), "{ledger}");
    };
    cart("cart: 20 mugs, 3 pens\n").await;
    let order = shop.order(&world, Flow::Parallel).await;
    let alice = world.user("alice");
    alice.until(order, "CONFIRMED").await;
    cart("cart: 18 mugs, 3 pens\n").await;
    // What she does meanwhile stays, and what she gets back comes on top.
    alice.put_in_cart(&shop.pen, 7).await;
    alice.put_in_cart(&shop.mug, 1).await;
    assert_eq!(shop.cancel(&world, order).await.status, 202);
    alice.until(order, "CANCELED").await;
    cart("cart: 3 mugs, 7 pens\n").await;
    world.end().await;
}

async fn missing_field(backend: Backend) {
    let world = World::start(backend).await;
    let alice = world.user("alice");
    let item = json!({ "quantity": 1 });
    for (body, field) in [
        (json!({}), "items"),
        (json!({ "items": [item] }), "items[0].product_id"),
    ] {
        let refused = alice.post("/orders", body).await;
        assert_eq!(refused.problem(), (422, "INVALID"));
        assert_eq!(refused.body["field"], field);
    }
    world.end().await;
}

async fn flow_not_allowed(backend: Backend, allowed: Flow, other: Flow) {
    let flags = ["--flows", allowed.name()];
    let mut world = World::with(backend, &ensemble::SERVICES, &flags).await;
    world.start_together("all").await;
    let shop = Shop::open(&world, None).await;
    let alice = world.user("alice");
    let refused = alice.post("/orders", shop.request(other)).await;
    assert_eq!(refused.problem(), (422, "INVALID"));
    assert_eq!(refused.body["field"], "flow");
    let order = shop.order(&world, allowed).await;
    alice.until(order, "CONFIRMED").await;
    world.end().await;
}

fn with_status(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|a| a.status == status).count()
}
