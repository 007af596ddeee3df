//! The inbox: which events have had their effect, where no row of the service itself
//! proves it (R1).

use std::collections::HashSet;

use uuid::Uuid;

use crate::database::Tx;
use crate::database::bulk::{Column, Rows};
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
