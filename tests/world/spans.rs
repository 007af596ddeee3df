//! The trace of an order as a tree, the same whenever the same happened.
//!
//! Ids and times are left out, and what depends on who is faster hangs at the fixed place
//! that [`story`](crate::story()) gives it, with the same note.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use events::EventId;
use jetstream::stream::history::Recorded;

use crate::collector::Span;
use crate::story::placed;

/// Draws the trace of an order, from its spans and its events. A delivery that changed
/// nothing is drawn only if `all` is asked for.
///
/// # Panics
/// When the spans and the events do not belong to each other.
#[must_use]
pub fn span_tree(spans: &[Span], recorded: &[Recorded], all: bool) -> String {
    let placed = placed(recorded);
    let mut under: BTreeMap<String, Vec<(String, &Span)>> = BTreeMap::new();
    for span in spans {
        let (parent, note) = parent(span, spans, &placed);
        let label = format!("{}{note}", label(span, spans));
        under.entry(parent).or_default().push((label, span));
    }
    if !all {
        let parents: BTreeSet<String> = under.keys().cloned().collect();
        for children in under.values_mut() {
            children.retain(|(_, span)| {
                let again = !span.get("messaging.nats.delivery_count").is_empty();
                !again || span.error.is_some() || parents.contains(&span.id)
            });
        }
    }
    let mut text = String::new();
    draw(&mut text, &mut under, "", 0);
    assert!(under.is_empty(), "not drawn: {under:#?}");
    text
}

fn draw(
    text: &mut String,
    under: &mut BTreeMap<String, Vec<(String, &Span)>>,
    parent: &str,
    depth: usize,
) {
    let mut children = under.remove(parent).unwrap_or_default();
    children.sort_by(|a, b| a.0.cmp(&b.0));
    for (label, span) in children {
        writeln!(text, "{}{label}", "  ".repeat(depth)).expect("a String takes everything");
        draw(text, under, &span.id, depth + 1);
    }
}

/// Where a span hangs. That of an event whose cause depends on who is faster hangs where
/// its service handled the event that the story hangs it under.
fn parent(
    span: &Span,
    spans: &[Span],
    placed: &BTreeMap<EventId, (Option<EventId>, &'static str)>,
) -> (String, &'static str) {
    let own = span.parent.clone();
    let decided = |span: &Span| span.name.starts_with("decide ");
    // What no answer has set off hangs at the request that placed the order.
    if ["user", "deadline", "operator"].contains(&span.get("set_off_by")) {
        return (own, "");
    }
    let published = span.name.starts_with("publish ");
    // An event that was decided in a span of its own is published under that.
    let in_decision = spans.iter().any(|p| p.id == span.parent && decided(p));
    if !(decided(span) || published && !in_decision) {
        return (own, "");
    }
    let event: EventId = span.get("event.id").parse().expect("an event id");
    let (under, note) = placed[&event];
    let handled = under.filter(|_| !note.is_empty()).and_then(|cause| {
        let cause = cause.to_string();
        let here = |s: &&Span| s.name.starts_with("process ") && s.service == span.service;
        let mut heard = spans.iter().filter(here);
        heard.find(|s| {
            s.get("event.id") == cause && s.get("messaging.nats.delivery_count").is_empty()
        })
    });
    match handled {
        Some(handled) => (handled.id.clone(), note),
        // Its service does not handle that event, as order does not its own.
        None if !note.is_empty() && under.is_some() => {
            let cause = under.expect("a cause").to_string();
            let publishing = |s: &&Span| s.name.starts_with("publish ");
            let mut published = spans.iter().filter(publishing);
            let published = published.find(|s| s.get("event.id") == cause);
            (published.expect("the span of the cause").id.clone(), note)
        }
        None => (own, ""),
    }
}

fn label(span: &Span, spans: &[Span]) -> String {
    let mut text = format!(
        "{} [{} {}]",
        span.name,
        span.service,
        span.kind.to_lowercase()
    );
    let count = span.get("messaging.nats.delivery_count");
    if !count.is_empty() {
        write!(text, " delivery {count}").expect("a String takes everything");
    }
    if span.get("dead_letter") == "true" {
        text += " dead letter";
    }
    if span.get("redriven") == "true" {
        text += " redriven";
    }
    let set_off_by = span.get("set_off_by");
    let by_answer = span
        .links
        .iter()
        .any(|(.., said)| said.contains_key("step"));
    if !set_off_by.is_empty() {
        // Which step was the last depends on who was faster: that it is a step that was
        // joined does not.
        let joined: BTreeSet<_> = span
            .links
            .iter()
            .filter_map(|(.., said)| said.get("step"))
            .collect();
        let by = match joined.iter().any(|step| *step == set_off_by) {
            true => "the last step",
            false => set_off_by,
        };
        write!(text, " set off by {by}").expect("a String takes everything");
    }
    if by_answer {
        let mut joined: Vec<String> = vec![];
        for (_, id, said) in &span.links {
            let Some(step) = said.get("step") else {
                continue;
            };
            let answer = spans.iter().find(|s| s.id == *id).expect("a linked span");
            joined.push(format!("{step}: {}", answer.name));
        }
        joined.sort();
        write!(text, " ⇠ {}", joined.join(", ")).expect("a String takes everything");
    }
    if span
        .links
        .iter()
        .any(|(.., said)| said.contains_key("asked"))
    {
        text += " ⇠ a request";
    }
    for (name, said) in &span.events {
        let said: Vec<_> = said
            .iter()
            .filter(|(name, _)| *name != "refusal.line" && *name != "exception.message")
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        write!(text, " ! {name} {}", said.join(" ")).expect("a String takes everything");
    }
    if span.error.is_some() {
        text += " ERROR";
    }
    text
}
