//! Pruning: what was said and heard so long ago that nobody can come back to it.
//!
//! Rows of the outbox and the inbox stay for longer than the stream keeps events and a
//! backup is old when it is restored, and always as long beyond the oldest dead letter
//! that is open: what is redriven, said again or found in the stream must meet what was
//! known of it. Holds and orders stay for ever.
//!
//! Rows go in the order in which they came, a few at a time, so that databases use their
//! space again and nobody waits.

use std::time::Duration;

use crate::clock;
use crate::database::Database;
use crate::fault::Fault;
use crate::hearing::{dead_letter, inbox};
use crate::saying::outbox;
use crate::shell::Shell;

pub(crate) const EVERY: Duration = Duration::from_secs(60);
// Rows that one statement removes at most.
const AT_ONCE: i64 = 1000;

/// Removes what is too old.
pub(crate) async fn prune(shell: Shell) -> Result<(), Fault> {
    let (database, keep) = (shell.database(), shell.settings().keep);
    while !shell.stopping().is_cancelled() && prune_some(database, shell.name(), keep).await? {}
    Ok(())
}

/// Removes some of what is too old; whether there may be more.
async fn prune_some(database: &Database, consumer: &str, keep: Duration) -> Result<bool, Fault> {
    let now = database.clock().now();
    let oldest_letter = dead_letter::oldest_open(database).await?;
    let before = oldest_letter.unwrap_or(now).min(now) - clock::millis(keep);
    let said = outbox::prune(database, before, AT_ONCE).await?;
    let heard = inbox::prune(database, consumer, before, AT_ONCE).await?;
    let failures = dead_letter::prune_failures(database, before, AT_ONCE).await?;
    let most = said.max(heard).max(failures);
    Ok(i64::try_from(most).unwrap_or(i64::MAX) >= AT_ONCE)
}

#[cfg(all(test, feature = "fixtures"))]
mod tests {
    use super::*;
    use crate::database::bulk::{Column, Rows};
    use crate::database::fixture::{IDLE, on_each_database};
    use uuid::Uuid;

    const DAY: i64 = 24 * 60 * 60 * 1000;
    const KEEP: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    fn id(at: i64, n: i64) -> Uuid {
        let bits = (u128::from(at.unsigned_abs()) << 80) | u128::from(n.unsigned_abs());
        Uuid::from_u128(bits)
    }

    /// An event that was said, heard, and had failed once, so many days ago.
    async fn event(database: &Database, number: i64, days: i64, published: bool) {
        let at = database.clock().now() - days * DAY;
        let sql = "INSERT INTO outbox (pseq, event_id, subject, aggregate, correlation, causation,
                       traceparent, turn, decided_at, body)
                   VALUES ($1, $2, 's', 'a', $2, $2, '', '', $3, $4)";
        let body: Vec<u8> = vec![];
        let values = vec![number.into(), id(at, number).into(), at.into(), body.into()];
        database.execute(sql, values).await.expect("said");
        if published {
            outbox::mark(database, &[(number, 0)])
                .await
                .expect("marked");
        }
        let sql = "INSERT INTO processed_events (consumer, event_id, processed_at)
                   VALUES ('test', $1, $2)";
        let values = vec![id(at, number).into(), at.into()];
        database.execute(sql, values).await.expect("heard");
        let sql = "INSERT INTO failures (consumer, event_id, times, failed_at)
                   VALUES ('test', $1, 1, $2)";
        let values = vec![number.to_string().into(), at.into()];
        database.execute(sql, values).await.expect("failed");
    }

    async fn letter(database: &Database, state: &str, days: i64) {
        let sql = "INSERT INTO dead_letters (id, origin, event_id, subject, headers, payload,
                       stream_sequence, correlation, kind, reason, attempts, state, died_at)
                   VALUES ($1, 'CONSUMER', 'e', 's', '', $2, 0, '', '', '', 1, $3, $4)";
        let at = database.clock().now() - days * DAY;
        let payload: Vec<u8> = vec![];
        let values = vec![
            clock::new_id().into(),
            payload.into(),
            state.into(),
            at.into(),
        ];
        database.execute(sql, values).await.expect("kept");
    }

    async fn left(database: &Database) -> [i64; 3] {
        while prune_some(database, "test", KEEP).await.expect("pruned") {}
        let mut left = [0; 3];
        for (n, table) in ["outbox", "processed_events", "failures"]
            .iter()
            .enumerate()
        {
            let sql = format!("SELECT count(*) AS n FROM {table}");
            let rows = database.query(&sql, vec![]).await.expect("read");
            left[n] = rows[0].try_get("", "n").expect("a number");
        }
        left
    }

    #[tokio::test]
    async fn only_what_nobody_can_come_back_to_is_removed() {
        on_each_database(&IDLE, async |database| {
            assert_eq!(left(database).await, [0; 3], "nothing to do is fine");
            for (number, days) in [(1, 99), (2, 90), (3, 80), (4, 40), (5, 29), (6, 0)] {
                event(database, number, days, number != 3).await;
            }
            letter(database, "OPEN", 65).await;
            letter(database, "DISCARDED", 99).await;
            // 95 days is the bound while the letter is open.
            assert_eq!(left(database).await, [5, 5, 5]);
            let closed = "UPDATE dead_letters SET state = 'REDRIVEN'";
            database.execute(closed, vec![]).await.expect("redriven");
            // Numbers stay without gaps: what follows an event that is not published stays.
            assert_eq!(left(database).await, [4, 2, 2]);
            outbox::mark(database, &[(3, 0)]).await.expect("marked");
            assert_eq!(left(database).await, [2, 2, 2]);
        })
        .await;
    }

    #[tokio::test]
    async fn many_rows_are_removed_a_few_at_a_time() {
        on_each_database(&IDLE, async |database| {
            let mut rows = Rows::of(&[("n", Column::Int), ("id", Column::Id)]);
            for n in 1..=2500 {
                rows.push([n.into(), id(1, n).into()]);
            }
            let sql = "INSERT INTO outbox (pseq, event_id, subject, aggregate, correlation,
                           causation, traceparent, turn, decided_at, body)
                       SELECT n, id, 's', 'a', id, id, '', '', 1, $1 FROM v WHERE true";
            let body: Vec<u8> = vec![];
            let said = database.run(rows, sql, vec![body.into()]).await;
            assert_eq!(said.expect("said"), 2500);
            let stored: Vec<_> = (1..=2500).map(|n| (n, 0)).collect();
            outbox::mark(database, &stored).await.expect("marked");
            let removed = outbox::prune(database, DAY, AT_ONCE).await.expect("pruned");
            assert_eq!(removed, 1000);
            assert_eq!(left(database).await, [0; 3]);
        })
        .await;
    }
}
