//! What a replay has found, as data and as text.

use std::fmt;

use events::OrderId;
use serde::Serialize;
use serde_json::Value;

use super::compare::{Difference, Words};

// So many differences are told apart in text; the data has them all.
const SHOWN: usize = 10;

/// An event that was caused by an event, and of which nothing can be said.
#[derive(Debug, Clone, Serialize)]
pub struct NotComparable {
    /// The service that says it.
    pub service: &'static str,
    /// The order that it is about.
    pub order_id: OrderId,
    /// Its subject.
    pub subject: &'static str,
    /// Where it stands in the stream.
    pub stream_sequence: u64,
    /// Why.
    pub reason: &'static str,
}

/// How often what happened when a service was played.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Played {
    /// The service.
    pub service: &'static str,
    /// Events from outside that were taken as given.
    pub given: usize,
    /// Events that were handled.
    pub handled: usize,
    /// Recorded events that this build says too.
    pub equal: usize,
    /// Recorded events of which nothing can be said.
    pub not_comparable: usize,
    /// Events that differ.
    pub different: usize,
}

/// What a replay has found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// By service.
    pub services: Vec<Played>,
    /// What differs, in stream order.
    pub differences: Vec<Difference>,
    /// What cannot be compared, in stream order.
    pub not_comparable: Vec<NotComparable>,
}

impl Report {
    /// How many events are as they were recorded.
    #[must_use]
    pub fn equal(&self) -> usize {
        self.services.iter().map(|played| played.equal).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<8} {:>8} {:>8} {:>8} {:>10} {:>15}",
            "", "given", "handled", "equal", "different", "not comparable"
        )?;
        for played in &self.services {
            writeln!(
                f,
                "{:<8} {:>8} {:>8} {:>8} {:>10} {:>15}",
                played.service,
                played.given,
                played.handled,
                played.equal,
                played.different,
                played.not_comparable
            )?;
        }
        writeln!(f)?;
        let mut reasons: Vec<&str> = self.not_comparable.iter().map(|n| n.reason).collect();
        reasons.sort_unstable();
        reasons.dedup();
        for reason in reasons {
            let these = self.not_comparable.iter().filter(|n| n.reason == reason);
            writeln!(f, "not comparable: {}: {reason}", counted(these.count()))?;
        }
        let Some(first) = self.differences.first() else {
            return match self.equal() {
                0 => writeln!(f, "nothing was compared"),
                1 => writeln!(f, "equal: this build says the one event too"),
                equal => writeln!(f, "equal: this build says the {equal} events too"),
            };
        };
        let count = self.differences.len();
        let counted = counted(count);
        writeln!(f, "different: {counted}; the first is\n\n{first}")?;
        for other in self.differences.iter().skip(1).take(SHOWN) {
            let (at, order) = (other.stream_sequence(), other.order_id);
            writeln!(f, "then at {at}: {} (order {order})", headline(other))?;
        }
        match count > SHOWN + 1 {
            true => writeln!(f, "and {} more: --json has them all", count - SHOWN - 1),
            false => Ok(()),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {}", headline(self))?;
        let recorded = self.recorded.as_ref();
        if let Some(sequence) = recorded.and_then(|words| words.stream_sequence) {
            writeln!(f, "  recorded at {sequence}")?;
        }
        writeln!(f, "  order       {}", self.order_id)?;
        let cause = &self.cause;
        let (subject, at) = (cause.subject, cause.stream_sequence);
        writeln!(f, "  because of  {subject} at {at}, {}", cause.event_id)?;
        if let Some(fault) = &self.fault {
            writeln!(f, "  this build fails: {fault}")?;
        }
        for field in &self.fields {
            let (recorded, replayed) = (shown(&field.recorded), shown(&field.replayed));
            writeln!(
                f,
                "  {:<28} recorded {recorded}, now {replayed}",
                field.field
            )?;
        }
        Ok(())
    }
}

fn counted(events: usize) -> String {
    match events {
        1 => "1 event".to_owned(),
        n => format!("{n} events"),
    }
}

fn headline(difference: &Difference) -> String {
    let subject = |words: &Option<Words>| words.as_ref().map_or("nothing", |w| w.subject);
    let (recorded, replayed) = (subject(&difference.recorded), subject(&difference.replayed));
    match recorded == replayed {
        true => format!("{}: {recorded} with another body", difference.service),
        false => format!(
            "{}: recorded {recorded}, now {replayed}",
            difference.service
        ),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        value => value.to_string(),
    }
}
