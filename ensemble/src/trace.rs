//! `ensemble trace`: the trace of an order, made from its events in the stream.

use std::path::PathBuf;

use events::{Envelope, OrderId};
use jetstream::stream::{broker, history};
use jetstream::telemetry::{Rebuilt, rebuild};

use crate::Broker;

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
    let broker = broker::connect(&args.broker.url()?, "trace").await;
    let broker = broker.map_err(|error| error.to_string())?;
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
            println!("trace {id}: {spans} spans were sent to {endpoint}");
        }
        (None, Some(path)) => {
            let text = trace.as_jaeger().to_string();
            std::fs::write(path, text)
                .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
            println!("trace {id}: {spans} spans are in {}", path.display());
        }
        (None, None) => println!("{}", trace.as_jaeger()),
    }
    Ok(())
}
