//! `ensemble why`: what an order waits for, or why it ended so.

mod diagnose;
mod facts;
mod order;
mod print;
mod steps;

use serde_json::json;

use crate::failure::Failure;
use crate::reach::Reach;
use crate::system::System;
use crate::terminal::{Paint, remark, say};
use crate::timeline;

pub(crate) const EXAMPLES: &str = "\
Examples:
  ensemble why 01890a5d-ac96-774b-bcce-b302099a8057
  ensemble why 01890a5d-ac96-774b-bcce-b302099a8057 --json | jq -r '.next[].command'
  ensemble why --stuck                 every order that is past due
  ensemble why --stuck --json | jq -r '.orders[].because[].code' | sort | uniq -c

It exits with 3 when a person is needed, and with 0 when the order is done or only takes its
time.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The order
    #[arg(required_unless_present = "stuck", conflicts_with = "stuck")]
    order_id: Option<String>,
    /// Every order that is past due: not decided by its deadline, not undone when it was first
    /// asked for, or given up
    #[arg(long)]
    stuck: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

pub(crate) async fn run(args: &Args) -> Result<(), Failure> {
    match &args.order_id {
        Some(id) => one(args, id).await,
        None => stuck(args).await,
    }
}

async fn one(args: &Args, id: &str) -> Result<(), Failure> {
    let id = timeline::order_id(id)?;
    let system = System::look(&args.reach, "why").await;
    let facts = facts::of_order(id, &args.reach, &system).await?;
    let answer = diagnose::why(&facts, &system);
    match args.json {
        true => say(&answer.json().to_string()),
        false => say(&print::answer(&answer, Paint::of_stdout())),
    }
    match answer.needs_person() {
        true => Err(Failure::Found(String::new())),
        false => Ok(()),
    }
}

async fn stuck(args: &Args) -> Result<(), Failure> {
    let system = System::look(&args.reach, "why").await;
    let (ids, more) = facts::stuck(&system).await?;
    let mut answers = Vec::new();
    for id in ids {
        let facts = facts::of_order(id, &args.reach, &system).await?;
        answers.push(diagnose::why(&facts, &system));
    }
    if args.json {
        let orders: Vec<_> = answers.iter().map(|answer| answer.json()).collect();
        say(&json!({ "orders": orders, "more": more }).to_string());
    } else if answers.is_empty() {
        say("no order is past due");
    } else {
        let paint = Paint::of_stdout();
        let printed: Vec<_> = answers.iter().map(|a| print::answer(a, paint)).collect();
        say(&printed.join("\n"));
        if more {
            remark("note: there are more; these are the oldest");
        }
    }
    match answers.len() {
        0 => Ok(()),
        1 => Err(Failure::Found("1 order is past due".to_owned())),
        n => Err(Failure::Found(format!("{n} orders are past due"))),
    }
}
