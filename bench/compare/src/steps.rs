//! The point of the parallel flow: with steps that take their time, an order takes as long
//! as the slowest of them, and not as long as all.

use std::fmt::Write as _;

use crate::load::{flags, median, ours};
use crate::process::Scratch;
use crate::table::{Table, number};
use crate::{Args as All, Outcome, document};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Milliseconds that each step takes more
    #[arg(long, default_value_t = 100)]
    slow_ms: u32,
}

pub(crate) fn run(all: &All, own: &Args) -> Outcome {
    let scratch = Scratch::create()?;
    let orders = if all.quick { 20 } else { 100 };
    let rounds = if all.quick { 1 } else { all.repeat };
    let mut table = Table::new(&["flow", "a step takes more", "p50 ms", "p99 ms"]);
    let mut database = String::new();
    for (flow, share) in [("parallel", 0), ("sequential", 100)] {
        for slow in [0, own.slow_ms] {
            let mut runs = Vec::new();
            for _ in 0..rounds {
                eprintln!("{flow} flow, each step {slow} ms slower");
                let load = flags(&format!(
                    "--in-flight 1 --orders {orders} --sequential {share} --slow-steps {slow}"
                ));
                runs.push(ours(all, &scratch.path().join("load"), true, &load)?);
            }
            database = runs.first().map(document::database).unwrap_or_default();
            let of = |path: &str| number(median(&runs, path));
            table.row([
                flow.to_owned(),
                format!("{slow} ms"),
                of("complete_ms/p50"),
                of("complete_ms/p99"),
            ]);
        }
    }
    let mut text = document::machine(all, &[database]);
    let _ = write!(text, "\nOne order at a time.\n\n{}", table.text());
    document::write(&all.document, "steps", &text)
}
