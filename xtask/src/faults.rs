//! `cargo xtask faults`: the real services on real servers, while things break.

use std::process::Command;

use crate::failure::Outcome;
use crate::process::{cargo, in_repository};
use crate::signals::Signals;
use crate::{nats, postgres, up};

/// What names PostgreSQL's programs to the runs, and the user that they run as.
const POSTGRES: &str = "ENSEMBLE_FAULTS_POSTGRES";

/// Builds the services with failpoints, and has things break.
pub(crate) fn faults(arguments: &[String]) -> Outcome {
    let signals = Signals::watch()?;
    signals.blame(run(&signals, arguments))
}

/// As [`faults`], as a part of something larger.
pub(crate) fn run(signals: &Signals, arguments: &[String]) -> Outcome {
    let (release, arguments) = up::take_release(arguments);
    let is_soak = |argument: &&String| argument.split('=').next() == Some("--soak");
    let release = release || arguments.iter().any(is_soak);
    if arguments
        .iter()
        .any(|argument| argument.as_str() == "--rules")
    {
        // The report counts them, so they are seen now: those rules are about what is
        // decided, and are switched off in the model.
        signals.require(cargo(["test", "--package", "model", "--test", "rules_off"]))?;
    }
    signals.require(build(release))?;
    let profile = if release { "release" } else { "debug" };
    let mut runs = in_repository(up::target_folder()?.join(profile).join("faults"));
    runs.args(arguments);
    let asks = ["--help", "-h", "--list"];
    if !arguments_have(&runs, &asks) {
        let nats = nats::server()?;
        runs.env(nats::VARIABLE, nats);
        runs.env(POSTGRES, postgres::programs(signals)?.to_environment());
    }
    signals.require(runs)
}

fn arguments_have(command: &Command, asks: &[&str]) -> bool {
    command
        .get_args()
        .any(|argument| asks.iter().any(|ask| argument == *ask))
}

/// All packages are named, so that cargo chooses the features of what is not the
/// project's as it does for the tests, and builds nothing of it twice. Only the project's
/// own crates are built once more: with failpoints.
fn build(release: bool) -> Command {
    let mut command = cargo([
        "build",
        "--workspace",
        "--features",
        "faults/run",
        "--bin",
        "faults",
        "--bin",
        "faulty",
    ]);
    if release {
        command.arg("--release");
    }
    command
}
