//! `ensemble check`, and each of its looks across services seen red.

use events::Flow;
use integration_tests::{Backend, Shop, System, World, eventually, on_both_databases};
use serde_json::{Value, json};

on_both_databases! {
    a_running_system_is_found_as_it_must_be: command();
    what_several_services_must_agree_on_is_compared: across();
    what_is_held_past_its_deadline_is_reported: overdue();
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

/// Stock holds a unit, and the services that are away keep the order from its end: no
/// violation, but somebody should know.
async fn overdue(backend: Backend) {
    let mut world = World::empty(backend).await;
    for service in ["order", "stock"] {
        world.start_alone(service).await;
    }
    let product = world.operator().product(500, 10).await;
    let items = json!([{ "product_id": product, "quantity": 1 }]);
    let order = world.user("alice").place(json!({ "items": items })).await;
    let report = world.check().await;
    assert_eq!(report.overdue_lines(), Vec::<String>::new());
    let stock = world.database("stock");
    let past = "UPDATE holds SET deadline = 1000 WHERE state = 'HELD'";
    eventually("a hold", async || {
        match stock.execute(past, vec![]).await.expect("changed") {
            1 => Ok(()),
            n => Err(n.to_string()),
        }
    })
    .await;
    let report = world.check().await;
    // The order itself may be one: it is open, and of those who run nobody moves.
    let mut violations = report.violations.iter();
    assert!(violations.all(|violation| violation.service == "order"));
    assert_eq!(report.overdue_hold_counts["stock"], 1);
    let hold = &report.overdue_holds["stock"][0];
    assert_eq!(hold.order, order.0);
    assert_eq!(hold.deadline, "1970-01-01T00:00:01Z");
    assert!(hold.overdue_ms > 1_000_000, "{hold:?}");
    let json = serde_json::to_value(&report).expect("JSON");
    assert_eq!(json["overdue_holds"]["stock"][0]["order"], json!(order));
    let lines = report.overdue_lines();
    let begin = format!("overdue     stock holds for order {order}, whose deadline passed ");
    assert!(
        lines.len() == 1 && lines[0].starts_with(&begin),
        "{lines:?}"
    );
    for service in ["point", "coupon", "cart"] {
        world.start_alone(service).await;
    }
    let end = world.user("alice").until_final(order).await;
    assert_eq!(end["state"], "CANCELED", "alice has no points");
    world.end().await;
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
