//! `ensemble timeline`: what happened to an order, on the terminal.

use std::time::Duration;

use events::{OrderId, catalog};
use integration_tests::{Backend, Collector, Finished, System, World, eventually};
use serde_json::{Value, json};

use crate::commands;

async fn a_system_with_an_order(points: i64) -> (System, OrderId) {
    let mut system = System::new(Backend::Sqlite);
    system.start().await;
    let product = system.operator().product(500, 10).await;
    system.operator().charge("alice", points).await;
    let items = json!([{ "product_id": product, "quantity": 1 }]);
    let order = system.user("alice").place(json!({ "items": items })).await;
    system.user("alice").until_final(order).await;
    (system, order)
}

fn fails_with(finished: &Finished, words: &str) {
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert_eq!(finished.stdout, "");
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    assert!(finished.stderr.contains(words), "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeline_shows_every_event_of_an_order() {
    let (system, order) = a_system_with_an_order(5_000).await;
    let order = order.to_string();
    let expected = [
        "order.created.pending",
        "product.reserved",
        "point.used",
        "order.confirmed",
    ];
    let drawn = system.command(&["timeline", &order]).await;
    assert!(drawn.status.success(), "{drawn:?}");
    assert!(
        !drawn.stdout.contains('\x1b'),
        "no colours but on a terminal"
    );
    for subject in expected {
        assert!(
            drawn.stdout.contains(subject),
            "{subject} in:\n{}",
            drawn.stdout
        );
    }

    let listed = system.command(&["timeline", &order, "--json"]).await;
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    assert_eq!(listed["order_id"], order.as_str());
    let events = listed["events"].as_array().expect("events");
    let mut subjects: Vec<_> = events
        .iter()
        .filter_map(|e| e["subject"].as_str())
        .collect();
    subjects.sort_unstable();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(subjects, expected);
    system.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeline_says_why_an_order_was_refused() {
    let (system, order) = a_system_with_an_order(10).await;
    let drawn = system.command(&["timeline", &order.to_string()]).await;
    assert!(drawn.status.success(), "{drawn:?}");
    for word in ["point.use.failed", "order.canceled", "order.compensated"] {
        assert!(drawn.stdout.contains(word), "{word} in:\n{}", drawn.stdout);
    }
    system.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_not_there_is_said_to_be_so() {
    let mut system = System::new(Backend::Sqlite);
    system.start().await;
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
    let finished = system.command(&["timeline", unknown]).await;
    fails_with(&finished, "there is no order");
    let finished = system.command(&["timeline", "order-1"]).await;
    fails_with(&finished, "not an order id");
    system.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_has_run_the_timeline_says_what_to_give() {
    let system = System::new(Backend::Sqlite);
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
    let finished = system.command(&["timeline", unknown]).await;
    fails_with(&finished, "--data-dir");
}

async fn a_shop_with_an_order(world: &World) -> OrderId {
    let product = world.operator().product(500, 10).await;
    world.operator().charge("alice", 5_000).await;
    let items = json!([{ "product_id": product, "quantity": 1 }]);
    let order = world.user("alice").place(json!({ "items": items })).await;
    world.user("alice").until_final(order).await;
    world.quiet().await;
    order
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_an_order_is_named_with_a_link_to_it() {
    let collector = Collector::start().await;
    let jaeger = "http://jaeger.example:16686";
    let flags = ["--otlp", collector.url(), "--jaeger-url", jaeger];
    let mut world = World::with(Backend::Sqlite, &ensemble::SERVICES, &flags).await;
    world.start_together("all").await;
    let order = a_shop_with_an_order(&world).await;
    let path = format!("/orders/{order}");
    let view = world.user("alice").get(&path).await.ok();
    let trace = view["trace_id"].as_str().expect("a trace").to_owned();
    let link = format!("{jaeger}/trace/{trace}");

    let timeline = format!("{path}/timeline");
    let timeline = world.user("alice").get(&timeline).await.ok();
    let order = order.to_string();
    let command = commands::run(&world, &["timeline", &order, "--json"]).await;
    for told in [view, timeline, commands::json(&command)] {
        assert_eq!(told["trace_id"], trace.as_str(), "{told}");
        assert_eq!(told["trace_url"], link.as_str(), "{told}");
        for event in told["events"].as_array().into_iter().flatten() {
            assert_eq!(event["trace_id"], trace.as_str(), "{event}");
        }
    }
    let drawn = commands::run(&world, &["timeline", &order]).await;
    let says = format!("trace {trace} at {link}");
    assert!(drawn.stdout.contains(&says), "{drawn:?}");
    world.end().await;
}

/// Subject and source of each event, and the notes.
fn told(finished: &Finished) -> (Vec<(String, String)>, Vec<String>) {
    let answer: Value = serde_json::from_str(&finished.stdout).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let events = answer["events"].as_array().cloned().unwrap_or_default();
    let events = events
        .iter()
        .map(|e| (text(&e["subject"]), text(&e["source"])));
    let notes = answer["notes"].as_array().cloned().unwrap_or_default();
    (events.collect(), notes.iter().map(text).collect())
}

const CONFIRMED: [&str; 4] = [
    "order.created.pending",
    "order.confirmed",
    "point.used",
    "product.reserved",
];

fn subjects(events: &[(String, String)]) -> Vec<&str> {
    let mut subjects: Vec<&str> = events.iter().map(|(subject, _)| &**subject).collect();
    subjects.sort_unstable_by_key(|s| (!s.starts_with("order"), *s != CONFIRMED[0], *s));
    subjects
}

async fn without_order_the_stream_is_searched(backend: Backend) {
    let mut world = World::empty(backend).await;
    world.start_apart().await;
    let order = a_shop_with_an_order(&world).await.to_string();
    let with = commands::run(&world, &["timeline", &order, "--json"]).await;
    let (events, notes) = told(&with);
    assert_eq!(subjects(&events), CONFIRMED, "{with:?}");
    assert_eq!(notes, Vec::<String>::new());

    world.stop("order").await;
    let without = commands::run(&world, &["timeline", &order, "--json"]).await;
    let (events, notes) = told(&without);
    assert_eq!(subjects(&events), CONFIRMED, "{without:?}");
    assert!(notes[0].contains("the stream was searched"), "{notes:?}");
    world.start_alone("order").await;
    world.end().await;
}

async fn what_the_stream_has_no_longer_comes_from_the_outboxes(backend: Backend) {
    let world = World::start(backend).await;
    let order = a_shop_with_an_order(&world).await.to_string();
    let stream = world.broker().get_stream(catalog::STREAM).await;
    let declared = stream.expect("the stream").cached_info().config.clone();
    let mut config = declared.clone();
    config.max_age = Duration::from_secs(1);
    config.duplicate_window = Duration::from_secs(1);
    let updated = world.broker().update_stream(config).await;
    updated.expect("events age out after a second");
    eventually("the events age out", async || {
        let finished = commands::run(&world, &["timeline", &order, "--json"]).await;
        let (events, notes) = told(&finished);
        assert_eq!(subjects(&events), CONFIRMED, "{finished:?}");
        let marked = events.iter().all(|(_, source)| source == "outbox");
        match marked && notes.iter().any(|note| note.contains("not in the stream")) {
            true => Ok(()),
            false => Err(format!("{events:?} {notes:?}")),
        }
    })
    .await;
    let drawn = commands::run(&world, &["timeline", &order]).await;
    assert!(drawn.stdout.contains("(from the outbox)"), "{drawn:?}");

    // What is said again is found where it stands then.
    let updated = world.broker().update_stream(declared).await;
    updated.expect("the stream keeps events");
    world.operator().post("/reconcile", json!({})).await.ok();
    let finished = commands::run(&world, &["timeline", &order, "--json"]).await;
    let (events, notes) = told(&finished);
    assert_eq!(subjects(&events), CONFIRMED, "{finished:?}");
    let from_stream = events.iter().all(|(_, source)| source == "stream");
    assert!(from_stream && notes.is_empty(), "{finished:?}");
    world.end().await;
}

integration_tests::on_both_databases! {
    a_timeline_without_order: without_order_the_stream_is_searched();
    a_timeline_from_outboxes: what_the_stream_has_no_longer_comes_from_the_outboxes();
}
