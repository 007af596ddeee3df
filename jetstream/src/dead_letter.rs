//! Dead letters: events that could not be handled, kept with all that is needed to try
//! again. The row is committed before the message is terminated (R8).

use sea_orm::sea_query::Value;

use crate::clock;
use crate::database::Database;
use crate::fault::Fault;

/// An event that could not be handled.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    pub(crate) event_id: String,
    pub(crate) subject: String,
    pub(crate) headers: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) stream_sequence: u64,
    pub(crate) correlation: String,
    pub(crate) kind: &'static str,
    pub(crate) reason: String,
    pub(crate) attempts: u32,
}

/// Keeps a dead letter.
pub(crate) async fn keep(
    database: &Database,
    consumer: &str,
    letter: DeadLetter,
) -> Result<(), Fault> {
    let values: Vec<Value> = vec![
        clock::new_id().into(),
        consumer.into(),
        letter.event_id.into(),
        letter.subject.into(),
        letter.headers.into(),
        letter.payload.into(),
        i64::try_from(letter.stream_sequence)
            .unwrap_or(i64::MAX)
            .into(),
        letter.correlation.into(),
        letter.kind.into(),
        letter.reason.into(),
        i64::from(letter.attempts).into(),
        database.clock().now().into(),
    ];
    let sql = "INSERT INTO dead_letters (id, consumer, event_id, subject, headers, payload,
                   stream_sequence, correlation, kind, reason, attempts, died_at, state)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'OPEN')";
    database.execute(sql, values).await?;
    Ok(())
}
