//! Getting a Restate server, to compare with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::failure::{Failure, Outcome};
use crate::process::{find_on_path, in_repository, is_executable};
use crate::repo;
use crate::scratch::Scratch;
use crate::signals::Signals;

/// The version; `xtask/restate/package-lock.json` pins the programs by their hashes.
const PINNED: &str = "1.7.12";

/// The server's program; none, with a word about it, where it cannot be had.
pub(crate) fn server(signals: &Signals) -> Outcome<Option<PathBuf>> {
    let Some(platform) = platform() else {
        eprintln!("restate: left out (npm has none for this machine)");
        return Ok(None);
    };
    let kept = repo::tools().join(format!("restate-server-{PINNED}"));
    let program = kept.join(format!(
        "node_modules/@restatedev/restate-server-{platform}/bin/restate-server"
    ));
    if !is_executable(&program) {
        let Some(npm) = find_on_path("npm") else {
            eprintln!("restate: left out (no npm); install Node 18 or later and npm to compare");
            return Ok(None);
        };
        eprintln!("restate: fetching {PINNED} (npm) ...");
        if !fetch(signals, &npm, &kept)? || !is_executable(&program) {
            eprintln!("restate: left out, as it cannot be fetched; see npm above");
            return Ok(None);
        }
    }
    eprintln!("restate: {PINNED} at {}", program.display());
    Ok(Some(program))
}

/// What npm calls this machine.
fn platform() -> Option<&'static str> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Some("linux-x64"),
        ("linux", "aarch64") => Some("linux-arm64"),
        ("macos", "x86_64") => Some("darwin-x64"),
        ("macos", "aarch64") => Some("darwin-arm64"),
        _ => None,
    }
}

/// Fetches it to `kept`, which appears whole or not at all; whether it could.
fn fetch(signals: &Signals, npm: &Path, kept: &Path) -> Outcome<bool> {
    let prefix = format!("restate-server-{PINNED}.partial-");
    let scratch = Scratch::create(&repo::tools(), &prefix)?;
    let installed = scratch.path().join("installed");
    let sources = repo::root().join("xtask/restate");
    let copy = |name: &str| fs::copy(sources.join(name), installed.join(name)).map(drop);
    fs::create_dir(&installed)
        .and_then(|()| copy("package.json"))
        .and_then(|()| copy("package-lock.json"))
        .map_err(|error| Failure::file("copy what npm needs to", &installed, &error))?;
    let mut install = in_repository(npm);
    // `ci` takes what the lock file says, checked by its hashes. No package runs a script:
    // the program itself is in the package for the platform.
    install
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&installed)
        .stdout(Stdio::null());
    if !signals.run(install)?.success() {
        return Ok(false);
    }
    match fs::rename(&installed, kept) {
        Ok(()) => Ok(true),
        // Another run was faster.
        Err(_) if kept.is_dir() => Ok(true),
        Err(error) => Err(Failure::file("put restate-server in", kept, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = include_str!("../restate/package.json");
    const LOCK: &str = include_str!("../restate/package-lock.json");

    #[test]
    fn the_pinned_version_is_the_one_that_is_locked() {
        let pin = format!("\"@restatedev/restate-server\": \"{PINNED}\"");
        assert!(MANIFEST.contains(&pin) && LOCK.contains(&pin));
    }

    #[test]
    fn the_lock_file_pins_by_hash_and_names_no_host() {
        let packages = LOCK.matches("\"node_modules/").count();
        assert_eq!(LOCK.matches("\"integrity\": \"sha512-").count(), packages);
        assert!(!LOCK.contains("\"resolved\""));
    }
}
