//! Dead letters: events that could not be handled or published, kept with all that is
//! needed to try again. A letter is committed before its message is terminated (R8), and
//! none ever vanishes: it is redriven or discarded by a person, who is named.

use bytes::Bytes;
use events::Envelope;
use sea_orm::QueryResult;
use sea_orm::sea_query::Value;
use serde_json::json;
use uuid::Uuid;

use crate::clock;
use crate::database::{Database, Tx};
use crate::event::Delivery;
use crate::fault::Fault;
use crate::hearing::batch::{Item, Work};
use crate::operating::audit;
use crate::saying::outbox::{self, Committed};
use crate::telemetry;

/// Where a letter comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was heard and could not be handled.
    Consumer,
    /// It was decided and the broker will never take it.
    Outbox,
}

impl Origin {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Consumer => "CONSUMER",
            Self::Outbox => "OUTBOX",
        }
    }
}

/// An event that could not be handled or published.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetter {
    pub(crate) id: Uuid,
    pub(crate) origin: Origin,
    pub(crate) event_id: String,
    pub(crate) subject: String,
    pub(crate) headers: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) stream_sequence: i64,
    pub(crate) correlation: String,
    pub(crate) kind: String,
    pub(crate) reason: String,
    pub(crate) attempts: i64,
    pub(crate) state: String,
    pub(crate) died_at: i64,
}

const COLUMNS: &str = "id, origin, event_id, subject, headers, payload, stream_sequence, \
                       correlation, kind, reason, attempts, state, died_at";

/// Keeps a letter.
pub(crate) async fn keep(tx: &Tx, letter: DeadLetter) -> Result<(), Fault> {
    let sql = format!(
        "INSERT INTO dead_letters ({COLUMNS})
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'OPEN', $12)"
    );
    let values: Vec<Value> = vec![
        letter.id.into(),
        letter.origin.name().into(),
        letter.event_id.into(),
        letter.subject.into(),
        letter.headers.into(),
        letter.payload.into(),
        letter.stream_sequence.into(),
        letter.correlation.into(),
        letter.kind.into(),
        letter.reason.into(),
        letter.attempts.into(),
        tx.now().into(),
    ];
    tx.execute(&sql, values).await?;
    Ok(())
}

/// Keeps events that the broker will never take, and why, and takes them out of the relay's
/// way. Which of them it has kept: not those that another instance has published.
pub(crate) async fn refuse(
    database: &Database,
    refused: &[(i64, String)],
) -> Result<Vec<(Committed, String)>, Fault> {
    let tx = database.begin().await?;
    let mut kept = Vec::new();
    for (pseq, reason) in refused {
        if let Some(event) = outbox::refuse(&tx, *pseq, reason).await? {
            keep(&tx, unpublished(&event, reason, tx.now())).await?;
            kept.push((event, reason.clone()));
        }
    }
    tx.commit().await?;
    Ok(kept)
}

fn unpublished(event: &Committed, reason: &str, now: i64) -> DeadLetter {
    let envelope = &event.envelope;
    DeadLetter {
        id: clock::new_id(),
        origin: Origin::Outbox,
        event_id: envelope.id.to_string(),
        subject: envelope.entry.subject.to_owned(),
        headers: json!({ "Turn": event.turn }).to_string(),
        payload: envelope.encode().to_vec(),
        stream_sequence: 0,
        correlation: envelope.correlation.to_string(),
        kind: "refused by the broker".to_owned(),
        reason: reason.to_owned(),
        attempts: 1,
        state: "OPEN".to_owned(),
        died_at: now,
    }
}

/// Counts a failure of an event; how often it has failed now.
pub(crate) async fn count_failure(
    database: &Database,
    consumer: &str,
    event_id: &str,
) -> Result<i64, Fault> {
    let tx = database.begin().await?;
    let sql = "INSERT INTO failures (consumer, event_id, times, failed_at)
               VALUES ($1, $2, 1, $3)
               ON CONFLICT (consumer, event_id)
               DO UPDATE SET times = failures.times + 1, failed_at = excluded.failed_at
               RETURNING times";
    let rows = tx
        .query(sql, vec![consumer.into(), event_id.into(), tx.now().into()])
        .await?;
    let times = match rows.first() {
        Some(row) => row.try_get("", "times")?,
        None => 1,
    };
    tx.commit().await?;
    Ok(times)
}

/// The open letters, newest first; those of one order if it is given.
pub(crate) async fn open(
    database: &Database,
    order: Option<&str>,
) -> Result<Vec<DeadLetter>, Fault> {
    let sql = format!(
        "SELECT {COLUMNS} FROM dead_letters
         WHERE state = 'OPEN' AND ($1 = '' OR correlation = $1) ORDER BY id DESC LIMIT 1000"
    );
    let rows = database
        .query(&sql, vec![order.unwrap_or_default().into()])
        .await?;
    rows.iter().map(read).collect()
}

/// How many letters are open.
pub(crate) async fn count_open(database: &Database) -> Result<i64, Fault> {
    let sql = "SELECT count(*) AS n FROM dead_letters WHERE state = 'OPEN'";
    let rows = database.query(sql, vec![]).await?;
    Ok(rows
        .first()
        .map(|row| row.try_get("", "n"))
        .transpose()?
        .unwrap_or(0))
}

/// When the oldest open letter died.
pub(crate) async fn oldest_open(database: &Database) -> Result<Option<i64>, Fault> {
    let sql = "SELECT coalesce(min(died_at), 0) AS n FROM dead_letters WHERE state = 'OPEN'";
    let rows = database.query(sql, vec![]).await?;
    let oldest = rows.first().map(|row| row.try_get("", "n")).transpose()?;
    Ok(oldest.filter(|died_at| *died_at > 0))
}

/// Forgets failures that were counted before a time; how many.
pub(crate) async fn prune_failures(
    database: &Database,
    before: i64,
    most: i64,
) -> Result<u64, Fault> {
    let sql = "DELETE FROM failures WHERE (consumer, event_id) IN
                   (SELECT consumer, event_id FROM failures WHERE failed_at < $1 LIMIT $2)";
    database
        .execute(sql, vec![before.into(), most.into()])
        .await
}

/// A letter, whatever its state.
pub(crate) async fn find(database: &Database, id: Uuid) -> Result<Option<DeadLetter>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM dead_letters WHERE id = $1");
    let rows = database.query(&sql, vec![id.into()]).await?;
    rows.first().map(read).transpose()
}

/// What a person wants done with a letter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resolution<'a> {
    pub(crate) who: &'a str,
    pub(crate) reason: &'a str,
    /// Only say what would happen.
    pub(crate) dry_run: bool,
}

/// What redriving a letter did, or would do.
#[derive(Debug)]
pub(crate) struct Redriven {
    /// The events that were decided.
    pub(crate) decided: Vec<Committed>,
}

/// Hands the letter's message to its handler again; it is never published again. The
/// effect, the letter's new state and the audit row are one transaction.
pub(crate) async fn redrive(
    work: &Work,
    letter: &DeadLetter,
    resolution: Resolution<'_>,
) -> Result<Redriven, Fault> {
    let from = clock::moment();
    let tx = work.database.begin().await?;
    take(&tx, letter, "REDRIVEN").await?;
    audit(&tx, letter, "redrive", "REDRIVEN", resolution).await?;
    let mut redriven = None;
    let emissions = match letter.origin {
        Origin::Outbox => {
            let event: Uuid = letter
                .event_id
                .parse()
                .map_err(|_| Fault::Permanent("the letter has no event id".to_owned()))?;
            outbox::take_up(&tx, event).await?;
            vec![]
        }
        Origin::Consumer => {
            let payload = Bytes::from(letter.payload.clone());
            let envelope = Envelope::decode(&letter.subject, payload)?;
            let subscription = work
                .subscriptions
                .iter()
                .position(|subscription| subscription.hears(&letter.subject))
                .ok_or_else(|| Fault::Permanent("no subscription hears it".to_owned()))?;
            let sequence = u64::try_from(letter.stream_sequence).unwrap_or(0);
            let name = format!("{} redrive", work.consumer);
            let heard = work.tracer.hear(&envelope, &name, 1);
            let delivery = Delivery::new(envelope, sequence).traced(heard);
            redriven = Some(delivery.clone());
            work.decide(
                &tx,
                &[Item {
                    delivery,
                    subscription,
                }],
            )
            .await?
        }
    };
    let decided = outbox::append(&tx, emissions).await?;
    if !resolution.dry_run {
        tx.commit().await?;
        if let Some(delivery) = redriven {
            let asked = telemetry::request::here();
            work.tracer
                .redriven(&work.consumer, &delivery, &decided, asked, from);
        }
    }
    Ok(Redriven { decided })
}

/// Closes the letter without handling it.
pub(crate) async fn discard(
    database: &Database,
    letter: &DeadLetter,
    resolution: Resolution<'_>,
) -> Result<(), Fault> {
    let tx = database.begin().await?;
    take(&tx, letter, "DISCARDED").await?;
    audit(&tx, letter, "discard", "DISCARDED", resolution).await?;
    match resolution.dry_run {
        true => Ok(()),
        false => tx.commit().await,
    }
}

async fn take(tx: &Tx, letter: &DeadLetter, state: &str) -> Result<(), Fault> {
    let sql = "UPDATE dead_letters SET state = $2, resolved_at = $3
               WHERE id = $1 AND state = 'OPEN'";
    let values = vec![letter.id.into(), state.into(), tx.now().into()];
    match tx.execute(sql, values).await? {
        1 => Ok(()),
        _ => Err(Fault::Conflict(
            "the letter is not open any more".to_owned(),
        )),
    }
}

async fn audit(
    tx: &Tx,
    letter: &DeadLetter,
    action: &str,
    state: &str,
    resolution: Resolution<'_>,
) -> Result<(), Fault> {
    let entry = audit::Entry {
        who: resolution.who,
        action,
        target: letter.id.to_string(),
        reason: resolution.reason,
        before: json!({ "state": letter.state, "event_id": letter.event_id, "reason": letter.reason }),
        after: json!({ "state": state }),
    };
    audit::append(tx, entry).await
}

fn read(row: &QueryResult) -> Result<DeadLetter, Fault> {
    let origin: String = row.try_get("", "origin")?;
    Ok(DeadLetter {
        id: row.try_get("", "id")?,
        origin: match origin.as_str() {
            "OUTBOX" => Origin::Outbox,
            _ => Origin::Consumer,
        },
        event_id: row.try_get("", "event_id")?,
        subject: row.try_get("", "subject")?,
        headers: row.try_get("", "headers")?,
        payload: row.try_get("", "payload")?,
        stream_sequence: row.try_get("", "stream_sequence")?,
        correlation: row.try_get("", "correlation")?,
        kind: row.try_get("", "kind")?,
        reason: row.try_get("", "reason")?,
        attempts: row.try_get("", "attempts")?,
        state: row.try_get("", "state")?,
        died_at: row.try_get("", "died_at")?,
    })
}
