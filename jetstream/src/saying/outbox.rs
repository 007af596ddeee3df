//! The outbox: events are written in the transaction that decided them, and published
//! after its commit (R7). Rows stay, so that what a broker lost can be said again.

use bytes::Bytes;
use events::{Envelope, EventId, catalog};
use sea_orm::QueryResult;
use uuid::Uuid;

use crate::database::bulk::{Column, Rows};
use crate::database::{Database, Tx};
use crate::event::Emission;
use crate::fault::Fault;
use crate::telemetry::{SpanRef, Trace};

/// An event that has committed and is to be published.
#[derive(Debug, Clone)]
pub(crate) struct Committed {
    pub(crate) envelope: Envelope,
    pub(crate) turn: String,
    /// Its place in its trace; none: it is not sampled.
    pub(crate) trace: Option<Box<Trace>>,
}

const COLUMNS: &[(&str, Column)] = &[
    ("pseq", Column::Int),
    ("event_id", Column::Id),
    ("subject", Column::Text),
    ("aggregate", Column::Text),
    ("correlation", Column::Id),
    ("causation", Column::Id),
    ("traceparent", Column::Text),
    ("turn", Column::Text),
    ("decided_at", Column::Int),
    ("body", Column::Bytes),
];

const SELECTED: &str = "pseq, event_id, subject, aggregate, correlation, causation, traceparent, \
                        turn, decided_at, body";

/// Appends events to the outbox; the last statements of the transaction, because the
/// counter that makes the numbers gapless is locked from here to the commit.
pub(crate) async fn append(tx: &Tx, emissions: Vec<Emission>) -> Result<Vec<Committed>, Fault> {
    let Ok(count) = i64::try_from(emissions.len()) else {
        return Err(Fault::Permanent("too many events at once".to_owned()));
    };
    if count == 0 {
        return Ok(vec![]);
    }
    let sql = "UPDATE producer SET pseq = pseq + $1 WHERE one = 1 RETURNING pseq";
    let rows = tx.query(sql, vec![count.into()]).await?;
    let row = rows
        .first()
        .ok_or_else(|| Fault::Permanent("no producer row".to_owned()))?;
    let last: i64 = row.try_get("", "pseq")?;

    let mut rows = Rows::of(COLUMNS);
    let mut committed = Vec::with_capacity(emissions.len());
    for (pseq, emission) in (last - count + 1..).zip(emissions) {
        if let Some(ending) = emission.ending {
            tx.count_ending(ending);
        }
        let event = number(emission, pseq, tx.now());
        rows.push([
            pseq.into(),
            event.envelope.id.0.into(),
            event.envelope.entry.subject.into(),
            event.envelope.aggregate.clone().into(),
            event.envelope.correlation.into(),
            event
                .envelope
                .causation
                .map_or(Uuid::nil(), |id| id.0)
                .into(),
            kept_trace(&event).into(),
            event.turn.clone().into(),
            tx.now().into(),
            event.envelope.body.to_vec().into(),
        ]);
        committed.push(event);
    }
    let sql = format!("INSERT INTO outbox ({SELECTED}) SELECT {SELECTED} FROM v");
    tx.run(rows, &sql, vec![]).await?;
    Ok(committed)
}

/// Rows that were decided before `before` and are not published, oldest first.
pub(crate) async fn unpublished(
    database: &Database,
    before: i64,
    after_pseq: i64,
    limit: i64,
) -> Result<Vec<Committed>, Fault> {
    let sql = format!(
        "SELECT {SELECTED} FROM outbox
         WHERE published_at IS NULL AND refused = '' AND pseq > $1 AND decided_at <= $2 ORDER BY pseq LIMIT $3"
    );
    let rows = database
        .query(&sql, vec![after_pseq.into(), before.into(), limit.into()])
        .await?;
    rows.iter().map(read).collect()
}

/// Published rows that were decided in a span of time, by number.
pub(crate) async fn published(
    database: &Database,
    from: i64,
    until: i64,
    after_pseq: i64,
    limit: i64,
) -> Result<Vec<Committed>, Fault> {
    let sql = format!(
        "SELECT {SELECTED} FROM outbox
         WHERE published_at IS NOT NULL AND published_at <= $3 AND decided_at >= $1 AND pseq > $2
         ORDER BY pseq LIMIT $4"
    );
    let values = vec![from.into(), after_pseq.into(), until.into(), limit.into()];
    let rows = database.query(&sql, values).await?;
    rows.iter().map(read).collect()
}

/// Marks rows as published, once the broker has acknowledged them.
pub(crate) async fn mark(database: &Database, pseqs: &[i64]) -> Result<(), Fault> {
    let mut rows = Rows::of(&[("pseq", Column::Int)]);
    for pseq in pseqs {
        rows.push([(*pseq).into()]);
    }
    let sql = "UPDATE outbox SET published_at = $1 FROM v WHERE outbox.pseq = v.pseq";
    let now = database.clock().now();
    database.run(rows, sql, vec![now.into()]).await?;
    Ok(())
}

/// What is not published.
pub(crate) struct Backlog {
    pub(crate) unpublished: i64,
    /// When the oldest of it was decided.
    pub(crate) oldest: Option<i64>,
}

/// Counts what is not published.
pub(crate) async fn backlog(database: &Database) -> Result<Backlog, Fault> {
    let sql = "SELECT count(*) AS n, coalesce(min(decided_at), 0) AS oldest FROM outbox
               WHERE published_at IS NULL AND refused = ''";
    let rows = database.query(sql, vec![]).await?;
    let row = rows
        .first()
        .ok_or_else(|| Fault::Unexpected("no count".to_owned()))?;
    let unpublished: i64 = row.try_get("", "n")?;
    let oldest: i64 = row.try_get("", "oldest")?;
    Ok(Backlog {
        unpublished,
        oldest: (unpublished > 0).then_some(oldest),
    })
}

/// What a row keeps of the trace: the context of the event, and the parent of its span,
/// which a sweep records when it publishes the event.
fn kept_trace(event: &Committed) -> String {
    let Some(traceparent) = &event.envelope.traceparent else {
        return String::new();
    };
    let trace = event.trace.as_ref();
    match trace.and_then(|trace| trace.of_event(event.envelope.id).1) {
        Some(parent) => format!("{traceparent}-{:016x}", parent.span),
        None => traceparent.clone(),
    }
}

fn read_trace(kept: &str) -> (Option<String>, Option<Box<Trace>>) {
    const TRACEPARENT: usize = 55;
    let traceparent = kept.get(..TRACEPARENT).map(str::to_owned);
    let here = traceparent.as_deref().and_then(SpanRef::parse);
    let parent = kept.get(TRACEPARENT + 1..);
    let parent = parent.and_then(|span| u64::from_str_radix(span, 16).ok());
    let trace = here.zip(parent);
    let trace = trace.map(|(here, parent)| Trace::in_span(here.beside(parent)));
    (traceparent, trace)
}

fn number(emission: Emission, pseq: i64, now: i64) -> Committed {
    let traceparent = emission.trace.as_ref();
    let traceparent = traceparent.map(|trace| trace.of_event(emission.id).0.traceparent());
    Committed {
        turn: emission
            .turn
            .map(|turn| turn.to_header())
            .unwrap_or_default(),
        envelope: Envelope {
            id: emission.id,
            entry: emission.entry,
            aggregate: emission.aggregate,
            correlation: emission.correlation,
            causation: emission.causation,
            time: now,
            pseq,
            traceparent,
            body: emission.body,
        },
        trace: emission.trace,
    }
}

fn read(row: &QueryResult) -> Result<Committed, Fault> {
    let subject: String = row.try_get("", "subject")?;
    let entry = catalog::by_subject(&subject).ok_or_else(|| {
        Fault::Permanent(format!(
            "the outbox holds an event on `{subject}`, which is unknown"
        ))
    })?;
    let causation: Uuid = row.try_get("", "causation")?;
    let kept: String = row.try_get("", "traceparent")?;
    let (traceparent, trace) = read_trace(&kept);
    let body: Vec<u8> = row.try_get("", "body")?;
    Ok(Committed {
        turn: row.try_get("", "turn")?,
        envelope: Envelope {
            id: EventId(row.try_get("", "event_id")?),
            entry,
            aggregate: row.try_get("", "aggregate")?,
            correlation: row.try_get("", "correlation")?,
            causation: (!causation.is_nil()).then_some(EventId(causation)),
            time: row.try_get("", "decided_at")?,
            pseq: row.try_get("", "pseq")?,
            traceparent,
            body: Bytes::from(body),
        },
        trace,
    })
}
