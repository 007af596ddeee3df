//! Which of a service's instances the broker serves first, and which looks first for what others
//! have left.
//!
//! Large batches cost a fraction of small ones, and two that change the same rows at once
//! cost more still. So one instance hears everything that it asks for, and the next one what
//! is left. They sign a table of their database, and stand in the order of their ids: by
//! host name, in an order of each service's own, so that not all of them prefer the same
//! machine; and on a machine by age, so that all services prefer the same process, to whose
//! one connection the broker then sends much at once.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use sea_orm::DbBackend;
use uuid::Uuid;

use crate::clock;
use crate::database::Database;
use crate::failpoint;
use crate::fault::Fault;

pub(crate) const SIGN_EVERY: Duration = Duration::from_secs(5);
// Who has not signed for so long is gone.
const GONE: Duration = Duration::from_secs(15);
// The broker knows 0 to 9; the lowest is served first (NATS ADR-42).
const LAST: u8 = 9;

// About when this process began, in milliseconds.
static BEGAN: LazyLock<u64> = LazyLock::new(|| clock::new_id().as_u64_pair().0 >> 16);

/// How many instances are served before this one. It only makes them faster: as long as two
/// have the same rank, both are served, and one that is alone is served whatever its rank.
#[derive(Clone)]
pub(crate) struct Rank {
    id: Uuid,
    now: Arc<AtomicU8>,
}

impl Rank {
    /// Of an instance of a service that has not signed yet: the last one.
    pub(crate) fn last(service: &str) -> Self {
        let machine = rustix::system::uname();
        let [.., a, b] = clock::new_id().into_bytes();
        let own = *BEGAN << 16 | u64::from(u16::from_be_bytes([a, b]));
        Self {
            id: id(service, machine.nodename().to_bytes(), own),
            now: Arc::new(AtomicU8::new(LAST)),
        }
    }

    /// The rank by now, as the broker knows it.
    pub(crate) fn now(&self) -> u8 {
        if failpoint::is_off("ranks") {
            return 0;
        }
        self.now.load(Ordering::Relaxed)
    }

    /// Signs, and looks how many instances with lower ids do. An SQLite file is open in one
    /// process, which is alone.
    ///
    /// # Errors
    /// When the database is away; the rank stays as it is.
    pub(crate) async fn sign(self, database: &Database) -> Result<(), Fault> {
        let before = match database.backend() {
            DbBackend::Postgres => sign(database, self.id).await?,
            _ => 0,
        };
        self.now.store(before.min(LAST), Ordering::Relaxed);
        Ok(())
    }
}

/// The id of an instance: the machine's place for this service, then the age of its process and
/// chance. Builds by different compilers may place machines differently, for as long as both run.
fn id(service: &str, machine: &[u8], own: u64) -> Uuid {
    let mut hasher = DefaultHasher::new();
    (service, machine).hash(&mut hasher);
    Uuid::from_u64_pair(hasher.finish(), own)
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
    use std::collections::HashSet;

    use super::*;
    use crate::database::fixture::{IDLE, on_each_database, on_postgres};

    #[test]
    fn a_machine_prefers_its_oldest_process_and_services_prefer_different_machines() {
        let machines: [&[u8]; 3] = [b"a", b"b", b"c"];
        let first = |service| {
            let ids = machines.map(|machine| {
                let [old, young] = [1, 2].map(|own| id(service, machine, own));
                assert!(old < young, "{service}");
                old
            });
            ids.iter()
                .enumerate()
                .min_by_key(|(_, id)| **id)
                .map(|(at, _)| at)
        };
        let services = ["order", "stock", "point", "coupon", "cart"];
        let preferred: HashSet<_> = services.map(first).into();
        assert!(preferred.len() > 1, "{preferred:?}");
    }

    #[tokio::test]
    async fn who_is_alone_is_first_once_it_has_signed() {
        on_each_database(&IDLE, async |database| {
            let rank = Rank::last("order");
            assert_eq!(rank.now(), LAST);
            rank.clone().sign(database).await.expect("signed");
            assert_eq!(rank.now(), 0);
        })
        .await;
    }

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
