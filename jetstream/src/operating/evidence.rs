//! What a service's database says about events and orders, read in order and by the page,
//! so that it can be laid beside what the stream and other services say: however much
//! there is, little of it is in memory.

use std::collections::HashSet;

use events::hold::Hold;
use sea_orm::QueryResult;
use uuid::Uuid;

use crate::clock;
use crate::database::snapshot::Snapshot;
use crate::fault::Fault;
use crate::saying::outbox;

/// Rows of a page.
pub const PAGE: usize = 5_000;

/// What a participant keeps for an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The order.
    pub order: Uuid,
    /// What became of the step.
    pub state: Hold,
    /// What is or was held, as the participant writes it; empty when nothing was.
    pub held: String,
}

/// A participant's holds after an order, up to another, by order.
///
/// # Errors
/// When the database is away.
pub async fn holds(snapshot: &Snapshot, after: Uuid, until: Uuid) -> Result<Vec<Kept>, Fault> {
    let sql = "SELECT order_id, state, held FROM holds
               WHERE order_id > $1 AND order_id <= $2 ORDER BY order_id";
    let rows = snapshot
        .query(sql, vec![after.into(), until.into()])
        .await?;
    let kept = |row: &QueryResult| {
        let state: String = row.try_get("", "state")?;
        Ok(Kept {
            order: row.try_get("", "order_id")?,
            state: Hold::named(&state)
                .ok_or_else(|| Fault::Permanent(format!("a hold has the state {state}")))?,
            held: row.try_get("", "held")?,
        })
    };
    rows.iter().map(kept).collect()
}

/// Something that is held past the deadline of its order.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Overdue {
    /// The order.
    pub order: Uuid,
    /// The deadline that has passed (RFC 3339).
    pub deadline: String,
    /// How long ago, in milliseconds.
    pub overdue_ms: i64,
}

/// What a participant holds past the deadline of its order, the oldest order first.
///
/// # Errors
/// When the database is away.
pub async fn overdue(snapshot: &Snapshot, now: i64) -> Result<Vec<Overdue>, Fault> {
    let sql = "SELECT order_id, deadline FROM holds
               WHERE state = 'HELD' AND deadline < $1 ORDER BY order_id";
    let rows = snapshot.query(sql, vec![now.into()]).await?;
    let overdue = |row: &QueryResult| {
        let deadline: i64 = row.try_get("", "deadline")?;
        Ok(Overdue {
            order: row.try_get("", "order_id")?,
            deadline: clock::rfc3339(deadline),
            overdue_ms: now - deadline,
        })
    };
    rows.iter().map(overdue).collect()
}

/// A row of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its number.
    pub pseq: i64,
    /// Which event.
    pub event: Uuid,
    /// When it was decided, in milliseconds since the Unix epoch.
    pub decided_at: i64,
    /// When the broker acknowledged it.
    pub published_at: Option<i64>,
}

/// Rows of the outbox after a number, by number.
///
/// # Errors
/// When the database is away.
pub async fn said(snapshot: &Snapshot, after: i64) -> Result<Vec<Said>, Fault> {
    let sql = format!(
        "SELECT pseq, event_id, decided_at, published_at FROM outbox
         LEFT JOIN published USING (pseq) WHERE pseq > $1 ORDER BY pseq LIMIT {PAGE}"
    );
    let rows = snapshot.query(&sql, vec![after.into()]).await?;
    let said = |row: &QueryResult| {
        Ok(Said {
            pseq: row.try_get("", "pseq")?,
            event: row.try_get("", "event_id")?,
            decided_at: row.try_get("", "decided_at")?,
            published_at: row.try_get("", "published_at")?,
        })
    };
    rows.iter().map(said).collect()
}

/// When the oldest event that is not published was decided, but for those that the broker
/// will never take.
///
/// # Errors
/// When the database is away.
pub async fn oldest_unpublished(snapshot: &Snapshot) -> Result<Option<i64>, Fault> {
    let sql = format!(
        "SELECT coalesce(min(decided_at), 0) AS n FROM ({}) AS waiting",
        outbox::open_rows("decided_at", "")
    );
    let oldest = snapshot.number(&sql).await?;
    Ok((oldest > 0).then_some(oldest))
}

/// Events in a consumer's inbox after an event, by id.
///
/// # Errors
/// When the database is away.
pub async fn inbox(snapshot: &Snapshot, consumer: &str, after: Uuid) -> Result<Vec<Uuid>, Fault> {
    let sql = format!(
        "SELECT event_id FROM processed_events
         WHERE consumer = $1 AND event_id > $2 ORDER BY event_id LIMIT {PAGE}"
    );
    let rows = snapshot
        .query(&sql, vec![consumer.into(), after.into()])
        .await?;
    let ids = rows.iter().map(|row| Ok(row.try_get("", "event_id")?));
    ids.collect()
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Letter {
    /// Its id.
    pub id: Uuid,
    /// The event, as the message named it.
    pub event: String,
    /// What it was said on.
    pub subject: String,
    /// The order, where there is one.
    pub order: String,
    /// Why it is a dead letter.
    pub reason: String,
    /// Whether nobody has seen to it.
    pub open: bool,
}

/// All dead letters, the oldest first.
///
/// # Errors
/// When the database is away.
pub async fn letters(snapshot: &Snapshot) -> Result<Vec<Letter>, Fault> {
    let sql = "SELECT id, event_id, subject, correlation, reason, state FROM dead_letters
               ORDER BY id";
    let rows = snapshot.query(sql, vec![]).await?;
    let letter = |row: &QueryResult| {
        let state: String = row.try_get("", "state")?;
        Ok(Letter {
            id: row.try_get("", "id")?,
            event: row.try_get("", "event_id")?,
            subject: row.try_get("", "subject")?,
            order: row.try_get("", "correlation")?,
            reason: row.try_get("", "reason")?,
            open: state == "OPEN",
        })
    };
    rows.iter().map(letter).collect()
}

/// Events that a person has accepted although the database does not know them.
///
/// # Errors
/// When the database is away.
pub async fn accepted(snapshot: &Snapshot) -> Result<HashSet<Uuid>, Fault> {
    let sql = "SELECT event_id FROM accepted_events";
    let rows = snapshot.query(sql, vec![]).await?;
    let ids = rows.iter().map(|row| Ok(row.try_get("", "event_id")?));
    ids.collect()
}
