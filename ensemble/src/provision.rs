//! `ensemble provision`: the stream and the consumers, as the code declares them.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use events::{Flow, catalog};
use jetstream::Settings;
use jetstream::stream::difference::{self, Difference};
use jetstream::stream::permissions::{self, Grant};
use jetstream::stream::topology::{self, Retention};
use jetstream::stream::{broker, inspect, topology::ConsumerSpec};

use crate::SERVICES;
use crate::reach::Broker;
use crate::terminal::duration;

pub(crate) const EXAMPLES: &str = "\
Examples:
  ensemble provision --nats-url nats://127.0.0.1:4222
  ensemble provision --nats-url nats://127.0.0.1:4222 --flows parallel --dry-run
  ensemble provision --nats-url nats://127.0.0.1:4222 --resume
  ensemble provision --print-permissions > deploy/nats/permissions.conf";

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
    /// Bytes that the stream may take; beyond, new events are refused and wait in the
    /// outboxes. Less than the broker's disk; without it, no limit
    #[arg(long, env = "ENSEMBLE_STREAM_MAX_BYTES", value_name = "BYTES", value_parser = clap::value_parser!(i64).range(1_000_000..))]
    stream_max_bytes: Option<i64>,
    /// Copies of the stream in a cluster of brokers
    #[arg(long, env = "ENSEMBLE_STREAM_REPLICAS", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    stream_replicas: u8,
    /// Only say what would be created or changed
    #[arg(long)]
    dry_run: bool,
    /// Change what is live without asking
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Resume the consumers that somebody has paused
    #[arg(long)]
    resume: bool,
    /// Print what each user of the broker may do, as configuration for nats-server, and end
    #[arg(long)]
    print_permissions: bool,
}

/// What each user of the broker may do.
#[must_use]
pub fn grants() -> Vec<Grant> {
    let services = SERVICES.iter().map(|service| {
        // Order alone says "look again", to its own instances.
        let hints: &[&str] = match service.name == order_svc::SERVICE.name {
            true => &[order_svc::HINTS],
            false => &[],
        };
        Grant::service(service.name, hints)
    });
    services
        .chain([Grant::provisioner(), Grant::reader()])
        .collect()
}

pub(crate) async fn run(args: &Args) -> Result<(), String> {
    if args.print_permissions {
        print!("{}", permissions::render(&grants()));
        return Ok(());
    }
    let broker = args.broker.connect("provision").await?;
    let settings = Settings {
        flows: args.flows.clone(),
        ..Settings::default()
    };
    let consumers: Vec<_> = SERVICES.iter().map(|s| s.consumer(&settings)).collect();
    let retention = Retention {
        max_bytes: args.stream_max_bytes.unwrap_or(-1),
        replicas: args.stream_replicas.into(),
        ..Retention::default()
    };
    let differences = difference::compare(&broker, retention, &consumers).await;
    let differences = differences.map_err(|error| error.to_string())?;
    show(&differences);
    let paused = paused(&broker, &consumers).await;
    for (name, left) in &paused {
        match args.resume {
            true => println!("resume consumer {name}, which is paused for another {left}"),
            false => println!("consumer {name} is paused for another {left}: see --resume"),
        }
    }
    let resumes = args.resume && !paused.is_empty();
    if differences.is_empty() && !resumes {
        println!("nothing to change");
        return Ok(());
    }
    if args.dry_run {
        println!("\nnothing was changed: this was a dry run");
        return Ok(());
    }
    let live = differences.iter().any(|difference| difference.live);
    if live && !args.yes {
        confirm()?;
    }
    topology::provision(&broker, retention, &consumers)
        .await
        .map_err(|error| error.to_string())?;
    for (name, _) in paused.iter().filter(|_| args.resume) {
        let resumed = topology::resume(&broker, name).await;
        resumed.map_err(|error| error.to_string())?;
    }
    summarize(&consumers);
    Ok(())
}

/// The consumers that are paused, and for how much longer. To provision leaves them so unless
/// it is told otherwise: somebody has paused them on purpose.
async fn paused(broker: &broker::Context, consumers: &[ConsumerSpec]) -> Vec<(String, String)> {
    let mut paused = Vec::new();
    for spec in consumers {
        if let Ok(consumer) = inspect::consumer(broker, &spec.durable).await
            && consumer.paused
        {
            paused.push((spec.durable.clone(), duration(consumer.paused_for())));
        }
    }
    paused
}

fn show(differences: &[Difference]) {
    for Difference { what, live, lines } in differences {
        let verb = if *live { "change" } else { "create" };
        println!("{verb} {what}");
        // A new one is as the code declares it; what changes is worth a line each.
        for line in lines.iter().filter(|_| *live) {
            println!("    {line}");
        }
    }
}

fn confirm() -> Result<(), String> {
    let refused = "nothing was changed: what is live is changed with --yes, and --dry-run only \
                   says what would be";
    if !std::io::stdin().is_terminal() {
        return Err(refused.to_owned());
    }
    print!("\nChange what is live? [y/N] ");
    let _ = std::io::stdout().flush();
    let mut answer = String::new();
    let _ = std::io::stdin().lock().read_line(&mut answer);
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(refused.to_owned()),
    }
}

fn summarize(consumers: &[ConsumerSpec]) {
    println!("\nstream    {}", catalog::STREAM);
    for consumer in consumers {
        let filters = consumer.filters.join(" ");
        println!("consumer  {:<8} {filters}", consumer.durable);
    }
}
