//! `cargo xtask test`: the tests, with the servers that they need.

use std::fs;
use std::process::{Command, ExitStatus};

use crate::cluster::{Cluster, Durability};
use crate::failure::{Failure, Outcome};
use crate::process::{cargo, version_text};
use crate::signals::Signals;
use crate::version::find_version;
use crate::{nats, postgres, repo, summary};

/// A run beside the main one, for tests that need a build of their own.
struct ExtraRun {
    /// What it is called in messages.
    name: &'static str,
    /// The package and its feature; while there is no such feature, the run is
    /// left out.
    manifest: &'static str,
    feature: &'static str,
    /// What the test runner is told.
    arguments: &'static [&'static str],
}

const EXTRA_RUNS: &[ExtraRun] = &[ExtraRun {
    name: "gift-wrap",
    manifest: "tests/Cargo.toml",
    feature: "gift-wrap",
    arguments: &[
        "--package",
        "integration-tests",
        "--features",
        "gift-wrap",
        "--test",
        "gift_wrap",
    ],
}];

/// Runs the tests and shows them as the runner does.
pub(crate) fn test(arguments: &[String]) -> Outcome {
    let signals = Signals::watch()?;
    let shown = |command: Command| Ok((signals.run(command)?, Vec::new()));
    signals
        .blame(run(&signals, arguments, shown))
        .map(|_nothing_kept| ())
}

/// Runs the tests and gives the lines that sum the main run up.
pub(crate) fn test_and_keep_summary(signals: &Signals) -> Outcome<Vec<String>> {
    run(signals, &[], |command| {
        summary::run_and_keep(signals, command)
    })
}

/// Runs the tests of the system that need a feature, which names their binary too, and
/// something else that the environment tells them.
pub(crate) fn with_feature(
    signals: &Signals,
    feature: &str,
    environment: (&'static str, String),
) -> Outcome {
    let mut servers = Servers::start(signals)?;
    servers.environment.push(environment);
    let mut command = Runner::choose().command(&servers);
    // As the main run is built, so that nothing is built twice.
    let feature_of_package = format!("integration-tests/{feature}");
    command.args(["--workspace", "--features", &feature_of_package]);
    command.args(["--test", feature]);
    signals.require(command)
}

/// The extra runs come first, so that what is printed last is the summary of
/// the main one.
fn run(
    signals: &Signals,
    arguments: &[String],
    main_run: impl FnOnce(Command) -> Outcome<(ExitStatus, Vec<String>)>,
) -> Outcome<Vec<String>> {
    let servers = Servers::start(signals)?;
    let runner = Runner::choose();
    if uses_binaries(arguments) {
        signals.require(build_binaries(arguments))?;
    }
    if arguments.is_empty() {
        for extra in EXTRA_RUNS {
            run_extra(signals, &runner, &servers, extra)?;
        }
    } else {
        eprintln!("test: the main run alone, as arguments choose the tests");
    }
    let mut command = runner.command(&servers);
    if !names_packages(arguments) {
        command.arg("--workspace");
    }
    command.args(arguments);
    let (status, kept) = main_run(command)?;
    if status.success() {
        Ok(kept)
    } else {
        Err(Failure::of(status))
    }
}

fn run_extra(signals: &Signals, runner: &Runner, servers: &Servers, extra: &ExtraRun) -> Outcome {
    let manifest = repo::root().join(extra.manifest);
    let text =
        fs::read_to_string(&manifest).map_err(|error| Failure::file("read", &manifest, &error))?;
    if !has_feature(&text, extra.feature) {
        eprintln!(
            "test: the {} run is left out, as {} has no feature {}",
            extra.name, extra.manifest, extra.feature
        );
        return Ok(());
    }
    eprintln!("test: the {} run", extra.name);
    let mut command = runner.command(servers);
    command.args(extra.arguments);
    signals.require(command)
}

/// The servers that the tests use, and how they are told.
struct Servers {
    environment: Vec<(&'static str, String)>,
    // Ends with this.
    _cluster: Option<Cluster>,
}

impl Servers {
    fn start(signals: &Signals) -> Outcome<Servers> {
        let nats = nats::server()?;
        let (url, cluster) = match postgres::source(signals)? {
            postgres::Source::Server(url) => (url, None),
            postgres::Source::Programs(programs) => {
                let cluster = Cluster::start(&programs, signals, Durability::Processes)?;
                (cluster.url(), Some(cluster))
            }
        };
        Ok(Servers {
            environment: vec![
                (nats::VARIABLE, nats.to_string_lossy().into_owned()),
                (postgres::VARIABLE, url),
            ],
            _cluster: cluster,
        })
    }
}

/// Says which program runs the tests.
pub(crate) fn choose_runner() {
    Runner::choose();
}

/// The program that runs the tests.
struct Runner {
    words: &'static [&'static str],
}

impl Runner {
    /// cargo-nextest where it is installed, as it runs the tests side by side
    /// in processes of their own and ends one that hangs.
    fn choose() -> Runner {
        let nextest = version_text(&mut cargo(["nextest"]));
        match nextest.as_deref().and_then(find_version) {
            Some(version) => {
                eprintln!("test: with cargo nextest {version}");
                Runner {
                    words: &["nextest", "run"],
                }
            }
            None => {
                eprintln!("test: with cargo test, as cargo-nextest is not installed");
                Runner { words: &["test"] }
            }
        }
    }

    fn command(&self, servers: &Servers) -> Command {
        let mut command = cargo(self.words);
        command.envs(
            servers
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        );
        command
    }
}

/// Whether the arguments say which packages to test.
fn names_packages(arguments: &[String]) -> bool {
    arguments
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| {
            argument.starts_with("-p")
                || argument == "--workspace"
                || argument == "--package"
                || argument.starts_with("--package=")
                || argument.starts_with("--manifest-path")
        })
}

/// Whether the tests that are chosen start processes of the project's binaries.
fn uses_binaries(arguments: &[String]) -> bool {
    !names_packages(arguments)
        || arguments
            .iter()
            .any(|argument| argument == "--workspace" || argument.contains("integration-tests"))
}

/// Builds the binaries as they are deployed, which the runner does not. The tests are
/// built along, so that both use the same features and nothing is built twice.
fn build_binaries(arguments: &[String]) -> Command {
    let mut command = cargo(["build", "--workspace", "--bins", "--tests"]);
    if arguments.iter().any(|argument| argument == "--release") {
        command.arg("--release");
    }
    command
}

/// Whether a manifest's `[features]` has this one.
fn has_feature(manifest: &str, feature: &str) -> bool {
    manifest
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "[features]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .any(|(name, _)| name.trim().trim_matches('"') == feature)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(arguments: &[&str]) -> bool {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        names_packages(&arguments)
    }

    #[test]
    fn sees_that_arguments_name_packages() {
        assert!(names(&["-p", "events"]));
        assert!(names(&["--release", "--package=events"]));
        assert!(!names(&["cancels_the_order", "--no-fail-fast"]));
        assert!(!names(&["--", "-p"]));
        assert!(!names(&[]));
    }

    #[test]
    fn builds_the_binaries_for_the_tests_that_start_them() {
        let uses = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            uses_binaries(&arguments)
        };
        assert!(uses(&[]));
        assert!(uses(&["crash"]));
        assert!(uses(&["-p", "integration-tests"]));
        assert!(!uses(&["-p", "events"]));
    }

    #[test]
    fn finds_a_feature_in_its_section_only() {
        let manifest = "[package]\nname = \"x\"\n\n[features]\ndefault = []\ngift-wrap = [\n\
                        \"ensemble/gift-wrap\",\n]\n\n[dependencies]\nother = \"1\"\n";
        assert!(has_feature(manifest, "gift-wrap"));
        assert!(!has_feature(manifest, "other"));
        assert!(!has_feature(
            "[dependencies]\ngift-wrap = \"1\"\n",
            "gift-wrap"
        ));
        assert!(!has_feature("", "gift-wrap"));
    }
}
