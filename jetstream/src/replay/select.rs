//! What the compared events of a tape depend on: enough to replay them without the rest of
//! the stream.
//!
//! An order's outcome depends on the products that it names, on its user's points and cart,
//! and on its coupon. So the selection has every order that touches one of these, whole,
//! because of what it took and gave back; and every fact about what *those* orders touch, so
//! that they find what they took. That they took it, or were refused, is not decided
//! again: before the compared events the record counts.

use std::collections::{BTreeSet, HashSet};

use events::catalog::{self, Kind};
use events::fact::{self, CouponIssued, ProductListed};
use events::{CouponId, Envelope, EventId, Malformed, OrderId, ProductId, UserId, body};

use super::tape::{Before, Tape};
use crate::stream::history::Recorded;

/// What an order takes something of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Thing {
    Product(ProductId),
    User(UserId),
    Coupon(CouponId),
}

/// Keeps what the compared events depend on, and drops the rest. The tape must begin where
/// the stream begins; where the stream has lost its beginning, nothing is kept that would
/// only look complete, and the state before is marked as missing.
///
/// # Errors
/// When an event cannot be read.
pub fn needed(tape: Tape) -> Result<Tape, Malformed> {
    let compared: BTreeSet<OrderId> = tape
        .events()
        .iter()
        .filter(|event| event.envelope.entry.kind != Kind::Fact && tape.compares(event))
        .map(order)
        .collect();
    let of_orders = |orders: &BTreeSet<OrderId>| {
        let events = tape.events().iter();
        let events = events.filter(|event| orders.contains(&order(event)));
        things(events)
    };
    let near = of_orders(&compared)?;
    let mut kept = compared;
    for event in tape.events().iter().filter(|event| tape.plays(event)) {
        if event.envelope.entry.kind == Kind::Created && touches(&event.envelope, &near)? {
            kept.insert(order(event));
        }
    }
    let far = of_orders(&kept)?;
    let mut ids: HashSet<EventId> = HashSet::new();
    let mut events = Vec::new();
    for event in tape.events() {
        let envelope = &event.envelope;
        let needed = match (envelope.entry.kind, tape.plays(event)) {
            (Kind::Fact, true) => tape.compares(event) || touches(envelope, &far)?,
            (_, true) => kept.contains(&order(event)),
            // It tells that an event was answered after the end.
            (_, false) => envelope.causation.is_some_and(|cause| ids.contains(&cause)),
        };
        if needed {
            ids.insert(envelope.id);
            events.push(event.clone());
        }
    }
    let before = match tape.before == Before::Everything && is_whole(&tape) {
        true => Before::Selection,
        false => Before::Missing,
    };
    Ok(Tape {
        events,
        before,
        ..tape
    })
}

fn order(event: &Recorded) -> OrderId {
    OrderId(event.envelope.correlation)
}

/// Whether every writer's events are there from its first on.
fn is_whole(tape: &Tape) -> bool {
    let writers: HashSet<&str> = catalog::all().map(|entry| entry.writer).collect();
    writers.into_iter().all(|writer| {
        let events = tape.events().iter().map(|event| &event.envelope);
        let numbers = events.filter(|e| e.entry.writer == writer).map(|e| e.pseq);
        numbers.min().is_none_or(|first| first == 1)
    })
}

fn things<'a>(events: impl Iterator<Item = &'a Recorded>) -> Result<HashSet<Thing>, Malformed> {
    let mut all = HashSet::new();
    for event in events {
        if event.envelope.entry.kind == Kind::Created {
            all.extend(about(&event.envelope)?);
        }
    }
    Ok(all)
}

fn touches(envelope: &Envelope, things: &HashSet<Thing>) -> Result<bool, Malformed> {
    Ok(about(envelope)?.iter().any(|thing| things.contains(thing)))
}

/// What an event is about.
fn about(envelope: &Envelope) -> Result<Vec<Thing>, Malformed> {
    let bytes = envelope.body.clone();
    if envelope.entry.kind != Kind::Fact {
        let context = body::context(bytes)?;
        let products = context.lines.iter().map(|line| line.product_id);
        let mut all: Vec<Thing> = products.map(Thing::Product).collect();
        all.push(Thing::User(context.user_id.clone()));
        all.extend(context.coupon_id.map(Thing::Coupon));
        return Ok(all);
    }
    let entry = *envelope.entry;
    Ok(if entry == catalog::PRODUCT_LISTED {
        vec![Thing::Product(ProductListed::decode(bytes)?.product_id)]
    } else if entry == catalog::STOCK_ADDED {
        vec![Thing::Product(fact::read_stock_added(bytes)?.0)]
    } else if entry == catalog::POINT_CHARGED {
        vec![Thing::User(fact::read_point_charged(bytes)?.0)]
    } else if entry == catalog::COUPON_ISSUED {
        vec![Thing::Coupon(CouponIssued::decode(bytes)?.coupon_id)]
    } else if entry == catalog::CART_CHANGED {
        vec![Thing::User(fact::read_cart_changed(bytes)?.0)]
    } else {
        vec![]
    })
}
