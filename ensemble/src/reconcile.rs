//! `ensemble reconcile`: compares outboxes and stream by hand.

use serde_json::{Value, json};

use crate::api;
use crate::failure::Failure;

pub(crate) const EXAMPLES: &str = "\
Examples:
  ensemble reconcile                 as far back as the stream goes
  ensemble reconcile --minutes 60
  ensemble reconcile --json

The services do this by themselves: at their start, when the broker was away, every minute
what is new, and every day everything.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How far to look back; without it, as far as the stream goes
    #[arg(long)]
    minutes: Option<u32>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: api::OperatorArgs,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let operator = args.api.operator()?;
    let body = match args.minutes {
        Some(minutes) => json!({ "minutes": minutes }),
        None => json!({}),
    };
    let mut services: Vec<Value> = Vec::new();
    for url in &operator.urls {
        let answer = operator
            .post(url, "/reconcile", &body)
            .await
            .map_err(|refused| refused.text)?;
        services.extend(answer["services"].as_array().cloned().unwrap_or_default());
    }
    let fenced = services
        .iter()
        .any(|s| s["unknown"].as_array().is_some_and(|u| !u.is_empty()));
    if args.json {
        println!("{}", json!({ "services": services }));
    } else {
        services.iter().for_each(print);
    }
    match fenced {
        true => Err(Failure::Found(
            "a service is fenced: its database was set back; see above".to_owned(),
        )),
        false => Ok(()),
    }
}

fn print(service: &Value) {
    println!(
        "{:<7} {} events in the stream, {} compared, {} said again",
        service["service"].as_str().unwrap_or_default(),
        service["in_stream"],
        service["compared"],
        service["republished"],
    );
    for event in service["unknown"].as_array().into_iter().flatten() {
        let id = event["event_id"].as_str().unwrap_or_default();
        println!(
            "        not in the database: {id}, number {}",
            event["pseq"]
        );
    }
}
