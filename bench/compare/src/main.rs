//! Runs Ensemble and what it is compared with in turn, on one machine in one run, and writes
//! what came of it into a document. `cargo xtask bench` gets what it needs and starts it.

#![allow(clippy::print_stderr)]

mod apart;
mod backlog;
mod document;
mod growth;
mod instances;
mod load;
mod peers;
mod process;
mod standard;
mod steps;
mod table;
mod targets;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What is run, and with what.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
    /// The program `ensemble`, built for release
    #[arg(long, global = true, default_value = "target/release/ensemble")]
    ensemble: PathBuf,
    /// The nats-server of all
    #[arg(long, global = true, default_value = "nats-server")]
    nats_server: PathBuf,
    /// The PostgreSQL server of all
    #[arg(long, global = true, default_value = "postgres://postgres@127.0.0.1")]
    database_url: String,
    /// Its first process, whose CPU time is counted
    #[arg(long, global = true)]
    postgres_pid: Option<u32>,
    /// The document with the parts that are written
    #[arg(long, global = true, default_value = "BENCHMARKS.md")]
    document: PathBuf,
    /// Runs of each kind; medians count
    #[arg(long, global = true, default_value_t = 3)]
    repeat: u32,
    /// A small run that ends in a few minutes: one of each kind, with few orders
    #[arg(long, global = true)]
    quick: bool,
}

#[derive(Subcommand)]
enum What {
    /// Ours and theirs, orders per second and latency at each number of orders in flight
    Standard(standard::Args),
    /// What an order costs from the first to the millionth
    Growth(growth::Args),
    /// A service that was away works off what has piled up
    Backlog(backlog::Args),
    /// One, two and four instances of each service
    Instances(instances::Args),
    /// Both flows with steps that take their time
    Steps(steps::Args),
}

type Outcome<T = ()> = Result<T, String>;

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.what {
        What::Standard(own) => standard::run(&args, own),
        What::Growth(own) => growth::run(&args, own),
        What::Backlog(own) => backlog::run(&args, own),
        What::Instances(own) => instances::run(&args, own),
        What::Steps(own) => steps::run(&args, own),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}
