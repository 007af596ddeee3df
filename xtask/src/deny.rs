//! cargo-deny: what the dependencies are allowed to be.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::{Failure, Outcome};
use crate::process::{cargo, find_on_path, in_repository, is_executable, version_text};
use crate::repo;
use crate::scratch::Scratch;
use crate::signals::Signals;
use crate::version::{Version, find_version};

/// The version that is compiled where none is installed.
const PINNED: &str = "0.20.2";

/// The first version that reads deny.toml as it is written.
const OLDEST: Version = Version {
    major: 0,
    minor: 18,
    patch: 0,
};

/// How long the database of advisories may take to come.
const DATABASE_LIMIT: Duration = Duration::from_secs(120);

/// Finds cargo-deny, or compiles the pinned one.
pub(crate) fn program(signals: &Signals) -> Outcome<PathBuf> {
    if let Some(found) = find_on_path("cargo-deny") {
        let text = version_text(&mut in_repository(&found));
        match text.as_deref().and_then(find_version) {
            Some(version) if version >= OLDEST => {
                eprintln!("cargo-deny: {version} at {}", found.display());
                return Ok(found);
            }
            _ => eprintln!("cargo-deny: {} is older than {OLDEST}", found.display()),
        }
    }
    let kept = repo::tools().join(format!("cargo-deny-{PINNED}"));
    let program = kept.join("bin/cargo-deny");
    if !is_executable(&program) {
        eprintln!("cargo-deny: compiling {PINNED}, about a minute on two cores ...");
        compile(signals, &kept)?;
    }
    eprintln!("cargo-deny: {PINNED} at {}", program.display());
    Ok(program)
}

/// Compiles cargo-deny into `kept`, which appears whole or not at all.
fn compile(signals: &Signals, kept: &Path) -> Outcome {
    let tools = repo::tools();
    let scratch = Scratch::create(&tools, &format!("cargo-deny-{PINNED}.partial-"))?;
    let installed = scratch.path().join("installed");
    // Not in the scratch folder: a compilation that was cut short goes on here.
    let objects = tools.join("cargo-deny-build");
    let mut install = cargo(["install", "--locked", "cargo-deny", "--version", PINNED]);
    install
        .args(["--no-track", "--root"])
        .arg(&installed)
        .arg("--target-dir")
        .arg(&objects)
        // Optimised as it comes, it takes over two minutes to compile instead
        // of under one, and saves one second of the two that it runs for.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    let status = signals.run(install)?;
    if !status.success() {
        return Err(Failure::of(status).with_message(format!(
            "cargo-deny {PINNED} could not be compiled; mend what cargo reports above, install \
             cargo-deny {OLDEST} or later yourself, or leave it out with --no-deny"
        )));
    }
    match fs::rename(&installed, kept) {
        Ok(()) => {}
        // Another run was faster.
        Err(_) if is_executable(&kept.join("bin/cargo-deny")) => {}
        Err(error) => return Err(Failure::file("put cargo-deny in", kept, &error)),
    }
    let _courtesy = fs::remove_dir_all(&objects);
    Ok(())
}

/// Checks the dependencies against deny.toml.
pub(crate) fn check(signals: &Signals) -> Outcome {
    let program = program(signals)?;
    // cargo-deny looks at the sources for every platform, the build only at
    // those for this one.
    signals.require(cargo(["fetch", "--locked", "--quiet"]))?;
    let mut offline = in_repository(&program);
    offline.args(["--offline", "check", "bans", "licenses", "sources"]);
    signals.require(offline)?;
    if !fetch_advisories(signals, &program)? {
        eprintln!("advisories: not checked, as their database cannot be reached");
        return Ok(());
    }
    let mut advisories = in_repository(&program);
    advisories.args(["check", "--disable-fetch", "advisories"]);
    signals.require(advisories)
}

/// Whether the database of advisories could be had.
fn fetch_advisories(signals: &Signals, program: &Path) -> Outcome<bool> {
    let mut fetch = in_repository(program);
    fetch
        .args(["fetch", "db"])
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let status = signals.run_for(fetch, DATABASE_LIMIT)?;
    Ok(status.is_some_and(|status| status.success()))
}
