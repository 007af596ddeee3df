//! `cargo xtask dist`: the programs of a release, with their checksums.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::failure::{Failure, Outcome};
use crate::process::{cargo, in_repository, output_of};
use crate::repo;
use crate::signals::Signals;

const PROGRAMS: [&str; 6] = [
    "ensemble",
    "order-svc",
    "stock-svc",
    "point-svc",
    "coupon-svc",
    "cart-svc",
];
const DOCUMENTS: [&str; 3] = ["CHANGELOG.md", "LICENSE", "README.md"];
const SUMS: &str = "SHA256SUMS";

/// Builds the programs and puts them into `dist/`.
pub(crate) fn dist() -> Outcome {
    let version = project_version(&read("Cargo.toml")?)?;
    // Before anything is built: a version that nobody can read about is no release.
    check_changelog(&read("CHANGELOG.md")?, &version)?;
    let signals = Signals::watch()?;
    signals.blame(build(&signals, &version))
}

fn build(signals: &Signals, version: &str) -> Outcome {
    signals.require(cargo([
        "build",
        "--release",
        "--locked",
        "--workspace",
        "--bins",
    ]))?;
    let name = format!("ensemble-{version}-{}", host()?);
    let folder = repo::root().join("dist").join(&name);
    // What an earlier run left may be of another commit.
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|e| Failure::file("remove", &folder, &e))?;
    }
    fs::create_dir_all(&folder).map_err(|e| Failure::file("make", &folder, &e))?;
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| repo::root().join("target"), Into::into);
    for program in PROGRAMS {
        let (from, to) = (target.join("release").join(program), folder.join(program));
        // Afterwards, so that what is shipped is what was measured, without its symbols.
        let mut strip = in_repository("strip");
        output_of(strip.arg("-o").arg(&to).arg(&from))?;
        starts(&to, version)?;
    }
    for document in DOCUMENTS {
        copy(&repo::root().join(document), &folder.join(document))?;
    }
    let mut sums = String::new();
    for file in PROGRAMS.iter().chain(&DOCUMENTS) {
        let path = folder.join(file);
        let bytes = fs::read(&path).map_err(|e| Failure::file("read", &path, &e))?;
        sums += &sum_line(&bytes, file);
        if PROGRAMS.contains(file) {
            println!(
                "{:>10}  {file}",
                format!("{:.1} MB", bytes.len() as f64 / 1e6)
            );
        }
    }
    let path = folder.join(SUMS);
    fs::write(&path, sums).map_err(|e| Failure::file("write", &path, &e))?;
    println!("dist/{name}: check it with `sha256sum --check {SUMS}`");
    pack(&name)
}

/// Whether a program runs here, and is of this version.
fn starts(program: &Path, version: &str) -> Outcome {
    let said = output_of(in_repository(program).arg("--version"))?;
    match said.trim().ends_with(&format!(" {version}")) {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "{} says that it is `{}`, and not {version}",
            program.display(),
            said.trim()
        ))),
    }
}

/// All of it in one file, and its checksum beside it.
fn pack(name: &str) -> Outcome {
    let folder = repo::root().join("dist");
    let archive = format!("{name}.tar.gz");
    let mut tar = in_repository("tar");
    tar.args(["-czf", &archive, name]).current_dir(&folder);
    output_of(&mut tar)?;
    let path = folder.join(&archive);
    let bytes = fs::read(&path).map_err(|e| Failure::file("read", &path, &e))?;
    let sum = folder.join(format!("{archive}.sha256"));
    fs::write(&sum, sum_line(&bytes, &archive)).map_err(|e| Failure::file("write", &sum, &e))?;
    println!("dist/{archive}: {:.1} MB", bytes.len() as f64 / 1e6);
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Outcome {
    fs::copy(from, to)
        .map(|_| ())
        .map_err(|error| Failure::file("copy", from, &error))
}

fn read(file: &str) -> Outcome<String> {
    let path = repo::root().join(file);
    fs::read_to_string(&path).map_err(|error| Failure::file("read", &path, &error))
}

/// A line as `sha256sum` reads it.
fn sum_line(bytes: &[u8], file: &str) -> String {
    let mut line = String::new();
    for byte in Sha256::digest(bytes) {
        // A String takes whatever is written.
        let _ = write!(line, "{byte:02x}");
    }
    line + "  " + file + "\n"
}

/// The platform that is built for.
fn host() -> Outcome<String> {
    let text = output_of(in_repository("rustc").arg("-vV"))?;
    let mut lines = text.lines();
    let host = lines.find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| Failure::new("rustc does not say what it builds for"))
}

/// The version in `[workspace.package]`.
fn project_version(manifest: &str) -> Outcome<String> {
    let package = manifest.split_once("[workspace.package]");
    let version = package.and_then(|(_, rest)| {
        let line = rest
            .lines()
            .find_map(|line| line.strip_prefix("version = \""))?;
        Some(line.trim_end_matches('"').to_owned())
    });
    version.ok_or_else(|| Failure::new("Cargo.toml has no version in [workspace.package]"))
}

/// Refuses a version that the CHANGELOG does not tell of.
fn check_changelog(changelog: &str, version: &str) -> Outcome {
    let heading = format!("## [{version}]");
    let Some((_, rest)) = changelog.split_once(&heading) else {
        return Err(Failure::new(format!(
            "CHANGELOG.md has no section `{heading} - <date>`: say what is new in {version}, or \
             set the version in Cargo.toml"
        )));
    };
    let (date, text) = rest.split_once('\n').unwrap_or((rest, ""));
    let dated = date.strip_prefix(" - ").is_some_and(is_date);
    if !dated {
        return Err(Failure::new(format!(
            "CHANGELOG.md: `{heading}` needs a date, like `{heading} - 2026-11-20`"
        )));
    }
    let text = text.split("\n## ").next().unwrap_or_default();
    match text.lines().any(|line| line.starts_with("- ")) {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "CHANGELOG.md says nothing of {version}: list what is new below its heading"
        ))),
    }
}

fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.trim().split('-').collect();
    let digits = |text: &&str| text.chars().all(|c| c.is_ascii_digit());
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [4, 2, 2] && parts.iter().all(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_the_changelog_does_not_tell_of_is_refused() {
        let told = "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-11-20\n\n- A thing.\n\n## [1.1.0] - 2026-11-01\n";
        assert!(check_changelog(told, "1.2.0").is_ok());
        for (version, words) in [("1.3.0", "no section"), ("1.1.0", "says nothing")] {
            let failure = check_changelog(told, version).unwrap_err();
            assert!(failure.message.unwrap().contains(words), "{version}");
        }
        let undated = told.replace(" - 2026-11-20", "");
        let failure = check_changelog(&undated, "1.2.0").unwrap_err();
        assert!(failure.message.unwrap().contains("needs a date"));
    }

    #[test]
    fn the_version_is_that_of_the_workspace() {
        let manifest = "[workspace]\n\n[workspace.package]\nversion = \"1.2.0\"\n";
        assert_eq!(project_version(manifest).unwrap(), "1.2.0");
        assert!(project_version("[package]\nversion = \"1.0.0\"\n").is_err());
    }

    #[test]
    fn sums_are_those_of_sha256sum() {
        // FIPS 180-2, appendix B.1.
        let line = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  abc\n";
        assert_eq!(sum_line(b"abc", "abc"), line);
    }
}
