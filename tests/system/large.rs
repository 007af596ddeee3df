//! A timeline in a large stream. How large, is said by `ENSEMBLE_EVENTS`; with five million
//! it takes minutes, and a gigabyte of disk, and says how long timelines take:
//!
//! ```sh
//! ENSEMBLE_EVENTS=5000000 cargo xtask test -p integration-tests --release --no-capture large_stream
//! ```

use std::time::{Duration, Instant};

use events::{OrderId, catalog};
use integration_tests::{Backend, World};
use serde_json::json;

use crate::commands;

const EVENTS: u64 = 20_000;
// With so many it is a measurement, and held to what was promised.
const MANY: u64 = 5_000_000;
const PROMISED: Duration = Duration::from_millis(300);
// What the broker has in hand at most: it drops what is too much.
const AT_ONCE: u64 = 4_000;
const TIMES: usize = 10;

/// Puts small messages into the stream, on a subject that no service here reads.
async fn fill(world: &World, count: u64) {
    let client = world.broker().client();
    let publish = async |n: u64| {
        for _ in 1..n {
            let sent = client.publish("cart.changed", "filler".into()).await;
            sent.expect("sent");
        }
        // The broker takes them in order: with the last, all are stored.
        let last = world
            .broker()
            .publish("cart.changed", "filler".into())
            .await;
        last.expect("sent").await.expect("stored");
    };
    for _ in 0..count.div_ceil(AT_ONCE) {
        publish(AT_ONCE).await;
    }
}

async fn an_order(world: &World, product: &str) -> OrderId {
    let items = json!([{ "product_id": product, "quantity": 1 }]);
    let order = world.user("alice").place(json!({ "items": items })).await;
    world.user("alice").until(order, "CONFIRMED").await;
    order
}

/// The median and the longest of some timelines.
async fn measure(mut one: impl AsyncFnMut()) -> [Duration; 2] {
    let mut took = Vec::new();
    for _ in 0..TIMES {
        let start = Instant::now();
        one().await;
        took.push(start.elapsed());
    }
    took.sort_unstable();
    [took[TIMES / 2], took[TIMES - 1]]
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stdout)] // that is what it is for
async fn a_timeline_in_a_large_stream_reads_its_own_events() {
    let events = std::env::var("ENSEMBLE_EVENTS").ok();
    let events = events.map_or(EVENTS, |n| n.parse().expect("a number of events"));
    let mut world = World::empty(Backend::Sqlite).await;
    // Without cart, which compares what is on its subjects.
    for service in ["order", "stock", "point", "coupon"] {
        world.start_alone(service).await;
    }
    let product = world.operator().product(500, 100).await;
    world.operator().charge("alice", 50_000).await;
    let mut orders = vec![("first", an_order(&world, &product).await)];
    fill(&world, events / 2).await;
    orders.push(("middle", an_order(&world, &product).await));
    fill(&world, events / 2).await;
    orders.push(("last", an_order(&world, &product).await));
    // What the broker has in memory is no help.
    world.restart_broker(|_| ());
    let stream = world.broker().get_stream(catalog::STREAM).await;
    let messages = stream.expect("the stream").cached_info().state.messages;
    assert!(messages >= events, "{messages}");
    println!("{messages} events in the stream; median and longest of {TIMES}, the first cold");
    for (which, order) in orders {
        let path = format!("/orders/{order}/timeline");
        let route = measure(async || {
            let timeline = world.operator().get(&path).await.ok();
            let events = timeline["events"].as_array().map(Vec::len);
            assert_eq!((events, &timeline["missing"]), (Some(4), &json!(0)));
        });
        let [median, longest] = route.await;
        println!("{which:>6} order, GET /orders/…/timeline: {median:>10.1?} {longest:>10.1?}");
        let order = order.to_string();
        let command = measure(async || {
            let finished = commands::run(&world, &["timeline", &order, "--json"]).await;
            let timeline = commands::json(&finished);
            assert_eq!(timeline["events"].as_array().map(Vec::len), Some(4));
            assert_eq!(timeline["notes"], json!([]));
        });
        let [median, longest] = command.await;
        println!("{which:>6} order, ensemble timeline:      {median:>10.1?} {longest:>10.1?}");
        assert!(events < MANY || longest < PROMISED, "{longest:?}");
    }
}
