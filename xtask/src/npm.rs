//! Getting what npm has, as a lock file pins it.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::failure::{Failure, Outcome};
use crate::process::in_repository;
use crate::repo;
use crate::scratch::Scratch;
use crate::signals::Signals;

/// Fetches what the lock file in `sources` pins to `kept`, a folder of `.tools/` that
/// appears whole or not at all; whether it could.
pub(crate) fn fetch(signals: &Signals, npm: &Path, sources: &Path, kept: &Path) -> Outcome<bool> {
    let name = kept.file_name().unwrap_or_default().to_string_lossy();
    let scratch = Scratch::create(&repo::tools(), &format!("{name}.partial-"))?;
    let installed = scratch.path().join("installed");
    let copy = |name: &str| fs::copy(sources.join(name), installed.join(name)).map(drop);
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
        return Ok(false);
    }
    match fs::rename(&installed, kept) {
        Ok(()) => Ok(true),
        // Another run was faster.
        Err(_) if kept.is_dir() => Ok(true),
        Err(error) => Err(Failure::file("put what npm has fetched in", kept, &error)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn lock_files_pin_by_hash_and_name_no_host() {
        for sources in ["asyncapi", "restate"] {
            let file: PathBuf = repo::root().join(format!("xtask/{sources}/package-lock.json"));
            let lock = fs::read_to_string(&file).expect("a lock file");
            let packages = lock.matches("\"node_modules/").count();
            assert!(packages > 0, "{sources}");
            let pinned = lock.matches("\"integrity\": \"sha512-").count();
            assert_eq!(pinned, packages, "{sources}");
            assert!(!lock.contains("\"resolved\""), "{sources}");
        }
    }
}
