//! Events that cannot be handled: they are set aside, the others flow, and a person
//! repairs them.

use events::OrderId;
use integration_tests::{Answer, Backend, Client, Deployment, World, eventually};
use serde_json::{Value, json};

async fn letters(world: &World, at_least: usize) -> Vec<Value> {
    let operator = world.operator();
    some_letters(at_least, async || operator.get("/dead-letters").await).await
}

/// The letters of the order service, where it has a process of its own.
async fn letters_of_order(deployment: &Deployment, at_least: usize) -> Vec<Value> {
    let operator = Client::operator(deployment);
    let address = deployment.address("order");
    let ask = async || operator.get_at(address, "/dead-letters").await;
    some_letters(at_least, ask).await
}

async fn some_letters(at_least: usize, ask: impl AsyncFn() -> Answer) -> Vec<Value> {
    eventually("dead letters", async || {
        let answer = ask().await.ok();
        let letters = answer["dead_letters"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        match letters.len() >= at_least {
            true => Ok(letters),
            false => Err(answer.to_string()),
        }
    })
    .await
}

async fn discard_all(world: &World) {
    for letter in letters(world, 0).await {
        let path = format!(
            "/dead-letters/{}/discard",
            letter["id"].as_str().expect("an id")
        );
        world
            .operator()
            .post(&path, json!({ "reason": "a test message" }))
            .await
            .ok();
    }
}

async fn poison_in_a_batch_is_set_aside(backend: Backend) {
    let world = World::start(backend).await;
    let product = world.operator().product(10, 1_000).await;
    let mut orders = vec![];
    for n in 0..20 {
        let user = format!("user{n}");
        world.operator().charge(&user, 100).await;
        if n % 5 == 0 {
            let garbage = format!("not an event {n}").into_bytes();
            let sent = world
                .broker()
                .publish("order.created.pending", garbage.into())
                .await;
            sent.expect("sent").await.expect("stored");
        }
        let items = json!([{ "product_id": product, "quantity": 1 }]);
        orders.push((
            user.clone(),
            world.user(&user).place(json!({ "items": items })).await,
        ));
    }
    for (user, order) in orders {
        assert_eq!(
            world.user(&user).until_final(order).await["state"],
            "CONFIRMED"
        );
    }
    // Four messages, and the four participants that hear the subject.
    let letters = letters(&world, 16).await;
    assert_eq!(letters.len(), 16);
    for letter in &letters {
        assert_eq!(
            (&letter["kind"], &letter["origin"]),
            (&json!("permanent"), &json!("CONSUMER"))
        );
    }
    discard_all(&world).await;
    world.end().await;
}

async fn a_dead_letter_is_redriven_once_its_cause_is_repaired(backend: Backend) {
    let services = &ensemble::SERVICES;
    let mut world = World::with(backend, services, &["--order-deadline", "600"]).await;
    world.start_together("all").await;
    let product = world.operator().product(10, 5).await;
    world.operator().charge("alice", 100).await;
    rename_products(&world, "products", "products_away").await;
    let items = json!([{ "product_id": product, "quantity": 1 }]);
    let alice = world.user("alice");
    let order = alice.place(json!({ "items": items })).await;
    let letter = letters(&world, 1).await.remove(0);
    assert_eq!(
        (&letter["service"], &letter["attempts"]),
        (&json!("stock"), &json!(4))
    );
    assert_eq!(letter["order_id"], json!(order));
    rename_products(&world, "products_away", "products").await;

    let operator = world.operator();
    let redrive = format!(
        "/dead-letters/{}/redrive",
        letter["id"].as_str().expect("an id")
    );
    let dry = json!({ "reason": "the table is back", "dry_run": true });
    let answer = operator.post(&redrive, dry).await.ok();
    assert_eq!(answer["decided"][0]["subject"], "product.reserved");
    assert_eq!(
        alice.order(order).await["steps"]["stock"],
        "waiting",
        "a dry run changes nothing"
    );

    let real = json!({ "reason": "the table is back" });
    operator.post(&redrive, real.clone()).await.ok();
    assert_eq!(alice.until_final(order).await["state"], "CONFIRMED");
    assert_eq!(
        operator.post(&redrive, real).await.status,
        409,
        "it is resolved already"
    );
    assert_eq!(
        alice
            .post(&redrive, json!({ "reason": "mine" }))
            .await
            .status,
        403
    );
    audit_names_who_and_why(&world).await;
    world.end().await;
}

/// Where an order that was confirmed tells nobody, because the broker does not let it.
async fn forbidden_to_confirm() -> (Deployment, OrderId) {
    let mut deployment = Deployment::start().await;
    let forbid = |text: &str| text.replace("order.confirmed", "order.whatever");
    deployment.change_permissions(forbid);
    let operator = Client::operator(&deployment);
    let product = operator.product(500, 10).await;
    operator.charge("alice", 5_000).await;
    let items = json!([{ "product_id": product, "quantity": 1 }]);
    let alice = Client::user(&deployment, "alice");
    let order = alice.place(json!({ "items": items })).await;
    alice.until(order, "CONFIRMED").await;
    let letter = letters_of_order(&deployment, 1).await.remove(0);
    assert_eq!(
        (&letter["origin"], &letter["subject"], &letter["order_id"]),
        (&json!("OUTBOX"), &json!("order.confirmed"), &json!(order))
    );
    let reason = letter["reason"].as_str().expect("a reason");
    assert!(reason.contains("may not publish to order.confirmed"));
    // The other events of the same service flow: bob cannot pay, and is told so.
    let bob = Client::user(&deployment, "bob");
    let other = bob.place(json!({ "items": items })).await;
    let other = bob.until_final(other).await;
    assert_eq!(other["state"], "CANCELED");
    (deployment, order)
}

async fn redrive_first(deployment: &Deployment, key: &str) {
    let letter = letters_of_order(deployment, 1).await.remove(0);
    let id = letter["id"].as_str().expect("an id");
    let redrive = format!("/dead-letters/{id}/redrive");
    let reason = json!({ "reason": "the permission is back" });
    let operator = Client::operator(deployment);
    let address = deployment.address("order");
    let done = operator.post_once_at(address, key, &redrive, reason);
    done.await.ok();
}

/// The broker answers such a message with nothing; it says so on the connection alone.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_forbids_holds_up_no_other_and_is_redriven_once_it_may() {
    let (mut deployment, order) = forbidden_to_confirm().await;
    let count = "SELECT count(*) AS n FROM dead_letters";
    assert_eq!(deployment.number("order", count).await, 1);
    // Redriven too soon, it is refused again.
    redrive_first(&deployment, "too soon").await;
    eventually("another letter", async || {
        match deployment.number("order", count).await {
            2 => Ok(()),
            n => Err(n.to_string()),
        }
    })
    .await;
    deployment.change_permissions(|text| text.replace("order.whatever", "order.confirmed"));
    let operator = Client::operator(&deployment);
    redrive_first(&deployment, "in time").await;
    let path = format!("/orders/{order}/timeline");
    eventually("the event in the stream", async || {
        let answer = operator.get(&path).await;
        match answer.body.to_string().contains("order.confirmed") && answer.body["missing"] == 0 {
            true => Ok(()),
            false => Err(answer.body.to_string()),
        }
    })
    .await;
    assert_eq!(letters_of_order(&deployment, 0).await, Vec::<Value>::new());
    assert_eq!(deployment.number("order", count).await, 2);
    deployment.end().await;
}

async fn rename_products(world: &World, from: &str, to: &str) {
    let stock = world
        .hosts()
        .flat_map(|host| host.services())
        .find(|s| s.shell().name() == "stock");
    let database = stock.expect("stock runs").database().clone();
    let sql = format!("ALTER TABLE {from} RENAME TO {to}");
    database.execute(&sql, vec![]).await.expect("renamed");
}

async fn audit_names_who_and_why(world: &World) {
    let stock = world
        .hosts()
        .flat_map(|host| host.services())
        .find(|s| s.shell().name() == "stock");
    let database = stock.expect("stock runs").database().clone();
    let rows = database
        .query("SELECT who, action, reason FROM audit", vec![])
        .await
        .expect("read");
    assert_eq!(rows.len(), 1, "a dry run leaves no row");
    let text = |name: &str| rows[0].try_get::<String>("", name).expect("a text");
    assert_eq!(
        [text("who"), text("action"), text("reason")],
        ["operator", "redrive", "the table is back"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_in_a_batch_is_set_aside_on_sqlite() {
    poison_in_a_batch_is_set_aside(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_in_a_batch_is_set_aside_on_postgres() {
    poison_in_a_batch_is_set_aside(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_redriven_once_its_cause_is_repaired_on_sqlite() {
    a_dead_letter_is_redriven_once_its_cause_is_repaired(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_redriven_once_its_cause_is_repaired_on_postgres() {
    a_dead_letter_is_redriven_once_its_cause_is_repaired(Backend::Postgres).await;
}
