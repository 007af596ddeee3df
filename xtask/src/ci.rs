//! `cargo xtask ci`: everything that has to hold before a change lands.

use std::time::Instant;

use crate::failure::{Failure, Outcome};
use crate::process::cargo;
use crate::signals::Signals;
use crate::{asyncapi, browser, deny, faults, schemathesis, tests_run};

/// Runs the parts in turn and stops at the first that fails. What is printed
/// last is the summary of the tests.
pub(crate) fn ci(with_deny: bool) -> Outcome {
    let signals = Signals::watch()?;
    signals.blame(parts(&signals, with_deny))
}

fn parts(signals: &Signals, with_deny: bool) -> Outcome {
    let summary = part("test", || tests_run::test_and_keep_summary(signals))?;
    part("fmt", || {
        signals.require(cargo(["fmt", "--all", "--check"]))
    })?;
    part("clippy", || {
        let lints = "clippy --workspace --all-targets -- -D warnings";
        signals.require(cargo(lints.split(' ')))
    })?;
    part("faults", || faults::run(signals, &["--ci".to_owned()]))?;
    part("asyncapi", || asyncapi::check(signals))?;
    part("browser", || browser::check(signals))?;
    part("schemathesis", || schemathesis::check(signals))?;
    if with_deny {
        part("deny", || deny::check(signals))?;
    } else {
        eprintln!("\n== deny: left out ==");
    }
    eprintln!("\n== ci: ok; the tests said ==");
    for line in summary {
        println!("{line}");
    }
    Ok(())
}

/// One part, with its heading, its time and, if it fails, its name.
fn part<T>(name: &str, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    eprintln!("\n== {name} ==");
    let started = Instant::now();
    let result = work();
    let seconds = started.elapsed().as_secs_f64();
    match result {
        Ok(value) => {
            eprintln!("== {name}: ok in {seconds:.1} s ==");
            Ok(value)
        }
        Err(failure) => Err(failed(name, seconds, failure)),
    }
}

fn failed(name: &str, seconds: f64, failure: Failure) -> Failure {
    let sentence = match &failure.message {
        Some(message) => format!("ci: {name} failed after {seconds:.1} s: {message}"),
        None => format!(
            "ci: {name} failed after {seconds:.1} s with exit code {}; mend what it reports above",
            failure.code
        ),
    };
    failure.with_message(sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_fails_is_named_and_keeps_its_exit_code() {
        let failure = part::<()>("fmt", || Err(Failure::interrupted(2))).unwrap_err();
        assert_eq!(failure.code, 130);
        assert!(failure.message.unwrap().starts_with("ci: fmt failed"));
    }
}
