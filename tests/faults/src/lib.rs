//! Fault runs: the real services as processes, a real nats-server, real databases, and
//! things that break. Started by `cargo xtask faults`, which builds it and finds the
//! servers' programs. What a scenario is, and how to add one, is said in [`scenario`].

// A terminal program.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod again;
mod client;
mod disk;
mod figures;
mod load;
mod memory;
mod postgres;
mod process;
mod progress;
mod proxy;
mod random;
mod rules;
mod scenario;
mod scenarios;
mod shop;
mod soak;
mod stage;
mod table;
mod tables;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use futures::StreamExt as _;

use crate::disk::SmallDisk;
use crate::figures::Figures;
use crate::postgres::Postgres;
use crate::progress::Progress;
use crate::scenario::{Ended, Scenario};
use crate::soak::Soak;
use crate::stage::Given;

/// Run the services while things break, and check that nothing is lost or done twice.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask faults", bin_name = "cargo xtask faults")]
struct Args {
    /// The scenarios to run, like F1; without any, all
    scenarios: Vec<String>,
    /// What repeats the run's choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Half of the orders
    #[arg(long)]
    quick: bool,
    /// Only the scenarios that are part of `cargo xtask ci`, with half of the orders
    #[arg(long)]
    ci: bool,
    /// Switch rules off in the real code, one after another: something must break each time
    #[arg(long)]
    rules: bool,
    /// Random faults for so many minutes (F36), on release builds
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(1..=10_080),
          conflicts_with_all = ["scenarios", "ci", "rules", "list", "quick", "jobs"])]
    soak: Option<u64>,
    /// Orders that come in a second, with --soak
    #[arg(long, default_value_t = 200, requires = "soak",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// List the scenarios
    #[arg(long)]
    list: bool,
    /// How many scenarios run side by side
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    jobs: u8,
    /// Write the table of the run into this file, between its marks
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Keep logs, databases and the broker's stores in this folder
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

/// The whole of `main`.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.to_string()),
    };
    let result = runtime.block_on(async {
        tokio::select! {
            result = run(args) => result,
            // What was started ends when it is dropped.
            _ = interrupted() => Err("interrupted".to_owned()),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

fn complain(error: &str) -> ExitCode {
    eprintln!("faults: {error}");
    ExitCode::FAILURE
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

async fn run(args: Args) -> Result<(), String> {
    let chosen = chosen(&args)?;
    if args.list {
        for scenario in chosen {
            println!(
                "{:<4} {:<10} {}",
                scenario.id,
                scenario.backend.name(),
                scenario.what
            );
        }
        println!("F36  PostgreSQL {}: with --soak MINUTES", soak::SOAK.what);
        return Ok(());
    }
    let marks = match (args.soak, args.rules) {
        (Some(_), _) => table::SOAK,
        (None, true) => table::RULES,
        (None, false) => table::SCENARIOS,
    };
    if let Some(file) = &args.record {
        // Not after half an hour.
        table::can_record(file, marks)?;
    }
    let begun = Instant::now();
    let scratch = scratch(args.keep.as_ref())?;
    let count = if args.rules {
        rules::ALL.len()
    } else {
        chosen.len()
    };
    eprintln!(
        "faults: {count} scenarios, seed {}, {} side by side",
        args.seed, args.jobs
    );
    let postgres = Postgres::start(&scratch.path().join("shared"), 64).await?;
    let scale = if args.quick || args.ci { 50 } else { 100 };
    let soak = args.soak.map(|minutes| Soak {
        duration: Duration::from_secs(60 * minutes),
        rate: args.rate,
    });
    let given = |scenario: &Scenario, patience| Given {
        id: scenario.id,
        backend: scenario.backend,
        seed: args.seed,
        postgres_url: postgres.url(),
        folder: scratch.path().join(scenario.id),
        progress: Progress::of(scenario.id, begun),
        scale: scale * scenario.orders,
        soak,
        patience,
    };
    if args.rules {
        let (table, missing) = rules::all(usize::from(args.jobs), |switched| {
            let scenario = switched.scenario;
            let playing = scenario::play(scenario, given(&scenario, rules::PATIENCE));
            async { playing.await.figures }
        })
        .await;
        println!("{table}");
        if let Some(file) = &args.record {
            table::record(file, &table, table::RULES)?;
        }
        return match missing.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "nothing broke in the services without {}",
                missing.join(", ")
            )),
        };
    }
    // After a soak, each look takes long.
    let patience = match soak {
        Some(_) => 6 * scenario::REST,
        None => scenario::REST,
    };
    let (mut ended, mut left_out): (Vec<Ended>, Vec<Scenario>) = (vec![], vec![]);
    let mut running = futures::stream::iter(chosen.iter().copied().filter(|scenario| {
        let can = !scenario.needs_root || SmallDisk::can();
        if !can {
            left_out.push(*scenario);
        }
        can
    }))
    .map(|scenario| scenario::play(scenario, given(&scenario, patience)))
    .buffer_unordered(usize::from(args.jobs));
    while let Some(one) = running.next().await {
        ended.push(one);
    }
    drop(running);
    ended.sort_by_key(|one| one.scenario.id[1..].parse::<u32>().unwrap_or(u32::MAX));
    let table = table::of(&ended, &left_out, &args_of(&args, begun.elapsed()));
    println!("{table}");
    if let Some(file) = &args.record {
        table::record(file, &table, marks)?;
    }
    let whole = args.scenarios.is_empty() && soak.is_none();
    verdict(&ended, &left_out, whole)
}

fn args_of(args: &Args, took: Duration) -> table::Run {
    table::Run {
        seed: args.seed,
        scale: if args.quick || args.ci { 50 } else { 100 },
        took,
    }
}

fn chosen(args: &Args) -> Result<Vec<Scenario>, String> {
    if args.soak.is_some() {
        return Ok(vec![soak::SOAK]);
    }
    let all = scenarios::all();
    if args.scenarios.is_empty() {
        return Ok(all.into_iter().filter(|s| !args.ci || s.ci).collect());
    }
    let find = |name: &String| {
        let found = all.iter().find(|s| s.id.eq_ignore_ascii_case(name));
        found
            .copied()
            .ok_or_else(|| format!("there is no scenario {name}: --list says which there are"))
    };
    args.scenarios.iter().map(find).collect()
}

/// A folder that PostgreSQL's user can enter too.
fn scratch(keep: Option<&PathBuf>) -> Result<tempfile::TempDir, String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut builder = tempfile::Builder::new();
    builder.prefix("ensemble-faults-");
    let folder = match keep {
        Some(folder) => {
            std::fs::create_dir_all(folder)
                .map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
            builder.disable_cleanup(true).tempdir_in(folder)
        }
        None => builder.tempdir(),
    };
    let folder = folder.map_err(|e| format!("there is no folder to work in: {e}"))?;
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).map_err(|e| e.to_string())?;
    Ok(folder)
}

/// Whether the run proves what it is for: no violation, everything played, and every rare
/// path reached.
fn verdict(ended: &[Ended], left_out: &[Scenario], whole: bool) -> Result<(), String> {
    let mut wrong = Vec::new();
    let mut sum = Figures::default();
    for one in ended {
        sum.add(&one.figures);
        if let Some(why) = &one.failed {
            wrong.push(format!("{} failed: {why}", one.scenario.id));
        }
        let violations = one.figures.violations.iter().take(10);
        wrong.extend(violations.map(|violation| format!("{}: {violation}", one.scenario.id)));
    }
    for scenario in left_out {
        wrong.push(format!(
            "{} was not run: it takes root, on Linux",
            scenario.id
        ));
    }
    if whole {
        for (what, count) in [
            ("duplicates filtered", sum.duplicates),
            ("voids", sum.voids),
            ("redeliveries", sum.redelivered),
            ("republished", sum.republished),
        ] {
            if count == 0 {
                wrong.push(format!("a rare path was not reached: {what}"));
            }
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n")),
    }
}
