//! An order's story: its events as a tree of causes, the same whenever the same happened.
//!
//! An event hangs under the event that caused it; ids and times are left out. Where the
//! order of arrival decides which of several events is the cause, the event hangs at one
//! fixed place, with a note that says so:
//!
//! | Event | Its cause is | It hangs under |
//! |---|---|---|
//! | `order.confirmed`, parallel flow | whichever success order heard last | `order.created.pending` |
//! | `order.canceled`, after a refusal | the refusal, or a compensation that order heard before it | the refusal |
//! | a compensation, after a refusal | the refusal or `order.canceled`, whichever came first | the refusal |
//! | `order.compensated` | whichever answer order heard last | `order.canceled` |
//!
//! That the cause was one of those is checked.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use events::catalog::Kind;
use events::{Envelope, EventId, Flow, body};
use jetstream::stream::history::Recorded;

/// An event, and where it hangs.
struct Told<'a> {
    event: &'a Envelope,
    under: Option<EventId>,
    note: &'static str,
}

/// Tells the story of an order.
///
/// # Panics
/// When an event has a cause that it cannot have.
#[must_use]
pub fn story(recorded: &[Recorded]) -> String {
    let events: Vec<&Envelope> = recorded.iter().map(|event| &event.envelope).collect();
    let mut told: Vec<Told<'_>> = events.iter().map(|event| place(event, &events)).collect();
    told.sort_by_key(|told| {
        let entry = told.event.entry;
        (entry.kind != Kind::Created, entry.subject, told.event.pseq)
    });
    let mut text = String::new();
    write_children(&mut text, &told, None, 0);
    text
}

/// Where each event of an order hangs, and the note for one whose cause depends on who is
/// faster.
pub(crate) fn placed(recorded: &[Recorded]) -> BTreeMap<EventId, (Option<EventId>, &'static str)> {
    let events: Vec<&Envelope> = recorded.iter().map(|event| &event.envelope).collect();
    let told = events.iter().map(|event| place(event, &events));
    told.map(|told| (told.event.id, (told.under, told.note)))
        .collect()
}

fn write_children(text: &mut String, told: &[Told<'_>], of: Option<EventId>, depth: usize) {
    for child in told.iter().filter(|child| child.under == of) {
        let indent = "  ".repeat(depth);
        let label = label(child.event);
        let note = child.note;
        writeln!(text, "{indent}{label}{note}").expect("a String takes everything");
        write_children(text, told, Some(child.event.id), depth + 1);
    }
}

fn place<'a>(event: &'a Envelope, all: &[&'a Envelope]) -> Told<'a> {
    let of_kind = |is: fn(Kind) -> bool| all.iter().find(|e| is(e.entry.kind)).map(|e| e.id);
    let created = of_kind(|kind| kind == Kind::Created);
    let refusal = of_kind(|kind| matches!(kind, Kind::Refused(_)));
    let canceled = of_kind(|kind| kind == Kind::Canceled);
    let (under, note, allowed): (_, _, fn(Kind) -> bool) = match event.entry.kind {
        Kind::Confirmed if flow(event) == Flow::Parallel => {
            (created, " ← the last success", |kind| {
                matches!(kind, Kind::Taken(_))
            })
        }
        Kind::Canceled if event.causation.is_some() && refusal.is_some() => {
            (refusal, " ← the first to arrive", |kind| {
                matches!(kind, Kind::Refused(_) | Kind::Undone(_))
            })
        }
        Kind::Undone(_) if refusal.is_some() => (refusal, " ← the first to arrive", |kind| {
            matches!(kind, Kind::Refused(_) | Kind::Canceled)
        }),
        Kind::Compensated => (canceled, " ← the last answer", |kind| {
            matches!(kind, Kind::Refused(_) | Kind::Undone(_))
        }),
        _ => (event.causation, "", |_| true),
    };
    if let Some(cause) = event.causation {
        let subject = event.entry.subject;
        let found = all.iter().find(|other| other.id == cause);
        let found = found.unwrap_or_else(|| panic!("the cause of {subject} is not in the stream"));
        let cause = found.entry;
        assert!(
            allowed(cause.kind),
            "{subject} because of {}",
            cause.subject
        );
    }
    Told { event, under, note }
}

/// The subject, and what else an event says that is the same each time.
fn label(event: &Envelope) -> String {
    let subject = event.entry.subject;
    let bytes = || event.body.clone();
    match event.entry.kind {
        Kind::Refused(_) => {
            let refusal = body::refusal(bytes()).expect("a refusal");
            match refusal.reason.as_str() {
                "" => format!("{subject} ({})", refusal.code),
                reason => format!("{subject} ({}: {reason})", refusal.code),
            }
        }
        Kind::Undone(_) => {
            let undone = body::read_undone(bytes()).expect("an answer");
            match undone.nothing_to_undo {
                true => format!("{subject} (nothing to undo)"),
                false => subject.to_owned(),
            }
        }
        Kind::Canceled => {
            let canceled = body::read_canceled(bytes()).expect("a reason");
            match canceled.attempt {
                1 => format!("{subject} ({})", canceled.reason.code()),
                n => format!("{subject} ({}, attempt {n})", canceled.reason.code()),
            }
        }
        _ => subject.to_owned(),
    }
}

fn flow(event: &Envelope) -> Flow {
    body::context(event.body.clone()).expect("a context").flow
}
