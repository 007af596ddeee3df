//! A range handled again, and what came of it.

use std::path::Path;

use jetstream::replay::{self, Report, Tape};
use serde_json::{Value, json};

use super::Args;
use crate::SERVICES;
use crate::failure::Failure;

/// Refuses a directory with something in it, before anything is read.
pub(super) fn check(into: &Path) -> Result<(), String> {
    replay::empty(into).map_err(|error| error.to_string())
}

pub(super) async fn play(args: &Args, tape: Tape, into: &Path) -> Result<(), Failure> {
    let tape = match args.at {
        Some(at)
            if tape
                .events()
                .first()
                .is_none_or(|first| first.stream_sequence > at) =>
        {
            return Err(format!("--at {at} is before the first event that was read").into());
        }
        Some(at) => tape.until(at),
        None => tape,
    };
    let report = replay::replay(&SERVICES, &tape, into, args.base.as_deref()).await;
    let report = report.map_err(|error| error.to_string())?;
    match args.json {
        true => println!("{}", as_json(&report, &tape)),
        false => print!(
            "replayed to {}, compared from {} on; databases in {}\n\n{report}",
            tape.last,
            tape.first,
            into.display()
        ),
    }
    match report.differences.is_empty() {
        true => Ok(()),
        false => Err(Failure::Found(String::new())),
    }
}

fn as_json(report: &Report, tape: &Tape) -> Value {
    let mut value = json!(report);
    value["equal"] = report.differences.is_empty().into();
    value["first"] = tape.first.into();
    value["last"] = tape.last.into();
    value
}
