//! Installing Debian's packages, where this user can.

use rustix::process::geteuid;

use crate::failure::{Failure, Outcome};
use crate::process::{find_on_path, in_repository};
use crate::signals::Signals;

/// Whether packages can be installed: by root, on Debian and its kin.
pub(crate) fn can_install() -> bool {
    geteuid().is_root() && find_on_path("apt-get").is_some()
}

/// Installs a package; `otherwise` says what to do when that fails.
pub(crate) fn install(signals: &Signals, package: &str, otherwise: &str) -> Outcome {
    eprintln!("{package}: installing (apt-get) ...");
    apt_get(signals, &["update"], otherwise)?;
    let install = ["install", "-y", "--no-install-recommends", package];
    apt_get(signals, &install, otherwise)
}

fn apt_get(signals: &Signals, arguments: &[&str], otherwise: &str) -> Outcome {
    let mut command = in_repository("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Configuration that is there already is kept, and not asked about.
        .args(["-q", "-o", "Dpkg::Options::=--force-confold"])
        .args(arguments)
        .stdin(std::process::Stdio::null())
        // What xtask prints to its output is the test runner's.
        .stdout(std::io::stderr());
    let status = signals.run(command)?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "`apt-get {}` failed; mend what it reports above, or {otherwise}",
        arguments.join(" ")
    )))
}
