//! Events that cannot be handled: they are set aside, the others flow, and a person
//! repairs them.

use integration_tests::{Backend, World, eventually};
use serde_json::{Value, json};

async fn letters(world: &World, at_least: usize) -> Vec<Value> {
    let operator = world.operator();
    eventually("dead letters", async || {
        let answer = operator.get("/dead-letters").await.ok();
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
