//! A service that stops gives back what it has asked for and not begun: whoever pulls next
//! has it at once, and not only after `ack_wait`.

use std::collections::BTreeSet;

use async_nats::jetstream::AckKind;
use events::catalog;
use futures::StreamExt as _;
use futures::future::join_all;
use integration_tests::{Backend, World, eventually};
use jetstream::stream::broker::PullConfig;
use jetstream::stream::topology::INSTANCES;

const PRODUCTS: usize = 900;

/// What the consumer of order still has to hear, and to ack.
async fn open(world: &World) -> (u64, usize) {
    let consumer = world
        .broker()
        .get_consumer_from_stream::<PullConfig, _, _>("order", catalog::STREAM)
        .await
        .expect("a consumer");
    let info = consumer.cached_info();
    (info.num_pending, info.num_ack_pending)
}

/// How many events there are for whoever pulls now; they are given back.
async fn at_once(world: &World) -> usize {
    let consumer = world
        .broker()
        .get_consumer_from_stream::<PullConfig, _, _>("order", catalog::STREAM)
        .await
        .expect("a consumer");
    // What there is, without waiting for more.
    let fetched = consumer
        .fetch()
        .group(INSTANCES)
        .max_messages(PRODUCTS)
        .messages()
        .await;
    let messages: Vec<_> = fetched.expect("pulled").collect().await;
    let mut seen = BTreeSet::new();
    for message in messages {
        let message = message.expect("a message");
        seen.insert(message.info().expect("its place").stream_sequence);
        message.ack_with(AckKind::Nak(None)).await.expect("asked");
    }
    seen.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stops_in_a_backlog_keeps_nothing_back() {
    let mut world = World::with(Backend::Sqlite, &ensemble::SERVICES, &[]).await;
    world.start_alone("stock").await;
    let operator = world.operator();
    for _ in 0..PRODUCTS / 50 {
        join_all((0..50).map(|_| operator.product(1, 1))).await;
    }
    eventually("a backlog", async || match open(&world).await.0 {
        n if n == PRODUCTS as u64 => Ok(()),
        n => Err(format!("{n} to hear")),
    })
    .await;
    let mut left = PRODUCTS as u64;
    while left > 0 {
        world.start_alone("order").await;
        eventually("it has begun", async || match open(&world).await.0 {
            n if n < left => Ok(()),
            n => Err(format!("{n} to hear")),
        })
        .await;
        world.stop("order").await;
        let (to_hear, to_ack) = open(&world).await;
        left = to_hear + to_ack as u64;
        let there = at_once(&world).await;
        assert_eq!(there as u64, left, "{to_hear} to hear, {to_ack} to ack");
    }
    world.start_alone("order").await;
    world.end().await;
}
