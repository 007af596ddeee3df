//! The map of the choreography as an `AsyncAPI` document, read by the official parser.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::{Failure, Outcome};
use crate::process::{cargo, find_on_path, in_repository};
use crate::repo;
use crate::scratch::Scratch;
use crate::signals::Signals;

/// The version of the parser; `xtask/asyncapi/package-lock.json` pins what it stands on.
const PINNED: &str = "3.6.3";

/// The command: the check alone.
pub(crate) fn asyncapi() -> Outcome {
    let signals = Signals::watch()?;
    signals.blame(check(&signals))
}

/// Has the parser read the document, where there is Node to run it.
pub(crate) fn check(signals: &Signals) -> Outcome {
    let (Some(node), Some(npm)) = (find_on_path("node"), find_on_path("npm")) else {
        eprintln!("asyncapi: not checked (no node); install Node 18 or later and npm to check it");
        return Ok(());
    };
    let Some(parser) = parser(signals, &npm)? else {
        eprintln!("asyncapi: not checked, as its parser cannot be fetched; see npm above");
        return Ok(());
    };
    let scratch = Scratch::create(&repo::tools(), "asyncapi.partial-")?;
    let document = scratch.path().join("asyncapi.json");
    signals.require(draw(&document)?)?;
    let mut check = in_repository(&node);
    check
        .arg(sources().join("check.mjs"))
        .args([&document, &parser]);
    signals.require(check)?;
    eprintln!("asyncapi: the parser {PINNED} finds nothing wrong");
    Ok(())
}

fn sources() -> PathBuf {
    repo::root().join("xtask/asyncapi")
}

/// The command that writes the document.
fn draw(document: &Path) -> Outcome<Command> {
    let file = File::create(document);
    let file = file.map_err(|error| Failure::file("write", document, &error))?;
    let arguments = "run --quiet --package ensemble -- map --format asyncapi";
    let mut draw = cargo(arguments.split(' '));
    draw.stdout(Stdio::from(file));
    Ok(draw)
}

/// The folder of the parser; none when it cannot be fetched.
fn parser(signals: &Signals, npm: &Path) -> Outcome<Option<PathBuf>> {
    let kept = repo::tools().join(format!("asyncapi-parser-{PINNED}"));
    if is_there(&kept) {
        return Ok(Some(kept));
    }
    eprintln!("asyncapi: fetching the parser {PINNED} (npm) ...");
    let prefix = format!("asyncapi-parser-{PINNED}.partial-");
    let scratch = Scratch::create(&repo::tools(), &prefix)?;
    let installed = scratch.path().join("installed");
    let copy = |name: &str| fs::copy(sources().join(name), installed.join(name)).map(drop);
    fs::create_dir(&installed)
        .and_then(|()| copy("package.json"))
        .and_then(|()| copy("package-lock.json"))
        .map_err(|error| Failure::file("copy what npm needs to", &installed, &error))?;
    let mut install = in_repository(npm);
    // `ci` takes what the lock file says, checked by its hashes. No package runs a script.
    install
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&installed)
        .stdout(Stdio::null());
    if !signals.run(install)?.success() {
        return Ok(None);
    }
    match fs::rename(&installed, &kept) {
        Ok(()) => Ok(Some(kept)),
        // Another run was faster.
        Err(_) if is_there(&kept) => Ok(Some(kept)),
        Err(error) => Err(Failure::file("put the parser in", &kept, &error)),
    }
}

fn is_there(folder: &Path) -> bool {
    folder.join("node_modules/@asyncapi/parser").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = include_str!("../asyncapi/package.json");
    const LOCK: &str = include_str!("../asyncapi/package-lock.json");

    #[test]
    fn the_pinned_version_is_the_one_that_is_locked() {
        let pin = format!("\"@asyncapi/parser\": \"{PINNED}\"");
        assert!(MANIFEST.contains(&pin) && LOCK.contains(&pin));
    }

    #[test]
    fn the_lock_file_pins_by_hash_and_names_no_host() {
        let packages = LOCK.matches("\"node_modules/").count();
        assert_eq!(LOCK.matches("\"integrity\": \"sha512-").count(), packages);
        assert!(!LOCK.contains("\"resolved\""));
    }
}
