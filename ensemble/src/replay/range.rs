//! A range of the stream, as it is named on the command line, and how it is read.

use std::collections::BTreeSet;

use events::OrderId;
use events::catalog::Kind;
use indicatif::{ProgressBar, ProgressStyle};
use jetstream::clock;
use jetstream::replay::{Before, Tape};
use jetstream::stream::broker::Context;
use jetstream::stream::history::{self, Recorded};
use jetstream::stream::reader::{self, Reader, Start, Stored};

// The clocks of services and broker may differ by this much.
pub(super) const CLOCK_DIFFERENCE: i64 = 60_000;
// Events beyond a range that are read to learn which answers came later.
const BEYOND: u64 = 2_000;
// Shorter ranges are read before a bar could be looked at.
const LONG: u64 = 20_000;

/// Which part of the stream.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Range {
    /// The events of this order
    #[arg(long, value_name = "ORDER", conflicts_with_all = ["from", "until", "from_seq", "to_seq"])]
    pub(crate) order: Option<OrderId>,
    /// From this time on, like 2026-11-25T10:00:00Z, or 15m, 2h or 3d ago
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with_all = ["from_seq", "to_seq"])]
    pub(crate) from: Option<i64>,
    /// Until this time
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with_all = ["from_seq", "to_seq"])]
    pub(crate) until: Option<i64>,
    /// From this sequence of the stream on
    #[arg(long, value_name = "SEQ")]
    pub(crate) from_seq: Option<u64>,
    /// Until this sequence
    #[arg(long, value_name = "SEQ")]
    pub(crate) to_seq: Option<u64>,
}

impl Range {
    /// Where reading begins.
    pub(crate) fn start(&self) -> Start {
        match (self.from, self.from_seq) {
            (Some(time), _) => Start::Time(time - CLOCK_DIFFERENCE),
            (None, Some(sequence)) => Start::Sequence(sequence),
            (None, None) => Start::Sequence(1),
        }
    }

    /// Whether an event of the time and sequence is in it.
    pub(crate) fn has(&self, time: i64, sequence: u64) -> bool {
        self.from.is_none_or(|from| from <= time)
            && self.until.is_none_or(|until| time <= until)
            && self.from_seq.is_none_or(|from| from <= sequence)
            && self.to_seq.is_none_or(|to| sequence <= to)
    }

    /// Whether nothing of it comes any more.
    pub(crate) fn is_past(&self, time: i64, sequence: u64) -> bool {
        self.until
            .is_some_and(|until| time > until + CLOCK_DIFFERENCE)
            || self.to_seq.is_some_and(|to| sequence > to)
    }

    /// Refuses what can never have an event.
    pub(crate) async fn check(&self, broker: &Context) -> Result<(), String> {
        if let (Some(from), Some(until)) = (self.from, self.until)
            && from > until
        {
            return Err("--from is after --until: there is nothing between them".to_owned());
        }
        if let (Some(from), Some(to)) = (self.from_seq, self.to_seq)
            && from > to
        {
            return Err("--from-seq is above --to-seq: there is nothing between them".to_owned());
        }
        let Some(sequence) = self.from_seq else {
            return Ok(());
        };
        let (first, last) = reader::bounds(broker).await?;
        match sequence > last {
            true => Err(format!(
                "sequence {sequence} is beyond the end of the stream, which has {first} to {last}"
            )),
            false => Ok(()),
        }
    }

    /// Nothing was found in it.
    pub(crate) fn is_empty(&self) -> String {
        match self.order {
            Some(order) => format!(
                "the stream has no event of order {order}: it was never placed here, or its \
                 events are older than the stream keeps them"
            ),
            None => "the stream has no event in this range".to_owned(),
        }
    }
}

/// How much is read to replay a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The range, and for the state before it all that the stream has.
    WithAllBefore,
    /// The range alone.
    Range,
}

/// Reads a range to replay it.
pub(crate) async fn tape(
    broker: &Context,
    range: &Range,
    reading: Reading,
) -> Result<Tape, String> {
    range.check(broker).await?;
    let start = match (reading, range.order) {
        (Reading::WithAllBefore, _) => Start::Sequence(1),
        (Reading::Range, Some(order)) => Start::Time(placed_at(order) - CLOCK_DIFFERENCE),
        (Reading::Range, None) => range.start(),
    };
    let mut reader = Reader::start(broker, ">", start);
    let mut bar = None;
    let mut events: Vec<Recorded> = Vec::new();
    let mut beyond = 0;
    'reading: while let Some(page) = reader.next().await? {
        let bar = bar.get_or_insert_with(|| progress(&page, "reading"));
        bar.inc(page.len() as u64);
        for stored in page {
            let sequence = stored.sequence;
            let event = stored
                .decode()
                .map_err(|error| format!("the event at {sequence} cannot be read: {error}"))?;
            if range.is_past(event.envelope.time, sequence) {
                beyond += 1;
            }
            events.push(event);
            if beyond > BEYOND {
                break 'reading;
            }
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let in_range = |event: &&Recorded| match range.order {
        Some(order) => event.envelope.correlation == order.0,
        None => range.has(event.envelope.time, event.stream_sequence),
    };
    let mut sequences = events
        .iter()
        .filter(in_range)
        .map(|event| event.stream_sequence);
    let Some(first) = sequences.next() else {
        return Err(range.is_empty());
    };
    let last = sequences.next_back().unwrap_or(first);
    let placed = events.iter().filter(in_range);
    let mut placed = placed.map(|event| event.envelope.entry.kind);
    if range.order.is_some() && !placed.any(|kind| kind == Kind::Created) {
        return Err("the stream has lost the beginning of this order: replay a range".to_owned());
    }
    let mut tape = Tape::new(events, Before::Everything).until(last);
    tape.first = first;
    tape.orders = range.order.map(|order| BTreeSet::from([order]));
    Ok(tape)
}

/// When an order was placed, which its id says.
fn placed_at(order: OrderId) -> i64 {
    history::placed_at(order)
}

/// A bar on stderr, if a person looks and there is something to wait for.
pub(crate) fn progress(first: &[Stored], what: &'static str) -> ProgressBar {
    let all = first.first().map_or(0, |stored| stored.pending + 1);
    if all < LONG {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {bar:40} {pos} of {len} events, {eta} left");
    let bar = ProgressBar::new(all).with_message(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Reads a time: RFC 3339, or so long ago.
fn time(text: &str) -> Result<i64, String> {
    if let Some(time) = clock::parse_rfc3339(text) {
        return Ok(time);
    }
    let wrong = || "must be a time like 2026-11-25T10:00:00Z, or 90s, 15m, 2h or 3d ago".to_owned();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: i64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let ago = count.checked_mul(seconds * 1_000).filter(|_| count >= 0);
    Ok(clock::wall() - ago.ok_or_else(wrong)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_or_so_long_ago() {
        assert_eq!(time("2023-11-14T22:13:20.123Z"), Ok(1_700_000_000_123));
        let then = time("2h").expect("a time");
        let ago = clock::wall() - then;
        assert!((7_200_000..7_300_000).contains(&ago), "{ago}");
        for wrong in [
            "",
            "yesterday",
            "h",
            "-2h",
            "2w",
            "99999999999999999999d",
            "µ",
        ] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
