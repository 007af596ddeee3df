//! Set-up and checks of the project, run as `cargo xtask COMMAND`.
//!
//! It stands on the standard library as far as it can, so that it is compiled
//! in seconds on a clean clone.

// This is a terminal program: what it has to say goes to the terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod apt;
mod asyncapi;
mod bench;
mod browser;
mod ci;
mod cluster;
mod deny;
mod dist;
mod failure;
mod faults;
mod nats;
mod npm;
mod postgres;
mod process;
mod repo;
mod restate;
mod schemathesis;
mod scratch;
mod setup;
mod signals;
mod summary;
mod tests_run;
mod up;
mod version;

use std::process::ExitCode;

use failure::{Failure, Outcome};

const HELP: &str = "\
Set-up and checks of Ensemble.

Usage: cargo xtask COMMAND [ARGS...]

Commands:
  up [--release] [ARGS...]   Build the project and run it all with demo data.
                             ARGS go to `ensemble up`.
  test [ARGS...]             Run the tests against a NATS server and a PostgreSQL
                             of their own. ARGS go to the test runner; with
                             some, only the main run is made.
  ci [--no-deny]             Everything that has to hold before a change lands:
                             test, fmt, clippy, some faults, the map as an AsyncAPI
                             document (where Node is installed), the tests in a browser
                             (where there is one), a short run of schemathesis
                             (where Python is), cargo-deny.
  faults [ARGS...]           Run the services while things break, and check that
                             nothing is lost or done twice. `--help` says what
                             ARGS can be; --release builds for speed.
  asyncapi                   Have the official parser read the map as an AsyncAPI
                             document.
  browser                    Run the tests in a real browser (Chromium).
  bench [KIND] [--quick] [ARGS...]
                             Measure on this machine and write BENCHMARKS.md.
                             KIND is standard (ours and theirs; without KIND),
                             growth, backlog, instances, steps, or all.
  schemathesis [--cases N]   Hold the API of a running system against its document,
                             with 2,000 generated cases or more.
  dist                       Build the programs of a release as an archive with
                             checksums, in dist/. Refuses a version that CHANGELOG.md does
                             not tell of.
  setup [--no-deny]          Get every tool the other commands need, and say
                             what there is.
  help                       Show this text.

Examples:
  cargo xtask up
  cargo xtask test
  cargo xtask test -p events
  cargo xtask test -p integration-tests cancels
  cargo xtask faults F7 --seed 9
  cargo xtask ci --no-deny
  cargo xtask bench --quick
  cargo xtask bench growth --orders 100000

What is fetched goes to .tools/ in the project's folder. In the environment,
ENSEMBLE_NATS_SERVER names a nats-server program to use instead, and
ENSEMBLE_TEST_POSTGRES the URL of a PostgreSQL server to test against, as a
superuser; it has to ask other roles for their passwords.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = &failure.message {
                eprintln!("error: {message}");
            }
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(arguments: &[String]) -> Outcome {
    let Some((command, rest)) = arguments.split_first() else {
        return help();
    };
    match command.as_str() {
        "up" => up::up(rest),
        "test" => tests_run::test(rest),
        "bench" => bench::bench(rest),
        "faults" => faults::faults(rest),
        "asyncapi" => match rest {
            [] => asyncapi::asyncapi(),
            _ => Err(Failure::usage("`cargo xtask asyncapi` takes no arguments")),
        },
        "browser" => match rest {
            [] => browser::browser(),
            _ => Err(Failure::usage("`cargo xtask browser` takes no arguments")),
        },
        "schemathesis" => schemathesis::schemathesis(rest),
        "dist" => match rest {
            [] => dist::dist(),
            _ => Err(Failure::usage("`cargo xtask dist` takes no arguments")),
        },
        "ci" => ci::ci(!no_deny("ci", rest)?),
        "setup" => setup::setup(!no_deny("setup", rest)?),
        "help" | "--help" | "-h" => help(),
        other => Err(Failure::usage(format!(
            "there is no command `{other}`; `cargo xtask help` lists them"
        ))),
    }
}

fn help() -> Outcome {
    print!("{HELP}");
    Ok(())
}

/// Reads the one option that `ci` and `setup` have.
fn no_deny(command: &str, arguments: &[String]) -> Outcome<bool> {
    match arguments {
        [] => Ok(false),
        [option] if option == "--no-deny" => Ok(true),
        _ => Err(Failure::usage(format!(
            "`cargo xtask {command}` takes --no-deny and nothing else"
        ))),
    }
}
