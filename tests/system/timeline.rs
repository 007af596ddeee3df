//! `ensemble timeline`: what happened to an order, on the terminal.

use events::OrderId;
use integration_tests::{Backend, Finished, System};
use serde_json::{Value, json};

async fn a_system_with_an_order(points: i64) -> (System, OrderId) {
    let mut system = System::new(Backend::Sqlite);
    system.start().await;
    let product = system.operator().product(500, 10).await;
    system.operator().charge("alice", points).await;
    let items = json!([{ "product_id": product, "quantity": 1 }]);
    let order = system.user("alice").place(json!({ "items": items })).await;
    system.user("alice").until_final(order).await;
    (system, order)
}

fn fails_with(finished: &Finished, words: &str) {
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert_eq!(finished.stdout, "");
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    assert!(finished.stderr.contains(words), "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeline_shows_every_event_of_an_order() {
    let (system, order) = a_system_with_an_order(5_000).await;
    let order = order.to_string();
    let expected = [
        "order.created.pending",
        "product.reserved",
        "point.used",
        "order.confirmed",
    ];
    let drawn = system.command(&["timeline", &order]).await;
    assert!(drawn.status.success(), "{drawn:?}");
    for subject in expected {
        assert!(
            drawn.stdout.contains(subject),
            "{subject} in:\n{}",
            drawn.stdout
        );
    }

    let listed = system.command(&["timeline", &order, "--json"]).await;
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    assert_eq!(listed["order_id"], order.as_str());
    let events = listed["events"].as_array().expect("events");
    let mut subjects: Vec<_> = events
        .iter()
        .filter_map(|e| e["subject"].as_str())
        .collect();
    subjects.sort_unstable();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(subjects, expected);
    system.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeline_says_why_an_order_was_refused() {
    let (system, order) = a_system_with_an_order(10).await;
    let drawn = system.command(&["timeline", &order.to_string()]).await;
    assert!(drawn.status.success(), "{drawn:?}");
    for word in ["point.use.failed", "order.canceled", "order.compensated"] {
        assert!(drawn.stdout.contains(word), "{word} in:\n{}", drawn.stdout);
    }
    system.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_not_there_is_said_to_be_so() {
    let mut system = System::new(Backend::Sqlite);
    system.start().await;
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
    let finished = system.command(&["timeline", unknown]).await;
    fails_with(&finished, "no event of order");
    let finished = system.command(&["timeline", "order-1"]).await;
    fails_with(&finished, "not an order id");
    system.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_has_run_the_timeline_says_what_to_give() {
    let system = System::new(Backend::Sqlite);
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
    let finished = system.command(&["timeline", unknown]).await;
    fails_with(&finished, "--data-dir");
}
