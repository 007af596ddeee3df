//! Traces: one per order, from the request to the final state, whatever happens to it.
//!
//! The spans go to a collector over OTLP, as they do in production. The snapshots are what
//! both flows give; nothing in them depends on who is faster.
//!
//! Seen red, with one thing switched off at a time: the parent of a consumer's or a
//! producer's span, the links of a deciding span to the steps that it joined, or the order's
//! id makes every story red; a refusal's event those of the refusals; the links of a batch's
//! span the thousand orders; and the trace that a row of the outbox keeps, or the parent in
//! it, the order that was left in the outbox.

use std::collections::HashMap;

use events::{Flow, OrderId, Step};
use integration_tests::{
    Backend, Collector, Process, Shop, Signal, Span, System, World, eventually, hang_together,
    span_tree,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::crowd::Crowd;
use crate::processes::address;

const STEPS: [Step; 4] = [Step::STOCK, Step::POINT, Step::COUPON, Step::CART];

/// A world whose services send their spans to a collector. Nothing becomes due by itself,
/// however slow the machine is.
async fn traced() -> (World, Collector) {
    let collector = Collector::start().await;
    let mut flags = vec!["--otlp", collector.url()];
    flags.extend(["--order-deadline", "600", "--compensation-deadlines", "600"]);
    let world = World::with(Backend::Sqlite, &ensemble::SERVICES, &flags).await;
    (world, collector)
}

/// Ends the world, which sends the last spans, and draws the trace of an order.
async fn drawn(world: World, collector: &Collector, order: OrderId, all: bool) -> String {
    world.quiet().await;
    let recorded = world.story(order).await;
    world.end().await;
    let spans = collector.spans();
    hang_together(&spans).unwrap_or_else(|wrong| panic!("{wrong}"));
    let of_order = trace_of(&spans, order);
    every_span_can_be_found(&of_order, order);
    span_tree(&of_order, &recorded, all)
}

/// The spans of the trace in which an order was placed.
fn trace_of(spans: &[Span], order: OrderId) -> Vec<Span> {
    let placed =
        |span: &&Span| span.name == "POST /orders" && span.get("order.id") == order.to_string();
    let root = spans.iter().find(placed).expect("the request");
    let trace = root.trace.clone();
    let of_trace = spans.iter().filter(|span| span.trace == trace);
    of_trace.cloned().collect()
}

fn every_span_can_be_found(spans: &[Span], order: OrderId) {
    for span in spans {
        assert_eq!(span.get("order.id"), order.to_string(), "{span:?}");
        assert!(!span.get("event.id").is_empty(), "{span:?}");
        assert!(
            ["parallel", "sequential"].contains(&span.get("flow")),
            "{span:?}"
        );
        assert!(span.time.0 > 0 && span.time.1 >= span.time.0, "{span:?}");
    }
}

macro_rules! stories {
    ($($name:ident: $story:expr;)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let tree = $story.await;
            insta::assert_snapshot!(stringify!($name), tree);
        })*
    };
}

stories! {
    parallel_confirmed: confirmed(Flow::Parallel);
    parallel_refused_by_stock: refused(Step::STOCK);
    parallel_refused_by_point: refused(Step::POINT);
    parallel_refused_by_coupon: refused(Step::COUPON);
    parallel_refused_by_cart: refused(Step::CART);
    parallel_canceled: canceled(Flow::Parallel);
    parallel_past_its_deadline: past_its_deadline(Flow::Parallel);
    parallel_resolved: resolved();
    parallel_redelivered: redelivered(Flow::Parallel);
    parallel_left_in_the_outbox: left_in_the_outbox();
    parallel_dead_and_redriven: dead_and_redriven(Flow::Parallel);
    sequential_confirmed: confirmed(Flow::Sequential);
    sequential_refused_by_stock: refused_in_sequence(Step::STOCK);
    sequential_refused_by_point: refused_in_sequence(Step::POINT);
    sequential_refused_by_coupon: refused_in_sequence(Step::COUPON);
    sequential_refused_by_cart: refused_in_sequence(Step::CART);
    sequential_canceled: canceled(Flow::Sequential);
    sequential_past_its_deadline: past_its_deadline(Flow::Sequential);
    sequential_redelivered: redelivered(Flow::Sequential);
    sequential_dead_and_redriven: dead_and_redriven(Flow::Sequential);
}

async fn confirmed(flow: Flow) -> String {
    let (mut world, collector) = traced().await;
    world.start_together("all").await;
    let shop = Shop::open(&world, None).await;
    let order = shop.order(&world, flow).await;
    world.user("alice").until(order, "CONFIRMED").await;
    drawn(world, &collector, order, false).await
}

/// The peers hold before the refusal is decided, so that it is the last to arrive.
async fn refused(step: Step) -> String {
    let (mut world, collector) = traced().await;
    world.start_apart().await;
    let shop = Shop::open(&world, Some(step)).await;
    world.stop(step.name()).await;
    let order = shop.order(&world, Flow::Parallel).await;
    let peers = STEPS.into_iter().filter(|peer| *peer != step);
    let held: Vec<_> = peers.map(|peer| (peer, "succeeded")).collect();
    shop.until_steps(&world, order, &held).await;
    world.start_alone(step.name()).await;
    world.user("alice").until(order, "CANCELED").await;
    drawn(world, &collector, order, false).await
}

async fn refused_in_sequence(step: Step) -> String {
    let (mut world, collector) = traced().await;
    world.start_together("all").await;
    let shop = Shop::open(&world, Some(step)).await;
    let order = shop.order(&world, Flow::Sequential).await;
    world.user("alice").until(order, "CANCELED").await;
    drawn(world, &collector, order, false).await
}

/// An order that waits for its coupon service.
async fn waiting(flow: Flow) -> (World, Collector, Shop, OrderId) {
    let (mut world, collector) = traced().await;
    world.start_apart().await;
    let shop = Shop::open(&world, None).await;
    world.stop("coupon").await;
    let order = shop.order(&world, flow).await;
    shop.until_steps(&world, order, &flags(flow, "succeeded"))
        .await;
    (world, collector, shop, order)
}

/// How the other steps of a waiting order stand; in the sequential flow the cart is not
/// reached.
fn flags(flow: Flow, flag: &'static str) -> [(Step, &'static str); 3] {
    let cart = match (flow, flag) {
        (Flow::Parallel, _) => flag,
        (Flow::Sequential, "succeeded") => "waiting",
        (Flow::Sequential, _) => "void",
    };
    [(Step::STOCK, flag), (Step::POINT, flag), (Step::CART, cart)]
}

/// Once the others have given back, the coupon service comes and does so too.
async fn given_back(
    (mut world, collector, shop, order): (World, Collector, Shop, OrderId),
    flow: Flow,
) -> String {
    shop.until_steps(&world, order, &flags(flow, "compensated"))
        .await;
    world.start_alone("coupon").await;
    world.user("alice").until(order, "CANCELED").await;
    drawn(world, &collector, order, false).await
}

async fn canceled(flow: Flow) -> String {
    let waiting = waiting(flow).await;
    let (world, _, shop, order) = &waiting;
    assert_eq!(shop.cancel(world, *order).await.status, 202);
    given_back(waiting, flow).await
}

async fn past_its_deadline(flow: Flow) -> String {
    let waiting = waiting(flow).await;
    let (world, ..) = &waiting;
    bring_forward(world).await;
    given_back(waiting, flow).await
}

/// What is due some time is due now, so that nothing depends on how fast the others are.
async fn bring_forward(world: &World) {
    let sql = "UPDATE orders SET due_at = 1 WHERE due_at > 0";
    let database = world.database("order");
    database.execute(sql, vec![]).await.expect("an update");
}

/// Coupon stays silent until the compensation is given up, and a person says that it is
/// undone. What coupon says when it is back is taken back once more.
async fn resolved() -> String {
    let (mut world, collector, shop, order) = waiting(Flow::Parallel).await;
    assert_eq!(shop.cancel(&world, order).await.status, 202);
    shop.until_steps(&world, order, &flags(Flow::Parallel, "compensated"))
        .await;
    bring_forward(&world).await;
    let timeline = format!("/orders/{order}/timeline");
    eventually("the second attempt", async || {
        let told = world.operator().get(&timeline).await.ok();
        match told["attempt"] == 2 {
            true => Ok(()),
            false => Err(told["attempt"].to_string()),
        }
    })
    .await;
    bring_forward(&world).await;
    let alice = world.user("alice");
    alice.until(order, "COMPENSATION_FAILED").await;
    let resolve = format!("/orders/{order}/resolve");
    let undone = json!({ "action": "mark_undone", "step": "coupon", "reason": "by hand" });
    let resolved = world.operator().post(&resolve, undone).await.ok();
    // The answer names the trace, as the order does.
    let view = alice.until(order, "CANCELED").await;
    assert!(view["trace_id"].is_string(), "{view}");
    assert_eq!(resolved["trace_id"], view["trace_id"]);
    world.start_alone("coupon").await;
    drawn(world, &collector, order, false).await
}

/// Stock fails once, until its failure is counted, and handles the event when it is
/// delivered again.
async fn redelivered(flow: Flow) -> String {
    let (mut world, collector) = traced().await;
    world.start_together("all").await;
    let shop = Shop::open(&world, None).await;
    let sql = "CREATE TRIGGER fails_once BEFORE INSERT ON holds
               WHEN NOT EXISTS (SELECT 1 FROM failures)
               BEGIN SELECT RAISE(FAIL, 'not yet'); END";
    let database = world.database("stock");
    database.execute(sql, vec![]).await.expect("a trigger");
    let order = shop.order(&world, flow).await;
    world.user("alice").until(order, "CONFIRMED").await;
    drawn(world, &collector, order, true).await
}

/// An instance of order is killed when it has committed, and before the broker, which is
/// away, has taken anything. The next one publishes what it finds in the outbox: all that is
/// known of the trace comes from the row.
async fn left_in_the_outbox() -> String {
    let (mut world, collector) = traced().await;
    world.start_apart().await;
    let shop = Shop::open(&world, None).await;
    world.stop("order").await;
    let mut flags = world.flags();
    flags.extend(["--log-json", "--nats-url", world.nats_url()].map(str::to_owned));
    let mut process = Process::start("order-svc", flags, world.folder(), "order");
    let url = process.says("the address", address).await;
    let host = url.trim_start_matches("http://").parse();
    let host = host.expect("an address");
    world.nats().stop();
    let alice = world.user("alice");
    let request = shop.request(Flow::Parallel);
    let placed = alice.post_once_at(host, "one", "/orders", request).await;
    let order = placed.ok()["order_id"].as_str().map(str::to_owned);
    let order: OrderId = order.expect("an id").parse().expect("an order id");
    let is_request =
        |span: &Span| span.name == "POST /orders" && span.get("order.id") == order.to_string();
    collector.until("the request's span", is_request).await;
    process.kill().await;
    world.nats().restart().expect("the broker again");
    world.start_alone("order").await;
    world.user("alice").until(order, "CONFIRMED").await;
    drawn(world, &collector, order, false).await
}

async fn dead_and_redriven(flow: Flow) -> String {
    let (mut world, collector) = traced().await;
    world.start_together("all").await;
    let shop = Shop::open(&world, None).await;
    let database = world.database("stock");
    let rename = async |from: &str, to: &str| {
        let sql = format!("ALTER TABLE {from} RENAME TO {to}");
        database.execute(&sql, vec![]).await.expect("renamed");
    };
    rename("products", "away").await;
    let order = shop.order(&world, flow).await;
    let operator = world.operator();
    let letter = eventually("a dead letter", async || {
        let letters = operator.get("/dead-letters").await.ok();
        let id = letters["dead_letters"][0]["id"].as_str().map(str::to_owned);
        id.ok_or_else(|| letters.to_string())
    })
    .await;
    rename("away", "products").await;
    let reason = json!({ "reason": "the table is back" });
    let redrive = format!("/dead-letters/{letter}/redrive");
    operator.post(&redrive, reason).await.ok();
    world.user("alice").until(order, "CONFIRMED").await;
    drawn(world, &collector, order, true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_orders_lose_no_span() {
    // Two steps: a request, four events of its steps' and order's own, each published once
    // and heard by who needs it, and one decision.
    const PER_ORDER: usize = 1 + (1 + 2) + 2 * (1 + 1) + 1 + (1 + 2);
    let (mut world, collector) = traced().await;
    world.start_together("all").await;
    let mut crowd = Crowd::default();
    let product = crowd.product(&world, 10, 1_000).await;
    crowd.users(&world, 1_000, |_| 10).await;
    let items = json!([{ "product_id": product, "quantity": 1 }]);
    let orders = crowd
        .place(&world, async |_, _| json!({ "items": items }))
        .await;
    crowd.settle(&world).await;
    world.end().await;

    let spans = collector.spans();
    hang_together(&spans).unwrap_or_else(|wrong| panic!("{wrong}"));
    let mut of_trace: HashMap<&str, Vec<&Span>> = HashMap::new();
    for span in &spans {
        of_trace.entry(&span.trace).or_default().push(span);
    }
    let mut placed = 0;
    for (_, spans) in of_trace {
        let is_placed =
            |span: &&&Span| span.name == "POST /orders" && !span.get("order.id").is_empty();
        let Some(root) = spans.iter().find(is_placed) else {
            continue;
        };
        placed += 1;
        // A delivery that came again, because this machine is slow, changed nothing.
        let again = |span: &&&Span| span.get("messaging.nats.delivery_count").is_empty();
        let names = || spans.iter().map(|span| &span.name).collect::<Vec<_>>();
        let count = spans.iter().filter(again).count();
        assert_eq!(count, PER_ORDER, "{}: {:?}", root.get("order.id"), names());
    }
    assert_eq!((placed, orders.len()), (1_000, 1_000));
    // Each message of a batch has its span, which the batch links to.
    let batches = spans.iter().filter(|span| span.name == "process EVENTS");
    let linked: usize = batches.map(|batch| batch.links.len()).sum();
    let processed =
        |span: &&Span| span.name.starts_with("process ") && span.name != "process EVENTS";
    assert_eq!(linked, spans.iter().filter(processed).count());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_sampled_carries_nothing_and_who_decided_is_followed() {
    let collector = Collector::start().await;
    let flags = ["--otlp", collector.url(), "--sampling", "0"];
    let mut world = World::with(Backend::Sqlite, &ensemble::SERVICES, &flags).await;
    world.start_together("all").await;
    let product = world.operator().product(0, 10).await;
    let items = json!([{ "product_id": product, "quantity": 1 }]);
    let alice = world.user("alice");
    let unsampled = alice.place(json!({ "items": items })).await;
    let view = alice.until(unsampled, "CONFIRMED").await;
    assert_eq!(view["trace_id"], Value::Null);
    let recorded = world.story(unsampled).await;
    assert!(
        recorded
            .iter()
            .all(|event| event.envelope.traceparent.is_none())
    );

    // A client that is traced decides: its span is the parent.
    let client = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traceparent = format!("00-{client}-00f067aa0ba902b7-01");
    let request = alice
        .request(Method::POST, "/orders")
        .json(&json!({ "items": items }));
    let placed = request.header("traceparent", traceparent).send().await;
    let placed: Value = placed.expect("an answer").json().await.expect("JSON");
    assert_eq!(placed["trace_id"], client);
    world.end().await;
    let spans = collector.spans();
    assert!(
        spans
            .iter()
            .any(|s| s.trace == client && s.name == "process order.confirmed")
    );
    let root = spans.iter().find(|span| span.name == "POST /orders");
    assert_eq!(root.expect("the request").parent, "00f067aa0ba902b7");
    let unsampled = unsampled.to_string();
    assert!(spans.iter().all(|span| span.get("order.id") != unsampled));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_no_order() {
    // A port on which nobody listens.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = nobody.local_addr().expect("an address");
    drop(nobody);
    let endpoint = format!("http://{address}");
    let mut system = System::new(Backend::Sqlite).with("--otlp", &endpoint);
    system.start().await;
    let product = system.operator().product(0, 10).await;
    let items = json!([{ "product_id": product, "quantity": 1 }]);
    let order = system.user("alice").place(json!({ "items": items })).await;
    system.user("alice").until(order, "CONFIRMED").await;
    let process = system.take();
    process.signal(Signal::INT);
    let finished = process.ended().await;
    assert!(finished.status.success(), "{}", finished.stderr);
    let says = "spans cannot be sent; orders go on without them";
    assert!(finished.stderr.contains(says), "{}", finished.stderr);

    let wrong = System::new(Backend::Sqlite).with("--otlp", "collector:4317");
    let mut wrong = wrong;
    let finished = wrong.launch(&[]).ended().await;
    assert_eq!(finished.status.code(), Some(1));
    let says = "`collector:4317` is no OTLP/gRPC endpoint";
    assert!(finished.stderr.contains(says), "{}", finished.stderr);
}
