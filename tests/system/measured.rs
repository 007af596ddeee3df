//! What is measured, and whether a service says that it can work.

use std::collections::BTreeMap;

use events::{Flow, Step};
use integration_tests::{Backend, Shop, World, eventually, on_both_databases};
use jetstream::database::Location;
use sea_orm::{ConnectionTrait as _, DatabaseConnection};
use serde_json::Value;

/// The metrics of the host that has stock: series and their values.
async fn metrics(world: &World) -> BTreeMap<String, f64> {
    let request = world
        .user("alice")
        .request("GET".parse().expect("a method"), "/metrics");
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let kind = answer.headers()["content-type"].to_str().expect("a text");
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = answer.text().await.expect("a text");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let series = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        (name.to_owned(), value.parse().expect("a number"))
    });
    series.collect()
}

fn value(metrics: &BTreeMap<String, f64>, name: &str) -> f64 {
    let value = metrics.get(name).copied();
    value.unwrap_or_else(|| panic!("{name} in {:#?}", metrics.keys()))
}

async fn orders_and_what_they_cost_are_measured(backend: Backend) {
    let world = World::start(backend).await;
    let shop = Shop::open(&world, Some(Step::POINT)).await;
    let refused = shop.order(&world, Flow::Parallel).await;
    world.user("alice").until(refused, "CANCELED").await;
    world.operator().charge("alice", 10_000).await;
    let order = shop.order(&world, Flow::Parallel).await;
    world.user("alice").until(order, "CONFIRMED").await;
    world.quiet().await;

    let found = metrics(&world).await;
    for (name, expected) in [
        (
            r#"ensemble_orders_total{service="order",outcome="confirmed",reason="",step=""}"#,
            1.0,
        ),
        (
            r#"ensemble_orders_total{service="order",outcome="canceled",reason="REFUSED",step="point"}"#,
            1.0,
        ),
        (
            r#"ensemble_order_duration_seconds_count{service="order",outcome="confirmed"}"#,
            1.0,
        ),
        (
            r#"ensemble_http_requests_total{service="order",method="POST",route="/orders",status="202"}"#,
            2.0,
        ),
        (
            r#"ensemble_http_request_duration_seconds_count{service="point",method="POST",route="/points/{user}/charge"}"#,
            2.0,
        ),
        (r#"ensemble_outbox_unpublished{service="order"}"#, 0.0),
        (r#"ensemble_outbox_oldest_seconds{service="order"}"#, 0.0),
        (r#"ensemble_consumer_pending{service="stock"}"#, 0.0),
        (
            r#"ensemble_consumer_ack_pending_limit{service="stock"}"#,
            4096.0,
        ),
        (r#"ensemble_consumer_behind_seconds{service="stock"}"#, 0.0),
        (r#"ensemble_dead_letters_open{service="cart"}"#, 0.0),
        (r#"ensemble_overdue{service="order",what="orders"}"#, 0.0),
        (
            r#"ensemble_overdue{service="order",what="compensations"}"#,
            0.0,
        ),
        (r#"ensemble_overdue{service="point",what="holds"}"#, 0.0),
        (
            r#"ensemble_dependency_up{service="coupon",dependency="nats"}"#,
            1.0,
        ),
        (
            r#"ensemble_dependency_up{service="coupon",dependency="database"}"#,
            1.0,
        ),
        (r#"ensemble_fenced{service="order"}"#, 0.0),
    ] {
        assert!(
            (value(&found, name) - expected).abs() < 1e-9,
            "{name}: {}",
            value(&found, name)
        );
    }
    // order.created.pending twice, order.confirmed, order.canceled, order.compensated.
    let said = value(
        &found,
        r#"ensemble_events_published_total{service="order"}"#,
    );
    assert!((said - 5.0).abs() < 1e-9, "{said}");
    for service in ["order", "stock", "point", "coupon", "cart"] {
        for name in [
            "events_handled_total",
            "batch_events_count",
            "transaction_duration_seconds_count",
        ] {
            let name = format!("ensemble_{name}{{service=\"{service}\"}}");
            assert!(value(&found, &name) > 0.0, "{name}");
        }
    }
    world.end().await;
}

/// What waits is measured while a service is away, and what is left too long is counted.
async fn what_waits_is_measured(backend: Backend) {
    let mut world = World::empty(backend).await;
    world.start_apart().await;
    let shop = Shop::open(&world, None).await;
    // Its consumer has nobody who pulls, and stock holds what point does not answer for.
    world.stop("point").await;
    let order = shop.order(&world, Flow::Parallel).await;
    shop.until_steps(&world, order, &[(Step::STOCK, "succeeded")])
        .await;
    let stock = world.database("stock");
    let sql = "UPDATE holds SET deadline = 1000 WHERE state = 'HELD'";
    stock.execute(sql, vec![]).await.expect("changed");
    let held = r#"ensemble_overdue{service="stock",what="holds"}"#;
    eventually("an overdue hold", async || {
        match metrics(&world).await.get(held) {
            Some(1.0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    world.start_alone("point").await;
    world.user("alice").until(order, "CONFIRMED").await;
    world.end().await;
}

async fn readiness(world: &World) -> (u16, Value) {
    let answer = world.user("alice").get("/health/ready").await;
    (answer.status, answer.body)
}

async fn until_missing(world: &World, missing: &[&str]) {
    eventually(&format!("{missing:?} is missing"), async || {
        let (status, body) = readiness(world).await;
        let expected = if missing.is_empty() { 200 } else { 503 };
        let said = &body["services"]["stock"]["missing"];
        match status == expected && *said == serde_json::json!(missing) {
            true => Ok(()),
            false => Err(body.to_string()),
        }
    })
    .await;
    let live = world.user("alice").get("/health/live").await;
    assert_eq!(live.status, 200, "whatever is missing, the process lives");
}

async fn a_service_without_its_broker_is_live_and_not_ready(backend: Backend) {
    let mut world = World::start(backend).await;
    until_missing(&world, &[]).await;
    world.nats().stop();
    until_missing(&world, &["nats"]).await;
    let away = r#"ensemble_dependency_up{service="stock",dependency="nats"}"#;
    assert!(value(&metrics(&world).await, away) < 0.5);
    world.nats().restart().expect("it starts again");
    until_missing(&world, &[]).await;
    world.end().await;
}

on_both_databases! {
    orders_and_what_they_cost: orders_and_what_they_cost_are_measured();
    what_waits: what_waits_is_measured();
    without_its_broker: a_service_without_its_broker_is_live_and_not_ready();
}

/// The server of a service's database, and the name of that database.
async fn server_of(world: &World, service: &str) -> (DatabaseConnection, String) {
    let Location::Postgres(url) = world.args().location(service) else {
        panic!("on PostgreSQL");
    };
    let (server, name) = url.rsplit_once('/').expect("a name");
    let server = sea_orm::Database::connect(format!("{server}/postgres")).await;
    (server.expect("PostgreSQL answers"), name.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_its_database_is_live_and_not_ready() {
    let world = World::start(Backend::Postgres).await;
    until_missing(&world, &[]).await;
    let (server, name) = server_of(&world, "stock").await;
    let closed = format!("ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS false");
    server.execute_unprepared(&closed).await.expect("closed");
    let cut =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    server.execute_unprepared(&cut).await.expect("cut");
    until_missing(&world, &["database"]).await;
    let open = format!("ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS true");
    server.execute_unprepared(&open).await.expect("opened");
    until_missing(&world, &[]).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_tables_are_being_changed_is_live_and_not_ready() {
    let mut world = World::empty(Backend::Postgres).await;
    world.start_together("all").await;
    world.quiet().await;
    world.stop("all").await;
    let Location::Postgres(url) = world.args().location("cart") else {
        panic!("on PostgreSQL");
    };
    // Another instance is changing the tables: it has the lock, on this one connection.
    let mut one = sea_orm::ConnectOptions::new(url);
    one.max_connections(1);
    let other = sea_orm::Database::connect(one).await.expect("it answers");
    let lock = "SELECT pg_advisory_lock(7249001)";
    other.execute_unprepared(lock).await.expect("locked");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let ask = async |path: &str| {
        let answer = reqwest::get(format!("http://{address}{path}")).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        Ok::<_, String>((status, answer.json::<Value>().await.unwrap_or_default()))
    };
    let starting = world.start_together_on("all", address);
    let looking = async {
        let (status, body) = eventually("an answer", async || ask("/health/ready").await).await;
        assert_eq!(status, 503);
        assert_eq!(
            body["services"]["cart"]["missing"],
            serde_json::json!(["migrations"])
        );
        let (status, _) = ask("/health/live").await.expect("an answer");
        assert_eq!(status, 200);
        let (status, body) = ask("/carts/alice").await.expect("an answer");
        assert_eq!((status, body["code"].as_str()), (503, Some("STARTING")));
        other.close().await.expect("the lock is free");
    };
    tokio::join!(starting, looking);
    until_missing(&world, &[]).await;
    world.end().await;
}
