//! The steps of an order: what each has said, and why one is silent.

use events::catalog::Kind;

use super::diagnose::{Because, Next, is_sequential};
use super::facts::{Facts, Letter};
use super::order::Order;
use crate::system::System;
use crate::system::service::{Remedy, Trouble};
use crate::terminal::duration;
use crate::timeline::event::Event;

// A service that has heard everything has answered within this time, in milliseconds.
const SOON: i64 = 10_000;

/// How a step stands.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) step: String,
    pub(crate) flag: String,
    pub(crate) text: String,
}

/// A line for each needed step.
pub(crate) fn lines(facts: &Facts) -> Vec<Line> {
    let line = |(step, flag): &(String, String)| Line {
        step: step.clone(),
        flag: flag.clone(),
        text: line(step, flag, facts),
    };
    facts.order.steps.iter().map(line).collect()
}

fn line(step: &str, flag: &str, facts: &Facts) -> String {
    let said = |wanted: fn(Kind) -> bool| {
        let said = said_by(step, facts).find(|event| wanted(event.entry.kind));
        match said {
            Some(event) => format!(" after {}", duration(event.time - facts.order.placed_at)),
            None => String::new(),
        }
    };
    match flag {
        "succeeded" => format!("succeeded{}", said(|kind| matches!(kind, Kind::Taken(_)))),
        "refused" => {
            let why = facts.order.refusals.get(step).map_or("", |why| why);
            let after = said(|kind| matches!(kind, Kind::Refused(_)));
            format!("refused{after}: {why}")
        }
        "compensated" => {
            let after = said(|kind| matches!(kind, Kind::Undone(_)));
            format!("gave back what it held{after}")
        }
        "void" => "had nothing to give back".to_owned(),
        "waiting" if !in_question(&facts.order, &facts.order.missing()).contains(&step) => {
            "has not been asked: the steps before it come first".to_owned()
        }
        _ => {
            let long = duration(facts.now - facts.order.placed_at);
            format!("has not answered for {long}")
        }
    }
}

fn said_by<'a>(step: &'a str, facts: &'a Facts) -> impl Iterator<Item = &'a Event> {
    let events = facts.events.iter();
    events.filter(move |event| event.entry.writer == step)
}

/// The steps that had not answered when the order was canceled.
pub(crate) fn silent_at_the_end(facts: &Facts) -> Vec<&str> {
    let canceled = facts.events.iter().find(|e| e.entry.kind == Kind::Canceled);
    let end = canceled.map_or(i64::MAX, |event| event.time);
    let answered = |step: &str| {
        said_by(step, facts).any(|event| {
            let kind = event.entry.kind;
            event.time <= end && matches!(kind, Kind::Taken(_) | Kind::Refused(_))
        })
    };
    let steps = facts.order.steps.iter().map(|(step, _)| &**step);
    steps.filter(|step| !answered(step)).collect()
}

/// Of the steps whose answer is missing, those whose turn it is.
pub(crate) fn in_question<'a>(order: &Order, missing: &[&'a str]) -> Vec<&'a str> {
    let all_at_once = order.state != "PENDING" || !is_sequential(order);
    match all_at_once {
        true => missing.to_vec(),
        false => missing.first().copied().into_iter().collect(),
    }
}

/// Why a step has not answered, as far as can be seen.
pub(crate) fn why_silent(step: &str, facts: &Facts, system: &System) -> (Vec<Because>, Vec<Next>) {
    // The worst first: what nothing but a person ends.
    let letters = facts.letters.iter().filter(|letter| letter.service == step);
    let letters: Vec<&Letter> = letters.collect();
    if !letters.is_empty() {
        return dead(&letters, facts, system);
    }
    if let Some(answer) = unheard_answer(step, facts) {
        return unheard(step, answer, facts, system);
    }
    let (mut because, next) = troubles(step, system);
    if because.is_empty() {
        let unseen = system
            .services
            .get(step)
            .is_none_or(|seen| seen.is_unseen());
        let (code, text) = match unseen {
            true => ("UNSEEN", format!("how {step} is cannot be seen from here")),
            false if facts.now - facts.asked_at() < SOON => (
                "IN_HAND",
                format!("{step} runs and has heard everything: its answer should be on its way"),
            ),
            false => (
                "NO_ANSWER",
                format!(
                    "{step} runs and has heard everything, and yet there is no answer of it: see \
                     its log"
                ),
            ),
        };
        because.push(Because {
            code,
            service: step.to_owned(),
            text,
            needs_person: false,
        });
    }
    (because, next)
}

fn dead(letters: &[&Letter], facts: &Facts, system: &System) -> (Vec<Because>, Vec<Next>) {
    let flags = &system.flags.services;
    let because = letters.iter().map(|letter| Because {
        code: "DEAD_LETTER",
        service: letter.service.clone(),
        text: format!(
            "{} could not handle {} and set it aside {} ago: {}",
            letter.service,
            letter.subject,
            duration(facts.now - letter.died_at),
            letter.reason,
        ),
        needs_person: true,
    });
    let next = letters.iter().map(|letter| Next {
        text: "repair the cause, then hand the event to it again".to_owned(),
        command: format!(
            "ensemble dead-letters redrive {} --reason 'the cause is repaired'{flags}",
            letter.id
        ),
    });
    (because.collect(), next.collect())
}

/// The dead letters of services that are not in question: they keep nobody waiting, and a
/// person has to look at them all the same.
pub(crate) fn other_letters(
    asked: &[&str],
    facts: &Facts,
    system: &System,
) -> (Vec<Because>, Vec<Next>) {
    let others = facts.letters.iter();
    let others: Vec<&Letter> = others
        .filter(|letter| !asked.contains(&&*letter.service))
        .collect();
    dead(&others, facts, system)
}

/// What a step has said that order does not know.
fn unheard_answer<'a>(step: &str, facts: &'a Facts) -> Option<&'a Event> {
    let pending = facts.order.state == "PENDING";
    let canceled = facts
        .events
        .iter()
        .rfind(|e| e.entry.kind == Kind::Canceled);
    let since = canceled.map_or(0, |event| event.time);
    facts.events.iter().rfind(|event| {
        let kind = event.entry.kind;
        let answers = match pending {
            true => matches!(kind, Kind::Taken(_) | Kind::Refused(_) | Kind::Undone(_)),
            // A refusal counts as undone, whenever it was said.
            false => {
                matches!(kind, Kind::Refused(_))
                    || matches!(kind, Kind::Undone(_)) && event.time >= since
            }
        };
        event.entry.writer == step && answers
    })
}

fn unheard(
    step: &str,
    answer: &Event,
    facts: &Facts,
    system: &System,
) -> (Vec<Because>, Vec<Next>) {
    let subject = answer.entry.subject;
    let ago = duration(facts.now - answer.time);
    if answer.source == "unpublished" {
        let because = Because {
            code: "UNPUBLISHED",
            service: step.to_owned(),
            text: format!(
                "{step} has decided {subject} {ago} ago, and the broker has not taken it yet"
            ),
            needs_person: false,
        };
        return (vec![because], vec![doctor(system)]);
    }
    let letters = facts
        .letters
        .iter()
        .filter(|letter| letter.service == "order");
    let letters: Vec<&Letter> = letters.collect();
    let (mut because, next) = match letters.is_empty() {
        true => troubles("order", system),
        false => dead(&letters, facts, system),
    };
    let heard = Because {
        code: "NOT_HEARD",
        service: "order".to_owned(),
        text: format!("{step} has answered ({subject}, {ago} ago), and order has not heard it"),
        needs_person: false,
    };
    because.insert(0, heard);
    (because, next)
}

/// What keeps a service from answering, and what to do about it.
pub(crate) fn troubles(service: &str, system: &System) -> (Vec<Because>, Vec<Next>) {
    let Some(seen) = system.services.get(service) else {
        return (vec![], vec![]);
    };
    let troubles = seen.troubles();
    let next = troubles
        .iter()
        .filter_map(|trouble| remedy(service, trouble, system))
        .collect();
    let because = troubles.into_iter().map(|trouble| Because {
        code: trouble.code,
        service: service.to_owned(),
        needs_person: trouble.remedy != Remedy::Wait,
        text: trouble.text,
    });
    (because.collect(), next)
}

fn remedy(service: &str, trouble: &Trouble, system: &System) -> Option<Next> {
    let (services, broker) = (&system.flags.services, &system.flags.broker);
    let next = |text: &str, command: String| {
        let text = text.to_owned();
        Some(Next { text, command })
    };
    match trouble.remedy {
        Remedy::Start => next(
            &format!("start {service} again with the flags that it had, like"),
            format!("{service}-svc{}", system.flags.service),
        ),
        Remedy::Resume => next(
            &format!("resume {service}'s consumer"),
            format!("ensemble provision --resume{broker}"),
        ),
        Remedy::Provision => next(
            &format!("create {service}'s consumer"),
            format!("ensemble provision{broker}"),
        ),
        Remedy::LiftFence => next(
            "see which events its database does not know, and repair it before the fence is lifted",
            format!("ensemble reconcile{services}"),
        ),
        Remedy::Doctor => Some(doctor(system)),
        Remedy::Wait => None,
    }
}

fn doctor(system: &System) -> Next {
    Next {
        text: "see what is wrong with the system".to_owned(),
        command: format!("ensemble doctor{}", system.flags.both),
    }
}
