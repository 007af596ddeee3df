//! `ensemble map`: who says what to whom, as the code declares it.

mod asyncapi;
mod draw;
mod lint;
mod live;
mod model;
mod readme;
mod schema;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use events::Flow;
use jetstream::Settings;
use jetstream::stream::topology;
use serde_json::json;

use crate::SERVICES;
use crate::failure::Failure;
use crate::reach::Broker;
use crate::terminal::say;
use model::Map;

pub(crate) const EXAMPLES: &str = "\
Examples:
  ensemble map                            who says what, who hears it, and what for
  ensemble map --format dot | dot -Tsvg > map.svg
  ensemble map --format json | jq '.events[] | select(.said_by == \"stock\")'
  ensemble map --format asyncapi > asyncapi.json
  ensemble map --format mermaid --write README.md
  ensemble map --check                    what is wrong with it
  ensemble map --check --live             and with the broker of the running system
  ensemble map --check --live --nats-url nats://127.0.0.1:4222 --json

It is read off the catalog of events and the services' own subscriptions. A document that
--write draws into marks the place with <!-- map:begin --> and <!-- map:end -->.

With findings it exits with 3.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Draw it between the marks of this document instead of printing it
    #[arg(long, value_name = "DOCUMENT", conflicts_with_all = ["check", "json"])]
    write: Option<PathBuf>,
    /// Look for what must not be: subjects that nobody reacts to, failures that a step does not
    /// compensate, effects without a compensation, second writers, circles without an end
    #[arg(long)]
    check: bool,
    /// With --check: look at the broker too, for consumers, filters and subjects that differ
    /// from the code
    #[arg(long, requires = "check")]
    live: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// The flows that the deployment allows
    #[arg(
        long,
        env = "ENSEMBLE_FLOWS",
        value_delimiter = ',',
        default_value = "parallel,sequential",
        value_parser = |text: &str| Flow::named(text).map_err(|e| e.to_string())
    )]
    flows: Vec<Flow>,
    #[command(flatten)]
    broker: Broker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line for each event
    Table,
    /// A flowchart in Mermaid
    Mermaid,
    /// A graph for Graphviz
    Dot,
    /// An AsyncAPI 3.0 document, with schemas and examples of the messages
    #[value(name = "asyncapi")]
    AsyncApi,
    /// All of it
    Json,
}

pub(crate) async fn run(args: &Args) -> Result<(), Failure> {
    if args.check {
        return check(args).await;
    }
    let map = Map::of(&SERVICES, &args.flows);
    let format = if args.json { Format::Json } else { args.format };
    let (language, text) = match format {
        Format::Table => ("text", draw::table(&map)),
        Format::Mermaid => ("mermaid", draw::mermaid(&map)),
        Format::Dot => ("dot", draw::dot(&map)),
        Format::AsyncApi => ("json", format!("{:#}\n", asyncapi::document(&map)?)),
        Format::Json => ("json", format!("{:#}\n", map.json())),
    };
    match &args.write {
        Some(document) => write(document, language, &text)?,
        None => say(text.trim_end()),
    }
    Ok(())
}

fn write(document: &Path, language: &str, text: &str) -> Result<(), String> {
    let failed = |what: &str, e: &dyn std::fmt::Display| {
        format!("cannot {what} {}: {e}", document.display())
    };
    let old = std::fs::read_to_string(document).map_err(|e| failed("read", &e))?;
    let new = readme::with_picture(&old, language, text).ok_or_else(|| {
        format!(
            "{} does not say where: put {} and {} into it",
            document.display(),
            readme::BEGIN,
            readme::END
        )
    })?;
    std::fs::write(document, new).map_err(|e| failed("write", &e))
}

async fn check(args: &Args) -> Result<(), Failure> {
    let mut findings = lint::check(&SERVICES);
    if args.live {
        findings.extend(differences(args).await?);
    }
    if args.json {
        say(&format!("{:#}", json!({ "findings": findings })));
    } else {
        for finding in &findings {
            say(finding);
        }
    }
    match findings.len() {
        0 if args.json => Ok(()),
        0 if args.live => {
            println!("nothing is wrong with the map, and the broker is as the code has it");
            Ok(())
        }
        0 => {
            println!("nothing is wrong with the map");
            Ok(())
        }
        n => Err(Failure::Found(format!("{n} finding(s) on the map"))),
    }
}

async fn differences(args: &Args) -> Result<Vec<String>, String> {
    let broker = args.broker.connect("map").await?;
    let settings = Settings {
        flows: args.flows.clone(),
        ..Settings::default()
    };
    let wanted: Vec<_> = SERVICES.iter().map(|s| s.consumer(&settings)).collect();
    let found = topology::look(&broker).await.map_err(|e| e.to_string())?;
    Ok(live::differences(&wanted, &found))
}
