//! The inbox: which events have had their effect, where no row of the service itself
//! proves it (R1).

use std::collections::HashSet;

use uuid::Uuid;

use crate::database::bulk::{Column, Rows};
use crate::database::{Database, Tx};
use crate::event::Delivery;
use crate::fault::Fault;

/// Records the events as processed, first thing in the transaction, and returns those
/// that had not been. A second instance with the same event waits for the first. A transaction
/// that does not lock expects that none had been: one that was is a conflict.
pub(crate) async fn record(
    tx: &Tx,
    consumer: &str,
    slice: Vec<Delivery>,
) -> Result<Vec<Delivery>, Fault> {
    let mut ids: Vec<Uuid> = slice.iter().map(|d| d.envelope.id.0).collect();
    // One order for everybody, so that two instances cannot wait for each other.
    ids.sort_unstable();
    ids.dedup();
    let mut fresh: HashSet<Uuid> = ids.iter().copied().collect();
    let mut rows = Rows::of(&[("event_id", Column::Id)]);
    for id in ids {
        rows.push([id.into()]);
    }
    let sql = "INSERT INTO processed_events (consumer, event_id, processed_at)
               SELECT CAST($1 AS TEXT), event_id, CAST($2 AS BIGINT) FROM v WHERE true";
    let values = vec![consumer.into(), tx.now().into()];
    if tx.locks() {
        let sql = format!("{sql} ON CONFLICT DO NOTHING RETURNING event_id");
        let inserted = tx.fetch(rows, &sql, values).await?;
        let ids = inserted.iter().map(|row| row.try_get("", "event_id"));
        fresh = ids.collect::<Result<_, _>>()?;
    } else {
        tx.write(rows, sql, values).await?;
    }
    // `remove`: an event that stands twice in the slice is handled once.
    let came = slice.len();
    let slice = slice.into_iter();
    let fresh: Vec<Delivery> = slice.filter(|d| fresh.remove(&d.envelope.id.0)).collect();
    tx.count_duplicates(came - fresh.len());
    Ok(fresh)
}

/// Removes rows of events that were caused and processed before a time; how many. Ids begin
/// with the time of the first cause, so the oldest are found by the primary key.
pub(crate) async fn prune(
    database: &Database,
    consumer: &str,
    before: i64,
    most: i64,
) -> Result<u64, Fault> {
    let first_later = Uuid::from_u128(u128::from(before.max(0).unsigned_abs()) << 80);
    let sql = "DELETE FROM processed_events WHERE consumer = $1 AND event_id IN
                   (SELECT event_id FROM processed_events
                    WHERE consumer = $1 AND event_id < $2 AND processed_at < $3
                    ORDER BY event_id LIMIT $4)";
    let values = vec![
        consumer.into(),
        first_later.into(),
        before.into(),
        most.into(),
    ];
    database.execute(sql, values).await
}

#[cfg(all(test, feature = "fixtures"))]
mod tests {
    use events::{Envelope, EventId, catalog};
    use sea_orm::DbBackend;

    use super::*;
    use crate::database::fixture::{IDLE, on_each_database};

    fn heard(ids: &[u128]) -> Vec<Delivery> {
        let delivery = |id: &u128| {
            let envelope = Envelope {
                id: EventId(Uuid::from_u128(*id)),
                entry: &catalog::ORDER_CONFIRMED,
                aggregate: String::new(),
                correlation: Uuid::nil(),
                causation: None,
                time: 0,
                pseq: 1,
                traceparent: None,
                body: bytes::Bytes::new(),
            };
            Delivery::new(envelope, 1)
        };
        ids.iter().map(delivery).collect()
    }

    /// Those that are fresh, once that has committed.
    async fn hear(tx: Result<Tx, Fault>, ids: &[u128]) -> Result<Vec<u128>, Fault> {
        let tx = tx?;
        let fresh = record(&tx, "test", heard(ids)).await?;
        tx.commit().await?;
        Ok(fresh.iter().map(|d| d.envelope.id.0.as_u128()).collect())
    }

    #[tokio::test]
    async fn an_event_is_fresh_once_and_known_to_who_expects_it_or_not() {
        on_each_database(&IDLE, async |database| {
            let fresh = hear(database.begin_optimistic().await, &[1, 2, 1]).await;
            assert_eq!(fresh.expect("heard"), [1, 2]);
            let again = hear(database.begin_optimistic().await, &[2, 3]).await;
            match database.backend() {
                DbBackend::Postgres => assert!(matches!(again, Err(Fault::Conflict(_)))),
                _ => assert_eq!(again.expect("its transactions lock"), [3]),
            }
            let again = hear(database.begin().await, &[2, 3, 4]).await;
            let fresh = again.expect("heard");
            assert_eq!(fresh.last(), Some(&4), "nothing of the conflict has stayed");
            assert!(!fresh.contains(&2));
            let nothing = hear(database.begin().await, &[1, 2, 3, 4]).await;
            assert_eq!(nothing.expect("heard"), [0; 0]);
        })
        .await;
    }
}
