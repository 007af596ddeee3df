//! What is wrong with the services and their databases.

use jetstream::clock;
use serde_json::Value;

use super::broker::skew;
use super::{Finding, Severity};
use crate::system::System;
use crate::system::service::{Remedy, Seen};
use crate::terminal::duration;

// A row that is not published within this time is not about to be, in milliseconds.
const UNPUBLISHED: i64 = 5_000;

pub(crate) fn findings(system: &System) -> Vec<Finding> {
    let mut findings = Vec::new();
    for seen in system.services.values() {
        findings.extend(troubles(seen, system));
        let Some(internals) = &seen.internals else {
            continue;
        };
        findings.extend(outbox(&seen.name, &internals["outbox"]));
        findings.extend(letters(&seen.name, &internals["open_dead_letters"], system));
        findings.extend(database(&seen.name, internals));
    }
    findings
}

/// What `why` would say of it.
fn troubles(seen: &Seen, system: &System) -> Vec<Finding> {
    let flags = &system.flags;
    let troubles = seen.troubles().into_iter().filter_map(|trouble| {
        let remedy = match trouble.remedy {
            Remedy::Start => format!("start it again: {}-svc{}", seen.name, flags.service),
            Remedy::Resume => format!("resume it: ensemble provision --resume{}", flags.broker),
            Remedy::Provision => format!("create it: ensemble provision{}", flags.broker),
            Remedy::LiftFence => format!(
                "look with `ensemble reconcile{0}`, repair, then ensemble fence lift {1} \
                 --reason '…'{0}",
                flags.services, seen.name
            ),
            Remedy::Doctor => format!("look at the log of {}", seen.name),
            Remedy::Wait => return None,
        };
        Some(Finding::new(
            Severity::Critical,
            trouble.code,
            &seen.name,
            trouble.text,
            remedy,
        ))
    });
    troubles.collect()
}

fn outbox(name: &str, outbox: &Value) -> Option<Finding> {
    let oldest = outbox["oldest_ms"].as_i64()?;
    (oldest > UNPUBLISHED).then(|| {
        Finding::new(
            Severity::Critical,
            "OUTBOX_GROWS",
            name,
            format!(
                "{} event(s) are decided and not published, the oldest for {}",
                outbox["unpublished"],
                duration(oldest)
            ),
            "see whether the broker takes events: is the stream full, or its disk?",
        )
    })
}

fn letters(name: &str, open: &Value, system: &System) -> Option<Finding> {
    let open = open.as_u64().filter(|open| *open > 0)?;
    Some(Finding::new(
        Severity::Warning,
        "DEAD_LETTERS",
        name,
        format!("{open} event(s) could not be handled and wait for a person"),
        format!("ensemble dead-letters list{}", system.flags.services),
    ))
}

fn database(name: &str, internals: &Value) -> Vec<Finding> {
    let database = &internals["database"];
    let mut findings = Vec::new();
    for (setting, value) in database["settings"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        let (severity, code, what) = match (setting.as_str(), value) {
            ("fsync", "off") => (
                Severity::Critical,
                "FSYNC_OFF",
                "a crash breaks the database",
            ),
            ("full_page_writes", "off") => {
                let what = "a crash can break the database";
                (Severity::Critical, "FULL_PAGE_WRITES_OFF", what)
            }
            ("synchronous_commit", "off") => {
                let what = "a crash takes what was committed, and acked to the broker";
                (Severity::Critical, "SYNCHRONOUS_COMMIT_OFF", what)
            }
            ("synchronous", "0" | "1") => {
                let what = "a power cut takes what was committed, and acked to the broker";
                (Severity::Critical, "SYNCHRONOUS_OFF", what)
            }
            _ => continue,
        };
        findings.push(Finding::new(
            severity,
            code,
            name,
            format!("its database has {setting} = {value}: {what}"),
            format!("set {setting} to on in the configuration of its database server"),
        ));
    }
    let time = database["time"].as_str().and_then(clock::parse_rfc3339);
    let between = [0, 1].map(|at| internals["between"][at].as_i64());
    if let (Some(time), [Some(from), Some(until)]) = (time, between)
        && let Some(skew) = skew(time, from, until)
    {
        findings.push(Finding::new(
            Severity::Warning,
            "CLOCK_SKEW",
            name,
            format!(
                "the clock of its database and this machine's differ by {}",
                duration(skew)
            ),
            "run a time service (NTP) on every machine",
        ));
    }
    findings
}
