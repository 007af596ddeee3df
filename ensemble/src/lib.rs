//! The command line of Ensemble, and the composition of the whole system.

// A command line speaks on the terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod api;
mod bench;
mod capture;
pub mod check;
mod completions;
mod dead_letters;
mod demo;
mod doctor;
mod failure;
mod fence;
mod map;
mod openapi;
mod provision;
mod reach;
mod reconcile;
mod replay;
mod resolve;
mod system;
mod terminal;
mod timeline;
mod token;
mod trace;
mod up;
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use jetstream::Service;
use jetstream::shell::parse;
pub use provision::grants;

use failure::Failure;

/// The five services of the shop.
pub const SERVICES: [Service; 5] = [
    order_svc::SERVICE,
    stock_svc::SERVICE,
    point_svc::SERVICE,
    coupon_svc::SERVICE,
    cart_svc::SERVICE,
];

/// Choreographed order services over NATS JetStream.
#[derive(Debug, Parser)]
#[command(name = "ensemble", version, about, arg_required_else_help = true, after_help = help())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn help() -> String {
    format!("{EXAMPLES}\n\n{}", failure::EXIT_CODES)
}

const EXAMPLES: &str = "\
Examples:
  ensemble up --demo          run everything, and place an order
  ensemble timeline ORDER     what happened to it
  ensemble why ORDER          what it waits for, or why it ended so
  ensemble doctor             what is wrong, or about to be
  ensemble COMMAND --help     examples of each command";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the services, with a nats-server of their own unless --nats-url names one
    #[command(after_help = up::EXAMPLES)]
    Up(Box<up::Args>),
    /// Print a token for the HTTP API
    #[command(after_help = token::EXAMPLES)]
    Token(token::Args),
    /// Print what happened to an order
    #[command(after_help = timeline::EXAMPLES)]
    Timeline(timeline::Args),
    /// Say what an order waits for, or why it ended so
    #[command(after_help = why::EXAMPLES)]
    Why(why::Args),
    /// Look for what is wrong with the system, or about to be
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::Args),
    /// Make the trace of an order from its events, sampled or not
    #[command(after_help = trace::EXAMPLES)]
    Trace(trace::Args),
    /// Print who says what to whom, or check it
    #[command(after_help = map::EXAMPLES)]
    Map(map::Args),
    /// Print the HTTP API as an OpenAPI document
    #[command(after_help = openapi::EXAMPLES)]
    Openapi,
    /// Read a range of the stream again: print it, or handle it again and compare
    #[command(after_help = replay::EXAMPLES)]
    Replay(Box<replay::Args>),
    /// Save a range of the stream as a file, with what it depends on
    #[command(after_help = capture::EXAMPLES)]
    Capture(capture::Args),
    /// Look at events that could not be handled, and repair them
    #[command(after_help = dead_letters::EXAMPLES)]
    DeadLetters(dead_letters::Args),
    /// End an order whose compensation was given up
    #[command(after_help = resolve::EXAMPLES)]
    Resolve(resolve::Args),
    /// Compare what the services have said with what the stream has, and say again what it lost
    #[command(after_help = reconcile::EXAMPLES)]
    Reconcile(reconcile::Args),
    /// Lift the fence of a service whose database was set back
    #[command(after_help = fence::EXAMPLES)]
    Fence(fence::Args),
    /// Hold all databases and the stream to what must be true
    #[command(after_help = check::EXAMPLES)]
    Check(check::Args),
    /// Place orders as fast as they are decided, and measure
    #[command(after_help = bench::EXAMPLES)]
    Bench(bench::Args),
    /// Create the stream and the consumers, or bring them up to date
    #[command(after_help = provision::EXAMPLES)]
    Provision(provision::Args),
    /// Print a script that completes commands and flags in a shell
    #[command(after_help = completions::EXAMPLES)]
    Completions(completions::Args),
}

/// The command line, for those who list what it takes.
#[must_use]
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// The whole of `main`.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match parse::parse::<Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.to_string().into()),
    };
    let result: Result<(), Failure> = runtime.block_on(async {
        match cli.command {
            Command::Up(args) => up::run(*args).await?,
            Command::Token(args) => token::run(&args)?,
            Command::Timeline(args) => timeline::run(&args).await?,
            Command::Trace(args) => trace::run(&args).await?,
            Command::Why(args) => why::run(&args).await?,
            Command::Doctor(args) => doctor::run(&args).await?,
            Command::Replay(args) => replay::run(&args).await?,
            Command::Capture(args) => capture::run(&args).await?,
            Command::Map(args) => map::run(&args).await?,
            Command::Openapi => openapi::run(),
            Command::DeadLetters(args) => dead_letters::run(args).await?,
            Command::Resolve(args) => resolve::run(args).await?,
            Command::Reconcile(args) => reconcile::run(args).await?,
            Command::Fence(args) => fence::run(args).await?,
            Command::Check(args) => check::run(args).await?,
            Command::Bench(args) => bench::run(args).await?,
            Command::Provision(args) => provision::run(&args).await?,
            Command::Completions(args) => completions::run(&args),
        }
        Ok(())
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

fn complain(failure: &Failure) -> ExitCode {
    match failure.sentence() {
        "" => {}
        sentence => eprintln!("ensemble: {sentence}"),
    }
    failure.code()
}

#[cfg(test)]
#[path = "manners_tests.rs"]
mod tests;
