//! What is wrong with the services' consumers.

use jetstream::stream::inspect::Consumer;

use super::{Examined, Finding, Severity};
use crate::system::System;
use crate::system::service::{Remedy, Seen};
use crate::terminal::duration;

// An event that waits for longer is no work of the moment, in milliseconds.
const BEHIND: i64 = 5_000;
// Shares of the time for which the stream keeps events.
const OLD: i64 = 50;
const TOO_OLD: i64 = 90;

pub(crate) fn findings(examined: &Examined, system: &System) -> Vec<Finding> {
    let stream = examined
        .stream
        .as_ref()
        .and_then(|stream| stream.as_ref().ok());
    // Nanoseconds; 0: for ever.
    let max_age = stream.map_or(0, |stream| stream.config.max_age / 1_000_000);
    let mut findings = Vec::new();
    for seen in system.services.values() {
        let Some(Ok(consumer)) = &seen.consumer else {
            continue;
        };
        findings.extend(ageing(seen, max_age));
        findings.extend(configured(&seen.name, consumer, &system.flags.broker));
        findings.extend(standing_still(seen, consumer, examined.now));
    }
    findings
}

/// Whether the stream drops events before they are heard.
fn ageing(seen: &Seen, max_age: i64) -> Option<Finding> {
    let oldest = seen.oldest?;
    let percent = oldest.saturating_mul(100).checked_div(max_age)?;
    let severity = match percent {
        ..OLD => return None,
        OLD..TOO_OLD => Severity::Warning,
        _ => Severity::Critical,
    };
    Some(Finding::new(
        severity,
        "BACKLOG_AGES_OUT",
        &seen.name,
        format!(
            "its oldest unheard event is {} old, and the stream drops events after {}",
            duration(oldest),
            duration(max_age)
        ),
        "let it hear them, or have the stream keep events for longer",
    ))
}

fn configured(name: &str, consumer: &Consumer, flags: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if consumer.config.max_deliver > 0 {
        findings.push(Finding::new(
            Severity::Critical,
            "MAX_DELIVER",
            name,
            format!(
                "its consumer gives up an event after {} deliveries, and parks it unseen",
                consumer.config.max_deliver
            ),
            format!("set it back: ensemble provision{flags}"),
        ));
    }
    if consumer.config.ack_policy != "explicit" {
        findings.push(Finding::new(
            Severity::Critical,
            "ACK_POLICY",
            name,
            format!(
                "its consumer acks by the policy `{}`",
                consumer.config.ack_policy
            ),
            format!("delete the consumer, then: ensemble provision{flags}"),
        ));
    }
    findings
}

/// Whether it hears nothing although there is something to hear.
fn standing_still(seen: &Seen, consumer: &Consumer, now: i64) -> Option<Finding> {
    let name = &seen.name;
    let waits = seen.oldest.unwrap_or(0);
    let events = seen.backlog();
    // What is known to stop it is said with its reason.
    let known = seen.troubles();
    if known.iter().any(|trouble| trouble.remedy != Remedy::Wait) || waits < BEHIND {
        return None;
    }
    let quiet = consumer.acked_at().map_or(i64::MAX, |at| now - at);
    let evidence = format!("{events} event(s) wait, the oldest for {}", duration(waits));
    Some(match quiet > BEHIND {
        true => Finding::new(
            Severity::Critical,
            "STALLED",
            name,
            format!("{evidence}, and it acks none"),
            format!("look at the log of {name}; starting it again is safe"),
        ),
        false => Finding::new(
            Severity::Warning,
            "BEHIND",
            name,
            evidence,
            format!("it catches up, or needs another instance; see the log of {name}"),
        ),
    })
}
