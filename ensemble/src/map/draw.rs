//! The map as text: a table for the terminal, and two languages of diagrams.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use events::catalog::{self, Kind};
use jetstream::hearing::reaction::Purpose;

use super::model::{Event, Hearer, Map};

/// One line for each event: what it is, who says it, and who hears it what for.
pub(crate) fn table(map: &Map) -> String {
    let mut rows = vec![["SUBJECT", "MESSAGE", "SAID BY", "HEARD BY"].map(str::to_owned)];
    for event in &map.events {
        rows.push([
            event.subject.clone(),
            format!("{} v{}", event.message, event.version),
            event.writer.clone(),
            hearers(map, event),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (subject, message, writer) = (width(0), width(1), width(2));
    let mut text = String::new();
    for [a, b, c, d] in &rows {
        let line = format!("{a:<subject$}  {b:<message$}  {c:<writer$}  {d}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Like `stock, point: take; order: join`; the same purpose is said once.
fn hearers(map: &Map, event: &Event) -> String {
    let mut groups: Vec<(Purpose, Vec<&str>)> = Vec::new();
    for (hearer, reaction) in map.heard(&event.subject) {
        match groups.iter_mut().find(|(p, _)| *p == reaction.purpose) {
            Some((_, names)) => names.push(&hearer.name),
            None => groups.push((reaction.purpose, vec![&hearer.name])),
        }
    }
    if groups.is_empty() {
        return "followers".to_owned();
    }
    let group = |(purpose, names): &(Purpose, Vec<&str>)| {
        format!("{}: {}", names.join(", "), purpose.name())
    };
    groups.iter().map(group).collect::<Vec<_>>().join("; ")
}

// ---- mermaid -----------------------------------------------------------------

const STEPS: &str = "steps";
const FOLLOWERS: &str = "followers";

/// A flowchart: services are nodes, subjects stand on the edges. The participants are
/// drawn as one group, as all of them hear the same of order and of each other.
pub(crate) fn mermaid(map: &Map) -> String {
    let mut text = "flowchart LR\n".to_owned();
    let begins = |writer: &str| {
        let mut events = map.events.iter();
        events.any(|e| e.writer == writer && e.kind == Kind::Created && map.begins_outside(e))
    };
    let (steps, others): (Vec<&Hearer>, Vec<&Hearer>) = map
        .services
        .iter()
        .partition(|service| service.is_participant());
    for service in others {
        let client = match begins(&service.name) {
            true => "client([client]) --> ",
            false => "",
        };
        let _ = writeln!(text, "    {client}{}", service.name);
    }
    let _ = writeln!(
        text,
        "    subgraph {STEPS} [\"the steps that the order needs\"]"
    );
    for step in steps {
        let _ = writeln!(text, "        {}", step.name);
    }
    text.push_str("    end\n");
    for ((from, to), subjects) in grouped(map) {
        let _ = writeln!(text, "    {from} -->|\"{}\"| {to}", subjects.join("<br>"));
    }
    for label in among_steps(map) {
        let _ = writeln!(text, "    {STEPS} -.->|\"{label}\"| {STEPS}");
    }
    let followers = format!(" {FOLLOWERS}\n");
    // The first time that it is named, a node gets its shape.
    text.replacen(&followers, &format!(" {FOLLOWERS}([{FOLLOWERS}])\n"), 1)
}

/// The subjects on each edge, in the order of the catalog. What steps hear of each other is
/// not among them.
fn grouped(map: &Map) -> Vec<((&str, &str), Vec<&str>)> {
    let mut edges: Vec<((&str, &str), Vec<&str>)> = Vec::new();
    for event in &map.events {
        let mut targets: Vec<&str> = Vec::new();
        for (hearer, _) in map.heard(&event.subject) {
            let target = match hearer.is_participant() {
                true if is_step(map, &event.writer) => continue,
                true => STEPS,
                false => &hearer.name,
            };
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
        if targets.is_empty() {
            targets.push(FOLLOWERS);
        }
        for target in targets {
            let edge = (event.writer.as_str(), target);
            match edges.iter_mut().find(|(known, _)| *known == edge) {
                Some((_, subjects)) => subjects.push(&event.subject),
                None => edges.push((edge, vec![&event.subject])),
            }
        }
    }
    edges
}

/// What steps hear of each other, and what for.
fn among_steps(map: &Map) -> Vec<String> {
    let mut heard: BTreeMap<Purpose, Vec<&str>> = BTreeMap::new();
    for event in map.events.iter().filter(|e| is_step(map, &e.writer)) {
        // As it is subscribed to: one filter stands for every refusal.
        let filter = match catalog::matches(catalog::EVERY_REFUSAL, &event.subject) {
            true => catalog::EVERY_REFUSAL,
            false => &event.subject,
        };
        for (hearer, reaction) in map.heard(&event.subject) {
            let subjects = heard.entry(reaction.purpose).or_default();
            if hearer.is_participant() && !subjects.contains(&filter) {
                subjects.push(filter);
            }
        }
    }
    heard.retain(|_, subjects| !subjects.is_empty());
    let label = |(purpose, subjects): (Purpose, Vec<&str>)| {
        let why = match purpose {
            Purpose::Take => "sequential flow: the next needed step begins",
            Purpose::Undo => "every other step gives back what it holds",
            other => other.name(),
        };
        format!("{}<br>{why}", subjects.join("<br>"))
    };
    heard.into_iter().map(label).collect()
}

fn is_step(map: &Map, name: &str) -> bool {
    let mut services = map.services.iter();
    services.any(|service| service.name == name && service.is_participant())
}

// ---- dot ---------------------------------------------------------------------

/// A graph for Graphviz: an edge from each service to each that hears it.
pub(crate) fn dot(map: &Map) -> String {
    let mut edges: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for event in &map.events {
        let mut heard = false;
        for (hearer, reaction) in map.heard(&event.subject) {
            let label = format!("{} ({})", event.subject, reaction.purpose.name());
            let edge = (event.writer.as_str(), hearer.name.as_str());
            edges.entry(edge).or_default().push(label);
            heard = true;
        }
        if !heard {
            let edge = (event.writer.as_str(), FOLLOWERS);
            edges.entry(edge).or_default().push(event.subject.clone());
        }
    }
    let mut text = "digraph ensemble {\n    rankdir=LR;\n    node [shape=box];\n".to_owned();
    for service in &map.services {
        let _ = writeln!(text, "    \"{}\";", service.name);
    }
    let _ = writeln!(text, "    \"{FOLLOWERS}\" [shape=ellipse, style=dashed];");
    for ((from, to), labels) in edges {
        let label = labels.join("\\l");
        let _ = writeln!(text, "    \"{from}\" -> \"{to}\" [label=\"{label}\\l\"];");
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SERVICES;
    use events::Flow;

    #[test]
    fn every_drawing_shows_every_subject() {
        let map = Map::of(&SERVICES, &Flow::ALL);
        for text in [
            table(&map),
            mermaid(&map),
            dot(&map),
            map.json().to_string(),
        ] {
            for event in &map.events {
                assert!(text.contains(&event.subject), "{} in {text}", event.subject);
            }
        }
    }

    #[test]
    fn the_table_says_who_hears_what_for() {
        let map = Map::of(&SERVICES, &[Flow::Sequential]);
        let text = table(&map);
        let line = |subject: &str| {
            let mut lines = text.lines();
            let line = lines.find(|line| line.starts_with(subject));
            line.expect("a line").split("  ").last().map(str::trim)
        };
        assert_eq!(
            line("order.confirmed"),
            Some("stock, point, coupon, cart: settle")
        );
        assert_eq!(line("point.used"), Some("order: join; coupon, cart: take"));
        assert_eq!(line("product.listed"), Some("order: keep"));
        assert_eq!(line("cart.changed"), Some("followers"));
    }

    #[test]
    fn a_deployment_with_one_flow_does_not_hear_the_triggers_of_the_other() {
        let parallel = Map::of(&SERVICES, &[Flow::Parallel]);
        assert!(!mermaid(&parallel).contains("sequential"));
        assert_eq!(table(&parallel).matches(": take").count(), 1);
    }
}
