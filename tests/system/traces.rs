//! Traces: one per order, from the request to the final state, whatever happens to it.
//!
//! The spans go to a collector over OTLP, as they do in production. The snapshots are what
//! both flows give; nothing in them depends on who is faster.

use events::{Flow, OrderId, Step};
use integration_tests::{Backend, Collector, Shop, Span, World, hang_together, span_tree};
use jetstream::stream::history;

/// A world whose services send their spans to a collector.
async fn traced(flags: &[&str]) -> (World, Collector) {
    let collector = Collector::start().await;
    let mut all = vec!["--otlp", collector.url()];
    all.extend(flags);
    let world = World::with(Backend::Sqlite, &ensemble::SERVICES, &all).await;
    (world, collector)
}

/// Ends the world, which sends the last spans, and draws the trace of an order.
async fn drawn(world: World, collector: &Collector, order: OrderId, all: bool) -> String {
    world.quiet().await;
    let recorded = history::of_order(world.broker(), order).await;
    let recorded = recorded.expect("the stream answers");
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

async fn confirmed(flow: Flow) {
    let (mut world, collector) = traced(&[]).await;
    world.start_together("all").await;
    let shop = Shop::open(&world, None).await;
    let order = shop.order(&world, flow).await;
    world.user("alice").until(order, "CONFIRMED").await;
    let tree = drawn(world, &collector, order, false).await;
    insta::assert_snapshot!(format!("{flow}_confirmed"), tree);
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_confirmed() {
    confirmed(Flow::Parallel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sequential_confirmed() {
    confirmed(Flow::Sequential).await;
}

async fn refused(flow: Flow, step: Step) {
    let (mut world, collector) = traced(&[]).await;
    world.start_together("all").await;
    let shop = Shop::open(&world, Some(step)).await;
    let order = shop.order(&world, flow).await;
    world.user("alice").until(order, "CANCELED").await;
    let tree = drawn(world, &collector, order, false).await;
    insta::assert_snapshot!(format!("{flow}_refused_by_{step}"), tree);
}

#[tokio::test(flavor = "multi_thread")]
async fn sequential_refused_by_stock() {
    refused(Flow::Sequential, Step::STOCK).await;
}
