//! What must not be on the map. Each rule is a function that returns its findings: one
//! sentence each, which says what to do.

use events::catalog::Kind;
use events::{Flow, Step};
use jetstream::Service;
use jetstream::hearing::reaction::Purpose;

use super::model::{Event, Map, Reaction};

type Rule = fn(&Map) -> Vec<String>;

const RULES: &[Rule] = &[
    unheard,
    uncompensated_failures,
    effects_without_compensation,
    second_writers,
    circles,
];

/// What is wrong with these services, whichever flows a deployment allows.
pub(crate) fn check(services: &[Service]) -> Vec<String> {
    let mut findings: Vec<String> = Vec::new();
    for flows in [
        &Flow::ALL[..],
        &[Flow::Parallel][..],
        &[Flow::Sequential][..],
    ] {
        let map = Map::of(services, flows);
        for finding in RULES.iter().flat_map(|rule| rule(&map)) {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    findings
}

/// Subjects that nobody reacts to, although something hangs without a reaction.
pub(crate) fn unheard(map: &Map) -> Vec<String> {
    // In the parallel flow a success needs no next step, but it is joined: so every answer
    // has somebody.
    let unheard =
        |event: &&Event| event.kind.needs_handler() && map.heard(&event.subject).next().is_none();
    let events = map.events.iter().filter(unheard);
    events
        .map(|event| {
            format!(
                "{} is said by {} and nobody reacts to it: subscribe to it, or have \
                 `Kind::needs_handler` say that nobody has to",
                event.subject, event.writer
            )
        })
        .collect()
}

/// Refusals after which some other step would stay held.
pub(crate) fn uncompensated_failures(map: &Map) -> Vec<String> {
    let mut findings = Vec::new();
    for event in &map.events {
        let Kind::Refused(refused) = event.kind else {
            continue;
        };
        for step in Step::all().filter(|step| *step != refused) {
            let reaction = map
                .participant(step)
                .and_then(|participant| participant.reaction(&event.subject));
            if reaction.is_none_or(|reaction| reaction.purpose != Purpose::Undo) {
                findings.push(format!(
                    "{step} does not give back what it holds when it hears {}: add the subject \
                     to what it listens to",
                    event.subject
                ));
            }
        }
    }
    findings
}

/// Successes that cannot be taken back when the order is canceled.
pub(crate) fn effects_without_compensation(map: &Map) -> Vec<String> {
    let of_kind = |kind| map.events.iter().find(move |event| event.kind == kind);
    let mut findings = Vec::new();
    for event in &map.events {
        let Kind::Taken(step) = event.kind else {
            continue;
        };
        let Some(undone) = of_kind(Kind::Undone(step)) else {
            findings.push(format!(
                "{} has no event that takes it back: add one to the list of steps",
                event.subject
            ));
            continue;
        };
        let canceled = of_kind(Kind::Canceled).map_or("order.canceled", |e| &e.subject);
        let answers = |reaction: &Reaction| {
            let mut said = reaction.says.iter();
            reaction.purpose == Purpose::Undo && said.any(|s| s.subject == undone.subject)
        };
        let participant = map.participant(step);
        let reaction = participant.and_then(|participant| participant.reaction(canceled));
        if !reaction.is_some_and(answers) {
            findings.push(format!(
                "{} is not taken back: {step} must answer {canceled} with {}",
                event.subject, undone.subject
            ));
        }
    }
    findings
}

/// Events that a service says although they are another's, or that no service says.
pub(crate) fn second_writers(map: &Map) -> Vec<String> {
    let mut findings = Vec::new();
    for service in &map.services {
        for reaction in &service.reactions {
            for said in &reaction.says {
                let event = map.events.iter().find(|e| e.subject == said.subject);
                let writer = event.map_or("nobody", |event| &event.writer);
                if writer != service.name {
                    findings.push(format!(
                        "{} says {} because of {}, but {writer} is its writer: let {} say an \
                         event of its own",
                        service.name, said.subject, reaction.hears, service.name
                    ));
                }
            }
        }
    }
    for event in &map.events {
        if !map.services.iter().any(|s| s.name == event.writer) {
            findings.push(format!(
                "{} is to be said by {}, and there is no such service: add it, or take the event \
                 out of the catalog",
                event.subject, event.writer
            ));
        }
    }
    findings
}

/// Circles of causes that nothing ends: every event on them may be said again and again
/// about one order. A circle with one event on it that a row of its writer allows once
/// ends there, like an order's decision to cancel, and is no finding.
pub(crate) fn circles(map: &Map) -> Vec<String> {
    let mut findings = Vec::new();
    for (at, event) in map.events.iter().enumerate() {
        // A circle is found from the first of its events only.
        let earlier: Vec<&str> = map.events[..at].iter().map(|e| &*e.subject).collect();
        if let Some(circle) = way_back(map, &event.subject, &earlier) {
            findings.push(format!(
                "{} is a circle that nothing ends: let one of them be said once for an order, \
                 and keep that in a row",
                circle.join(" ─► ")
            ));
        }
    }
    findings
}

/// The shortest way from an event to itself, past none of `avoided`.
fn way_back<'a>(map: &'a Map, from: &'a str, avoided: &[&str]) -> Option<Vec<&'a str>> {
    let mut ways: Vec<Vec<&str>> = vec![vec![from]];
    let mut seen: Vec<&str> = avoided.to_vec();
    let mut next = 0;
    while let Some(way) = ways.get(next).cloned() {
        next += 1;
        let last = way.last().copied().unwrap_or(from);
        let reactions = map.heard(last).flat_map(|(_, reaction)| &reaction.says);
        for said in reactions.filter(|said| said.again) {
            let mut way = way.clone();
            way.push(&said.subject);
            if said.subject == from {
                return Some(way);
            }
            if !seen.contains(&&*said.subject) {
                seen.push(&said.subject);
                ways.push(way);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::model::Saying;
    use super::*;
    use crate::SERVICES;

    fn map() -> Map {
        Map::of(&SERVICES, &Flow::ALL)
    }

    /// What a service does when it hears a subject, to be broken.
    fn reaction<'a>(map: &'a mut Map, service: &str, subject: &str) -> &'a mut Reaction {
        let mut services = map.services.iter_mut();
        let service = services.find(|s| s.name == service).expect("a service");
        let mut reactions = service.reactions.iter_mut();
        reactions.find(|r| r.hears == subject).expect("a reaction")
    }

    fn deafen(map: &mut Map, service: &str, subject: &str) {
        for hearer in map.services.iter_mut().filter(|s| s.name == service) {
            hearer.reactions.retain(|r| r.hears != subject);
        }
    }

    fn say(subject: &str, again: bool) -> Saying {
        let subject = subject.to_owned();
        Saying { subject, again }
    }

    #[test]
    fn nothing_is_wrong_with_the_shop() {
        assert_eq!(check(&SERVICES), Vec::<String>::new());
    }

    #[test]
    fn without_a_service_much_is_wrong() {
        let without_cart = &SERVICES[..4];
        let findings = check(without_cart);
        assert!(findings.iter().any(|f| f.starts_with("cart.cleared is to")));
    }

    #[test]
    fn an_event_that_nobody_reacts_to_is_found() {
        let mut map = map();
        deafen(&mut map, "order", "cart.restored");
        let found = unheard(&map);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("cart.restored is said by cart"));
    }

    #[test]
    fn a_failure_that_a_step_does_not_compensate_is_found() {
        let mut map = map();
        deafen(&mut map, "coupon", "point.use.failed");
        reaction(&mut map, "stock", "cart.clear.failed").purpose = Purpose::Settle;
        let found = uncompensated_failures(&map);
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("coupon does not give back"));
        assert!(found[1].starts_with("stock does not give back"));
    }

    #[test]
    fn an_effect_without_a_compensation_is_found() {
        let mut broken = map();
        reaction(&mut broken, "point", "order.canceled")
            .says
            .clear();
        let found = effects_without_compensation(&broken);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("point.used is not taken back"));

        let mut broken = map();
        broken.events.retain(|e| e.subject != "coupon.restored");
        let found = effects_without_compensation(&broken);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("coupon.used has no event"));
    }

    #[test]
    fn a_second_writer_is_found() {
        let mut map = map();
        let joins = reaction(&mut map, "order", "product.reserve.failed");
        joins.says.push(say("point.refunded", false));
        let found = second_writers(&map);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("order says point.refunded"));
    }

    #[test]
    fn a_circle_that_nothing_ends_is_found() {
        let mut map = map();
        // Asking again because a step has answered that it is undone.
        let joins = reaction(&mut map, "order", "product.released");
        joins.says = vec![say("order.canceled", true)];
        let found = circles(&map);
        assert_eq!(found.len(), 1);
        let circle = "order.canceled ─► product.released ─► order.canceled is";
        assert!(found[0].starts_with(circle), "{}", found[0]);
    }

    #[test]
    fn an_event_that_is_its_own_cause_is_found() {
        let mut map = map();
        let keeps = reaction(&mut map, "order", "product.listed");
        keeps.says.push(say("product.listed", true));
        assert_eq!(circles(&map).len(), 1);
    }
}
