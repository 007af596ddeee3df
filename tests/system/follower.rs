//! A sixth service that only follows: it can be added, restarted and started anew, and
//! no order notices.

use events::catalog;
use integration_tests::{Backend, World, on_both_databases};
use jetstream::Service;
use jetstream::stream::broker::PullConfig;
use serde_json::{Value, json};

use crate::ranking;

on_both_databases! {
    a_follower_counts_what_was_confirmed_and_nothing_else: counts();
    everything_delivered_again_changes_nothing: delivered_again();
    a_follower_that_is_stopped_delays_no_order_and_catches_up: stopped();
}

fn services() -> Vec<Service> {
    let mut services = ensemble::SERVICES.to_vec();
    services.push(ranking::SERVICE);
    services
}

async fn counts(backend: Backend) {
    let mut world = World::with(backend, &services(), &[]).await;
    world.start_together("all").await;
    let sold = sell(&world).await;
    world.quiet().await;
    assert_eq!(count(&world).await, sold);
    world.end().await;
}

async fn delivered_again(backend: Backend) {
    let mut world = World::with(backend, &services(), &[]).await;
    world.start_together("all").await;
    let sold = sell(&world).await;
    world.quiet().await;
    let said = last_event(&world).await;
    let products = world.operator().get("/products").await.ok();
    let mut heard = Vec::new();
    for service in services() {
        heard.push(heard_until(&world, service.name).await);
        let broker = world.broker();
        let deleted = broker.delete_consumer_from_stream(service.name, catalog::STREAM);
        deleted.await.expect("deleted");
    }
    world.provision().await;
    world.quiet().await;

    // The new consumers began with the first event, and have come as far as the old ones.
    for (service, heard) in services().iter().zip(heard) {
        assert!(heard > 0, "{} heard something", service.name);
        assert_eq!(heard_until(&world, service.name).await, heard);
    }
    assert_eq!(count(&world).await, sold);
    assert_eq!(world.operator().get("/products").await.ok(), products);
    assert_eq!(last_event(&world).await, said, "nobody says anything again");
    world.end().await;
}

async fn stopped(backend: Backend) {
    let mut world = World::with(backend, &services(), &[]).await;
    for service in ensemble::SERVICES {
        world.start_alone(service.name).await;
    }
    let sold = sell(&world).await;
    world.start_alone("ranking").await;
    world.quiet().await;
    assert_eq!(count(&world).await, sold);
    world.end().await;
}

/// Several orders, of which two are refused; what was sold, by product.
async fn sell(world: &World) -> Value {
    let operator = world.operator();
    let mug = operator.product(500, 10).await;
    let pen = operator.product(100, 10).await;
    for (user, points, mugs, pens) in [
        ("alice", 5_000, 2, 1),
        ("bob", 5_000, 3, 4),
        ("carol", 100, 1, 1),
        ("dave", 50_000, 1, 11),
    ] {
        operator.charge(user, points).await;
        let mug = json!({ "product_id": mug, "quantity": mugs });
        let pen = json!({ "product_id": pen, "quantity": pens });
        let user = world.user(user);
        let order = user.place(json!({ "items": [mug, pen] })).await;
        user.until_final(order).await;
    }
    json!({ mug: 5, pen: 5 })
}

async fn count(world: &World) -> Value {
    world.operator().get("/ranking").await.ok()
}

/// The last event that was delivered to a service since its consumer was created.
async fn heard_until(world: &World, service: &str) -> u64 {
    let consumer = world
        .broker()
        .get_consumer_from_stream::<PullConfig, _, _>(service, catalog::STREAM)
        .await
        .expect("a consumer");
    consumer.cached_info().delivered.stream_sequence
}

async fn last_event(world: &World) -> u64 {
    let stream = world.broker().get_stream(catalog::STREAM).await;
    stream.expect("a stream").cached_info().state.last_sequence
}
