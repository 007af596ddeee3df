use events::catalog;
use serde_json::{Value, json};

use super::*;
use crate::timeline::event::in_order;

const ORDER: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn event(id: &str, cause: Option<&str>, subject: &str, at: i64, body: Value) -> Event {
    let mut body = body;
    body["context"] = json!({
        "user_id": "alice", "flow": "parallel", "needed": ["stock", "point"],
    });
    let writer = catalog::by_subject(subject).expect("a subject").writer;
    let view = json!({
        "event_id": id, "cause": cause, "subject": subject, "service": writer,
        "time": clock::rfc3339(1_700_000_000_000 + at), "source": "stream",
        "stream_sequence": 100 + at, "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "body": body,
    });
    Event::read(&view).expect("an event")
}

fn drawn(events: Vec<Event>) -> String {
    let order = ORDER.parse().expect("an id");
    let found = Found {
        events: in_order(events),
        trace_url: Some("http://jaeger:16686/trace/4bf92f3577b34da6a3ce929d0e0e4736".to_owned()),
        notes: vec![],
    };
    timeline(order, &found, Paint::OFF)
}

#[test]
fn a_confirmed_order_is_drawn() {
    let events = vec![
        event("d", Some("c"), "order.confirmed", 11, json!({})),
        event("b", Some("a"), "product.reserved", 4, json!({})),
        event("c", Some("a"), "point.used", 9, json!({})),
        event("a", None, "order.created.pending", 0, json!({})),
    ];
    insta::assert_snapshot!(drawn(events));
}

#[test]
fn a_refused_order_is_drawn_with_what_was_undone_and_what_was_not() {
    let refusal = json!({ "code": "INSUFFICIENT_POINTS", "needed": 900, "balance": 10 });
    let mut late = event("e", Some("c"), "order.compensated", 3_400, json!({}));
    late.source = "unpublished".to_owned();
    let mut lost = event(
        "f",
        Some("g"),
        "cart.restored",
        40,
        json!({ "nothing_to_undo": true }),
    );
    lost.source = "outbox".to_owned();
    let events = vec![
        event("a", None, "order.created.pending", 0, json!({})),
        event(
            "p",
            Some("a"),
            "point.use.failed",
            5,
            json!({ "refusal": refusal }),
        ),
        // Its clock is behind: what follows from the refusal comes after it all the same.
        event(
            "b",
            Some("p"),
            "product.released",
            3,
            json!({ "nothing_to_undo": false }),
        ),
        event(
            "c",
            Some("p"),
            "order.canceled",
            8,
            json!({ "reason": "REFUSED", "attempt": 2 }),
        ),
        lost,
        late,
    ];
    insta::assert_snapshot!(drawn(events));
}
