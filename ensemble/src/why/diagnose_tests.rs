use std::collections::BTreeMap;

use events::catalog;
use jetstream::clock;
use jetstream::stream::inspect::Unseen;
use serde_json::{Value, json};

use super::*;
use crate::SERVICES;
use crate::reach::Flags;
use crate::system::service::Seen;
use crate::terminal::Paint;
use crate::timeline::event::Event;
use crate::why::facts::Letter;
use crate::why::print;

const ORDER: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const PLACED: i64 = 1_700_000_000_000;

/// An order of alice that needs stock, point and coupon; `now` is after its placing.
fn facts(state: &str, flags: [&str; 3], now: i64) -> Facts {
    let steps = ["stock", "point", "coupon"];
    Facts {
        now: PLACED + now,
        order: Order {
            id: ORDER.to_owned(),
            user: "alice".to_owned(),
            flow: "parallel".to_owned(),
            state: state.to_owned(),
            reason: String::new(),
            steps: steps
                .iter()
                .zip(flags)
                .map(|(step, flag)| ((*step).to_owned(), flag.to_owned()))
                .collect(),
            refusals: BTreeMap::new(),
            placed_at: PLACED,
            deadline: PLACED + 20_000,
            due_at: None,
            attempt: 0,
        },
        events: vec![
            event("order.created.pending", 0, json!({})),
            event("product.reserved", 4, json!({})),
            event("point.used", 6, json!({})),
        ],
        letters: vec![],
        notes: vec![],
    }
}

fn event(subject: &str, at: i64, body: Value) -> Event {
    let view = json!({
        "event_id": format!("{subject} {at}"), "subject": subject,
        "service": catalog::by_subject(subject).expect("a subject").writer,
        "time": clock::rfc3339(PLACED + at), "source": "stream", "body": body,
    });
    Event::read(&view).expect("an event")
}

/// A system in which everything runs and nothing waits.
fn system() -> System {
    let seen = |name: &str| Seen {
        name: name.to_owned(),
        internals: Some(json!({ "missing": [], "fenced": null })),
        consumer: Some(Ok(consumer(json!({})))),
        oldest: None,
        acks: false,
    };
    System {
        services: SERVICES
            .iter()
            .map(|service| (service.name.to_owned(), seen(service.name)))
            .collect(),
        operator: Err("not asked".to_owned()),
        broker: None,
        unseen: vec![],
        flags: Flags {
            service: " --nats-url nats://127.0.0.1:4222".to_owned(),
            broker: " --nats-url nats://127.0.0.1:4222".to_owned(),
            ..Flags::default()
        },
        order_url: None,
    }
}

fn consumer(other: Value) -> jetstream::stream::inspect::Consumer {
    let mut info = json!({
        "config": { "max_ack_pending": 4096, "max_deliver": -1, "ack_policy": "explicit" },
        "num_pending": 0, "num_ack_pending": 0, "num_redelivered": 0, "num_waiting": 1,
        "ack_floor": { "stream_seq": 9 },
    });
    for (name, value) in other.as_object().expect("an object") {
        info[name] = value.clone();
    }
    serde_json::from_value(info).expect("a consumer")
}

/// What is seen of a service, to be changed.
fn seen<'a>(system: &'a mut System, name: &str) -> &'a mut Seen {
    system.services.get_mut(name).expect("a service")
}

fn said(facts: &Facts, system: &System) -> String {
    let answer = why(facts, system);
    let person = match answer.needs_person() {
        true => "a person is needed",
        false => "no person is needed",
    };
    format!("{}\n[{person}]", print::answer(&answer, Paint::OFF))
}

fn waiting() -> Facts {
    facts("PENDING", ["succeeded", "succeeded", "waiting"], 3_000)
}

#[test]
fn a_step_that_is_on_its_way() {
    insta::assert_snapshot!(said(&waiting(), &system()));
}

#[test]
fn a_stopped_service() {
    let mut system = system();
    let coupon = seen(&mut system, "coupon");
    coupon.internals = None;
    coupon.consumer = Some(Ok(consumer(json!({ "num_pending": 3, "num_waiting": 0 }))));
    coupon.oldest = Some(3_000);
    insta::assert_snapshot!(said(&waiting(), &system));
}

#[test]
fn a_paused_consumer() {
    let mut system = system();
    let paused = json!({
        "num_pending": 1, "paused": true, "pause_remaining": 3_540_000_000_000_i64,
    });
    let coupon = seen(&mut system, "coupon");
    coupon.consumer = Some(Ok(consumer(paused)));
    coupon.oldest = Some(2_000);
    insta::assert_snapshot!(said(&waiting(), &system));
}

#[test]
fn a_dead_letter() {
    let mut facts = waiting();
    facts.letters = vec![letter("coupon", "order.created.pending")];
    insta::assert_snapshot!(said(&facts, &system()));
}

fn letter(service: &str, subject: &str) -> Letter {
    Letter {
        id: "01890a5d-b0c1-7000-8000-1a2b3c4d5e6f".to_owned(),
        service: service.to_owned(),
        subject: subject.to_owned(),
        reason: "no such table: coupons".to_owned(),
        died_at: PLACED + 1_000,
    }
}

#[test]
fn a_fenced_service() {
    let mut system = system();
    let fenced =
        "coupon is fenced: the stream has 2 event(s) of it that its database does not know";
    seen(&mut system, "coupon").internals = Some(json!({ "missing": [], "fenced": fenced }));
    insta::assert_snapshot!(said(&waiting(), &system));
}

#[test]
fn a_service_that_is_behind_and_one_without_its_database() {
    let mut facts = waiting();
    facts.order.steps[1].1 = "waiting".to_owned();
    facts.events.pop();
    let mut system = system();
    let point = seen(&mut system, "point");
    point.consumer = Some(Ok(consumer(
        json!({ "num_pending": 900, "num_ack_pending": 256 }),
    )));
    point.oldest = Some(2_900);
    let coupon = seen(&mut system, "coupon");
    coupon.internals = Some(json!({ "missing": ["database"] }));
    insta::assert_snapshot!(said(&facts, &system));
}

#[test]
fn a_service_without_a_consumer_and_one_that_acks_nothing() {
    let mut facts = waiting();
    facts.order.steps[1].1 = "waiting".to_owned();
    facts.events.pop();
    let mut system = system();
    seen(&mut system, "point").consumer = Some(Err(Unseen::Missing));
    let capped = json!({ "num_pending": 7, "num_ack_pending": 4096 });
    seen(&mut system, "coupon").consumer = Some(Ok(consumer(capped)));
    insta::assert_snapshot!(said(&facts, &system));
}

#[test]
fn an_answer_that_order_has_not_heard() {
    let mut facts = waiting();
    facts.events.push(event("coupon.used", 2_000, json!({})));
    let mut system = system();
    let order = seen(&mut system, "order");
    order.internals = None;
    order.consumer = Some(Ok(consumer(json!({ "num_pending": 1, "num_waiting": 0 }))));
    order.oldest = Some(1_000);
    insta::assert_snapshot!(said(&facts, &system));
}

#[test]
fn an_answer_that_the_broker_has_not_taken() {
    let mut facts = waiting();
    let mut answer = event("coupon.used", 2_000, json!({}));
    answer.source = "unpublished".to_owned();
    facts.events.push(answer);
    insta::assert_snapshot!(said(&facts, &system()));
}

#[test]
fn in_the_sequential_flow_only_the_step_whose_turn_it_is_is_in_question() {
    let mut facts = facts("PENDING", ["succeeded", "waiting", "waiting"], 3_000);
    facts.order.flow = "sequential".to_owned();
    facts.events.pop();
    let mut system = system();
    for name in ["point", "coupon"] {
        let seen = seen(&mut system, name);
        seen.internals = None;
        seen.consumer = Some(Ok(consumer(json!({ "num_waiting": 0 }))));
    }
    insta::assert_snapshot!(said(&facts, &system));
}

#[test]
fn an_order_past_its_deadline() {
    let mut system = system();
    for name in ["coupon", "order"] {
        let seen = seen(&mut system, name);
        seen.internals = None;
        seen.consumer = Some(Ok(consumer(json!({ "num_pending": 1, "num_waiting": 0 }))));
        seen.oldest = Some(200_000);
    }
    let facts = facts("PENDING", ["succeeded", "succeeded", "waiting"], 200_000);
    insta::assert_snapshot!(said(&facts, &system));
}

#[test]
fn a_confirmed_order() {
    let mut facts = facts("CONFIRMED", ["succeeded"; 3], 90_000);
    facts.events.push(event("coupon.used", 9, json!({})));
    facts.events.push(event("order.confirmed", 12, json!({})));
    insta::assert_snapshot!(said(&facts, &system()));
}

#[test]
fn a_confirmed_order_that_a_service_could_not_settle() {
    let mut facts = facts("CONFIRMED", ["succeeded"; 3], 90_000);
    facts.events.push(event("order.confirmed", 12, json!({})));
    facts.letters = vec![letter("coupon", "order.confirmed")];
    insta::assert_snapshot!(said(&facts, &system()));
}

fn canceled(reason: &str, flags: [&str; 3]) -> Facts {
    let mut facts = facts("CANCELED", flags, 90_000);
    facts.order.reason = reason.to_owned();
    let body = json!({ "reason": reason, "attempt": 1 });
    facts.events.push(event("order.canceled", 20_100, body));
    facts
        .events
        .push(event("product.released", 20_104, json!({})));
    facts
        .events
        .push(event("point.refunded", 20_105, json!({})));
    facts
        .events
        .push(event("order.compensated", 20_110, json!({})));
    facts
}

#[test]
fn a_refused_order() {
    let mut facts = canceled("REFUSED", ["compensated", "refused", "void"]);
    let refused = "INSUFFICIENT_POINTS: 900 needed, 10 there";
    facts.order.refusals = BTreeMap::from([("point".to_owned(), refused.to_owned())]);
    insta::assert_snapshot!(said(&facts, &system()));
}

#[test]
fn an_order_that_its_user_canceled() {
    let facts = canceled("CANCELED_BY_USER", ["compensated", "compensated", "void"]);
    insta::assert_snapshot!(said(&facts, &system()));
}

#[test]
fn an_order_whose_deadline_passed() {
    let facts = canceled("DEADLINE_PASSED", ["compensated", "compensated", "void"]);
    insta::assert_snapshot!(said(&facts, &system()));
}

#[test]
fn an_order_that_is_being_undone() {
    let mut facts = canceled("DEADLINE_PASSED", ["compensated", "compensated", "waiting"]);
    facts.order.state = "COMPENSATING".to_owned();
    facts.order.attempt = 2;
    facts.order.due_at = Some(facts.now + 12_000);
    facts.events.pop();
    let mut system = system();
    let coupon = seen(&mut system, "coupon");
    coupon.internals = None;
    coupon.consumer = Some(Ok(consumer(json!({ "num_pending": 3, "num_waiting": 0 }))));
    insta::assert_snapshot!(said(&facts, &system));
}

#[test]
fn an_order_that_was_given_up() {
    let mut facts = canceled("DEADLINE_PASSED", ["compensated", "compensated", "waiting"]);
    facts.order.state = "COMPENSATION_FAILED".to_owned();
    facts.order.attempt = 4;
    facts.events.pop();
    insta::assert_snapshot!(said(&facts, &system()));
}

#[test]
fn the_events_alone_tell_how_an_order_stands() {
    let refusal = json!({ "code": "INSUFFICIENT_POINTS", "needed": 9, "balance": 1 });
    let context = json!({
        "user_id": "alice", "flow": "parallel", "needed": ["stock", "point", "coupon"],
        "placed_at_ms": PLACED, "deadline_ms": PLACED + 20_000,
    });
    let events = [
        event("order.created.pending", 0, json!({ "context": context })),
        event("product.reserved", 4, json!({})),
        event("point.use.failed", 5, json!({ "refusal": refusal })),
        event("product.released", 7, json!({})),
        event(
            "order.canceled",
            8,
            json!({ "reason": "REFUSED", "attempt": 1 }),
        ),
        event("coupon.restored", 9, json!({ "nothing_to_undo": true })),
        event("order.compensated", 11, json!({})),
    ];
    let after = |n: usize| Order::from_events(ORDER, &events[..n]).expect("an order");
    let flags = |order: &Order| {
        order
            .steps
            .iter()
            .map(|(_, f)| f.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(after(2).missing(), ["point", "coupon"]);
    assert_eq!(after(5).state, "COMPENSATING");
    assert_eq!(after(5).missing(), ["coupon"]);
    let all = after(7);
    assert_eq!((&*all.state, &*all.reason), ("CANCELED", "REFUSED"));
    assert_eq!(flags(&all), ["compensated", "refused", "void"]);
    assert_eq!(
        all.refusals["point"],
        "INSUFFICIENT_POINTS: 9 needed, 1 there"
    );
}

#[test]
fn names_are_listed_as_people_do() {
    assert_eq!(listed(["a"]), "a");
    assert_eq!(listed(["a", "b"]), "a and b");
    assert_eq!(listed(["a", "b", "c"]), "a, b and c");
}
