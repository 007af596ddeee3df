//! Knowing the outcome of an order: waiting for the answer, and following the order.

use std::time::{Duration, Instant};

use events::{Flow, OrderId, Step};
use integration_tests::{Backend, Change, Client, Events, Shop, World, on_both_databases};
use reqwest::{Method, Response};
use serde_json::{Value, json};

on_both_databases! {
    the_answer_waits_for_a_confirmation: wait_for_outcome(None, "CONFIRMED");
    the_answer_waits_for_the_end_of_a_refusal: wait_for_outcome(Some(Step::POINT), "CANCELED");
    an_answer_does_not_wait_longer_than_asked: wait_too_short();
    a_stream_ends_with_the_confirmation: follow_to_the_end(None, "CONFIRMED");
    a_stream_ends_when_a_refusal_is_undone: follow_to_the_end(Some(Step::COUPON), "CANCELED");
    a_stream_ends_when_compensation_is_given_up: follow_to_giving_up();
    a_stream_goes_on_after_the_last_event: resume();
    a_web_socket_closes_after_the_outcome: web_socket();
    a_ticket_opens_one_stream_of_one_order: tickets();
    another_users_order_cannot_be_followed: another_users_order();
    a_change_without_a_hint_is_seen_too: lost_hint();
    a_change_without_an_event_is_hinted_at: change_without_event();
    streams_end_when_the_service_stops: drain();
}

/// Alice orders and prefers to wait.
async fn place(world: &World, request: Value, prefer: &'static str) -> (Response, Duration) {
    let alice = world.user("alice");
    let begun = Instant::now();
    let request = alice.request(Method::POST, "/orders").json(&request);
    let answer = request.header("prefer", prefer).send().await;
    (answer.expect("an answer"), begun.elapsed())
}

fn applied(response: &Response) -> Option<&str> {
    response.headers().get("preference-applied")?.to_str().ok()
}

fn id(order: &Value) -> OrderId {
    let id = order["order_id"].as_str().expect("an order id");
    id.parse().expect("an order id")
}

fn state(order: &Value) -> &str {
    order["state"].as_str().expect("a state")
}

/// Asks as alice for the events after one that she has had.
async fn events_after(alice: &Client<'_>, order: OrderId, last: &str) -> Response {
    let request = alice.request(Method::GET, &format!("/orders/{order}/events"));
    let answer = request.header("last-event-id", last).send().await;
    answer.expect("an answer")
}

/// Every event is newer than the one before it; the last one.
fn in_order(changes: &[Change]) -> &Change {
    assert!(changes.is_sorted_by(|a, b| a.0 < b.0), "{changes:?}");
    changes.last().expect("at least the current state")
}

async fn wait_for_outcome(backend: Backend, refuses: Option<Step>, expected: &str) {
    let world = World::start(backend).await;
    let shop = Shop::open(&world, refuses).await;
    let (answer, _) = place(&world, shop.request(Flow::Parallel), "wait=60").await;
    assert_eq!(applied(&answer), Some("wait=30"), "at most 30 seconds");
    assert_eq!(answer.status(), 200);
    let location = answer.headers()["location"].clone();
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(state(&body), expected);
    assert!(body["message"].is_string());
    let mut order = world.user("alice").order(id(&body)).await;
    order["message"] = body["message"].clone();
    assert_eq!(body, order, "what GET answers, and a message");
    assert_eq!(location, *format!("/orders/{}", id(&body)));
    world.end().await;
}

async fn wait_too_short(backend: Backend) {
    let (mut world, shop) = world_without(backend, "point", &["--open-orders", "3"]).await;
    let pen = json!({ "items": [{ "product_id": shop.pen, "quantity": 1 }] });
    let (answer, took) = place(&world, pen.clone(), "wait=1").await;
    assert_eq!(
        (answer.status().as_u16(), applied(&answer)),
        (202, Some("wait=1"))
    );
    assert!(took >= Duration::from_secs(1), "{took:?}");
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(state(&body), "PENDING");

    let (answer, _) = place(&world, pen.clone(), "wait=0").await;
    assert_eq!(
        (answer.status().as_u16(), applied(&answer)),
        (202, Some("wait=0"))
    );
    let (answer, _) = place(&world, pen, "wait=soon").await;
    assert_eq!((answer.status().as_u16(), applied(&answer)), (202, None));
    world.start_alone("point").await;
    world.end().await;
}

/// A world in which orders stay open until a service is started.
async fn world_without(backend: Backend, service: &str, flags: &[&str]) -> (World, Shop) {
    let mut world = World::with(backend, &ensemble::SERVICES, flags).await;
    world.start_apart().await;
    let shop = Shop::open(&world, None).await;
    world.stop(service).await;
    (world, shop)
}

async fn follow_to_the_end(backend: Backend, refuses: Option<Step>, expected: &str) {
    let world = World::start(backend).await;
    let shop = Shop::open(&world, refuses).await;
    let order = shop.order(&world, Flow::Sequential).await;
    let alice = world.user("alice");
    let changes = alice.events(order).await.all().await;
    let (version, last) = in_order(&changes);
    assert_eq!(state(last), expected);
    assert_eq!(*last, alice.order(order).await, "what GET answers");
    let decided = changes.iter().filter(|(_, order)| state(order) == expected);
    assert_eq!(decided.count(), 1, "the stream ends with it");
    // Once it is decided, there is one event.
    assert_eq!(
        alice.events(order).await.all().await,
        [(*version, last.clone())]
    );

    if expected == "CONFIRMED" {
        // A cancel after the confirmation is followed like the rest.
        world
            .user("alice")
            .post(&format!("/orders/{order}/cancel"), json!({}))
            .await
            .ok();
        let changes = alice.events(order).await.all().await;
        assert_eq!(in_order(&changes).1["status"], "CANCELED");
    }
    world.end().await;
}

async fn follow_to_giving_up(backend: Backend) {
    let flags = ["--compensation-deadlines", "1"];
    let (mut world, shop) = world_without(backend, "point", &flags).await;
    let order = shop.order(&world, Flow::Parallel).await;
    let events = world.user("alice").events(order).await;
    shop.cancel(&world, order).await.ok();
    let changes = events.all().await;
    assert_eq!(state(&in_order(&changes).1), "COMPENSATION_FAILED");
    world.start_alone("point").await;
    world.user("alice").until(order, "CANCELED").await;
    world.end().await;
}

async fn resume(backend: Backend) {
    let (mut world, shop) = world_without(backend, "point", &[]).await;
    let order = shop.order(&world, Flow::Parallel).await;
    let others = [
        (Step::STOCK, "succeeded"),
        (Step::COUPON, "succeeded"),
        (Step::CART, "succeeded"),
    ];
    shop.until_steps(&world, order, &others).await;
    let alice = world.user("alice");
    let (version, _) = alice
        .events(order)
        .await
        .next()
        .await
        .expect("the current state");
    let had_all = events_after(&alice, order, &version.to_string()).await;
    let had_less = events_after(&alice, order, &(version - 1).to_string()).await;
    let mut had_less = Events::of(had_less);
    assert_eq!(had_less.next().await.expect("at once").0, version);

    world.start_alone("point").await;
    let alice = world.user("alice");
    for events in [Events::of(had_all), had_less] {
        let changes = events.all().await;
        assert!(
            changes.iter().all(|change| change.0 > version),
            "{changes:?}"
        );
        assert_eq!(state(&in_order(&changes).1), "CONFIRMED");
    }
    let (last, _) = alice.events(order).await.next().await.expect("the outcome");
    // A browser connects again by itself until it is told that there is nothing to come.
    let nothing = events_after(&alice, order, &last.to_string()).await;
    assert_eq!(nothing.status(), 204);
    for none_of_ours in ["x", "", "-1", "999999"] {
        let events = Events::of(events_after(&alice, order, none_of_ours).await);
        assert_eq!(events.all().await.len(), 1, "{none_of_ours}");
    }
    world.end().await;
}

async fn web_socket(backend: Backend) {
    let (mut world, shop) = world_without(backend, "point", &[]).await;
    let order = shop.order(&world, Flow::Parallel).await;
    let alice = world.user("alice");
    let mut socket = alice.socket(order, None).await.expect("a socket");
    assert_eq!(state(&socket.next().await.expect("the order")), "PENDING");
    let plain = alice.get(&format!("/orders/{order}/ws")).await;
    assert_eq!(plain.problem(), (400, "NO_WEBSOCKET"));

    world.start_alone("point").await;
    let (orders, code) = socket.all().await;
    assert_eq!(code, 1000);
    let last = orders.last().expect("the outcome");
    assert_eq!(*last, world.user("alice").order(order).await);
    assert_eq!(state(last), "CONFIRMED");
    world.end().await;
}

async fn ticket(client: &Client<'_>, order: OrderId) -> String {
    let ticket = client
        .post(&format!("/orders/{order}/stream-ticket"), json!({}))
        .await;
    let ticket = ticket.ok();
    assert!(ticket["expires_at"].is_string());
    ticket["ticket"].as_str().expect("a ticket").to_owned()
}

/// Asks for events without a token.
async fn with_ticket(world: &World, order: OrderId, ticket: &str) -> Response {
    let path = format!("/orders/{order}/events");
    let request = world.user("alice").request(Method::GET, &path);
    let request = request.query(&[("ticket", ticket)]).build();
    let mut request = request.expect("a request");
    request.headers_mut().remove("authorization");
    let answer = reqwest::Client::new().execute(request).await;
    answer.expect("an answer")
}

async fn tickets(backend: Backend) {
    let world = World::start(backend).await;
    let shop = Shop::open(&world, None).await;
    let order = shop.order(&world, Flow::Parallel).await;
    let alice = world.user("alice");
    alice.until(order, "CONFIRMED").await;
    let pen = json!({ "items": [{ "product_id": shop.pen, "quantity": 1 }] });
    let other = alice.place(pen).await;
    alice.until(other, "CONFIRMED").await;

    let first = ticket(&alice, order).await;
    assert_eq!(
        with_ticket(&world, other, &first).await.status(),
        401,
        "not its order"
    );
    let events = Events::of(with_ticket(&world, order, &first).await);
    assert_eq!(state(&in_order(&events.all().await).1), "CONFIRMED");
    let again = with_ticket(&world, order, &first).await;
    assert_eq!(again.status(), 401, "it serves once");
    assert_eq!(alice.socket(order, Some(&first)).await.err(), Some(401));
    assert_eq!(with_ticket(&world, order, "none").await.status(), 401);

    let second = ticket(&alice, order).await;
    let socket = alice.socket(order, Some(&second)).await.expect("a socket");
    assert_eq!(socket.all().await.1, 1000);
    assert_eq!(with_ticket(&world, order, &second).await.status(), 401);
    // An operator's ticket is for what the operator may see.
    let third = ticket(&world.operator(), order).await;
    assert_eq!(with_ticket(&world, order, &third).await.status(), 200);

    let late = ticket(&alice, order).await;
    let expire = "UPDATE stream_tickets SET expires_at = 1";
    let expired = world.database("order").execute(expire, vec![]).await;
    assert_eq!(
        expired.expect("the database answers"),
        1,
        "used ones are gone"
    );
    assert_eq!(
        with_ticket(&world, order, &late).await.status(),
        401,
        "too late"
    );
    world.end().await;
}

async fn another_users_order(backend: Backend) {
    let world = World::start(backend).await;
    let shop = Shop::open(&world, None).await;
    let order = shop.order(&world, Flow::Parallel).await;
    world.user("alice").until(order, "CONFIRMED").await;
    let mallory = world.user("mallory");
    let events = mallory.get(&format!("/orders/{order}/events")).await;
    assert_eq!(events.problem(), (404, "NOT_FOUND"));
    let ticket = format!("/orders/{order}/stream-ticket");
    assert_eq!(
        mallory.post(&ticket, json!({})).await.problem(),
        (404, "NOT_FOUND")
    );
    assert_eq!(mallory.socket(order, None).await.err(), Some(404));
    let operator = world.operator().events(order).await.all().await;
    assert_eq!(state(&in_order(&operator).1), "CONFIRMED");
    world.end().await;
}

async fn lost_hint(backend: Backend) {
    let (mut world, shop) = world_without(backend, "point", &[]).await;
    let order = shop.order(&world, Flow::Parallel).await;
    let others = [
        (Step::STOCK, "succeeded"),
        (Step::COUPON, "succeeded"),
        (Step::CART, "succeeded"),
    ];
    shop.until_steps(&world, order, &others).await;
    let mut events = world.user("alice").events(order).await;
    let (version, _) = events.next().await.expect("the current state");
    // What another instance does whose hint is lost.
    let change = "UPDATE orders SET version = version + 1";
    let changed = world.database("order").execute(change, vec![]).await;
    changed.expect("the database answers");
    assert_eq!(events.next().await.expect("the change").0, version + 1);
    world.start_alone("point").await;
    assert_eq!(state(&in_order(&events.all().await).1), "CONFIRMED");
    world.end().await;
}

async fn change_without_event(backend: Backend) {
    let (mut world, shop) = world_without(backend, "point", &[]).await;
    for service in ["coupon", "cart", "stock"] {
        world.stop(service).await;
    }
    let client = world.broker().client();
    let mut hints = client
        .subscribe("notify.order.*")
        .await
        .expect("a subscription");
    client.flush().await.expect("the broker answers");
    let order = shop.order(&world, Flow::Parallel).await;
    // Stock alone answers: a flag is set, and order says nothing.
    world.start_alone("stock").await;
    let hint = tokio::time::timeout(
        Duration::from_secs(60),
        futures::StreamExt::next(&mut hints),
    );
    let hint = hint.await.expect("in time").expect("a hint");
    assert_eq!(hint.subject.as_str(), format!("notify.order.{order}"));
    assert!(hint.payload.is_empty(), "it says nothing else");
    let view = world.user("alice").order(order).await;
    assert_eq!(
        view["steps"]["stock"], "succeeded",
        "the hint came after the commit"
    );
    for service in ["coupon", "cart", "point"] {
        world.start_alone(service).await;
    }
    world.user("alice").until(order, "CONFIRMED").await;
    world.end().await;
}

async fn drain(backend: Backend) {
    let (mut world, shop) = world_without(backend, "point", &["--open-orders", "2"]).await;
    let order = shop.order(&world, Flow::Parallel).await;
    let alice = world.user("alice");
    let mut events = alice.events(order).await;
    events.next().await.expect("the current state");
    let mut socket = alice.socket(order, None).await.expect("a socket");
    socket.next().await.expect("the current state");
    let request = alice
        .request(Method::POST, "/orders")
        .header("prefer", "wait=30");
    let pen = json!({ "items": [{ "product_id": shop.pen, "quantity": 1 }] });
    let waiting = tokio::spawn(request.json(&pen).send());
    // It waits once its order is there.
    integration_tests::eventually("the second order", async || {
        let orders = world.user("alice").get("/orders?state=PENDING").await.ok();
        match orders["orders"].as_array().map(Vec::len) {
            Some(2) => Ok(()),
            _ => Err(orders.to_string()),
        }
    })
    .await;

    // Ended, and not cut.
    let (_, _, (_, code)) = tokio::join!(world.stop("order"), events.all(), socket.all());
    assert_eq!(code, 1001);
    let answer = waiting.await.expect("no panic").expect("an answer");
    assert_eq!(answer.status(), 202, "as it is");
    world.start_alone("order").await;
    world.start_alone("point").await;
    world.end().await;
}
