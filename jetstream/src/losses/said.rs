//! What the database knows of what this service has said: what to compare with the stream.

use std::ops::RangeInclusive;

use events::EventId;
use sea_orm::QueryResult;

use crate::database::Database;
use crate::database::bulk::{Column, Rows};
use crate::fault::Fault;

/// The numbers of the rows that were decided from a time on; empty when there are none.
/// Numbers are taken at the commit and times before it, so rows that were decided within a
/// transaction's time of each other may be on either side.
pub(crate) async fn numbers_since(
    database: &Database,
    from: i64,
) -> Result<RangeInclusive<i64>, Fault> {
    let sql = "SELECT coalesce(min(pseq), 1) AS first, coalesce(max(pseq), 0) AS last FROM outbox";
    let rows = database.query(sql, vec![]).await?;
    let row = rows
        .first()
        .ok_or(Fault::Permanent("no numbers".to_owned()))?;
    let (first, last): (i64, i64) = (row.try_get("", "first")?, row.try_get("", "last")?);
    let (mut low, mut high) = (first, last + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        match decided_at(database, middle).await? {
            Some(decided_at) if decided_at < from => low = middle + 1,
            _ => high = middle,
        }
    }
    Ok(low..=last)
}

/// When the first of the rows from a number on was decided.
pub(crate) async fn decided_at(database: &Database, number: i64) -> Result<Option<i64>, Fault> {
    let sql = "SELECT decided_at FROM outbox WHERE pseq >= $1 ORDER BY pseq LIMIT 1";
    let rows = database.query(sql, vec![number.into()]).await?;
    let decided_at = rows.first().map(|row| row.try_get("", "decided_at"));
    Ok(decided_at.transpose()?)
}

/// Where the stream has the first of the rows from a number on; 0 when that is not known of
/// one of them. Without such rows, what follows on the newest row that is published.
pub(crate) async fn stands_from(database: &Database, number: i64) -> Result<u64, Fault> {
    let sql = "SELECT coalesce(
                   (SELECT min(stream_sequence) FROM published WHERE pseq >= $1),
                   (SELECT stream_sequence + 1 FROM published ORDER BY pseq DESC LIMIT 1),
                   1) AS first";
    let rows = database.query(sql, vec![number.into()]).await?;
    let first = rows.first().map(|row| row.try_get::<i64>("", "first"));
    Ok(u64::try_from(first.transpose()?.unwrap_or(1)).unwrap_or(0))
}

/// What was compared with the stream, by any instance.
pub(crate) struct Compared {
    /// The numbers of what is settled, and was not compared yet.
    pub(crate) new: RangeInclusive<i64>,
    /// When all that the stream still keeps was compared; 0: never.
    pub(crate) all_at: i64,
}

/// What was compared with the stream.
pub(crate) async fn compared(database: &Database) -> Result<Compared, Fault> {
    let sql = "SELECT compared, up_to, compared_all_at FROM relayed";
    let rows = database.query(sql, vec![]).await?;
    let row = rows.first();
    let row = row.ok_or_else(|| Fault::Permanent("no relayed row".to_owned()))?;
    let compared: i64 = row.try_get("", "compared")?;
    Ok(Compared {
        new: compared + 1..=row.try_get("", "up_to")?,
        all_at: row.try_get("", "compared_all_at")?,
    })
}

/// Notes that all that the stream still keeps was compared with it.
pub(crate) async fn note_compared_all(database: &Database, at: i64) -> Result<(), Fault> {
    let sql = "UPDATE relayed SET compared_all_at = $1";
    database.execute(sql, vec![at.into()]).await?;
    Ok(())
}

/// Notes that everything up to a number was compared with the stream.
pub(crate) async fn note_compared(database: &Database, up_to: i64) -> Result<(), Fault> {
    let sql = "UPDATE relayed SET compared = $1 WHERE compared < $1";
    database.execute(sql, vec![up_to.into()]).await?;
    Ok(())
}

/// Which events have these numbers, and where they stand in the stream; those of which that is
/// known.
pub(crate) async fn places(
    database: &Database,
    numbers: &[i64],
) -> Result<Vec<(EventId, u64)>, Fault> {
    let mut wanted = Rows::of(&[("number", Column::Int)]);
    for number in numbers {
        wanted.push([(*number).into()]);
    }
    let sql = "SELECT event_id, stream_sequence FROM outbox JOIN published USING (pseq)
               WHERE pseq IN (SELECT number FROM v) AND stream_sequence > 0";
    let rows = database.fetch(wanted, sql, vec![]).await?;
    let place = |row: &QueryResult| {
        let sequence: i64 = row.try_get("", "stream_sequence")?;
        Ok((
            EventId(row.try_get("", "event_id")?),
            sequence.unsigned_abs(),
        ))
    };
    rows.iter().map(place).collect()
}

/// The events with these numbers, the first so many of them.
pub(crate) async fn ids(
    database: &Database,
    numbers: RangeInclusive<i64>,
    limit: usize,
) -> Result<Vec<(EventId, i64)>, Fault> {
    let sql = "SELECT event_id, pseq FROM outbox WHERE pseq BETWEEN $1 AND $2
               ORDER BY pseq LIMIT $3";
    let (first, last) = numbers.into_inner();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = database.query(sql, vec![first.into(), last.into(), limit.into()]);
    let rows = rows.await?;
    rows.iter()
        .map(|row| {
            Ok((
                EventId(row.try_get("", "event_id")?),
                row.try_get("", "pseq")?,
            ))
        })
        .collect()
}

/// The numbers of rows that were published by a time, the first so many of a range.
pub(crate) async fn published(
    database: &Database,
    numbers: &RangeInclusive<i64>,
    until: i64,
    limit: i64,
) -> Result<Vec<i64>, Fault> {
    let sql = "SELECT pseq FROM published WHERE pseq BETWEEN $1 AND $2 AND published_at <= $3
               ORDER BY pseq LIMIT $4";
    let (first, last) = (*numbers.start(), *numbers.end());
    let values = vec![first.into(), last.into(), until.into(), limit.into()];
    let rows = database.query(sql, values).await?;
    rows.iter()
        .map(|row| Ok(row.try_get("", "pseq")?))
        .collect()
}

#[cfg(all(test, feature = "fixtures"))]
mod tests {
    use super::*;
    use crate::database::fixture::{IDLE, on_each_database};
    use crate::saying::outbox;
    use crate::saying::outbox::tests::say;

    #[tokio::test]
    async fn what_is_compared_begins_at_a_time_and_where_that_stands() {
        on_each_database(&IDLE, async |database| {
            let since = async |from| {
                let numbers = numbers_since(database, from).await;
                numbers.expect("read").into_inner()
            };
            assert_eq!(since(0).await, (1, 0), "nothing was said");
            assert_eq!(stands_from(database, 1).await.expect("read"), 1);

            // The first ones have been pruned.
            say(database, 40..=140).await;
            assert_eq!(since(0).await, (40, 140));
            assert_eq!(since(77).await, (77, 140));
            assert_eq!(since(141).await, (141, 140), "all are older");

            let stored: Vec<_> = (40..=130).map(|pseq| (pseq, 1_000 - pseq as u64)).collect();
            outbox::mark(database, &stored).await.expect("marked");
            let from = async |number| stands_from(database, number).await.expect("read");
            assert_eq!(from(40).await, 870, "the first in the stream");
            assert_eq!(from(120).await, 870);
            assert_eq!(from(131).await, 871, "what follows on the newest");
            let first = published(database, &(50..=140), i64::MAX, 3).await;
            assert_eq!(first.expect("read"), [50, 51, 52]);
            let last = published(database, &(129..=140), i64::MAX, 9).await;
            assert_eq!(last.expect("read"), [129, 130]);
            let before = published(database, &(50..=140), 0, 3).await;
            assert!(before.expect("read").is_empty(), "not by then");
            let rows = outbox::numbered(database, &[60, 135, 999])
                .await
                .expect("read");
            let rows: Vec<_> = rows.iter().map(|row| row.envelope.pseq).collect();
            assert_eq!(rows, [60, 135]);
        })
        .await;
    }
}
