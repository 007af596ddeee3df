//! What one user, and all of them together, may ask of a process; and how a request is
//! found again.

use futures::future::join_all;
use integration_tests::{Answer, Backend, System, World, eventually, on_both_databases};
use reqwest::Method;
use serde_json::{Value, json};

on_both_databases! {
    of_200_placements_of_one_user_one_is_accepted: placements_at_once();
    a_user_who_takes_coupons_too_fast_waits: coupons_too_fast();
    a_replay_counts_for_no_limit: replays_are_free();
    a_process_takes_no_more_than_it_can: too_many_in_flight();
    who_waits_takes_no_place_of_others: waiting_holds_no_place();
    a_user_follows_no_more_than_allowed: too_many_streams();
}

fn one(product: &str) -> Value {
    json!({ "items": [{ "product_id": product, "quantity": 1 }] })
}

fn count(answers: &[Answer], problem: (u16, &str)) -> usize {
    answers.iter().filter(|a| a.problem() == problem).count()
}

fn limited(answers: &[Answer], limit: &str) -> usize {
    let too_many = answers.iter().filter(|answer| answer.status == 429);
    for answer in too_many {
        assert_eq!(answer.problem(), (429, "TOO_MANY_REQUESTS"));
        assert!(answer.retry_after.is_some_and(|seconds| seconds >= 1));
        assert_eq!(answer.header("ratelimit-limit"), limit);
        assert_eq!(answer.header("ratelimit-remaining"), "0");
        assert_eq!(
            answer.header("ratelimit-reset"),
            answer.header("retry-after")
        );
    }
    count(answers, (429, "TOO_MANY_REQUESTS"))
}

/// A world whose orders stay open, with flags, and a product.
async fn world_without_point(backend: Backend, flags: &[&str]) -> (World, String) {
    let mut world = World::with(backend, &ensemble::SERVICES, flags).await;
    world.start_apart().await;
    let product = world.operator().product(500, 1_000).await;
    world.quiet().await;
    world.stop("point").await;
    (world, product)
}

async fn placements_at_once(backend: Backend) {
    // As many as the default allows at once, and so slow that nothing comes after.
    let flags = ["--rate-limit", "1"];
    let (mut world, product) = world_without_point(backend, &flags).await;
    let alice = world.user("alice");
    let answers = join_all((0..200).map(|_| alice.post("/orders", one(&product)))).await;
    let limited = limited(&answers, "100");
    let full = count(&answers, (409, "TOO_MANY_OPEN_ORDERS"));
    let accepted = answers.iter().filter(|answer| answer.status == 202).count();
    assert_eq!(
        (accepted, accepted + full + limited),
        (1, 200),
        "{answers:?}"
    );
    // Each second lets one more in.
    assert!((50..=100).contains(&limited), "{limited}");
    let bob = world.user("bob").post("/orders", one(&product)).await;
    assert_eq!(bob.status, 202, "bob has asked once");
    world.start_alone("point").await;
    world.end().await;
}

async fn coupons_too_fast(backend: Backend) {
    let flags = ["--rate-limit", "1", "--rate-burst", "3"];
    let mut world = World::with(backend, &ensemble::SERVICES, &flags).await;
    world.start_together("all").await;
    let discount = json!({ "percent": 10 });
    let campaign = world.operator().campaign(discount, 10).await;
    let path = format!("/coupons/{campaign}/issue");
    let alice = world.user("alice");
    let answers = join_all((0..20).map(|_| alice.post(&path, json!({})))).await;
    assert!(limited(&answers, "3") >= 10, "{answers:?}");
    let wait = answers.iter().find_map(|answer| answer.retry_after);
    let wait = std::time::Duration::from_secs(wait.expect("a time").into());
    tokio::time::sleep(wait).await;
    let after = alice.post(&path, json!({})).await;
    assert_eq!(
        after.problem(),
        (409, "ALREADY_ISSUED"),
        "it came when it was told to"
    );
    world.end().await;
}

async fn replays_are_free(backend: Backend) {
    let flags = ["--rate-limit", "1", "--rate-burst", "2"];
    let (mut world, product) = world_without_point(backend, &flags).await;
    let alice = world.user("alice");
    let first = alice.post_once("k1", "/orders", one(&product)).await;
    assert_eq!(first.status, 202);
    for _ in 0..10 {
        let again = alice.post_once("k1", "/orders", one(&product)).await;
        assert!(again.is_replayed(), "{again:?}");
        let mut more = one(&product);
        more["items"][0]["quantity"] = 2.into();
        let reused = alice.post_once("k1", "/orders", more).await;
        assert_eq!(reused.problem(), (422, "IDEMPOTENCY_KEY_REUSED"));
    }
    let keys: Vec<_> = (0..10).map(|n| format!("other{n}")).collect();
    let others = keys
        .iter()
        .map(|key| alice.post_once(key, "/orders", one(&product)));
    assert!(limited(&join_all(others).await, "2") >= 7);
    world.start_alone("point").await;
    world.end().await;
}

async fn too_many_in_flight(backend: Backend) {
    let flags = ["--requests-in-flight", "1"];
    let mut world = World::with(backend, &ensemble::SERVICES, &flags).await;
    world.start_together("all").await;
    let alice = world.user("alice");
    let answers = join_all((0..200).map(|_| alice.get("/orders"))).await;
    let busy: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status != 200)
        .collect();
    assert!(!busy.is_empty() && busy.len() < 200, "{}", busy.len());
    for answer in busy {
        assert_eq!(answer.problem(), (503, "BUSY"));
        assert_eq!(answer.retry_after, Some(1));
    }
    let health = join_all((0..50).map(|_| alice.get("/health/live"))).await;
    assert!(
        health.iter().all(|answer| answer.status == 200),
        "health is answered"
    );
    world.end().await;
}

async fn waiting_holds_no_place(backend: Backend) {
    let flags = ["--requests-in-flight", "1", "--open-orders", "3"];
    let (mut world, product) = world_without_point(backend, &flags).await;
    let mut waiting = vec![];
    for placed in 1..=3_i64 {
        let request = world.user("alice").request(Method::POST, "/orders");
        let request = request.json(&one(&product)).header("prefer", "wait=30");
        waiting.push(tokio::spawn(request.send()));
        // Looked up past HTTP, where there is one place.
        let database = world.database("order");
        eventually("the order", async || {
            let rows = database.query("SELECT count(*) AS n FROM orders", vec![]);
            let rows = rows.await.map_err(|fault| fault.to_string())?;
            match rows[0].try_get::<i64>("", "n") {
                Ok(n) if n == placed => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
    world.start_alone("point").await;
    for answer in waiting {
        let answer = answer.await.expect("it ends").expect("an answer");
        assert_eq!(answer.status(), 200);
    }
    world.end().await;
}

async fn too_many_streams(backend: Backend) {
    let flags = ["--waits-per-user", "2"];
    let (mut world, product) = world_without_point(backend, &flags).await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let order = alice.place(one(&product)).await;
    let streams = [alice.events(order).await, alice.events(order).await];
    let path = format!("/orders/{order}/events");
    let third = alice.get(&path).await;
    assert_eq!(third.problem(), (429, "TOO_MANY_STREAMS"));
    assert_eq!(third.retry_after, Some(5));
    let socket = alice.socket(order, None).await;
    assert_eq!(socket.err(), Some(429));
    let others = bob.place(one(&product)).await;
    let of_bob = bob.events(others).await;
    drop(streams);
    eventually("room again", async || {
        match alice.socket(order, None).await {
            Ok(_) => Ok(()),
            Err(status) => Err(status.to_string()),
        }
    })
    .await;
    drop(of_bob);
    world.start_alone("point").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_the_id_of_its_request() {
    let world = World::start(Backend::Sqlite).await;
    let alice = world.user("alice");
    let ask = async |path: &str, id: &str| {
        let headers = [("x-request-id", id)];
        alice
            .send_with(Method::GET, path, Value::Null, &headers)
            .await
    };
    for path in [
        "/orders",
        "/products/none",
        "/orders/none/nothing",
        "/points/bob",
    ] {
        assert_eq!(
            ask(path, "abc-1").await.header("x-request-id"),
            "abc-1",
            "{path}"
        );
    }
    let long = "x".repeat(129);
    for wrong in ["two words", &long] {
        let id = ask("/orders", wrong)
            .await
            .header("x-request-id")
            .to_owned();
        assert_eq!(id.len(), 36, "{id}");
        assert_ne!(id, alice.get("/orders").await.header("x-request-id"));
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_an_origin_that_is_named_may_ask() {
    let flags = ["--cors-origin", "https://shop.example"];
    for (flags, allowed) in [(&flags[..], "https://shop.example"), (&[], "")] {
        let mut world = World::with(Backend::Sqlite, &ensemble::SERVICES, flags).await;
        world.start_together("all").await;
        let alice = world.user("alice");
        let preflight = [
            ("origin", "https://shop.example"),
            ("access-control-request-method", "POST"),
            (
                "access-control-request-headers",
                "authorization,idempotency-key",
            ),
        ];
        let asked = alice
            .send_with(Method::OPTIONS, "/orders", Value::Null, &preflight)
            .await;
        assert_eq!(asked.header("access-control-allow-origin"), allowed);
        let asked = alice
            .send_with(Method::GET, "/orders", Value::Null, &preflight[..1])
            .await;
        assert_eq!(asked.header("access-control-allow-origin"), allowed);
        let other = [("origin", "https://other.example")];
        let asked = alice
            .send_with(Method::GET, "/orders", Value::Null, &other)
            .await;
        assert_eq!(asked.header("access-control-allow-origin"), "");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_one_line_per_request_and_no_secrets() {
    let mut system = System::new(Backend::Sqlite);
    system.start().await;
    let alice = system.user("alice");
    let headers = [("x-request-id", "find-me")];
    let none = "01890000-0000-7000-8000-000000000000";
    for path in [&format!("/orders/{none}?secret=1"), "/health/live?secret=1"] {
        alice
            .send_with(Method::GET, path, Value::Null, &headers)
            .await;
    }
    say_secrets(&system).await;
    let log = system.process().stderr();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("find-me"))
        .collect();
    assert_eq!(
        lines.len(),
        1,
        "one request, and nothing of health: {lines:?}"
    );
    let line: Value = serde_json::from_str(lines[0]).expect("JSON");
    let fields = &line["fields"];
    for (field, value) in [
        ("method", json!("GET")),
        ("route", json!("/orders/{id}")),
        ("status", json!(404)),
        ("user", json!("alice")),
    ] {
        assert_eq!(fields[field], value, "{line}");
    }
    assert!(fields["duration_ms"].is_number(), "{line}");
    assert!(
        log.contains("/points/{user}/charge"),
        "what was asked is in the log"
    );
    for hidden in ["secret", "s3cret", "Bearer", "eyJ", "77123"] {
        assert!(!log.contains(hidden), "{hidden} is in the log");
    }
    system.end().await;
}

/// Says things in every place of a request where nobody else should read them.
async fn say_secrets(system: &System) {
    let operator = system.operator();
    let key = [("idempotency-key", "s3cret-key")];
    let path = "/points/alice/charge";
    let charge = json!({ "amount": 77123 });
    operator
        .send_with(Method::POST, path, charge, &key)
        .await
        .ok();
    // Refused for its shape, by its handler, and as no JSON.
    let product = json!({ "name": "s3cret name", "price": -77123, "stock": 1 });
    assert_eq!(operator.post("/products", product).await.status, 422);
    let reason = json!({ "service": "stock", "reason": "s3cret reason" });
    assert_eq!(operator.post("/fence/lift", reason).await.status, 409);
    for token in [
        "Bearer s3cret",
        "Bearer eyJhbGciOiJub25lIn0.s3cret.s3cret",
        "Basic s3cret",
    ] {
        let request = reqwest::Client::new().post(format!("{}/products", system.url()));
        let request = request.header("authorization", token).body("s3cret {");
        assert_eq!(request.send().await.expect("an answer").status(), 401);
    }
    let ticket = "/orders/01890000-0000-7000-8000-000000000000/events?ticket=s3cret";
    let request = reqwest::get(format!("{}{ticket}", system.url())).await;
    assert_eq!(request.expect("an answer").status(), 401);
}
