//! `ensemble timeline`: what happened to an order, read from the stream.

use std::collections::HashMap;
use std::fmt::Write as _;

use events::catalog::Kind;
use events::{EventId, OrderId, body};
use jetstream::clock;
use jetstream::stream::broker;
use jetstream::stream::history::{self, Recorded};
use serde_json::json;

use crate::Broker;

pub(crate) const EXAMPLES: &str = "\
Examples:
  ensemble timeline 01890a5d-ac96-774b-bcce-b302099a8057
  ensemble timeline 01890a5d-ac96-774b-bcce-b302099a8057 --json | jq .events";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The order
    order_id: String,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: Broker,
}

pub(crate) async fn run(args: &Args) -> Result<(), String> {
    let order: OrderId = args.order_id.parse().map_err(|_| {
        format!(
            "`{}` is not an order id: it looks like a UUID",
            args.order_id
        )
    })?;
    let broker = broker::connect(&args.broker.url()?, "timeline").await;
    let broker = broker.map_err(|error| error.to_string())?;
    let recorded = history::of_order(&broker, order)
        .await
        .map_err(|error| error.to_string())?;
    if recorded.is_empty() {
        return Err(format!(
            "the stream has no event of order {order}: it was never placed here, or its events \
             are older than the stream keeps them"
        ));
    }
    match args.json {
        true => println!("{}", as_json(order, &recorded)),
        false => print!("{}", draw(order, &recorded)),
    }
    Ok(())
}

/// The events of an order, one line each, in order of time: when, who, what, because of
/// what.
pub(crate) fn draw(order: OrderId, recorded: &[Recorded]) -> String {
    let mut events: Vec<&Recorded> = recorded.iter().collect();
    events.sort_by_key(|event| (event.envelope.time, event.stream_sequence));
    let start = events.first().map_or(0, |event| event.envelope.time);
    let subjects: HashMap<EventId, &str> = events
        .iter()
        .map(|event| (event.envelope.id, event.envelope.entry.subject))
        .collect();
    let mut text = format!("order {order}, placed {}\n\n", clock::rfc3339(start));
    for event in events {
        let envelope = &event.envelope;
        let cause = match envelope.causation {
            None => "from outside",
            Some(cause) => subjects
                .get(&cause)
                .copied()
                .unwrap_or("an event that is not here"),
        };
        let _ = writeln!(
            text,
            "{:>7} ms  {:<7} {:<24} ◄ {cause}{}",
            envelope.time - start,
            envelope.entry.writer,
            envelope.entry.subject,
            remark(event),
        );
    }
    text
}

fn remark(event: &Recorded) -> String {
    let bytes = event.envelope.body.clone();
    match event.envelope.entry.kind {
        Kind::Refused(_) => match body::refusal(bytes) {
            Ok(refusal) if refusal.reason.is_empty() => format!("   {}", refusal.code),
            Ok(refusal) => format!("   {} ({})", refusal.code, refusal.reason),
            Err(error) => format!("   unreadable: {error}"),
        },
        Kind::Undone(_) => match body::read_undone(bytes) {
            Ok(undone) if undone.nothing_to_undo => "   nothing to undo".to_owned(),
            Ok(_) => String::new(),
            Err(error) => format!("   unreadable: {error}"),
        },
        Kind::Canceled => match body::read_canceled(bytes) {
            Ok(canceled) if canceled.attempt > 1 => {
                format!(
                    "   {}, attempt {}",
                    canceled.reason.code(),
                    canceled.attempt
                )
            }
            Ok(canceled) => format!("   {}", canceled.reason.code()),
            Err(error) => format!("   unreadable: {error}"),
        },
        _ => String::new(),
    }
}

fn as_json(order: OrderId, recorded: &[Recorded]) -> String {
    let events: Vec<_> = recorded
        .iter()
        .map(|event| {
            let envelope = &event.envelope;
            json!({
                "subject": envelope.entry.subject,
                "event_id": envelope.id,
                "cause": envelope.causation,
                "time": clock::rfc3339(envelope.time),
                "service": envelope.entry.writer,
                "stream_sequence": event.stream_sequence,
                "traceparent": envelope.traceparent,
                "body": events::render::body(envelope)
                    .unwrap_or_else(|error| json!({ "unreadable": error.to_string() })),
            })
        })
        .collect();
    json!({ "order_id": order, "events": events }).to_string()
}
