//! Places in traces, as W3C Trace Context writes them, and the ids of spans.

use events::EventId;

/// A span of a sampled trace. What is not sampled has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanRef {
    /// The trace.
    pub trace: u128,
    /// The span in it.
    pub span: u64,
}

/// What a `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parent {
    Sampled(SpanRef),
    /// Who began the trace decided that it is not sampled.
    Unsampled,
}

impl SpanRef {
    /// Reads a `traceparent`; nothing when it is none, or says that it is not sampled.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        match Parent::parse(traceparent)? {
            Parent::Sampled(place) => Some(place),
            Parent::Unsampled => None,
        }
    }

    /// Writes it as a `traceparent`.
    #[must_use]
    pub fn traceparent(self) -> String {
        format!("00-{:032x}-{:016x}-01", self.trace, self.span)
    }

    /// Another span of the same trace.
    pub(crate) fn beside(self, span: u64) -> Self {
        Self { span, ..self }
    }
}

impl Parent {
    pub(crate) fn parse(traceparent: &str) -> Option<Self> {
        let version = number(traceparent.get(..2)?)?;
        // A later version may say more after the four fields; 255 is forbidden.
        let whole = match version {
            0 => traceparent.len() == 55,
            255 => false,
            _ => traceparent.len() == 55 || traceparent.as_bytes().get(55) == Some(&b'-'),
        };
        let mut fields = traceparent.get(3..55)?.split('-');
        let (trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?);
        if !whole || (trace.len(), span.len(), flags.len()) != (32, 16, 2) {
            return None;
        }
        let place = SpanRef {
            trace: number(trace)?,
            span: u64::try_from(number(span)?).ok()?,
        };
        if place.trace == 0 || place.span == 0 {
            return None;
        }
        Some(match number(flags)? & 1 {
            1 => Self::Sampled(place),
            _ => Self::Unsampled,
        })
    }
}

// The standard allows lower case only.
fn number(hex: &str) -> Option<u128> {
    let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let valid = hex.bytes().all(lower);
    u128::from_str_radix(hex, 16).ok().filter(|_| valid)
}

/// The trace id of a `traceparent`.
#[must_use]
pub fn trace_id(traceparent: &str) -> Option<&str> {
    traceparent.split('-').nth(1).filter(|id| id.len() == 32)
}

/// The span in which an event is published: the second half of its id. So whoever knows
/// an event can link to its span.
pub(crate) fn publishing(event: EventId) -> u64 {
    event.0.as_u64_pair().1
}

/// The span in which a service handles an event, the n-th time that it is delivered.
pub(crate) fn processing(event: EventId, service: &str, delivery: u32) -> u64 {
    publishing(EventId::derived(event, service, "process", delivery))
}

/// The span in which an event was decided, where that has one of its own.
pub(crate) fn deciding(event: EventId) -> u64 {
    publishing(EventId::derived(event, "", "decide", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn only_a_whole_traceparent_is_followed() {
        let good = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let read = SpanRef::parse(&good).expect("a traceparent");
        assert_eq!(read.traceparent(), good);
        assert_eq!(trace_id(&good), Some(TRACE));
        // A version to come.
        let later = format!("cc-{TRACE}-00f067aa0ba902b7-01-what-else");
        assert_eq!(SpanRef::parse(&later), Some(read));
        for bad in [
            String::new(),
            "00-0-0-01".to_owned(),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-00f067aa0ba902b7-ü1"),
        ] {
            assert!(Parent::parse(&bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_sampled_is_told_from_what_is_no_context() {
        let unsampled = format!("00-{TRACE}-00f067aa0ba902b7-00");
        assert_eq!(Parent::parse(&unsampled), Some(Parent::Unsampled));
        assert_eq!(SpanRef::parse(&unsampled), None);
    }

    #[test]
    fn the_spans_of_an_event_are_told_apart() {
        let event = EventId(uuid::Uuid::from_u128(7 << 64 | 8));
        let spans = [
            publishing(event),
            processing(event, "stock", 1),
            processing(event, "stock", 2),
            processing(event, "point", 1),
            deciding(event),
        ];
        let all: std::collections::BTreeSet<_> = spans.iter().collect();
        assert_eq!(all.len(), spans.len());
        assert_eq!(publishing(event), 8);
    }
}
