//! The map as a value: who says what, who hears it, what for, and what follows.

use events::catalog::{self, Kind};
use events::{Flow, Step};
use jetstream::hearing::reaction::Purpose;
use jetstream::hearing::subscription::Proof;
use jetstream::{Service, Settings};
use serde_json::{Value, json};

/// Who says what to whom, for the flows that a deployment allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) flows: Vec<Flow>,
    pub(crate) events: Vec<Event>,
    pub(crate) services: Vec<Hearer>,
}

/// An event of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) subject: String,
    pub(crate) message: String,
    pub(crate) version: u32,
    pub(crate) writer: String,
    pub(crate) kind: Kind,
}

/// A service, and what it does with what it hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hearer {
    pub(crate) name: String,
    pub(crate) filters: Vec<String>,
    pub(crate) reactions: Vec<Reaction>,
}

/// What an event does to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reaction {
    /// The subject that is heard.
    pub(crate) hears: String,
    pub(crate) purpose: Purpose,
    /// Where it is kept that it was handled.
    pub(crate) proof: &'static str,
    pub(crate) says: Vec<Saying>,
}

/// What may be said because of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Saying {
    pub(crate) subject: String,
    /// Whether it may be said more than once about one order.
    pub(crate) again: bool,
}

impl Map {
    /// The map of these services, read off the catalog and their subscriptions.
    pub(crate) fn of(services: &[Service], flows: &[Flow]) -> Self {
        let settings = Settings {
            flows: flows.to_vec(),
            ..Settings::default()
        };
        let event = |entry: &catalog::Entry| Event {
            subject: entry.subject.to_owned(),
            message: entry.message.to_owned(),
            version: entry.version,
            writer: entry.writer.to_owned(),
            kind: entry.kind,
        };
        Self {
            flows: flows.to_vec(),
            events: catalog::all().map(event).collect(),
            services: services.iter().map(|s| Hearer::of(s, &settings)).collect(),
        }
    }

    /// Who reacts to a subject, and how.
    pub(crate) fn heard(&self, subject: &str) -> impl Iterator<Item = (&Hearer, &Reaction)> {
        let reactions = |hearer| move |reaction| (hearer, reaction);
        let all = self.services.iter();
        all.flat_map(move |hearer| hearer.reactions.iter().map(reactions(hearer)))
            .filter(move |(_, reaction)| reaction.hears == subject)
    }

    /// The service that takes a step, if there is one.
    pub(crate) fn participant(&self, step: Step) -> Option<&Hearer> {
        self.services.iter().find(|s| s.name == step.name())
    }

    /// The events that nothing on the map leads to: they begin outside, with a request or
    /// a timer.
    pub(crate) fn begins_outside(&self, event: &Event) -> bool {
        let mut reactions = self.services.iter().flat_map(|s| &s.reactions);
        !reactions.any(|r| r.says.iter().any(|said| said.subject == event.subject))
    }

    /// As JSON.
    pub(crate) fn json(&self) -> Value {
        let heard_by = |event: &Event| -> Vec<Value> {
            let heard = self.heard(&event.subject);
            let said = |reaction: &Reaction| -> Vec<Value> {
                let said = reaction.says.iter();
                said.map(|s| json!({ "subject": s.subject, "again": s.again }))
                    .collect()
            };
            heard
                .map(|(hearer, reaction)| {
                    json!({
                        "service": hearer.name,
                        "purpose": reaction.purpose.name(),
                        "proof": reaction.proof,
                        "says": said(reaction),
                    })
                })
                .collect()
        };
        let event = |event: &Event| {
            json!({
                "subject": event.subject,
                "message": event.message,
                "version": event.version,
                "said_by": event.writer,
                "begins_outside": self.begins_outside(event),
                "needs_handler": event.kind.needs_handler(),
                "heard_by": heard_by(event),
            })
        };
        let service = |s: &Hearer| json!({ "name": s.name, "filters": s.filters });
        json!({
            "stream": catalog::STREAM,
            "flows": self.flows,
            "events": self.events.iter().map(event).collect::<Vec<_>>(),
            "services": self.services.iter().map(service).collect::<Vec<_>>(),
        })
    }
}

impl Hearer {
    fn of(service: &Service, settings: &Settings) -> Self {
        let subscriptions = (service.subscriptions)(settings);
        let mut reactions = Vec::new();
        for entry in catalog::all() {
            // Within a service a subject belongs to the first subscription that hears it.
            let first = subscriptions.iter().find(|s| s.hears(entry.subject));
            let reaction = first.and_then(|s| Some((s.proof(), s.reaction(entry.subject)?)));
            let Some((proof, reaction)) = reaction else {
                continue;
            };
            let said = reaction.says.iter().map(|saying| Saying {
                subject: saying.entry.subject.to_owned(),
                again: saying.again,
            });
            reactions.push(Reaction {
                hears: entry.subject.to_owned(),
                purpose: reaction.purpose,
                proof: match proof {
                    Proof::NaturalRow(table) => table,
                    Proof::Inbox => "inbox",
                },
                says: said.collect(),
            });
        }
        Self {
            name: service.name.to_owned(),
            filters: service.consumer(settings).filters,
            reactions,
        }
    }

    /// Whether it takes a step of orders.
    pub(crate) fn is_participant(&self) -> bool {
        let mut reactions = self.reactions.iter();
        reactions.any(|reaction| reaction.purpose == Purpose::Take)
    }

    /// What an event does to it.
    pub(crate) fn reaction(&self, subject: &str) -> Option<&Reaction> {
        self.reactions.iter().find(|r| r.hears == subject)
    }
}
