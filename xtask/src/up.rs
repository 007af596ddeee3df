//! `cargo xtask up`: the whole project with demo data.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use crate::failure::{Failure, Outcome};
use crate::nats;
use crate::process::{cargo, in_repository, output_of};

/// Builds the project and becomes it.
pub(crate) fn up(arguments: &[String]) -> Outcome {
    let (release, rest) = take_release(arguments);
    let nats = nats::server()?;
    build(release)?;
    let program = target_folder()?
        .join(if release { "release" } else { "debug" })
        .join("ensemble");
    let mut ensemble = in_repository(&program);
    ensemble
        .args(["up", "--demo", "--nats-server"])
        .arg(nats)
        .args(rest);
    // In xtask's place, not below it: every signal and the exit code are then
    // the project's own.
    let error = ensemble.exec();
    Err(Failure::file("run", &program, &error))
}

/// Builds all crates, not just the binary: cargo then chooses the same
/// features as for the tests and compiles the dependencies once.
fn build(release: bool) -> Outcome {
    let mut build = cargo(["build", "--workspace"]);
    if release {
        build.arg("--release");
    }
    let status = build
        .status()
        .map_err(|error| Failure::new(format!("cannot run cargo: {error}")))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::of(status))
    }
}

/// Splits off xtask's own option. After `--`, nothing is xtask's.
pub(crate) fn take_release(arguments: &[String]) -> (bool, Vec<&String>) {
    let own = arguments
        .iter()
        .position(|argument| argument == "--")
        .unwrap_or(arguments.len());
    let (before, after) = arguments.split_at(own);
    let (release, mut rest): (Vec<_>, Vec<_>) =
        before.iter().partition(|argument| *argument == "--release");
    rest.extend(after);
    (!release.is_empty(), rest)
}

/// Where cargo puts what it builds, which the environment and cargo's
/// configuration can both change.
pub(crate) fn target_folder() -> Outcome<PathBuf> {
    let metadata = output_of(&mut cargo([
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
    ]))?;
    json_text(&metadata, "target_directory")
        .map(PathBuf::from)
        .ok_or_else(|| Failure::new("`cargo metadata` names no target folder; update cargo"))
}

/// The text of a member in JSON, whose name occurs but once. Of the escapes it
/// knows those that a path can have.
fn json_text(json: &str, name: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{name}\":\""))?;
    let mut text = String::new();
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => return Some(text),
            '\\' => text.push(characters.next()?),
            character => text.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_target_folder() {
        let json = r#"{"packages":[],"target_directory":"/home/a \"b\"/target","version":1}"#;
        let found = json_text(json, "target_directory");
        assert_eq!(found.as_deref(), Some(r#"/home/a "b"/target"#));
        assert_eq!(json_text(json, "other"), None);
        assert_eq!(
            json_text(r#"{"target_directory":"/a"#, "target_directory"),
            None
        );
    }

    #[test]
    fn takes_its_own_option_and_leaves_the_rest() {
        let arguments = ["--port", "--release", "80", "--", "--release"].map(String::from);
        let (release, rest) = take_release(&arguments);
        assert!(release);
        assert_eq!(rest, ["--port", "80", "--", "--release"]);
    }
}
