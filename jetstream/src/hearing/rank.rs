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

pub(crate) const SIGN_EVERY: Duration = Duration::from_secs(5);
// Who has not signed for so long is gone.
const GONE: Duration = Duration::from_secs(15);
// The broker knows 0 to 9; the lowest is served first (NATS ADR-42).
const LAST: u8 = 9;

/// How many instances are served before this one. It only makes them faster: as long as two
/// have the same rank, both are served, and one that is alone is served whatever its rank.
#[derive(Clone)]
pub(crate) struct Rank {
    id: Uuid,
    now: Arc<AtomicU8>,
}

impl Rank {
    /// The last one, of an instance that has not signed yet.
    pub(crate) fn last() -> Self {
        Self {
            // The last bits of an id are by chance, the first ones the time.
            id: Uuid::from_u128(clock::new_id().as_u128().reverse_bits()),
            now: Arc::new(AtomicU8::new(LAST)),
        }
    }

    /// The rank by now, as the broker knows it.
    pub(crate) fn now(&self) -> u8 {
        self.now.load(Ordering::Relaxed)
    }

    /// Signs, and looks how many instances with lower ids do. An SQLite file is open in one
    /// process, which is alone.
    ///
    /// # Errors
    /// When the database is away; the rank stays as it is.
    pub(crate) async fn sign(self, database: &Database) -> Result<(), Fault> {
        if database.backend() == DbBackend::Postgres {
            let before = sign(database, self.id).await?;
            self.now.store(before.min(LAST), Ordering::Relaxed);
        }
        Ok(())
    }
}

async fn sign(database: &Database, id: Uuid) -> Result<u8, Fault> {
    let now = database.clock().now();
    let here = "INSERT INTO instances (id, seen_at) VALUES ($1, $2)
                ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at";
    database.execute(here, vec![id.into(), now.into()]).await?;
    let gone = "DELETE FROM instances WHERE seen_at < $1";
    let since = now - clock::millis(GONE);
    database.execute(gone, vec![since.into()]).await?;
    let before = "SELECT count(*) AS before FROM instances WHERE id < $1";
    let rows = database.query(before, vec![id.into()]).await?;
    let before: i64 = match rows.first() {
        Some(row) => row.try_get("", "before")?,
        None => 0,
    };
    Ok(u8::try_from(before).unwrap_or(LAST))
}

#[cfg(all(test, feature = "fixtures"))]
mod tests {
    use super::*;
    use crate::database::fixture::{IDLE, on_postgres};

    #[tokio::test]
    async fn no_two_instances_have_the_same_rank_and_who_is_gone_makes_room() {
        on_postgres(&IDLE, async |database| {
            let [first, second, third] = [1, 2, 3].map(Uuid::from_u128);
            let sign = async |id| sign(database, id).await.expect("signed");
            assert_eq!(sign(third).await, 0, "alone");
            assert_eq!(sign(first).await, 0);
            assert_eq!(sign(second).await, 1);
            assert_eq!(sign(third).await, 2);
            let long_ago = "UPDATE instances SET seen_at = seen_at - 60000";
            database.execute(long_ago, vec![]).await.expect("aged");
            assert_eq!(sign(second).await, 0, "nobody else signs any more");
            assert_eq!(sign(third).await, 1);
            let rows = database.query("SELECT id FROM instances", vec![]).await;
            assert_eq!(rows.expect("read").len(), 2);
        })
        .await;
    }
}
