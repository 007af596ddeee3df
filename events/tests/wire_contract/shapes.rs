//! Catalog, protos and the shapes that `body` writes by hand say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use bytes::Bytes;
use events::body::{self, Canceled, Reason, Undone};
use events::catalog::{self, Entry, Kind};
use events::{OrderContext, Step, wire};
use prost::Message;

use crate::schema::{self, Member, PACKAGE, Schema};
use events::sample::{self as samples, Form};

fn full_name(message: &str) -> String {
    format!("{PACKAGE}.{message}")
}

fn fields<'a>(schema: &'a Schema, entry: &Entry) -> &'a [Member] {
    let definition = schema.0.get(&full_name(entry.message));
    let definition = definition.filter(|d| d.kind == schema::Kind::Message);
    &definition
        .unwrap_or_else(|| {
            panic!(
                "{} of the catalog is no message of the protos: add it to events.proto",
                entry.message
            )
        })
        .members
}

#[test]
fn every_message_of_the_catalog_is_in_the_protos() {
    let schema = Schema::today();
    for entry in catalog::all() {
        assert!(
            !fields(&schema, entry).is_empty(),
            "{} has no fields: give it those of its kind",
            entry.message
        );
    }
}

#[test]
fn every_message_of_the_protos_is_said_or_part_of_what_is_said() {
    let schema = Schema::today();
    let mut unused: BTreeSet<_> = schema.0.keys().cloned().collect();
    let mut next: Vec<_> = catalog::all()
        .map(|entry| full_name(entry.message))
        .collect();
    while let Some(name) = next.pop() {
        if unused.remove(&name) {
            let members = schema.0[&name].members.iter();
            next.extend(members.filter_map(|m| Some(m.shape.as_ref()?.of.clone())));
        }
    }
    assert!(
        unused.is_empty(),
        "nothing that the catalog says has these messages ({unused:?}): add their rows to the \
         catalog, or remove them before they are recorded"
    );
}

#[test]
fn every_event_of_an_order_begins_with_the_context() {
    let schema = Schema::today();
    for entry in catalog::all().filter(|entry| entry.kind != Kind::Fact) {
        let first = &fields(&schema, entry)[0];
        let shape = first.shape.as_ref().expect("a field has a shape");
        assert_eq!(
            (first.number, first.name.as_str(), shape.to_string()),
            (1, "context", "ensemble.v1.OrderContext single".to_owned()),
            "{} must begin with `OrderContext context = 1`",
            entry.message
        );
    }
}

/// Events that `body` writes and reads with one shape.
fn shape(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Created | Kind::Confirmed | Kind::Compensated | Kind::Taken(_) => Some("plain"),
        Kind::Refused(_) => Some("refused"),
        Kind::Undone(_) => Some("undone"),
        Kind::Canceled => Some("canceled"),
        Kind::CompensationFailed => Some("compensation_failed"),
        Kind::Fact => None,
    }
}

#[test]
fn events_of_one_shape_have_the_same_fields() {
    let schema = Schema::today();
    let mut first_of: BTreeMap<_, &Entry> = BTreeMap::new();
    for entry in catalog::all() {
        let Some(shape) = shape(entry.kind) else {
            continue;
        };
        let first = first_of.entry(shape).or_insert(entry);
        assert!(
            fields(&schema, first) == fields(&schema, entry),
            "{} and {} must have the same fields, because events::body writes both as `{shape}`",
            first.message,
            entry.message
        );
    }
}

// The messages below name every field, without a rest: a field that is added does
// not compile here until `body` says it too.

/// The same bytes, which also means: no field that the message has not.
fn agree<M: Message + PartialEq + Default + Debug>(written: Bytes, contract: &M) {
    let read = M::decode(written.clone()).expect("the written bytes are the message");
    assert_eq!(
        &read, contract,
        "events::body must write what the protos say"
    );
    assert_eq!(
        contract.encode_to_vec(),
        written,
        "events::body must write no field that the protos have not"
    );
}

fn context() -> (OrderContext, wire::OrderContext) {
    let context = samples::context(Form::Full);
    let line = |line: &events::OrderLine| wire::OrderLine {
        product_id: line.product_id.to_wire(),
        quantity: line.quantity,
        unit_price: line.unit_price.0,
        price_version: line.price_version,
    };
    let message = wire::OrderContext {
        order_id: context.order_id.to_wire(),
        user_id: "alice@example.com".to_owned(),
        flow: wire::Flow::Parallel.into(),
        needed: ["stock", "point", "coupon", "cart"]
            .map(str::to_owned)
            .into(),
        lines: context.lines.iter().map(line).collect(),
        discount: context.discount.0,
        total: context.total.0,
        coupon_id: context.coupon_id.expect("all fields are set").to_wire(),
        placed_at_ms: context.placed_at,
        deadline_ms: context.deadline,
    };
    (context, message)
}

#[test]
fn the_context_is_written_as_the_protos_say() {
    let (context, message) = context();
    agree(context.encoded(), &message);
}

#[test]
fn plain_bodies_are_written_as_the_protos_say() {
    let (written, message) = context();
    let contract = wire::StockDeducted {
        context: Some(message),
    };
    agree(body::plain(&written), &contract);
    let read = body::context(contract.encode_to_vec().into());
    assert_eq!(read, Ok(written));
}

#[test]
fn refusals_are_written_as_the_protos_say() {
    let (written, message) = context();
    let refusal = samples::refusal(Form::Full);
    let line = |line: &events::refusal::FailingLine| wire::FailingLine {
        product_id: line.product_id.to_wire(),
        requested: line.requested,
        available: line.available,
        code: line.code.clone(),
    };
    let contract = wire::StockDeductionFailed {
        context: Some(message),
        refusal: Some(wire::Refusal {
            code: refusal.code.clone(),
            lines: refusal.lines.iter().map(line).collect(),
            needed: refusal.needed.map(|money| money.0),
            balance: refusal.balance.map(|money| money.0),
            reason: refusal.reason.clone(),
        }),
    };
    agree(body::refused(&written, &refusal), &contract);
    assert_eq!(body::refusal(contract.encode_to_vec().into()), Ok(refusal));
}

#[test]
fn compensations_are_written_as_the_protos_say() {
    let (written, message) = context();
    let undone = Undone {
        nothing_to_undo: true,
        attempt: u32::MAX,
    };
    let contract = wire::StockReleased {
        context: Some(message),
        nothing_to_undo: true,
        attempt: u32::MAX,
    };
    agree(body::undone(&written, undone), &contract);
    assert_eq!(
        body::read_undone(contract.encode_to_vec().into()),
        Ok(undone)
    );
}

#[test]
fn cancellations_are_written_as_the_protos_say() {
    let (written, message) = context();
    let canceled = Canceled {
        reason: Reason::CanceledByUser,
        attempt: u32::MAX,
    };
    let contract = wire::OrderCanceled {
        context: Some(message),
        reason: "CANCELED_BY_USER".to_owned(),
        attempt: u32::MAX,
    };
    agree(body::canceled(&written, canceled), &contract);
    let read = body::read_canceled(contract.encode_to_vec().into());
    assert_eq!(read, Ok(canceled));
}

#[test]
fn given_up_compensations_are_written_as_the_protos_say() {
    let (written, message) = context();
    let unanswered = ["stock", "cart"].map(str::to_owned).to_vec();
    let contract = wire::OrderCompensationFailed {
        context: Some(message),
        unanswered: unanswered.clone(),
    };
    let steps = [Step::STOCK, Step::CART];
    agree(body::compensation_failed(&written, &steps), &contract);
    let read = body::read_unanswered(contract.encode_to_vec().into());
    assert_eq!(read, Ok(unanswered));
}

#[test]
fn what_a_newer_build_adds_to_the_context_is_passed_on() {
    let (context, _) = context();
    // Field 1000, a varint: no build of today knows it.
    let newer = [&context.encoded()[..], &[0xc0, 0x3e, 0x07]].concat();
    let read = OrderContext::decode(newer.clone().into()).expect("an unknown field is fine");
    let answer = body::plain(&read);
    assert!(
        answer.windows(newer.len()).any(|bytes| bytes == newer),
        "answering an event must copy its context as it came"
    );
}
