//! A timeline on the terminal: a lane per service.

use std::collections::HashMap;
use std::fmt::Write as _;

use events::OrderId;
use events::catalog::Kind;
use jetstream::clock;
use serde_json::json;

use super::event::Event;
use super::source::Found;
use crate::SERVICES;
use crate::terminal::{Paint, duration};

const LANE: usize = 8;

/// The events of an order, one line each: when, who, what, because of what.
pub(crate) fn timeline(order: OrderId, found: &Found, paint: Paint) -> String {
    let events = &found.events;
    let mut text = header(order, found, paint);
    let lanes = lanes(events);
    let names: String = lanes.iter().map(|name| format!("{name:^LANE$}")).collect();
    let _ = writeln!(text, "{:12}{}", "", paint.dim(names.trim_end()));
    let numbers: HashMap<&str, usize> = events.iter().map(|e| &*e.id).zip(1..).collect();
    let start = events.first().map_or(0, |event| event.time);
    for (event, number) in events.iter().zip(1..) {
        let time = format!("{:>9}", signed(event.time - start));
        let _ = writeln!(
            text,
            "{time}   {}{number:>3} {} {}{}",
            marks(event, &lanes, paint),
            coloured(event, &format!("{:<24}", event.entry.subject), paint),
            paint.dim(&cause(event, events, &numbers)),
            remark(event, paint),
        );
    }
    text
}

fn header(order: OrderId, found: &Found, paint: Paint) -> String {
    let events = &found.events;
    let start = events.first().map_or(0, |event| event.time);
    let mut text = format!("order {order}, {}\n", paint.bold(&outcome(events)));
    let _ = write!(text, "placed {}", clock::rfc3339(start));
    let contexts = events.iter().map(|event| &event.body["context"]);
    if let Some(context) = contexts.into_iter().find(|context| context.is_object()) {
        let word = |name: &str| context[name].as_str().unwrap_or_default().to_owned();
        let needed = context["needed"].as_array().into_iter().flatten();
        let needed: Vec<_> = needed.filter_map(|step| step.as_str()).collect();
        let (user, flow) = (word("user_id"), word("flow"));
        let _ = write!(text, " by {user}, {flow} flow, needs {}", needed.join(", "));
    }
    if let Some(trace) = found.trace_id() {
        let _ = write!(text, "\ntrace {trace}");
    }
    if let Some(link) = &found.trace_url {
        let _ = write!(text, " at {link}");
    }
    text + "\n\n"
}

/// How the order stands after these events.
fn outcome(events: &[Event]) -> String {
    let start = events.first().map_or(0, |event| event.time);
    let decided = events.iter().rev().find(|event| {
        let kind = event.entry.kind;
        event.entry.writer == "order" && kind != Kind::Created
    });
    let Some(decided) = decided else {
        return "not decided".to_owned();
    };
    let after = duration(decided.time - start);
    match decided.entry.kind {
        Kind::Confirmed => format!("confirmed after {after}"),
        Kind::Compensated => format!("canceled, and all was given back after {after}"),
        Kind::CompensationFailed => format!("given up after {after}: a person is needed"),
        _ => format!("canceled after {after}, and not all is given back"),
    }
}

/// The services, in the order of the shop: those that said something, or are needed.
fn lanes(events: &[Event]) -> Vec<&'static str> {
    let said = |name: &&str| {
        events.iter().any(|event| {
            let needed = event.body["context"]["needed"].as_array();
            event.entry.writer == *name || needed.is_some_and(|steps| steps.contains(&json!(name)))
        })
    };
    let known = SERVICES.iter().map(|service| service.name);
    let mut lanes: Vec<&str> = known.filter(said).collect();
    for event in events {
        if !lanes.contains(&event.entry.writer) {
            lanes.push(event.entry.writer);
        }
    }
    lanes
}

fn marks(event: &Event, lanes: &[&str], paint: Paint) -> String {
    let mut text = String::new();
    for lane in lanes {
        let (left, right) = ((LANE - 1) / 2, LANE / 2);
        text += &" ".repeat(left);
        text += &match *lane == event.entry.writer {
            true => coloured(event, mark(event), paint),
            false => paint.dim("│"),
        };
        text += &" ".repeat(right);
    }
    text
}

fn mark(event: &Event) -> &'static str {
    match event.entry.kind {
        Kind::Confirmed | Kind::Compensated => "◆",
        Kind::Refused(_) | Kind::Canceled | Kind::CompensationFailed => "✗",
        Kind::Undone(_) if event.body["nothing_to_undo"] == true => "○",
        Kind::Undone(_) => "↩",
        _ => "●",
    }
}

fn coloured(event: &Event, text: &str, paint: Paint) -> String {
    match event.entry.kind {
        Kind::Confirmed | Kind::Taken(_) => paint.green(text),
        Kind::Refused(_) | Kind::Canceled | Kind::CompensationFailed => paint.red(text),
        Kind::Undone(_) | Kind::Compensated => paint.yellow(text),
        Kind::Created | Kind::Fact => text.to_owned(),
    }
}

fn cause(event: &Event, events: &[Event], numbers: &HashMap<&str, usize>) -> String {
    let Some(cause) = &event.cause else {
        return "◄ from outside".to_owned();
    };
    let Some(number) = numbers.get(&**cause) else {
        return "◄ an event that is not here".to_owned();
    };
    let took = event.time - events[number - 1].time;
    format!("◄ {number}, {}", duration(took))
}

fn remark(event: &Event, paint: Paint) -> String {
    let mut text = match event.says() {
        said if said.is_empty() => String::new(),
        said => format!("   {said}"),
    };
    match event.source.as_str() {
        "outbox" => text += &paint.yellow("   (from the outbox)"),
        "unpublished" => text += &paint.yellow("   (not published yet)"),
        _ => {}
    }
    text
}

fn signed(millis: i64) -> String {
    match millis {
        0 => "0".to_owned(),
        1.. => format!("+{}", duration(millis)),
        _ => format!("-{}", duration(-millis)),
    }
}

#[cfg(test)]
#[path = "draw_tests.rs"]
mod tests;
