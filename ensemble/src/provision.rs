//! `ensemble provision`: the stream and the consumers, as the code declares them.

use events::{Flow, catalog};
use jetstream::Settings;
use jetstream::stream::broker;
use jetstream::stream::topology::{self, Retention};

use crate::{Broker, SERVICES};

pub(crate) const EXAMPLES: &str = "\
Examples:
  ensemble provision --nats-url nats://127.0.0.1:4222
  ensemble provision --nats-url nats://127.0.0.1:4222 --flows parallel";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    broker: Broker,
    /// The flows that the deployment allows
    #[arg(
        long,
        env = "ENSEMBLE_FLOWS",
        value_delimiter = ',',
        default_value = "parallel,sequential",
        value_parser = |text: &str| Flow::named(text).map_err(|e| e.to_string())
    )]
    flows: Vec<Flow>,
}

pub(crate) async fn run(args: &Args) -> Result<(), String> {
    let broker = broker::connect(&args.broker.url()?, "provision").await;
    let broker = broker.map_err(|error| error.to_string())?;
    let settings = Settings {
        flows: args.flows.clone(),
        ..Settings::default()
    };
    let consumers: Vec<_> = SERVICES.iter().map(|s| s.consumer(&settings)).collect();
    topology::provision(&broker, Retention::default(), &consumers)
        .await
        .map_err(|error| error.to_string())?;
    println!("stream    {}", catalog::STREAM);
    for consumer in consumers {
        println!(
            "consumer  {:<8} {}",
            consumer.durable,
            consumer.filters.join(" ")
        );
    }
    Ok(())
}
