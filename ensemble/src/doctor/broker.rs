//! What is wrong with the broker and the stream.

use std::time::Duration;

use jetstream::stream::inspect::{Stream, Unseen};
use jetstream::stream::local_server::OLDEST;

use super::{Examined, Finding, Severity};
use crate::reach::Flags;
use crate::terminal::duration;

// What is acknowledged and not on disk within this time is more than outboxes should repair.
const SYNC_AT_MOST: Duration = Duration::from_secs(1);
// Shares of what may be stored.
const NEARLY_FULL: u64 = 80;
const FULL: u64 = 95;
// Clocks that differ by more than this hurt what is compared with them, in milliseconds.
const SKEW: i64 = 1_000;

pub(crate) fn findings(examined: &Examined, flags: &Flags) -> Vec<Finding> {
    let mut findings = Vec::new();
    let provision = format!("ensemble provision{}", flags.broker);
    findings.extend(examined.version.as_deref().and_then(version));
    findings.extend(disk(examined));
    match &examined.stream {
        Some(Ok(stream)) => {
            findings.extend(kept(stream, &provision));
            findings.extend(full(stream, examined));
            findings.extend(clock(stream, examined));
        }
        Some(Err(Unseen::Missing)) => findings.push(Finding::new(
            Severity::Critical,
            "NO_STREAM",
            "stream",
            "the broker has no stream EVENTS, so nothing can be said".to_owned(),
            format!("create it: {provision}"),
        )),
        _ => {}
    }
    findings
}

pub(crate) fn version(found: &str) -> Option<Finding> {
    let mut numbers = found.split('.').map_while(|part| part.parse::<u32>().ok());
    let found_version = (numbers.next()?, numbers.next()?);
    (found_version < OLDEST).then(|| {
        let (major, minor) = OLDEST;
        Finding::new(
            Severity::Critical,
            "SERVER_TOO_OLD",
            "broker",
            format!("it is nats-server {found}, and {major}.{minor} is needed"),
            format!("upgrade it to {major}.{minor} or later"),
        )
    })
}

fn disk(examined: &Examined) -> Option<Finding> {
    let monitored = examined.monitored.as_ref()?;
    let interval = monitored.sync_interval?;
    (interval > SYNC_AT_MOST && !monitored.sync_always).then(|| {
        let millis = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        Finding::new(
            Severity::Warning,
            "SYNC_INTERVAL",
            "broker",
            format!(
                "what it has acknowledged may not be on disk for {}: a power cut takes it",
                duration(millis)
            ),
            "set jetstream { sync_interval: \"100ms\" } in its configuration: the outboxes say \
             again what is lost from so short a time",
        )
    })
}

/// How the stream keeps events.
fn kept(stream: &Stream, provision: &str) -> Vec<Finding> {
    let config = &stream.config;
    let mut findings = Vec::new();
    let mut wrong = |code, evidence: &str, remedy: &str| {
        let evidence = evidence.to_owned();
        findings.push(Finding::new(
            Severity::Critical,
            code,
            "stream",
            evidence,
            remedy,
        ));
    };
    let provision = &format!("set it back: {provision}");
    if config.retention != "limits" {
        let evidence = "its retention is not `limits`: what was heard is gone, and after a restart \
                        the broker does not know what it has had";
        wrong(
            "RETENTION",
            evidence,
            "create the stream anew, with the consumers stopped",
        );
    }
    if config.storage != "file" {
        let evidence = "it is kept in memory: a restart of the broker loses it";
        wrong("IN_MEMORY", evidence, "create the stream anew on disk");
    }
    if config.persist_mode == "async" {
        let evidence =
            "it acknowledges before it writes (persist_mode async): a crash loses events";
        wrong(
            "PERSIST_ASYNC",
            evidence,
            "create the stream anew without it",
        );
    }
    if config.discard == "old" {
        let evidence = "when it is full it drops the oldest events, heard or not";
        wrong("DISCARDS_OLD", evidence, provision);
    }
    if !config.deny_purge || !config.deny_delete {
        let evidence = "events can be deleted from it by hand";
        wrong("DELETABLE", evidence, provision);
    }
    if !config.allow_direct {
        let evidence = "it cannot be read directly: no timeline, and nothing lost is said again";
        wrong("NO_DIRECT_GET", evidence, provision);
    }
    if config.num_replicas == 1 {
        findings.push(Finding::new(
            Severity::Note,
            "ONE_COPY",
            "stream",
            "there is one copy of it: with its disk it is lost, but for what the outboxes keep"
                .to_owned(),
            "in a cluster of brokers, give it 3 replicas",
        ));
    }
    findings
}

fn full(stream: &Stream, examined: &Examined) -> Vec<Finding> {
    let mut findings = Vec::new();
    let limit = |code, what: &str, used: u64, limit: i64| {
        let limit = u64::try_from(limit).ok().filter(|limit| *limit > 0)?;
        let percent = used.saturating_mul(100) / limit;
        let severity = match percent {
            ..NEARLY_FULL => return None,
            NEARLY_FULL..FULL => Severity::Warning,
            _ => Severity::Critical,
        };
        Some(Finding::new(
            severity,
            code,
            "stream",
            format!("{what} {used} of {limit} ({percent} %); when it is full nothing can be said"),
            "raise the limit, or keep events for a shorter time",
        ))
    };
    let (config, state) = (&stream.config, &stream.state);
    findings.extend(limit(
        "NEARLY_FULL",
        "it has bytes:",
        state.bytes,
        config.max_bytes,
    ));
    findings.extend(limit(
        "NEARLY_FULL",
        "it has events:",
        state.messages,
        config.max_msgs,
    ));
    if let Some(Ok(account)) = &examined.account {
        let most = account.limits.max_storage;
        findings.extend(limit(
            "ACCOUNT_FULL",
            "its account stores bytes:",
            account.storage,
            most,
        ));
    }
    if config.max_bytes <= 0 {
        findings.push(Finding::new(
            Severity::Note,
            "NO_SIZE_LIMIT",
            "stream",
            "its size has no limit: it can fill the disk, and a full disk stops the broker"
                .to_owned(),
            "give it a max_bytes below the disk's size, and watch the disk",
        ));
    }
    findings
}

fn clock(stream: &Stream, examined: &Examined) -> Option<Finding> {
    let skew = skew(stream.broker_time()?, examined.asked_from, examined.now)?;
    Some(Finding::new(
        Severity::Warning,
        "CLOCK_SKEW",
        "broker",
        format!("its clock and this machine's differ by {}", duration(skew)),
        "run a time service (NTP) on every machine",
    ))
}

/// How far a clock is off that told a time between two times of this machine; nothing when
/// it is close enough.
pub(crate) fn skew(told: i64, from: i64, until: i64) -> Option<i64> {
    let off = (from - told).max(told - until);
    (off > SKEW).then_some(off)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_off_only_when_the_time_that_asking_took_cannot_explain_it() {
        assert_eq!(skew(10_500, 10_000, 11_000), None);
        assert_eq!(skew(7_000, 10_000, 60_000), Some(3_000));
        assert_eq!(skew(62_000, 10_000, 60_000), Some(2_000));
    }

    #[test]
    fn only_a_server_that_is_too_old_is_found() {
        let code = |text| version(text).map(|finding| finding.code);
        assert_eq!(code("2.11.9"), Some("SERVER_TOO_OLD"));
        assert_eq!(code("1.4.0"), Some("SERVER_TOO_OLD"));
        assert_eq!(code("2.12.0-preview.1"), None);
        assert_eq!(code("3.0.0"), None);
        assert_eq!(code("unknown"), None);
    }
}
