//! `ensemble replay` and `ensemble capture`, on the terminal.

use std::path::Path;

use integration_tests::{Backend, Finished, Signal, System};
use serde_json::{Value, json};

async fn fails_with(system: &System, arguments: &[&str], words: &str) {
    let finished = system.command(arguments).await;
    assert_eq!(
        finished.status.code(),
        Some(1),
        "{arguments:?}: {finished:?}"
    );
    assert_eq!(finished.stdout, "", "{arguments:?}");
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    assert!(
        finished.stderr.contains(words),
        "{words} in {}",
        finished.stderr
    );
}

async fn says(system: &System, arguments: &[&str]) -> String {
    let finished: Finished = system.command(arguments).await;
    assert_eq!(
        finished.status.code(),
        Some(0),
        "{arguments:?}: {finished:?}"
    );
    finished.stdout
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_printed_replayed_and_captured() {
    let mut system = System::new(Backend::Sqlite);
    system.start().await;
    let product = system.operator().product(500, 10).await;
    system.operator().charge("alice", 5_000).await;
    let items = json!([{ "product_id": product, "quantity": 1 }]);
    let order = system.user("alice").place(json!({ "items": items })).await;
    system.user("alice").until(order, "CONFIRMED").await;
    let order = order.to_string();
    let (one, two) = (path(system.folder(), "one"), path(system.folder(), "two"));
    let file = path(system.folder(), "story.jsonl");

    let printed = says(&system, &["replay", "--order", &order]).await;
    assert_eq!(printed.lines().count(), 4, "{printed}");
    assert!(
        printed.contains("order.confirmed") && printed.contains(&order),
        "{printed}"
    );
    let listed = says(&system, &["replay", "--subject", "product.*", "--json"]).await;
    let subjects: Vec<Value> = listed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["subject"].clone())
        .collect();
    assert_eq!(subjects, ["product.listed", "product.reserved"]);
    let two_events = says(&system, &["replay", "--from-seq", "2", "--to-seq", "3"]).await;
    assert_eq!(two_events.lines().count(), 2, "{two_events}");
    let all = says(&system, &["replay", "--from", "1h"]).await;
    assert_eq!(all.lines().count(), 6, "{all}");

    let replayed = says(&system, &["replay", "--into", &one]).await;
    assert!(
        replayed.contains("equal: this build says the 3 events too"),
        "{replayed}"
    );
    let captured = says(&system, &["capture", "--order", &order, "--out", &file]).await;
    assert!(captured.contains("4 events"), "{captured}");
    // A file needs no broker.
    let process = system.take();
    process.signal(Signal::INT);
    process.ended().await;
    let report = says(
        &system,
        &["replay", "--file", &file, "--into", &two, "--json"],
    )
    .await;
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["equal"], true, "{report}");
    let printed = says(&system, &["replay", "--file", &file]).await;
    assert!(printed.contains("point.charged"), "{printed}");

    fails_with(
        &system,
        &["replay", "--file", &file, "--into", &one],
        "is not empty",
    )
    .await;
    let text = std::fs::read_to_string(&file).expect("read");
    std::fs::write(&file, &text[..text.len() / 2]).expect("written");
    fails_with(&system, &["replay", "--file", &file], "is damaged").await;
    fails_with(&system, &["replay"], "cannot connect to NATS").await;
    system.start().await;
    system.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_in_a_sentence() {
    let mut system = System::new(Backend::Sqlite);
    system.start().await;
    system.operator().charge("alice", 5_000).await;
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
    let into = path(system.folder(), "into");
    for (arguments, words) in [
        (vec!["replay", "--order", unknown], "no event of order"),
        (vec!["replay", "--from-seq", "99"], "beyond the end"),
        (
            vec!["replay", "--from-seq", "9", "--to-seq", "3"],
            "nothing between",
        ),
        (
            vec!["replay", "--until", "2020-01-01T00:00:00Z"],
            "no event in this range",
        ),
        (
            vec!["replay", "--file", "missing.jsonl"],
            "cannot use missing.jsonl",
        ),
        (
            vec!["replay", "--order", unknown, "--into", &into],
            "no event of order",
        ),
        (
            vec!["replay", "--nats-url", "nats://127.0.0.1:1"],
            "--nats-url",
        ),
    ] {
        fails_with(&system, &arguments, words).await;
    }
    let wrong = system.command(&["replay", "--order", "order-1"]).await;
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    system.end().await;
}
