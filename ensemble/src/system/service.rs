//! How a service is, as far as it can be seen: what it says of itself, and what the broker
//! says of its consumer.

use jetstream::stream::inspect::{Consumer, Unseen};
use serde_json::Value;

use crate::terminal::duration;

/// What is seen of a service.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) name: String,
    /// What it says of itself over HTTP; nothing when it does not answer.
    pub(crate) internals: Option<Value>,
    /// Its consumer, as the broker says; nothing when the broker cannot be asked.
    pub(crate) consumer: Option<Result<Consumer, Unseen>>,
    /// How long ago the oldest event was stored that it has not acked, in milliseconds.
    pub(crate) oldest: Option<i64>,
    /// Whether it was seen to ack something.
    pub(crate) acks: bool,
}

/// What keeps a service from answering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) code: &'static str,
    pub(crate) text: String,
    pub(crate) remedy: Remedy,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    Start,
    Resume,
    Provision,
    LiftFence,
    Doctor,
    /// Nothing: it takes its time.
    Wait,
}

impl Seen {
    /// What keeps it from answering, the worst first; empty when nothing is seen to.
    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        let name = &self.name;
        let mut found = |code, text: String, remedy| {
            troubles.push(Trouble { code, text, remedy });
        };
        let internals = self.internals.clone().unwrap_or_default();
        if let Some(fenced) = internals["fenced"].as_str() {
            found("FENCED", fenced.to_owned(), Remedy::LiftFence);
        }
        if self.has_no_consumer() {
            let text = format!("{name} has no consumer on the broker, so it hears nothing");
            found("NO_CONSUMER", text, Remedy::Provision);
        }
        let waiting = self.waiting();
        if self.is_down() {
            let text = format!("{name} is not running: nobody asks for its events{waiting}");
            found("SERVICE_DOWN", text, Remedy::Start);
        }
        if let Some(consumer) = self.seen_consumer()
            && consumer.paused
        {
            let left = duration(consumer.paused_for());
            let text = format!("{name}'s consumer is paused for another {left}{waiting}");
            found("CONSUMER_PAUSED", text, Remedy::Resume);
        }
        for missing in internals["missing"].as_array().into_iter().flatten() {
            match missing.as_str() {
                Some("database") => {
                    let text = format!("{name} cannot reach its database{waiting}");
                    found("DATABASE_AWAY", text, Remedy::Doctor);
                }
                Some("nats") => {
                    let text = format!("{name} cannot reach the broker{waiting}");
                    found("BROKER_AWAY", text, Remedy::Doctor);
                }
                _ => {}
            }
        }
        if self.is_capped() {
            let text = format!(
                "{name} has as many events in hand as it may have unacked, and acks none{waiting}"
            );
            found("ACKS_CAPPED", text, Remedy::Doctor);
        }
        if troubles.is_empty() && !waiting.is_empty() {
            troubles.push(Trouble {
                code: "BEHIND",
                text: format!("{name} is behind{waiting}"),
                remedy: Remedy::Wait,
            });
        }
        troubles
    }

    fn seen_consumer(&self) -> Option<&Consumer> {
        self.consumer.as_ref()?.as_ref().ok()
    }

    fn has_no_consumer(&self) -> bool {
        matches!(self.consumer, Some(Err(Unseen::Missing)))
    }

    /// Whether no instance of it runs, as far as can be seen.
    pub(crate) fn is_down(&self) -> bool {
        let asks = self.seen_consumer().map(|c| c.num_waiting > 0);
        self.internals.is_none() && !self.acks && asks == Some(false)
    }

    /// Whether nothing is known of it.
    pub(crate) fn is_unseen(&self) -> bool {
        self.internals.is_none() && !matches!(self.consumer, Some(Ok(_) | Err(Unseen::Missing)))
    }

    pub(crate) fn is_capped(&self) -> bool {
        self.seen_consumer().is_some_and(|consumer| {
            let cap = consumer.config.max_ack_pending;
            cap > 0 && i64::try_from(consumer.num_ack_pending).unwrap_or(i64::MAX) >= cap
        })
    }

    /// Events that it has to hear or to ack.
    pub(crate) fn backlog(&self) -> u64 {
        match self.seen_consumer() {
            Some(consumer) => consumer.num_pending + consumer.num_ack_pending,
            None => {
                let consumer = self.internals.as_ref().map(|i| &i["consumer"]);
                let count = |name: &str| consumer.and_then(|c| c[name].as_u64()).unwrap_or(0);
                count("to_hear") + count("to_ack")
            }
        }
    }

    /// The end of a sentence on what it has not heard; empty when it has heard all.
    fn waiting(&self) -> String {
        let events = match self.backlog() {
            0 => return String::new(),
            1 => "1 event waits".to_owned(),
            n => format!("{n} events wait"),
        };
        match self.oldest {
            Some(oldest) => format!("; {events}, the oldest for {}", duration(oldest)),
            None => format!("; {events}"),
        }
    }
}
