//! A broker that loses what it has acknowledged, and a database that is set back.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use events::EventId;
use integration_tests::{Backend, Shop, World, eventually, on_both_databases};
use jetstream::database::{Database, Location};
use serde_json::json;

/// What the broker does with its store while it is down.
#[derive(Clone, Copy)]
enum Loss {
    /// All of it is gone.
    Everything,
    /// It is as it was some orders ago.
    SetBack,
    /// Only the stream is; the consumers remember more than it has.
    SetBackUnderItsConsumers,
}

async fn what_the_broker_lost_is_said_again(backend: Backend, loss: Loss) {
    let mut world = World::start(backend).await;
    world.guard();
    let shop = Shop::open(&world, None).await;
    let order = shop.order(&world, events::Flow::Parallel).await;
    world.user("alice").until(order, "CONFIRMED").await;
    world.quiet().await;
    let aside = world.folder().join("aside");
    world.restart_broker(|store| copy(store, &aside));
    for user in ["bob", "carol", "dave"] {
        confirm_one(&world, &shop, user).await;
    }
    world.quiet().await;
    let said = ids(&world).await;

    world.restart_broker(|store| match loss {
        Loss::Everything => std::fs::remove_dir_all(store).expect("removed"),
        Loss::SetBack => {
            std::fs::remove_dir_all(store).expect("removed");
            copy(&aside, store);
        }
        Loss::SetBackUnderItsConsumers => {
            let msgs = Path::new("jetstream/$G/streams/EVENTS/msgs");
            std::fs::remove_dir_all(store.join(msgs)).expect("removed");
            copy(&aside.join(msgs), &store.join(msgs));
        }
    });

    eventually("everything said again", async || {
        let missing = said.difference(&ids(&world).await).count();
        match missing {
            0 => Ok(()),
            n => Err(format!("{n} of {} events are missing", said.len())),
        }
    })
    .await;
    confirm_one(&world, &shop, "erin").await;
    world.end().await;
}

async fn confirm_one(world: &World, shop: &Shop, user: &str) {
    world.operator().charge(user, 100).await;
    let items = json!([{ "product_id": shop.pen, "quantity": 1 }]);
    let order = world.user(user).place(json!({ "items": items })).await;
    world.user(user).until(order, "CONFIRMED").await;
}

/// The ids of all events in the stream; none while the broker is not ready.
async fn ids(world: &World) -> HashSet<EventId> {
    let ids = jetstream::stream::history::ids(world.broker(), 0).await;
    ids.unwrap_or_default()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target: PathBuf = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("copied")),
        }
    }
}

on_both_databases! {
    a_store_that_is_gone: what_the_broker_lost_is_said_again(Loss::Everything);
    a_store_that_is_set_back: what_the_broker_lost_is_said_again(Loss::SetBack);
    a_stream_that_is_set_back_under_its_consumers:
        what_the_broker_lost_is_said_again(Loss::SetBackUnderItsConsumers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_set_back_is_fenced_until_a_person_has_looked() {
    let mut world = World::empty(Backend::Sqlite).await;
    world.start_apart().await;
    let shop = Shop::open(&world, None).await;
    let database = world.folder().join("stock.sqlite");
    let backup = world.folder().join("stock.backup");

    world.stop("stock").await;
    std::fs::copy(&database, &backup).expect("copied");
    world.start_alone("stock").await;
    confirm_one(&world, &shop, "bob").await;
    world.quiet().await;
    world.stop("stock").await;
    std::fs::copy(&backup, &database).expect("copied");
    world.start_alone("stock").await;

    let operator = world.operator();
    let new = json!({ "name": "jug", "price": 1, "stock": 1 });
    eventually("the fence", async || {
        let answer = operator.post("/products", new.clone()).await;
        match answer.body["code"] == "FENCED" {
            true => Ok(()),
            false => Err(format!("{answer:?}")),
        }
    })
    .await;
    assert_eq!(
        operator.get("/products").await.status,
        200,
        "reading is allowed"
    );
    let internals = operator.get("/internals").await.ok();
    let message = internals["services"][0]["fenced"]
        .as_str()
        .expect("why")
        .to_owned();
    assert!(message.contains("ensemble fence lift stock"), "{message}");

    let lift = json!({ "service": "stock", "reason": "compared and repaired" });
    let refused = world.user("alice").post("/fence/lift", lift.clone()).await;
    assert_eq!(refused.status, 403);
    assert_eq!(
        operator.post("/fence/lift", lift.clone()).await.ok()["accepted_events"],
        1
    );
    assert_eq!(operator.post("/fence/lift", lift).await.status, 409);
    let listed = operator.post("/products", new).await.ok();
    assert_eq!(listed["name"], "jug");
    // New events are numbered above those that were accepted.
    let stock = world
        .database("stock")
        .query("SELECT max(pseq) AS n FROM outbox", vec![])
        .await;
    let highest: i64 = stock.expect("read")[0].try_get("", "n").expect("a number");
    assert_eq!(
        highest, 4,
        "two products, an order of bob that was accepted, and the jug"
    );
    confirm_one(&world, &shop, "carol").await;
}

/// Under load a sample of what is new is looked at, and everything when one of them is missing.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_among_many_events_is_said_again() {
    const MANY: usize = 10_001;
    let world = World::start(Backend::Sqlite).await;
    world.operator().charge("alice", 1).await;
    world.quiet().await;
    let before = ids(&world).await.len();
    let point = world.database("point");
    let n = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY}),
             last AS (SELECT * FROM outbox ORDER BY pseq DESC LIMIT 1)"
    );
    // They were published where something else stands now.
    for sql in [
        format!(
            "{n} INSERT INTO published (pseq, published_at, stream_sequence)
             SELECT pseq + i, decided_at, 1 FROM last, n"
        ),
        format!(
            "{n} INSERT INTO outbox (pseq, event_id, subject, aggregate, correlation, causation,
                 traceparent, turn, decided_at, body)
             SELECT pseq + i, randomblob(16), subject, aggregate, correlation, causation,
                 traceparent, turn, decided_at, body FROM last, n"
        ),
        format!("UPDATE producer SET pseq = pseq + {MANY}"),
    ] {
        point.execute(&sql, vec![]).await.expect("written");
    }
    eventually("everything said again", async || {
        match ids(&world).await.len() - before {
            MANY => Ok(()),
            n => Err(format!("{n} of {MANY}")),
        }
    })
    .await;
    world.end().await;
}

/// The look at everything is due a day after the last one, whatever was restarted since.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_long_ago_is_said_again_a_day_after_the_last_look_at_everything() {
    let mut world = World::empty(Backend::Sqlite).await;
    world.start_apart().await;
    for user in ["alice", "bob", "carol"] {
        world.operator().charge(user, 1).await;
    }
    world.quiet().await;
    eventually("the first look at everything", async || {
        let sql = "SELECT compared_all_at AS at FROM relayed";
        let rows = world.database("point").query(sql, vec![]).await;
        match rows.expect("read")[0].try_get::<i64>("", "at") {
            Ok(at) if at > 0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    world.stop("point").await;
    let before = ids(&world).await.len();
    // The first event is of an hour ago, was compared, and is not in the stream by its id. The
    // id that is there was accepted by a person.
    let lost = [
        "INSERT INTO accepted_events (event_id, pseq, accepted_at)
         SELECT event_id, pseq, 1 FROM outbox ORDER BY pseq LIMIT 1",
        "UPDATE outbox SET decided_at = decided_at - 3600000",
        "UPDATE outbox SET event_id = randomblob(16)
         WHERE pseq = (SELECT min(pseq) FROM outbox)",
        "UPDATE relayed SET up_to = (SELECT max(pseq) FROM outbox),
             compared = (SELECT max(pseq) FROM outbox)",
    ];
    while_stopped(&world, &lost).await;
    world.start_alone("point").await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(ids(&world).await.len(), before, "not due");

    world.stop("point").await;
    let long_ago = ["UPDATE relayed SET compared_all_at = compared_all_at - 26 * 3600000"];
    while_stopped(&world, &long_ago).await;
    world.start_alone("point").await;
    eventually("it is said again", async || {
        match ids(&world).await.len() - before {
            1 => Ok(()),
            n => Err(format!("{n} events")),
        }
    })
    .await;
    world.end().await;
}

/// Changes the database of points while its service is stopped.
async fn while_stopped(world: &World, statements: &[&str]) {
    let mut services = ensemble::SERVICES.into_iter();
    let point = services.find(|service| service.name == "point");
    let location = Location::Sqlite(world.folder().join("point.sqlite"));
    let database = Database::open("point", &location, point.expect("point").migrations)
        .await
        .expect("opened");
    for sql in statements {
        database.execute(sql, vec![]).await.expect("written");
    }
    database.close().await;
}
