//! The map of the choreography as an `AsyncAPI` document, read by the official parser.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::{Failure, Outcome};
use crate::process::{cargo, find_on_path, in_repository};
use crate::scratch::Scratch;
use crate::signals::Signals;
use crate::{npm, repo};

/// The version of the parser; `xtask/asyncapi/package-lock.json` pins what it stands on.
const PINNED: &str = "3.6.3";

/// The command: the check alone.
pub(crate) fn asyncapi() -> Outcome {
    let signals = Signals::watch()?;
    signals.blame(check(&signals))
}

/// Has the parser read the document, where there is Node to run it.
pub(crate) fn check(signals: &Signals) -> Outcome {
    let Some((node, parser)) = get(signals)? else {
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

/// Gets the parser, and finds the Node that runs it; none, and a word why, when it cannot.
pub(crate) fn get(signals: &Signals) -> Outcome<Option<(PathBuf, PathBuf)>> {
    let (Some(node), Some(npm)) = (find_on_path("node"), find_on_path("npm")) else {
        eprintln!("asyncapi: not checked (no node); install Node 18 or later and npm to check it");
        return Ok(None);
    };
    let Some(parser) = parser(signals, &npm)? else {
        eprintln!("asyncapi: not checked, as its parser cannot be fetched; see npm above");
        return Ok(None);
    };
    eprintln!("asyncapi: the parser {PINNED} at {}", parser.display());
    Ok(Some((node, parser)))
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
    let fetched = npm::fetch(signals, npm, &sources(), &kept)?;
    Ok((fetched && is_there(&kept)).then_some(kept))
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
}
