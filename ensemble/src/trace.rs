//! `ensemble trace`: the trace of an order, made from its events in the stream.

use std::path::PathBuf;

use events::Envelope;
use jetstream::stream::history;
use jetstream::telemetry::{Rebuilt, rebuild};
use serde_json::json;

use crate::reach::Broker;
use crate::terminal::say;
use crate::timeline::order_id;

pub(crate) const EXAMPLES: &str = "\
Examples:
  ensemble trace 01890a5d-ac96-774b-bcce-b302099a8057 --otlp http://127.0.0.1:4317
  ensemble trace 01890a5d-ac96-774b-bcce-b302099a8057 --out trace.json
  ensemble trace 01890a5d-ac96-774b-bcce-b302099a8057 | jq '.data[0].spans | length'

The file is one that Jaeger's user interface opens (Search, Upload). An order that was not
sampled has its own id as the id of its trace.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The order
    order_id: String,
    /// Send the trace to this OTLP/gRPC endpoint, like http://127.0.0.1:4317
    #[arg(long, value_name = "URL", conflicts_with = "out")]
    otlp: Option<String>,
    /// Save the trace as a file for Jaeger; without this and --otlp it is printed
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Say as JSON what was sent or saved; what is printed is JSON in any case
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: Broker,
}

pub(crate) async fn run(args: &Args) -> Result<(), String> {
    let order = order_id(&args.order_id)?;
    let broker = args.broker.connect("trace").await?;
    let recorded = history::of_order(&broker, order).await;
    let recorded = recorded.map_err(|error| error.to_string())?;
    let events: Vec<Envelope> = recorded.into_iter().map(|event| event.envelope).collect();
    if events.is_empty() {
        return Err(format!(
            "the stream has no event of order {order}: it was never placed here, or its events \
             are older than the stream keeps them"
        ));
    }
    hand_over(rebuild(order, &events), args).await
}

async fn hand_over(trace: Rebuilt, args: &Args) -> Result<(), String> {
    let (id, spans) = (trace.trace_id(), trace.len());
    match (&args.otlp, &args.out) {
        (Some(endpoint), _) => {
            trace.send(endpoint).await?;
            match args.json {
                true => {
                    say(&json!({ "trace_id": id, "spans": spans, "sent_to": endpoint }).to_string())
                }
                false => say(&format!(
                    "trace {id}: {spans} spans were sent to {endpoint}"
                )),
            }
        }
        (None, Some(path)) => {
            let text = trace.as_jaeger().to_string();
            std::fs::write(path, text)
                .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
            match args.json {
                true => say(&json!({ "trace_id": id, "spans": spans, "file": path }).to_string()),
                false => say(&format!(
                    "trace {id}: {spans} spans are in {}",
                    path.display()
                )),
            }
        }
        (None, None) => say(&trace.as_jaeger().to_string()),
    }
    Ok(())
}
