//! From what is seen of an order to what it waits for, or why it ended so: pure, so that
//! every case can be shown.

use events::Flow;
use events::catalog::Kind;
use serde_json::{Value, json};

use super::facts::Facts;
use super::order::Order;
use super::steps;
use crate::system::System;
use crate::terminal::duration;

/// What there is to say.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) order_id: String,
    pub(crate) state: String,
    pub(crate) verdict: Verdict,
    pub(crate) headline: String,
    pub(crate) facts: String,
    pub(crate) steps: Vec<steps::Line>,
    pub(crate) because: Vec<Because>,
    pub(crate) next: Vec<Next>,
    pub(crate) notes: Vec<String>,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It waits, and its deadline has not passed.
    Waiting,
    /// Its deadline has passed and it is not decided.
    PastDue,
    Confirmed,
    /// It is canceled, and not all is given back.
    Undoing,
    Canceled,
    GivenUp,
}

impl Verdict {
    fn code(self) -> &'static str {
        match self {
            Self::Waiting => "WAITING",
            Self::PastDue => "PAST_DUE",
            Self::Confirmed => "CONFIRMED",
            Self::Undoing => "UNDOING",
            Self::Canceled => "CANCELED",
            Self::GivenUp => "GIVEN_UP",
        }
    }
}

/// A reason, with the service that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Because {
    pub(crate) code: &'static str,
    pub(crate) service: String,
    pub(crate) text: String,
    /// Whether it stays so until a person does something.
    pub(crate) needs_person: bool,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) text: String,
    /// To copy; empty when there is nothing to type.
    pub(crate) command: String,
}

impl Answer {
    pub(crate) fn needs_person(&self) -> bool {
        matches!(self.verdict, Verdict::PastDue | Verdict::GivenUp)
            || self.because.iter().any(|because| because.needs_person)
    }

    pub(crate) fn json(&self) -> Value {
        let because = |b: &Because| json!({ "code": b.code, "service": b.service, "text": b.text });
        let next = |n: &Next| json!({ "text": n.text, "command": n.command });
        let step = |s: &steps::Line| json!({ "step": s.step, "state": s.flag, "text": s.text });
        json!({
            "order_id": self.order_id,
            "state": self.state,
            "verdict": self.verdict.code(),
            "headline": self.headline,
            "facts": self.facts,
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
            "because": self.because.iter().map(because).collect::<Vec<_>>(),
            "next": self.next.iter().map(next).collect::<Vec<_>>(),
            "needs_person": self.needs_person(),
            "notes": self.notes,
        })
    }
}

/// Why an order waits, or ended so.
pub(crate) fn why(facts: &Facts, system: &System) -> Answer {
    let order = &facts.order;
    let missing = order.missing();
    let (mut because, mut next) = (Vec::new(), Vec::new());
    for step in steps::in_question(order, &missing) {
        let (reasons, remedies) = steps::why_silent(step, facts, system);
        because.extend(reasons);
        next.extend(remedies);
    }
    let (reasons, remedies) = steps::other_letters(&missing, facts, system);
    because.extend(reasons);
    next.extend(remedies);
    let (verdict, headline) = headline(facts, &missing);
    because.extend(timer(facts, system, verdict, &mut next));
    next.extend(by_hand(facts, system, verdict, &missing));
    // Two reasons may have one remedy.
    let mut seen = std::collections::HashSet::new();
    because.retain(|because| seen.insert(because.text.clone()));
    let mut seen = std::collections::HashSet::new();
    next.retain(|next| seen.insert(next.command.clone()));
    Answer {
        order_id: order.id.clone(),
        state: order.state.clone(),
        verdict,
        headline,
        facts: format!(
            "placed {} ago by {}, {} flow, needs {}",
            duration(facts.now - order.placed_at),
            order.user,
            order.flow,
            listed(order.steps.iter().map(|(step, _)| &**step)),
        ),
        steps: steps::lines(facts),
        because,
        next,
        notes: facts.notes.clone(),
    }
}

fn headline(facts: &Facts, missing: &[&str]) -> (Verdict, String) {
    let (order, now) = (&facts.order, facts.now);
    let id = &order.id;
    let who = listed(steps::in_question(order, missing));
    let after = |kind: Kind| {
        let decided = facts.events.iter().find(|event| event.entry.kind == kind);
        match decided {
            Some(event) => format!(" after {}", duration(event.time - order.placed_at)),
            None => String::new(),
        }
    };
    match order.state.as_str() {
        "PENDING" if missing.is_empty() => {
            let text = format!("every step of order {id} has succeeded, and it is not decided");
            (Verdict::Waiting, text)
        }
        "PENDING" if now > order.deadline => {
            let late = duration(now - order.deadline);
            let text = format!("order {id} waits for {who}, and its deadline passed {late} ago");
            (Verdict::PastDue, text)
        }
        "PENDING" => (Verdict::Waiting, format!("order {id} waits for {who}")),
        "CONFIRMED" => {
            let after = after(Kind::Confirmed);
            let text = format!("order {id} was confirmed{after}: every needed step succeeded");
            (Verdict::Confirmed, text)
        }
        "COMPENSATING" => {
            let why = reason(facts);
            let text = format!("order {id} is canceled ({why}), and {who} has not given back");
            (Verdict::Undoing, text)
        }
        "COMPENSATION_FAILED" => {
            let why = reason(facts);
            let times = times(order.attempt);
            let text = format!(
                "order {id} is given up: it is canceled ({why}), and {who} has not said that it \
                 gave back, although asked {times}"
            );
            (Verdict::GivenUp, text)
        }
        _ => {
            let (after, why) = (after(Kind::Canceled), reason(facts));
            let text = format!("order {id} was canceled{after}: {why}; all is given back");
            (Verdict::Canceled, text)
        }
    }
}

/// Why it was canceled, in words.
fn reason(facts: &Facts) -> String {
    let order = &facts.order;
    match order.reason.as_str() {
        "CANCELED_BY_USER" => "its user canceled it".to_owned(),
        "DEADLINE_PASSED" => {
            let silent = steps::silent_at_the_end(facts);
            let limit = duration(order.deadline - order.placed_at);
            match silent.is_empty() {
                true => format!("it was not decided within {limit}"),
                false => format!("{} had not answered within {limit}", listed(silent)),
            }
        }
        _ => match order.refusals.keys().next() {
            Some(_) => {
                let refused = order.refusals.iter();
                let refused: Vec<_> = refused
                    .map(|(s, why)| format!("{s} said no: {why}"))
                    .collect();
                refused.join("; ")
            }
            None => "a step was refused".to_owned(),
        },
    }
}

/// What its timer will do, or should have done.
fn timer(facts: &Facts, system: &System, verdict: Verdict, next: &mut Vec<Next>) -> Vec<Because> {
    let (order, now) = (&facts.order, facts.now);
    let line = |code, text: String, needs_person| {
        let service = "order".to_owned();
        vec![Because {
            code,
            service,
            text,
            needs_person,
        }]
    };
    match (verdict, order.due_at) {
        (Verdict::Waiting, _) => {
            let left = duration(order.deadline - now);
            line(
                "DEADLINE",
                format!("order cancels it in {left} if it is not decided"),
                false,
            )
        }
        (Verdict::PastDue, _) => {
            let (mut because, remedies) = steps::troubles("order", system);
            if because.is_empty() {
                let text = "order is about to cancel it: it looks every second, but not while it \
                            has a backlog older than the deadline";
                because = line("DEADLINE", text.to_owned(), false);
            }
            next.extend(remedies);
            because
        }
        (Verdict::Undoing, Some(due)) if due > now => {
            let (left, times) = (duration(due - now), times(order.attempt));
            let text = format!("order has asked {times}, and asks again, or gives up, in {left}");
            line("ASKED_AGAIN", text, false)
        }
        _ => vec![],
    }
}

/// What a person can do where the system has given up, and what to do where nothing is wrong.
fn by_hand(facts: &Facts, system: &System, verdict: Verdict, missing: &[&str]) -> Vec<Next> {
    let id = &facts.order.id;
    let flags = &system.flags.services;
    match verdict {
        Verdict::GivenUp => {
            let step = missing.first().copied().unwrap_or("STEP");
            vec![
                Next {
                    text: "once it can answer, have it asked once more".to_owned(),
                    command: format!("ensemble resolve {id} retry --reason 'it is back'{flags}"),
                },
                Next {
                    text: "or, when you have given it back by hand".to_owned(),
                    command: format!(
                        "ensemble resolve {id} mark-undone {step} --reason 'by hand'{flags}"
                    ),
                },
            ]
        }
        Verdict::Waiting | Verdict::Undoing => vec![Next {
            text: "look again".to_owned(),
            command: format!("ensemble why {id}{}", system.flags.both),
        }],
        _ => vec![],
    }
}

fn times(attempt: u64) -> String {
    match attempt {
        0 | 1 => "once".to_owned(),
        2 => "twice".to_owned(),
        n => format!("{n} times"),
    }
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.split_last() {
        None => "nothing".to_owned(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// Whether a step was asked in the sequential flow only after others.
pub(crate) fn is_sequential(order: &Order) -> bool {
    order.flow == Flow::Sequential.to_string()
}

#[cfg(test)]
#[path = "diagnose_tests.rs"]
mod tests;
