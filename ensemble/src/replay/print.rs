//! Events as they are read, as text or JSON lines.

use std::io::{BufWriter, ErrorKind, StdoutLock, Write};
use std::time::Duration;

use events::{Malformed, catalog, render};
use jetstream::clock;
use jetstream::replay::Tape;
use jetstream::shell::host;
use jetstream::stream::broker::Context;
use jetstream::stream::history::Recorded;
use jetstream::stream::reader::{self, Reader, Start};
use serde_json::{Value, json};

use super::Args;
use super::range::{CLOCK_DIFFERENCE, progress};
use crate::failure::Failure;

// Following looks again this often.
const AGAIN: Duration = Duration::from_millis(250);

/// Prints a file's events.
pub(super) fn tape(args: &Args, tape: &Tape) -> Result<(), Failure> {
    let mut printer = Printer::new(args);
    for event in tape.events() {
        let subject = event.envelope.entry.subject;
        if printer.wants(subject) && !printer.event(event) {
            break;
        }
    }
    printer.end();
    Ok(())
}

/// Prints a range of the stream.
pub(super) async fn stream(args: &Args, broker: &Context) -> Result<(), Failure> {
    args.range.check(broker).await?;
    let mut printer = Printer::new(args);
    let mut start = match args.range.order {
        Some(order) => {
            let placed_at = jetstream::stream::history::placed_at(order);
            Start::Time(placed_at - CLOCK_DIFFERENCE)
        }
        None if args.follow && args.range.from.is_none() && args.range.from_seq.is_none() => {
            Start::Sequence(reader::bounds(broker).await.map_err(|e| e.to_string())?.1 + 1)
        }
        None => args.range.start(),
    };
    let mut interrupted = std::pin::pin!(host::interrupted());
    loop {
        let read = tokio::select! {
            () = &mut interrupted => break,
            read = to_the_end(args, broker, start, &mut printer) => read,
        };
        match read {
            Ok(Some(next)) if args.follow => start = Start::Sequence(next),
            Ok(Some(_)) => {
                if printer.printed == 0 {
                    return Err(args.range.is_empty().into());
                }
                break;
            }
            // Who reads has read enough.
            Ok(None) => break,
            Err(error) if args.follow => eprintln!("ensemble: {error}; it is tried again"),
            Err(error) => return Err(error.into()),
        }
        printer.flush();
        tokio::select! {
            () = &mut interrupted => break,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
    printer.end();
    Ok(())
}

/// Reads to the end of the stream or of the range; where to go on from, or nothing when
/// nobody listens any more.
async fn to_the_end(
    args: &Args,
    broker: &Context,
    start: Start,
    printer: &mut Printer<'_>,
) -> Result<Option<u64>, String> {
    let filter = args.subject.as_deref().unwrap_or(">");
    let mut reader = Reader::start(broker, filter, start);
    let mut next = match start {
        Start::Sequence(sequence) => sequence,
        Start::Time(_) => 1,
    };
    let mut bar = None;
    while let Some(page) = reader.next().await? {
        let bar = bar.get_or_insert_with(|| match printer.on_terminal {
            // What is printed shows how far it is.
            true => indicatif::ProgressBar::hidden(),
            false => progress(&page, "reading"),
        });
        bar.inc(page.len() as u64);
        for stored in page {
            next = stored.sequence + 1;
            let (subject, sequence) = (stored.subject.clone(), stored.sequence);
            let going_on = match stored.decode() {
                Ok(event) if args.range.is_past(event.envelope.time, sequence) => {
                    return Ok(Some(next));
                }
                Ok(event) => !printer.chosen(&event) || printer.event(&event),
                Err(error) if args.range.order.is_none() => {
                    printer.unreadable(&subject, sequence, &error)
                }
                Err(_) => true,
            };
            if !going_on {
                return Ok(None);
            }
        }
    }
    Ok(Some(next))
}

struct Printer<'a> {
    args: &'a Args,
    out: BufWriter<StdoutLock<'static>>,
    on_terminal: bool,
    printed: u64,
}

impl<'a> Printer<'a> {
    fn new(args: &'a Args) -> Self {
        use std::io::IsTerminal as _;
        let stdout = std::io::stdout();
        Self {
            args,
            on_terminal: stdout.is_terminal(),
            out: BufWriter::with_capacity(1 << 16, stdout.lock()),
            printed: 0,
        }
    }

    fn wants(&self, subject: &str) -> bool {
        let filter = self.args.subject.as_deref();
        filter.is_none_or(|filter| matches(filter, subject))
    }

    fn chosen(&self, event: &Recorded) -> bool {
        let order = self.args.range.order;
        order.is_none_or(|order| event.envelope.correlation == order.0)
            && self
                .args
                .range
                .has(event.envelope.time, event.stream_sequence)
    }

    /// Prints an event; whether anybody still reads.
    fn event(&mut self, event: &Recorded) -> bool {
        let line = match self.args.json {
            true => as_json(event).to_string(),
            false => as_text(event),
        };
        self.line(&line)
    }

    fn unreadable(&mut self, subject: &str, sequence: u64, error: &Malformed) -> bool {
        let line = match self.args.json {
            true => json!({
                "stream_sequence": sequence,
                "subject": subject,
                "unreadable": error.to_string(),
            })
            .to_string(),
            false => format!(
                "{sequence:>8}  {:24}  {:7} {subject:<24} unreadable: {error}",
                "", "?"
            ),
        };
        self.line(&line)
    }

    fn line(&mut self, line: &str) -> bool {
        self.printed += 1;
        let written = writeln!(self.out, "{line}");
        !written.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe)
    }

    fn flush(&mut self) {
        let _ = self.out.flush();
    }

    fn end(mut self) {
        self.flush();
    }
}

/// Whether a NATS filter, with `*` and `>`, matches a subject.
fn matches(filter: &str, subject: &str) -> bool {
    match filter.strip_suffix('>') {
        Some("") => true,
        Some(before) => {
            let tokens = before.trim_end_matches('.').split('.').count();
            let mut rest = subject.splitn(tokens + 1, '.');
            let head: Vec<&str> = rest.by_ref().take(tokens).collect();
            rest.next().is_some() && catalog::matches(before.trim_end_matches('.'), &head.join("."))
        }
        None => catalog::matches(filter, subject),
    }
}

fn as_text(event: &Recorded) -> String {
    let envelope = &event.envelope;
    let mut text = format!(
        "{:>8}  {:24}  {:7} {:<24} ",
        event.stream_sequence,
        clock::rfc3339(envelope.time),
        envelope.entry.writer,
        envelope.entry.subject,
    );
    match envelope.entry.kind {
        catalog::Kind::Fact => {}
        _ => text += &format!("order {}", envelope.correlation),
    }
    match render::body(envelope) {
        Ok(mut body) => {
            // The whole order is on each of its events: `--json` shows it.
            if let Some(body) = body.as_object_mut() {
                body.remove("context");
            }
            if body != json!({}) {
                text += &format!("  {body}");
            }
        }
        Err(error) => text += &format!("  unreadable: {error}"),
    }
    text
}

fn as_json(event: &Recorded) -> Value {
    let envelope = &event.envelope;
    json!({
        "stream_sequence": event.stream_sequence,
        "subject": envelope.entry.subject,
        "event_id": envelope.id,
        "cause": envelope.causation,
        "correlation_id": envelope.correlation,
        "time": clock::rfc3339(envelope.time),
        "service": envelope.entry.writer,
        "pseq": envelope.pseq,
        "traceparent": envelope.traceparent,
        "body": render::body(envelope)
            .unwrap_or_else(|error| json!({ "unreadable": error.to_string() })),
    })
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn filters_have_both_wildcards() {
        for (filter, subject) in [
            (">", "order.confirmed"),
            ("order.>", "order.created.pending"),
            ("*.failed", "order.failed"),
            ("coupon.*.failed", "coupon.use.failed"),
            ("*.use.>", "point.use.failed"),
        ] {
            assert!(matches(filter, subject), "{filter} {subject}");
        }
        for (filter, subject) in [
            ("order.>", "order"),
            ("order.*", "order.created.pending"),
            ("point.>", "order.confirmed"),
        ] {
            assert!(!matches(filter, subject), "{filter} {subject}");
        }
    }
}
