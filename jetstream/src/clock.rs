//! The clock and the ids: the only place that names either.
//!
//! Deadlines are times of one database's clock (R9). Asking the database for every
//! transaction would cost a round trip, so its clock is read now and then and carried
//! on by this machine's monotonic clock, which no change of the wall clock disturbs.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use uuid::Uuid;

/// The clock of a service's database, in milliseconds since the Unix epoch.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    // Database time at `started`.
    base: AtomicI64,
}

impl Clock {
    /// A clock that reads `now` at this moment.
    #[must_use]
    pub fn at(now: i64) -> Self {
        Self(Arc::new(Inner {
            started: Instant::now(),
            base: AtomicI64::new(now),
        }))
    }

    /// Milliseconds since the Unix epoch, on the database's clock.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.0.base.load(Ordering::Relaxed) + self.elapsed()
    }

    /// Sets the clock to what the database just said.
    pub fn set(&self, now: i64) {
        self.0.base.store(now - self.elapsed(), Ordering::Relaxed);
    }

    fn elapsed(&self) -> i64 {
        millis(self.0.started.elapsed())
    }
}

/// This machine's own wall clock, in milliseconds since the Unix epoch: the clock of an
/// embedded database, and of what is only shown.
#[must_use]
#[allow(clippy::disallowed_methods)] // the one place
pub fn wall() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, millis) + crate::failpoint::clock_offset()
}

/// This machine's wall clock, as fine as it goes: for what is only shown.
#[must_use]
#[allow(clippy::disallowed_methods)] // the one place
pub fn moment() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

/// A new id: `UUIDv7`, so that ids sort by time.
#[must_use]
#[allow(clippy::disallowed_methods)] // the one place
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// A duration in milliseconds.
#[must_use]
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC, with milliseconds.
#[must_use]
pub fn rfc3339(millis: i64) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000);
    time.ok()
        .and_then(|t| {
            t.format(&time::format_description::well_known::Rfc3339)
                .ok()
        })
        .unwrap_or_else(|| millis.to_string())
}

/// A time as the client of NATS wants it.
pub(crate) fn offset(millis: i64) -> time::OffsetDateTime {
    let time = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000);
    time.unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

/// Reads an RFC 3339 time as milliseconds since the Unix epoch.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let time =
        time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back() {
        assert_eq!(rfc3339(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(
            parse_rfc3339("2023-11-14T22:13:20.123Z"),
            Some(1_700_000_000_123)
        );
        assert_eq!(
            parse_rfc3339("2023-11-14T23:13:20.123+01:00"),
            Some(1_700_000_000_123)
        );
        assert_eq!(parse_rfc3339("yesterday"), None);
    }

    #[test]
    fn a_clock_follows_the_database() {
        let clock = Clock::at(1_000);
        assert!(clock.now() >= 1_000);
        clock.set(5_000_000);
        assert!(clock.now() >= 5_000_000 && clock.now() < 5_100_000);
    }
}
