//! The outbox: events are written in the transaction that decided them, and published
//! after its commit (R7). Rows stay, so that what a broker lost can be said again.

use bytes::Bytes;
use events::{Envelope, EventId, OrderId, catalog};
use sea_orm::{DbBackend, QueryResult};
use uuid::Uuid;

use crate::database::bulk::{Column, Rows};
use crate::database::{Database, Tx};
use crate::event::Emission;
use crate::failpoint;
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

// `place`: 1 for the first of the events that are appended together.
const COLUMNS: &[(&str, Column)] = &[
    ("place", Column::Int),
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

const APPENDED: &str = "event_id, subject, aggregate, correlation, causation, traceparent, turn, \
                        decided_at, body";

const SELECTED: &str = "pseq, event_id, subject, aggregate, correlation, causation, traceparent, \
                        turn, decided_at, body";

/// Appends events to the outbox; the last statements of the transaction, because the
/// counter that makes the numbers gapless is locked from here to the commit.
pub(crate) async fn append(tx: &Tx, mut emissions: Vec<Emission>) -> Result<Vec<Committed>, Fault> {
    let Ok(count) = i64::try_from(emissions.len()) else {
        return Err(Fault::Permanent("too many events at once".to_owned()));
    };
    if count == 0 {
        return Ok(vec![]);
    }
    let mut rows = Rows::of(COLUMNS);
    for (place, said) in (1_i64..).zip(&mut emissions) {
        failpoint::grow(&mut said.body);
        if let Some(ending) = said.ending {
            tx.count_ending(ending);
        }
        rows.push([
            place.into(),
            said.id.0.into(),
            said.entry.subject.into(),
            said.aggregate.as_str().into(),
            said.correlation.into(),
            said.causation.map_or(Uuid::nil(), |id| id.0).into(),
            kept_trace(said).into(),
            turn(said).into(),
            tx.now().into(),
            said.body.to_vec().into(),
        ]);
    }
    let before = write(tx, rows, count).await?;
    let numbered = (before + 1..).zip(emissions);
    Ok(numbered
        .map(|(pseq, emission)| number(emission, pseq, tx.now()))
        .collect())
}

/// Takes as many numbers and writes the rows; the last number before them.
async fn write(tx: &Tx, rows: Rows, count: i64) -> Result<i64, Fault> {
    // Nothing else is locked after the counter: two instances could wait for each other.
    let take = |also| {
        format!(
            "UPDATE producer SET pseq = pseq + $1 WHERE one = 1{also} RETURNING pseq - $1 AS before"
        )
    };
    let before = |taken: Vec<QueryResult>| match taken.first() {
        Some(row) => Ok(row.try_get::<i64>("", "before")?),
        None => Err(Fault::Permanent("no producer row".to_owned())),
    };
    let into = format!("INSERT INTO outbox (pseq, {APPENDED}) SELECT");
    match tx.backend() {
        DbBackend::Postgres => {
            let sql = format!(
                ", n AS ({}), i AS ({into} n.before + place, {APPENDED} FROM v, n)
                 SELECT (SELECT before FROM n) AS before, 1 / (SELECT count(*) FROM n) AS exact",
                take("{exact}")
            );
            before(tx.write_last(rows, &sql, vec![count.into()]).await?)
        }
        _ => {
            let before = before(tx.query(&take(""), vec![count.into()]).await?)?;
            let sql = format!("{into} $1 + place, {APPENDED} FROM v");
            tx.run(rows, &sql, vec![before.into()]).await?;
            Ok(before)
        }
    }
}

/// What is neither published nor refused by the broker, in the words of SQL.
const OPEN: &str = "refused = ''
    AND NOT EXISTS (SELECT 1 FROM published WHERE published.pseq = outbox.pseq)";

/// The open rows, few of them looked at: those above the number up to which all are settled
/// or late, and those that are late.
pub(crate) fn open_rows(columns: &str, of_these: &str) -> String {
    let rows = |those: &str| {
        let rows = format!("SELECT {columns} FROM outbox WHERE {those} AND {OPEN} {of_these}");
        format!("SELECT * FROM ({rows}) AS open_rows")
    };
    let above = rows("late = 0 AND pseq > (SELECT up_to FROM relayed)");
    let late = rows("late = 1");
    format!("{above} UNION ALL {late}")
}

/// Rows that were decided before `before` and are not published, oldest first.
pub(crate) async fn unpublished(
    database: &Database,
    before: i64,
    after_pseq: i64,
    limit: i64,
) -> Result<Vec<Committed>, Fault> {
    let some = "AND pseq > $1 AND decided_at <= $2 ORDER BY pseq LIMIT $3";
    let sql = format!("{} ORDER BY pseq LIMIT $3", open_rows(SELECTED, some));
    let rows = database
        .query(&sql, vec![after_pseq.into(), before.into(), limit.into()])
        .await?;
    rows.iter().map(read).collect()
}

// Late rows at most. In an outage all rows are late; then the first of them are found anyway.
const LATE: i64 = 1000;
// Numbers that it moves over at once, within the time that a statement has.
const AT_ONCE: i64 = 100_000;
// Numbers that are looked at for late rows at once.
const NEXT: i64 = 100;

/// Moves the number up to which everything is settled or late. What commits later has higher
/// numbers, because the counter is locked until the commit; and a row that was passed stays
/// settled, or becomes late.
pub(crate) async fn move_up(database: &Database, late_before: i64) -> Result<(), Fault> {
    // Numbers without a gap are all settled; to look at each of their rows costs far more. When
    // another instance has moved it meanwhile, nothing is written: it never goes back.
    let together = "UPDATE relayed SET up_to = (
             SELECT max(pseq) FROM (
                 SELECT pseq, pseq - row_number() OVER (ORDER BY pseq) AS before
                 FROM published WHERE pseq > (SELECT up_to FROM relayed)
                     AND pseq <= (SELECT up_to + $1 FROM relayed)) AS above
             WHERE before = (SELECT up_to FROM relayed))
         WHERE up_to = (SELECT up_to FROM relayed)
             AND EXISTS (SELECT 1 FROM published WHERE pseq = up_to + 1)";
    database.execute(together, vec![AT_ONCE.into()]).await?;
    let settled = "UPDATE outbox SET late = 0 WHERE late = 1 AND EXISTS (
                       SELECT 1 FROM published WHERE published.pseq = outbox.pseq)";
    database.execute(settled, vec![]).await?;
    // One row that the broker does not take must not have all behind it looked at each time.
    let late = format!(
        "UPDATE outbox SET late = 1
         WHERE pseq > (SELECT up_to FROM relayed) AND pseq <= (SELECT up_to + $1 FROM relayed)
             AND late = 0 AND decided_at < $2 AND {OPEN}
             AND (SELECT count(*) FROM outbox WHERE late = 1) < $3"
    );
    let values = vec![NEXT.into(), late_before.into(), LATE.into()];
    database.execute(&late, values).await?;
    // Nothing is written where nothing is new.
    let up = format!(
        "UPDATE relayed SET up_to = coalesce(
             (SELECT pseq - 1 FROM outbox WHERE pseq > up_to AND late = 0 AND {OPEN}
              ORDER BY pseq LIMIT 1),
             (SELECT max(pseq) FROM outbox))
         WHERE up_to < (SELECT max(pseq) FROM outbox)"
    );
    database.execute(&up, vec![]).await?;
    Ok(())
}

/// Marks a row that the broker will never take, and reads it; none: it is published or
/// refused already.
pub(crate) async fn refuse(tx: &Tx, pseq: i64, reason: &str) -> Result<Option<Committed>, Fault> {
    let sql = format!(
        "UPDATE outbox SET refused = $2, late = 0 WHERE pseq = $1 AND {OPEN} RETURNING {SELECTED}"
    );
    let rows = tx.query(&sql, vec![pseq.into(), reason.into()]).await?;
    rows.first().map(read).transpose()
}

/// Takes a row up again that the broker had refused: the sweep will find it.
pub(crate) async fn take_up(tx: &Tx, event: Uuid) -> Result<(), Fault> {
    let sql = "UPDATE outbox SET refused = '', late = 1 WHERE event_id = $1";
    tx.execute(sql, vec![event.into()]).await?;
    Ok(())
}

/// Rows by their numbers.
pub(crate) async fn numbered(
    database: &Database,
    numbers: &[i64],
) -> Result<Vec<Committed>, Fault> {
    let mut wanted = Rows::of(&[("number", Column::Int)]);
    for number in numbers {
        wanted.push([(*number).into()]);
    }
    let sql =
        format!("SELECT {SELECTED} FROM outbox WHERE pseq IN (SELECT number FROM v) ORDER BY pseq");
    let rows = database.fetch(wanted, &sql, vec![]).await?;
    rows.iter().map(read).collect()
}

/// Records rows as published, with where the broker said that they stand in the stream.
pub(crate) async fn mark(database: &Database, stored: &[(i64, u64)]) -> Result<(), Fault> {
    let mut rows = Rows::of(&[("pseq", Column::Int), ("sequence", Column::Int)]);
    for (pseq, sequence) in stored {
        let sequence = i64::try_from(*sequence).unwrap_or(0);
        rows.push([(*pseq).into(), sequence.into()]);
    }
    let sql = "INSERT INTO published (pseq, published_at, stream_sequence)
               SELECT pseq, CAST($1 AS BIGINT), sequence FROM v WHERE true";
    let now = vec![database.clock().now().into()];
    // Being ready for rows that are there costs nearly as much as writing them, and few are.
    let marked = database.run(rows.clone(), sql, now.clone()).await;
    if let Err(Fault::Conflict(_)) = marked {
        let again = "ON CONFLICT (pseq) DO UPDATE SET stream_sequence = excluded.stream_sequence";
        database.run(rows, &format!("{sql} {again}"), now).await?;
        return Ok(());
    }
    marked.map(drop)
}

/// Removes rows that were decided before a time, from the first number on, so that numbers
/// stay without gaps; not those that are still to be published. How many there were.
pub(crate) async fn prune(database: &Database, before: i64, most: i64) -> Result<u64, Fault> {
    let sql = format!(
        "WITH low(first, past) AS (SELECT min(pseq), min(pseq) + $2 FROM outbox)
               DELETE FROM outbox WHERE pseq >= (SELECT first FROM low) AND pseq < coalesce(
                   (SELECT min(pseq) FROM outbox
                    WHERE pseq >= (SELECT first FROM low) AND pseq < (SELECT past FROM low)
                      AND (decided_at >= $1 OR ({OPEN}))),
                   (SELECT past FROM low))"
    );
    let removed = database
        .execute(&sql, vec![before.into(), most.into()])
        .await?;
    // Afterwards, so that a row without a mark is never one that was published.
    let sql = "DELETE FROM published WHERE pseq < coalesce((SELECT min(pseq) FROM outbox),
                   (SELECT up_to FROM relayed))";
    database.execute(sql, vec![]).await?;
    Ok(removed)
}

/// An event of an order, as the outbox of who said it has it.
pub(crate) struct Said {
    pub(crate) envelope: Envelope,
    pub(crate) published: bool,
    /// Where it was in the stream; 0: not known.
    pub(crate) sequence: u64,
}

/// What this service has said of an order, oldest first.
pub(crate) async fn of_order(database: &Database, order: OrderId) -> Result<Vec<Said>, Fault> {
    let sql = format!(
        "SELECT {SELECTED}, CAST(published_at IS NOT NULL AS INTEGER) AS published,
             coalesce(stream_sequence, 0) AS stream_sequence
         FROM outbox LEFT JOIN published USING (pseq) WHERE correlation = $1 ORDER BY pseq"
    );
    let rows = database.query(&sql, vec![order.0.into()]).await?;
    let said = rows.iter().map(|row| {
        let sequence: i64 = row.try_get("", "stream_sequence")?;
        Ok(Said {
            envelope: read(row)?.envelope,
            published: row.try_get::<i32>("", "published")? == 1,
            sequence: u64::try_from(sequence).unwrap_or(0),
        })
    });
    said.collect()
}

/// What is not published.
pub(crate) struct Backlog {
    pub(crate) unpublished: i64,
    /// When the oldest of it was decided.
    pub(crate) oldest: Option<i64>,
}

/// Counts what is not published.
pub(crate) async fn backlog(database: &Database) -> Result<Backlog, Fault> {
    let sql = format!(
        "SELECT count(*) AS n, coalesce(min(decided_at), 0) AS oldest FROM ({}) AS waiting",
        open_rows("decided_at", "")
    );
    let rows = database.query(&sql, vec![]).await?;
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

fn turn(emission: &Emission) -> String {
    let turn = emission.turn.map(|turn| turn.to_header());
    turn.unwrap_or_default()
}

/// What a row keeps of the trace: the context of the event, and the parent of its span,
/// which a sweep records when it publishes the event.
fn kept_trace(said: &Emission) -> String {
    let Some(trace) = &said.trace else {
        return String::new();
    };
    let (here, parent) = trace.of_event(said.id);
    let mut kept = here.traceparent();
    if let Some(parent) = parent {
        kept += &format!("-{:016x}", parent.span);
    }
    kept
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
        turn: turn(&emission),
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

#[cfg(all(test, feature = "fixtures"))]
#[path = "outbox_tests.rs"]
pub(crate) mod tests;
