//! `ensemble dead-letters`: events that could not be handled or published.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::api;
use crate::terminal::say;

pub(crate) const EXAMPLES: &str = "\
Examples:
  ensemble dead-letters list
  ensemble dead-letters list --order 01890a5d-ac96-774b-bcce-b302099a8057
  ensemble dead-letters show 01890a5d-b0c1-7000-8000-1a2b3c4d5e6f
  ensemble dead-letters redrive 01890a5d-b0c1-7000-8000-1a2b3c4d5e6f --reason 'fixed in 0.1.1' --dry-run
  ensemble dead-letters discard 01890a5d-b0c1-7000-8000-1a2b3c4d5e6f --reason 'a test message'";

const LIST: &str = "\
Examples:
  ensemble dead-letters list
  ensemble dead-letters list --order 01890a5d-ac96-774b-bcce-b302099a8057 --json | jq '.dead_letters[].reason'";
const SHOW: &str = "\
Examples:
  ensemble dead-letters show 01890a5d-b0c1-7000-8000-1a2b3c4d5e6f
  ensemble dead-letters show 01890a5d-b0c1-7000-8000-1a2b3c4d5e6f --json | jq .body";
const REDRIVE: &str = "\
Examples:
  ensemble dead-letters redrive 01890a5d-b0c1-7000-8000-1a2b3c4d5e6f --reason 'fixed in 0.1.1' --dry-run
  ensemble dead-letters redrive 01890a5d-b0c1-7000-8000-1a2b3c4d5e6f --reason 'fixed in 0.1.1'

The event is handed to its handler; it is not published again.";
const DISCARD: &str = "\
Examples:
  ensemble dead-letters discard 01890a5d-b0c1-7000-8000-1a2b3c4d5e6f --reason 'a test message'

The event has no effect, and the letter is kept.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The open ones, of all services
    #[command(after_help = LIST)]
    List {
        /// Only those of this order
        #[arg(long)]
        order: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        api: api::OperatorArgs,
    },
    /// One of them, with what the event says
    #[command(after_help = SHOW)]
    Show {
        /// Its id
        id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        api: api::OperatorArgs,
    },
    /// Hand the event to its handler again
    #[command(after_help = REDRIVE)]
    Redrive(Repair),
    /// Close it without handling the event
    #[command(after_help = DISCARD)]
    Discard(Repair),
}

#[derive(Debug, clap::Args)]
struct Repair {
    /// Its id
    id: String,
    /// Why; kept in the audit
    #[arg(long)]
    reason: String,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    api: api::OperatorArgs,
}

pub(crate) async fn run(args: Args) -> Result<(), String> {
    match args.action {
        Action::List { order, json, api } => list(order.as_deref(), json, &api).await,
        Action::Show { id, json, api } => show(&id, json, &api).await,
        Action::Redrive(repair) => redrive(&repair).await,
        Action::Discard(repair) => discard(&repair).await,
    }
}

async fn list(order: Option<&str>, as_json: bool, api: &api::OperatorArgs) -> Result<(), String> {
    let operator = api.operator()?;
    let path = match order {
        Some(order) => format!("/dead-letters?order={order}"),
        None => "/dead-letters".to_owned(),
    };
    let mut letters: Vec<Value> = Vec::new();
    for url in &operator.urls {
        let answer = operator
            .get(url, &path)
            .await
            .map_err(|refused| refused.text)?;
        letters.extend(
            answer["dead_letters"]
                .as_array()
                .cloned()
                .unwrap_or_default(),
        );
    }
    if as_json {
        say(&json!({ "dead_letters": letters }).to_string());
        return Ok(());
    }
    if letters.is_empty() {
        say("no open dead letters");
    }
    for letter in letters {
        let text = |name: &str| letter[name].as_str().unwrap_or_default().to_owned();
        say(&format!(
            "{}  {:<7} {}  {}\n    order {}, {} time(s): {}",
            text("id"),
            text("service"),
            text("died_at"),
            text("subject"),
            text("order_id"),
            letter["attempts"],
            text("reason")
        ));
    }
    Ok(())
}

async fn show(id: &str, as_json: bool, api: &api::OperatorArgs) -> Result<(), String> {
    let operator = api.operator()?;
    let mut last = String::new();
    for url in &operator.urls {
        match operator.get(url, &format!("/dead-letters/{id}")).await {
            Ok(letter) => {
                match as_json {
                    true => say(&letter.to_string()),
                    false => say(&told(&letter)),
                }
                return Ok(());
            }
            Err(refused) => last = refused.text,
        }
    }
    Err(last)
}

/// A letter for people: what it is, and what its event says.
fn told(letter: &Value) -> String {
    let text = |name: &str| letter[name].as_str().unwrap_or_default().to_owned();
    format!(
        "{} of {} is {}\n{} for order {}, at {} in the stream\n{} after {} time(s), {}: {}\n{:#}",
        text("id"),
        text("service"),
        text("state"),
        text("subject"),
        text("order_id"),
        letter["stream_sequence"],
        text("died_at"),
        letter["attempts"],
        text("kind"),
        text("reason"),
        letter["body"],
    )
}

async fn redrive(repair: &Repair) -> Result<(), String> {
    let answer = repair.send("redrive").await?;
    let decided: Vec<&str> = answer["decided"]
        .as_array()
        .map(|events| {
            events
                .iter()
                .filter_map(|event| event["subject"].as_str())
                .collect()
        })
        .unwrap_or_default();
    let verb = if repair.dry_run {
        "would be handled"
    } else {
        "was handled"
    };
    match decided.is_empty() {
        true => println!("the event {verb}; nothing follows from it"),
        false => println!("the event {verb}; from it follows: {}", decided.join(", ")),
    }
    Ok(())
}

async fn discard(repair: &Repair) -> Result<(), String> {
    repair.send("discard").await?;
    let verb = if repair.dry_run {
        "would be closed"
    } else {
        "is closed"
    };
    println!("the dead letter {verb}; its event has no effect");
    Ok(())
}

impl Repair {
    async fn send(&self, action: &str) -> Result<Value, String> {
        let operator = self.api.operator()?;
        let body = json!({ "reason": self.reason, "dry_run": self.dry_run });
        let path = format!("/dead-letters/{}/{action}", self.id);
        operator.post_to_owner(&path, &body).await
    }
}
