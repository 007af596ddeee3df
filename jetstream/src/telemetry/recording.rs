//! What the runtime tells a tracer: what was heard, decided and published. All of it is
//! told after the fact.

use std::collections::HashMap;
use std::time::SystemTime;

use events::{Envelope, EventId};
use opentelemetry::KeyValue;
use opentelemetry_sdk::trace::SpanData;

use super::span;
use super::traceparent::{SpanRef, deciding, processing, publishing};
use super::tracer::Tracer;
use crate::clock;
use crate::event::Delivery;
use crate::fault::Fault;
use crate::saying::outbox::Committed;

/// A sampled event that was heard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    /// The span in which it is handled, or, if nothing is recorded here, the one in which
    /// it was published.
    pub(crate) here: SpanRef,
    pub(crate) recorded: bool,
    delivery: u32,
}

/// Where an event that was decided belongs in a trace.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    /// The span in which it was decided.
    pub(crate) parent: SpanRef,
    /// Whether this process records spans; if not, the trace just passes through.
    pub(crate) recorded: bool,
    /// Where the decision has a span of its own.
    pub(crate) decision: Option<Decision>,
}

/// A decision that has a span of its own.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    pub(crate) from: SystemTime,
    /// What set it off: the step that was the last to answer, or somebody outside.
    pub(crate) set_off_by: &'static str,
    /// The steps whose answers were joined.
    pub(crate) joined: Vec<(&'static str, EventId)>,
    /// The request that asked for it, in its own trace.
    pub(crate) asked: Option<SpanRef>,
}

impl Trace {
    pub(crate) fn in_span(parent: SpanRef) -> Box<Self> {
        Box::new(Self {
            parent,
            recorded: true,
            decision: None,
        })
    }

    /// The place of a decided event in its trace, and the parent of its span.
    pub(crate) fn of_event(&self, event: EventId) -> (SpanRef, Option<SpanRef>) {
        match (self.recorded, &self.decision) {
            (false, _) => (self.parent, None),
            (true, None) => (self.parent.beside(publishing(event)), Some(self.parent)),
            (true, Some(_)) => {
                let decided = self.parent.beside(deciding(event));
                (self.parent.beside(publishing(event)), Some(decided))
            }
        }
    }
}

impl Tracer {
    /// An event is delivered, for the n-th time.
    pub(crate) fn hear(&self, envelope: &Envelope, service: &str, delivery: u64) -> Option<Heard> {
        let published = SpanRef::parse(envelope.traceparent.as_deref()?)?;
        let delivery = u32::try_from(delivery).unwrap_or(1).max(1);
        let recorded = self.is_on();
        let here = match recorded {
            true => published.beside(processing(envelope.id, service, delivery)),
            false => published,
        };
        Some(Heard {
            here,
            recorded,
            delivery,
        })
    }

    /// Events were handled in one transaction, which has committed.
    pub(crate) fn processed(
        &self,
        consumer: &str,
        heard: &[&Delivery],
        said: &[Committed],
        from: SystemTime,
    ) {
        let Some(batch) = self.batch(consumer, heard, from) else {
            return;
        };
        let mut answers: HashMap<EventId, Vec<&Envelope>> = HashMap::new();
        for envelope in said.iter().map(|committed| &committed.envelope) {
            if let Some(cause) = envelope.causation {
                answers.entry(cause).or_default().push(envelope);
            }
        }
        let when = (batch.start_time, batch.end_time);
        for (mut span, delivery) in Self::each(consumer, heard, when) {
            for answer in answers.remove(&delivery.envelope.id).unwrap_or_default() {
                span::refused(&mut span, answer);
            }
            self.record(span);
        }
        self.record(batch);
    }

    /// Nothing that events of a batch have led to has committed; they are handled again, one
    /// by one.
    pub(crate) fn rolled_back(
        &self,
        consumer: &str,
        heard: &[&Delivery],
        fault: &Fault,
        from: SystemTime,
    ) {
        if let Some(mut batch) = self.batch(consumer, heard, from) {
            span::fail(&mut batch, fault.kind(), fault.to_string());
            self.record(batch);
        }
    }

    /// An event could not be handled; it is delivered again, or is a dead letter.
    pub(crate) fn failed(
        &self,
        consumer: &str,
        delivery: &Delivery,
        fault: &Fault,
        from: SystemTime,
        dead: bool,
    ) {
        let when = (from, clock::moment());
        for (mut span, _) in Self::each(consumer, &[delivery], when) {
            span::fail(&mut span, fault.kind(), fault.to_string());
            if dead {
                span::set(&mut span, "dead_letter", true);
            }
            self.record(span);
        }
    }

    /// An event was handled again by hand, because a request asked for it.
    pub(crate) fn redriven(
        &self,
        consumer: &str,
        delivery: &Delivery,
        said: &[Committed],
        asked: Option<SpanRef>,
        from: SystemTime,
    ) {
        let Some(heard) = delivery.heard.filter(|heard| heard.recorded) else {
            return;
        };
        let when = (from, clock::moment());
        let mut span = span::process(&delivery.envelope, consumer, heard.here, when);
        span::set(&mut span, "redriven", true);
        if let Some(asked) = asked {
            span::link(&mut span, asked, vec![KeyValue::new("asked", true)]);
        }
        for committed in said {
            span::refused(&mut span, &committed.envelope);
        }
        super::request::continues(heard.here);
        self.record(span);
    }

    // The span of a batch that has something sampled in it.
    fn batch(&self, consumer: &str, heard: &[&Delivery], from: SystemTime) -> Option<SpanData> {
        if !self.is_on() || heard.iter().all(|delivery| delivery.heard.is_none()) {
            return None;
        }
        let mut batch = span::batch(consumer, heard.len(), (from, clock::moment()));
        for delivery in heard {
            let Some(place) = delivery.heard else {
                continue;
            };
            let id = KeyValue::new("messaging.message.id", delivery.envelope.id.to_string());
            span::link(&mut batch, place.here, vec![id]);
        }
        Some(batch)
    }

    // The spans of the events that are sampled.
    fn each<'a>(
        consumer: &'a str,
        heard: &'a [&'a Delivery],
        when: (SystemTime, SystemTime),
    ) -> impl Iterator<Item = (SpanData, &'a Delivery)> + use<'a> {
        heard.iter().filter_map(move |delivery| {
            let place = delivery.heard.filter(|heard| heard.recorded)?;
            let mut span = span::process(&delivery.envelope, consumer, place.here, when);
            if place.delivery > 1 {
                span::set(
                    &mut span,
                    "messaging.nats.delivery_count",
                    i64::from(place.delivery),
                );
            }
            Some((span, *delivery))
        })
    }

    /// Events have committed: those with a decision of its own get its span.
    pub(crate) fn decided(&self, said: &[Committed]) {
        if !self.is_on() {
            return;
        }
        for committed in said {
            let Some(trace) = &committed.trace else {
                continue;
            };
            let Some(decision) = &trace.decision else {
                continue;
            };
            let envelope = &committed.envelope;
            let here = trace.parent.beside(deciding(envelope.id));
            let when = (decision.from, clock::moment());
            let mut span = span::decide(envelope, here, trace.parent, when);
            span::set(&mut span, "set_off_by", decision.set_off_by);
            for (step, answer) in &decision.joined {
                let step = KeyValue::new("step", *step);
                let answered = here.beside(publishing(*answer));
                span::link(&mut span, answered, vec![step]);
            }
            if let Some(asked) = decision.asked {
                span::link(&mut span, asked, vec![KeyValue::new("asked", true)]);
            }
            self.record(span);
        }
    }

    /// An event is in the stream, or will never be: then with the reason.
    pub(crate) fn published(&self, event: &Committed, from: SystemTime, never: Option<&str>) {
        if !self.is_on() {
            return;
        }
        let Some(trace) = event.trace.as_ref().filter(|trace| trace.recorded) else {
            return;
        };
        let (here, parent) = trace.of_event(event.envelope.id);
        let when = (from, clock::moment());
        let mut span = span::publish(&event.envelope, here, parent, when);
        if let Some(reason) = never {
            span::fail(&mut span, "refused by the broker", reason.to_owned());
        }
        self.record(span);
    }
}
