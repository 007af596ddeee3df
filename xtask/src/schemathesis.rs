//! The API, held against its own document by schemathesis.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::failure::{Failure, Outcome};
use crate::process::{cargo, end_with_xtask, find_on_path, in_repository};
use crate::scratch::Scratch;
use crate::signals::Signals;
use crate::{apt, nats, repo, summary, up};

/// The version; `xtask/schemathesis/requirements.txt` pins what it stands on.
const PINNED: &str = "4.32.5";
/// Cases that a run has at least, unless it is told otherwise.
const CASES: u32 = 2_000;
/// And one that must not take long.
const FEW_CASES: u32 = 300;
/// Operations of the document, more or less: cases are counted for each.
const OPERATIONS: u32 = 30;
/// How long the system may take to serve.
const PATIENCE: Duration = Duration::from_secs(120);

/// The command.
pub(crate) fn schemathesis(arguments: &[String]) -> Outcome {
    let cases = match arguments {
        [] => CASES,
        [flag, cases] if flag == "--cases" => cases.parse().map_err(|_| usage())?,
        _ => return Err(usage()),
    };
    let signals = Signals::watch()?;
    signals.blame(run(&signals, cases, true))
}

fn usage() -> Failure {
    Failure::usage("`cargo xtask schemathesis` takes --cases N and nothing else")
}

/// A short run, where there is Python to run it.
pub(crate) fn check(signals: &Signals) -> Outcome {
    run(signals, FEW_CASES, false)
}

/// Gets it, for later.
pub(crate) fn get(signals: &Signals) -> Outcome {
    match program(signals)? {
        Ok(program) => eprintln!("schemathesis: {PINNED} at {}", program.display()),
        Err(missing) => eprintln!("schemathesis: not there: {missing}"),
    }
    Ok(())
}

fn run(signals: &Signals, cases: u32, required: bool) -> Outcome {
    let program = match program(signals)? {
        Ok(program) => program,
        Err(missing) if required => return Err(Failure::new(missing)),
        Err(missing) => {
            eprintln!("schemathesis: left out: {missing}");
            return Ok(());
        }
    };
    let nats = nats::server()?;
    // As the tests are built, so that nothing is built twice in a run of everything.
    signals.require(cargo(["build", "--workspace", "--bins", "--tests"]))?;
    let ensemble = up::target_folder()?.join("debug/ensemble");
    let scratch = Scratch::create(&repo::tools(), "schemathesis.partial-")?;
    let system = System::start(signals, &ensemble, &nats, scratch.path())?;
    // The configuration is looked for where it runs, and the orders that exist beside it.
    let folder = scratch.path();
    let configuration = folder.join("schemathesis.toml");
    fs::copy(sources().join("schemathesis.toml"), &configuration)
        .and_then(|_| fs::write(folder.join("orders.txt"), format!("\"{}\"\n", system.order)))
        .map_err(|error| Failure::file("write", folder, &error))?;
    let mut st = in_repository(&program);
    st.args(["run", "--workers", "2", "--max-examples"])
        .arg(cases.div_ceil(OPERATIONS).to_string())
        .arg(format!("{}/openapi.json", system.url))
        .current_dir(scratch.path())
        .env("ENSEMBLE_TOKEN", &system.token);
    let (status, kept) = summary::run_and_keep_lines(signals, st, is_count)?;
    if !status.success() {
        return Err(Failure::of(status).with_message(
            "schemathesis: the API does not do what its document says; see its report above"
                .to_owned(),
        ));
    }
    let generated = kept.iter().find_map(|line| count(line)).unwrap_or(0);
    match generated >= cases {
        true => {
            eprintln!("schemathesis: {generated} cases, no failure");
            Ok(())
        }
        false => Err(Failure::new(format!(
            "schemathesis: {generated} cases are fewer than {cases}: raise --cases"
        ))),
    }
}

fn sources() -> PathBuf {
    repo::root().join("xtask/schemathesis")
}

fn is_count(line: &str) -> bool {
    count(line).is_some()
}

/// The number in `2345 generated, ...`.
fn count(line: &str) -> Option<u32> {
    let (before, _) = line.split_once(" generated")?;
    let digits = before
        .rsplit(|c: char| !c.is_ascii_digit() && c != ',')
        .next()?;
    digits.replace(',', "").parse().ok()
}

/// The program, or what is missing to have it.
fn program(signals: &Signals) -> Outcome<Result<PathBuf, String>> {
    let kept = repo::tools().join(format!("schemathesis-{PINNED}"));
    let program = kept.join("bin/st");
    // Written last: what was cut short is made again.
    let whole = kept.join("whole");
    if whole.is_file() {
        return Ok(Ok(program));
    }
    if !has_venv() && apt::can_install() {
        apt::install(
            signals,
            "python3-venv",
            "install Python 3.11 or later with venv",
        )?;
    }
    let (Some(python), true) = (find_on_path("python3"), has_venv()) else {
        return Ok(Err(
            "there is no python3 with venv; install Python 3.11 or later (Debian: `apt-get \
             install python3-venv`)"
                .to_owned(),
        ));
    };
    eprintln!("schemathesis: fetching {PINNED} (PyPI) ...");
    let mut make = in_repository(&python);
    make.args(["-m", "venv", "--clear"]).arg(&kept);
    let mut install = in_repository(kept.join("bin/python"));
    install
        .args([
            "-m",
            "pip",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
        ])
        .args(["install", "--only-binary=:all:", "--requirement"])
        .arg(sources().join("requirements.txt"));
    for command in [make, install] {
        if !signals.run(command)?.success() {
            return Ok(Err(format!(
                "schemathesis {PINNED} could not be installed; mend what pip reports above"
            )));
        }
    }
    File::create(&whole).map_err(|error| Failure::file("write", &whole, &error))?;
    Ok(Ok(program))
}

/// Whether there is a Python that can make a place for packages.
fn has_venv() -> bool {
    let python = find_on_path("python3").map(|python| {
        Command::new(python)
            .args(["-c", "import venv, ensurepip"])
            .stderr(Stdio::null())
            .status()
    });
    python.is_some_and(|status| status.is_ok_and(|status| status.success()))
}

/// The system, with sample data; it ends with this.
struct System {
    child: Child,
    url: String,
    token: String,
    order: String,
}

impl System {
    fn start(signals: &Signals, ensemble: &Path, nats: &Path, folder: &Path) -> Outcome<System> {
        let said = folder.join("up.out");
        let log = folder.join("up.err");
        let file =
            |path: &Path| File::create(path).map_err(|error| Failure::file("write", path, &error));
        let mut command = in_repository(ensemble);
        command
            .args(["up", "--demo", "--listen", "127.0.0.1:0", "--nats-server"])
            .arg(nats)
            .arg("--data-dir")
            .arg(folder.join("data"))
            // Its limits are not what is looked at here.
            .args(["--rate-limit", "0", "--open-orders", "1000"])
            .stdin(Stdio::null())
            .stdout(file(&said)?)
            .stderr(file(&log)?);
        end_with_xtask(&mut command, Signal::TERM);
        let child = command
            .spawn()
            .map_err(|error| Failure::file("run", ensemble, &error))?;
        let mut system = System {
            child,
            url: String::new(),
            token: String::new(),
            order: String::new(),
        };
        let end = Instant::now() + PATIENCE;
        loop {
            signals.check()?;
            let text = fs::read_to_string(&said).unwrap_or_default();
            if text.contains("Serving.") {
                let word = |after: &str| word_after(&text, after);
                let all = (word("http"), word("operator"), word("ensemble timeline"));
                let (Some(url), Some(token), Some(order)) = all else {
                    return Err(Failure::new(
                        "`ensemble up` says no address, token or order",
                    ));
                };
                (system.url, system.token, system.order) = (url, token, order);
                return Ok(system);
            }
            let ended = matches!(system.child.try_wait(), Ok(Some(_)));
            if ended || Instant::now() > end {
                let log = fs::read_to_string(&log).unwrap_or_default();
                return Err(Failure::new(format!(
                    "`ensemble up` does not serve:\n{log}"
                )));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let _ended = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ended = self.child.wait();
    }
}

/// The word that follows others in a line.
fn word_after(text: &str, words: &str) -> Option<String> {
    let rest = text.lines().find_map(|line| {
        let (_, rest) = line.split_once(words)?;
        rest.starts_with(' ').then_some(rest)
    })?;
    rest.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_version_is_the_one_that_is_required() {
        let required = include_str!("../schemathesis/requirements.txt");
        assert!(
            required
                .lines()
                .any(|line| line == format!("schemathesis=={PINNED}"))
        );
        let pinned = |line: &&str| !line.starts_with('#') && !line.contains("==");
        assert_eq!(required.lines().find(pinned), None, "every line is pinned");
    }

    #[test]
    fn cases_are_counted() {
        assert_eq!(count("Test cases: 2345 generated, 12 skipped"), Some(2345));
        assert_eq!(count("  12,345 generated, 12,345 passed"), Some(12_345));
        assert_eq!(count("Generated: nothing"), None);
    }

    #[test]
    fn what_the_system_says_is_read() {
        let said = "http       http://127.0.0.1:1\nalice      a.b\noperator   c.d\n\
                    Again at any time:  ensemble timeline 0189\n";
        assert_eq!(
            word_after(said, "http").as_deref(),
            Some("http://127.0.0.1:1")
        );
        assert_eq!(word_after(said, "operator").as_deref(), Some("c.d"));
        assert_eq!(
            word_after(said, "ensemble timeline").as_deref(),
            Some("0189")
        );
        assert_eq!(word_after(said, "nothing"), None);
    }
}
