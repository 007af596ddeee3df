//! Getting a Restate server, to compare with.

use std::path::PathBuf;

use crate::failure::Outcome;
use crate::process::{find_on_path, is_executable};
use crate::signals::Signals;
use crate::{npm, repo};

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
        let sources = repo::root().join("xtask/restate");
        if !npm::fetch(signals, &npm, &sources, &kept)? || !is_executable(&program) {
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
}
