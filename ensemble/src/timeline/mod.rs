//! `ensemble timeline`: what happened to an order.

pub(crate) mod draw;
pub(crate) mod event;
pub(crate) mod source;

use events::OrderId;
use serde_json::json;

use crate::reach::Reach;
use crate::terminal::{Paint, remark, say};

pub(crate) const EXAMPLES: &str = "\
Examples:
  ensemble timeline 01890a5d-ac96-774b-bcce-b302099a8057
  ensemble timeline 01890a5d-ac96-774b-bcce-b302099a8057 --json | jq '.events[].subject'
  ensemble timeline 01890a5d-ac96-774b-bcce-b302099a8057 --url http://127.0.0.1:8081,http://127.0.0.1:8082

Order remembers where the events of its orders stand, so that only they are read, however
large the stream is. Without order the stream is searched from when the order was placed.
What the stream no longer has is told by the outbox of who said it, and marked.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The order
    order_id: String,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

pub(crate) async fn run(args: &Args) -> Result<(), String> {
    let order = order_id(&args.order_id)?;
    let found = source::of_order(order, &args.reach).await?;
    if args.json {
        let events: Vec<_> = found.events.iter().map(|event| &event.view).collect();
        let answer = json!({
            "order_id": order,
            "trace_id": found.trace_id(),
            "trace_url": found.trace_url,
            "events": events,
            "notes": found.notes,
        });
        say(&answer.to_string());
        return Ok(());
    }
    say(draw::timeline(order, &found, Paint::of_stdout()).trim_end());
    for note in &found.notes {
        remark(&format!("note: {note}"));
    }
    Ok(())
}

/// Reads the id of an order from the command line.
pub(crate) fn order_id(text: &str) -> Result<OrderId, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not an order id: it looks like a UUID"))
}
