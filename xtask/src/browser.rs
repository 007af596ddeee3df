//! `cargo xtask browser`: the tests in a real browser.

use std::path::PathBuf;

use crate::failure::Outcome;
use crate::process::{find_on_path, variable, version_text};
use crate::signals::Signals;
use crate::{apt, tests_run};

/// The variable that names the browser, for xtask and for the tests.
const VARIABLE: &str = "ENSEMBLE_BROWSER";

const NAMES: &[&str] = &["chromium", "chromium-browser", "google-chrome", "chrome"];

/// The command: these tests alone.
pub(crate) fn browser() -> Outcome {
    let signals = Signals::watch()?;
    signals.blame(check(&signals))
}

/// Runs the tests, where there is a browser or one can be installed.
pub(crate) fn check(signals: &Signals) -> Outcome {
    let Some(program) = get(signals)? else {
        return Ok(());
    };
    let browser = (VARIABLE, program.to_string_lossy().into_owned());
    tests_run::with_feature(signals, "browser", browser)
}

/// Finds a browser or installs one; none, and a word why, when it cannot.
pub(crate) fn get(signals: &Signals) -> Outcome<Option<PathBuf>> {
    let Some(program) = program(signals)? else {
        eprintln!(
            "browser: not tested; install Chromium (Debian: `apt-get install chromium`), or set \
             {VARIABLE} to a browser of its kind"
        );
        return Ok(None);
    };
    let version = version_text(std::process::Command::new(&program).arg("--no-sandbox"));
    let version = version.unwrap_or_default();
    eprintln!("browser: {} at {}", version.trim(), program.display());
    Ok(Some(program))
}

fn program(signals: &Signals) -> Outcome<Option<PathBuf>> {
    if let Some(program) = variable(VARIABLE) {
        return Ok(Some(PathBuf::from(program)));
    }
    let find = || NAMES.iter().find_map(|name| find_on_path(name));
    if let Some(program) = find() {
        return Ok(Some(program));
    }
    if !apt::can_install() {
        return Ok(None);
    }
    let otherwise = format!("set {VARIABLE} to a browser of Chromium's kind");
    apt::install(signals, "chromium", &otherwise)?;
    Ok(find())
}
