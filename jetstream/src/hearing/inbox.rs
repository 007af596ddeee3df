//! The inbox: which events have had their effect, where no row of the service itself
//! proves it (R1).

use std::collections::HashSet;

use uuid::Uuid;

use crate::database::bulk::{Column, Rows};
use crate::database::{Database, Tx};
use crate::event::Delivery;
use crate::fault::Fault;

/// Records the events as processed, first thing in the transaction, and returns those
/// that had not been. A second instance with the same event waits here for the first.
pub(crate) async fn record(
    tx: &Tx,
    consumer: &str,
    slice: Vec<Delivery>,
) -> Result<Vec<Delivery>, Fault> {
    let mut ids: Vec<Uuid> = slice.iter().map(|d| d.envelope.id.0).collect();
    // One order for everybody, so that two instances cannot wait for each other.
    ids.sort_unstable();
    ids.dedup();
    let mut rows = Rows::of(&[("event_id", Column::Id)]);
    for id in ids {
        rows.push([id.into()]);
    }
    let sql = "INSERT INTO processed_events (consumer, event_id, processed_at)
               SELECT CAST($1 AS TEXT), event_id, CAST($2 AS BIGINT) FROM v WHERE true
               ON CONFLICT DO NOTHING RETURNING event_id";
    let inserted = tx
        .fetch(rows, sql, vec![consumer.into(), tx.now().into()])
        .await?;
    let mut fresh = HashSet::with_capacity(inserted.len());
    for row in inserted {
        fresh.insert(row.try_get::<Uuid>("", "event_id")?);
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
