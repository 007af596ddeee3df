//! Which of a service's instances the broker serves first.
//!
//! Large batches cost a fraction of small ones, and two that change the same rows at once
//! cost more still. So one instance hears everything that it asks for, and the next one what
//! is left. They sign a table of their database, and stand in the order of their ids, which
//! begin with chance: services prefer different machines.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use sea_orm::DbBackend;
use uuid::Uuid;

use crate::clock;
use crate::database::Database;
use crate::fault::Fault;
use crate::shell::Shell;

// The broker knows 0 to 9; the lowest is served first (NATS ADR-42).
const LAST: u8 = 9;
const SIGN_EVERY: Duration = Duration::from_secs(2);
// Who has not signed for so long is gone.
const GONE: Duration = Duration::from_secs(10);
const LEAVE: Duration = Duration::from_millis(500);

/// How many instances are served before this one. It only makes them faster: as long as two
/// have the same rank, both are served.
#[derive(Clone)]
pub(crate) struct Rank(Arc<AtomicU8>);

impl Rank {
    /// Has this instance sign as long as it runs.
    pub(crate) fn start(shell: &Shell) -> Self {
        let alone = shell.database().backend() != DbBackend::Postgres;
        let rank = Self(Arc::new(AtomicU8::new(if alone { 0 } else { LAST })));
        // An SQLite file is open in one process.
        if !alone {
            shell.spawn("rank", rank.clone().keep(shell.clone()));
        }
        rank
    }

    /// The rank by now, as the broker knows it.
    pub(crate) fn now(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    async fn keep(self, shell: Shell) {
        let (database, stop) = (shell.database(), shell.stopping());
        // The last bytes of an id are by chance, the first ones the time.
        let id = Uuid::from_u128(clock::new_id().as_u128().reverse_bits());
        let mut interval = tokio::time::interval(SIGN_EVERY);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = interval.tick() => {}
            }
            match sign(database, id).await {
                Ok(before) => self.0.store(before.min(LAST), Ordering::Relaxed),
                Err(fault) => tracing::debug!(%fault, "the rank stays as it is"),
            }
        }
        // The next one need not find out. It waits for no database that is away.
        let _ = tokio::time::timeout(LEAVE, leave(database, id)).await;
    }
}

/// Signs; how many instances are there with lower ids.
async fn sign(database: &Database, id: Uuid) -> Result<u8, Fault> {
    let now = database.clock().now();
    // Two that sign after a while both find each other gone, and none may wait for the other.
    let sql = "WITH gone AS (DELETE FROM instances WHERE id IN (
             SELECT id FROM instances WHERE seen_at < $3 AND id <> $1 FOR UPDATE SKIP LOCKED)),
         here AS (INSERT INTO instances (id, seen_at) VALUES ($1, $2)
                  ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at)
         SELECT count(*) AS before FROM instances WHERE id < $1 AND seen_at >= $3";
    let gone = now - clock::millis(GONE);
    let rows = database.write_and_read(sql, vec![id.into(), now.into(), gone.into()]);
    let before: i64 = match rows.await?.first() {
        Some(row) => row.try_get("", "before")?,
        None => 0,
    };
    Ok(u8::try_from(before).unwrap_or(LAST))
}

async fn leave(database: &Database, id: Uuid) -> Result<u64, Fault> {
    let sql = "DELETE FROM instances WHERE id = $1";
    database.execute(sql, vec![id.into()]).await
}

#[cfg(all(test, feature = "fixtures"))]
mod tests {
    use super::*;
    use crate::database::fixture::{IDLE, on_each_database};

    #[tokio::test]
    async fn no_two_instances_have_the_same_rank_and_who_is_gone_makes_room() {
        on_each_database(&IDLE, async |database| {
            if database.backend() != DbBackend::Postgres {
                return;
            }
            let [first, second, third] = [1, 2, 3].map(Uuid::from_u128);
            let sign = async |id| sign(database, id).await.expect("signed");
            assert_eq!(sign(third).await, 0, "alone");
            assert_eq!(sign(first).await, 0);
            assert_eq!(sign(second).await, 1);
            assert_eq!(sign(third).await, 2);
            assert_eq!(leave(database, first).await.expect("left"), 1);
            assert_eq!(sign(third).await, 1);
            let long_ago = "UPDATE instances SET seen_at = seen_at - 60000";
            database.execute(long_ago, vec![]).await.expect("aged");
            assert_eq!(sign(third).await, 0, "nobody else signs any more");
            let rows = database.query("SELECT id FROM instances", vec![]).await;
            assert_eq!(rows.expect("read").len(), 1);
        })
        .await;
    }
}
