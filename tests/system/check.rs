//! `ensemble check`, and each of its looks across services seen red.

use events::Flow;
use integration_tests::{Backend, Shop, System, World, on_both_databases};
use serde_json::{Value, json};

on_both_databases! {
    a_running_system_is_found_as_it_must_be: command();
    what_several_services_must_agree_on_is_compared: across();
}

async fn command(backend: Backend) {
    let mut system = System::new(backend);
    system.start().await;
    let product = system.operator().product(500, 10).await;
    system.operator().charge("alice", 500).await;
    let items = json!({ "items": [{ "product_id": product, "quantity": 1 }] });
    let order = system.user("alice").place(items).await;
    system.user("alice").until(order, "CONFIRMED").await;

    let mut arguments = vec!["check", "--json"];
    if let Some(url) = system.database_url() {
        arguments.extend(["--database-url", url]);
    }
    let checked = system.command(&arguments).await;
    assert!(checked.status.success(), "{}", checked.stderr);
    let report: Value = serde_json::from_str(&checked.stdout).expect("JSON");
    assert_eq!(report["orders"], json!({ "CONFIRMED": 1 }), "{report}");
    assert_eq!(report["violations"], json!([]), "{report}");
    // A listed product, a charge, the order, two steps, the confirmation.
    assert_eq!(report["events"], 6, "{report}");
    system.end().await;
}

/// What is changed in whose database, what the check then finds, and how it is put right.
const RED: [(&str, &[&str], &str, &[&str]); 5] = [
    (
        "stock",
        &["UPDATE holds SET state = 'HELD'"],
        "I6 stock: order ORDER: HELD, and the order is CONFIRMED",
        &["UPDATE holds SET state = 'SETTLED'"],
    ),
    (
        "point",
        &["UPDATE holds SET held = '901'"],
        "I13 point: order ORDER: SETTLED of 901, which is not what the order needs",
        &["UPDATE holds SET held = '900'"],
    ),
    (
        "order",
        &["UPDATE processed_events SET consumer = 'nobody'"],
        "I11 order: event EVENT: it is acked, and neither in the inbox nor a dead letter",
        &["UPDATE processed_events SET consumer = 'order'"],
    ),
    (
        "coupon",
        &["UPDATE outbox SET subject = 'coupon.restored' WHERE subject = 'coupon.used'"],
        "I9 coupon: order ORDER: each transition is said once: SETTLED, asked 1 times, said 0 \
         times that it is taken, 0 refused, 1 undone",
        &["UPDATE outbox SET subject = 'coupon.used' WHERE subject = 'coupon.restored'"],
    ),
    (
        "cart",
        &[
            "UPDATE outbox SET pseq = pseq + 1000",
            "UPDATE published SET pseq = pseq + 1000",
        ],
        "I10 cart: event EVENT: it is published, and not in the stream: the broker has lost it; \
         it is said again within a minute, or by `ensemble reconcile`",
        &[
            "UPDATE outbox SET pseq = pseq - 1000",
            "UPDATE published SET pseq = pseq - 1000",
        ],
    ),
];

async fn across(backend: Backend) {
    let world = World::start(backend).await;
    let shop = Shop::open(&world, None).await;
    let order = shop.order(&world, Flow::Parallel).await;
    world.user("alice").until(order, "CONFIRMED").await;
    world.quiet().await;
    assert_eq!(world.is_clean().await, Ok(()));
    for (service, change, found, repair) in RED {
        let database = world.database(service);
        for sql in change {
            database.execute(sql, vec![]).await.expect("changed");
        }
        let wrong = world.is_clean().await.expect_err(found);
        let found = found.replace("ORDER", &order.to_string());
        let (begin, end) = found.split_once("EVENT").unwrap_or((&found, ""));
        let named = wrong
            .lines()
            .any(|line| line.starts_with(begin) && line.ends_with(end));
        assert!(named, "{found}, and not\n{wrong}");
        for sql in repair {
            database.execute(sql, vec![]).await.expect("repaired");
        }
    }
    world.end().await;
}
