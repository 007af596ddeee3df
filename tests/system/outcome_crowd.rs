//! Knowing the outcome with several instances, and with many who wait.

use futures::future::join_all;
use integration_tests::{Backend, Client, Events, Site, World, on_both_databases};
use jetstream::http::auth::DevelopmentKey;
use reqwest::Method;
use serde_json::{Value, json};

on_both_databases! {
    a_thousand_streams_learn_the_outcome: a_thousand_streams();
}

const USERS: usize = 20;
const STREAMS_EACH: usize = 50;

async fn a_thousand_streams(backend: Backend) {
    let mut world = World::empty(backend).await;
    world.start_apart().await;
    let product = world.operator().product(500, 1_000).await;
    let names: Vec<String> = (0..USERS).map(|n| format!("user{n}")).collect();
    // Every other one has not enough.
    for (n, name) in names.iter().enumerate() {
        world
            .operator()
            .charge(name, if n % 2 == 0 { 500 } else { 499 })
            .await;
    }
    world.quiet().await;
    world.stop("point").await;
    let mut orders = vec![];
    for name in &names {
        orders.push(world.user(name).place(one(&product)).await);
    }
    let mut streams = vec![];
    for (name, order) in names.iter().zip(&orders) {
        let user = world.user(name);
        streams.extend(join_all((0..STREAMS_EACH).map(|_| user.events(*order))).await);
    }
    assert_eq!(streams.len(), 1_000);

    world.start_alone("point").await;
    let ends = join_all(streams.into_iter().map(Events::all)).await;
    for (n, changes) in ends.iter().enumerate() {
        let (_, last) = changes.last().expect("at least one");
        let confirmed = (n / STREAMS_EACH).is_multiple_of(2);
        let expected = if confirmed { "CONFIRMED" } else { "CANCELED" };
        assert_eq!(last["state"], expected, "stream {n}: {changes:?}");
    }
    world.end().await;
}

fn one(product: &str) -> Value {
    json!({ "items": [{ "product_id": product, "quantity": 1 }] })
}

/// One of the instances of a world.
struct Instance<'a>(&'a World, usize);

impl Site for Instance<'_> {
    fn url(&self, _service: &str, _user: &str) -> String {
        let host = self.0.hosts().nth(self.1).expect("a running host");
        format!("http://{}", host.address())
    }

    fn http(&self) -> &reqwest::Client {
        self.0.http()
    }

    fn key(&self) -> &DevelopmentKey {
        self.0.key()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_instance_changes_is_heard_at_another() {
    let mut world = World::empty(Backend::Postgres).await;
    world.start_together("one").await;
    world.start_together("two").await;
    let product = world.operator().product(500, 10).await;
    world.operator().charge("alice", 5_000).await;
    world.quiet().await;
    let instances = [Instance(&world, 0), Instance(&world, 1)];
    let [here, there] = instances.each_ref().map(|site| Client::user(site, "alice"));
    for _ in 0..5 {
        let order = here.place(one(&product)).await;
        let socket = there.socket(order, None).await.expect("a socket");
        let events = there.events(order).await;
        let (_, last) = events.all().await.pop().expect("at least one");
        assert_eq!(last["state"], "CONFIRMED");
        assert_eq!(socket.all().await.1, 1000);
        assert_eq!(here.order(order).await, last);
    }

    // A ticket is good at every instance, and once in all.
    let order = here.place(one(&product)).await;
    let path = format!("/orders/{order}/stream-ticket");
    let ticket = here.post(&path, json!({})).await.ok();
    let ticket = ticket["ticket"].as_str().expect("a ticket");
    let sockets = [
        there.socket(order, Some(ticket)),
        here.socket(order, Some(ticket)),
    ];
    let opened = join_all(sockets).await;
    let mut codes: Vec<_> = opened.iter().map(|socket| socket.as_ref().err()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [None, Some(&401)]);

    let waits = there
        .request(Method::POST, "/orders")
        .header("prefer", "wait=30");
    here.until(order, "CONFIRMED").await;
    let answer = waits.json(&one(&product)).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    drop(opened);
    world.end().await;
}
