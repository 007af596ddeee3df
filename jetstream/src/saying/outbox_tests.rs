use super::*;
use crate::database::fixture::{IDLE, on_each_database};

fn event(pseq: i64) -> Uuid {
    Uuid::from_u128(pseq.unsigned_abs().into())
}

/// Rows with these numbers; each was decided at its number.
pub(crate) async fn say(database: &Database, pseqs: std::ops::RangeInclusive<i64>) {
    let mut rows = Rows::of(&[("n", Column::Int), ("id", Column::Id)]);
    for pseq in pseqs {
        rows.push([pseq.into(), event(pseq).into()]);
    }
    let sql = "INSERT INTO outbox (pseq, event_id, subject, aggregate, correlation, causation,
                   traceparent, turn, decided_at, body)
               SELECT n, id, 'order.confirmed', 'a', id, id, '', '', n, $1 FROM v WHERE true";
    let body: Vec<u8> = vec![];
    database
        .run(rows, sql, vec![body.into()])
        .await
        .expect("said");
}

async fn publish(database: &Database, pseqs: &[i64]) {
    let stored: Vec<_> = pseqs.iter().map(|pseq| (*pseq, 1)).collect();
    mark(database, &stored).await.expect("marked");
}

/// Up to where all is settled or late, and what is not published.
async fn state(database: &Database) -> (i64, Vec<i64>) {
    let rows = database.query("SELECT up_to FROM relayed", vec![]).await;
    let up_to = rows.expect("read")[0]
        .try_get("", "up_to")
        .expect("a number");
    let rows = unpublished(database, i64::MAX, 0, 5000)
        .await
        .expect("read");
    let open: Vec<_> = rows.iter().map(|row| row.envelope.pseq).collect();
    let counted = backlog(database).await.expect("counted");
    assert_eq!(counted.unpublished, open.len() as i64);
    assert_eq!(counted.oldest, open.first().copied());
    (up_to, open)
}

#[tokio::test]
async fn a_row_that_the_broker_does_not_take_is_passed_and_not_forgotten() {
    on_each_database(&IDLE, async |database| {
        let up = async |late_before| move_up(database, late_before).await.expect("moved");
        up(9).await;
        assert_eq!(state(database).await, (0, vec![]), "nothing was said");
        say(database, 1..=6).await;
        publish(database, &[1, 2, 4, 5]).await;
        up(3).await;
        assert_eq!(state(database).await, (2, vec![3, 6]), "3 is not late yet");
        up(4).await;
        assert_eq!(state(database).await, (5, vec![3, 6]), "3 is late");
        say(database, 7..=7).await;
        publish(database, &[3, 6]).await;
        up(4).await;
        assert_eq!(
            state(database).await,
            (6, vec![7]),
            "it was taken after all"
        );
        let late = "SELECT count(*) AS n FROM outbox WHERE late = 1";
        let rows = database.query(late, vec![]).await.expect("read");
        assert_eq!(rows[0].try_get::<i64>("", "n").expect("a number"), 0);
    })
    .await;
}

#[tokio::test]
async fn what_was_refused_is_passed_until_it_is_taken_up() {
    on_each_database(&IDLE, async |database| {
        say(database, 1..=3).await;
        let refused = "UPDATE outbox SET refused = 'too large' WHERE pseq = 2";
        database.execute(refused, vec![]).await.expect("refused");
        publish(database, &[1, 3]).await;
        move_up(database, 0).await.expect("moved");
        assert_eq!(state(database).await, (3, vec![]));
        let tx = database.begin().await.expect("begun");
        take_up(&tx, event(2)).await.expect("taken up");
        tx.commit().await.expect("committed");
        move_up(database, 0).await.expect("moved");
        assert_eq!(state(database).await, (3, vec![2]));
    })
    .await;
}

#[tokio::test]
async fn in_an_outage_few_rows_are_late_and_all_are_found() {
    on_each_database(&IDLE, async |database| {
        say(database, 1..=3000).await;
        for _ in 0..40 {
            move_up(database, i64::MAX).await.expect("moved");
        }
        let (up_to, open) = state(database).await;
        assert!(up_to <= LATE + NEXT, "{up_to}");
        let all: Vec<_> = (1..=3000).collect();
        assert_eq!(open, all);
    })
    .await;
}

/// Writes rows and appends an event, in a transaction that reads nothing.
async fn accept_and_say(database: &Database, pseqs: &[i64]) -> Result<Tx, Fault> {
    let tx = database.begin().await?;
    let rows = Rows::ids(pseqs.iter().map(|pseq| event(*pseq)));
    let sql = "INSERT INTO accepted_events (event_id, pseq, accepted_at)
               SELECT id, 0, 0 FROM v WHERE true ON CONFLICT DO NOTHING";
    tx.write(rows, sql, vec![]).await?;
    let said = Emission::fact(&catalog::ORDER_CONFIRMED, "", Bytes::new());
    append(&tx, vec![said]).await?;
    Ok(tx)
}

#[tokio::test]
async fn a_transaction_that_misses_a_row_leaves_nothing_even_as_one_statement() {
    on_each_database(&IDLE, async |database| {
        let state = async || {
            let sql = "SELECT (SELECT count(*) FROM accepted_events) AS accepted,
                           (SELECT count(*) FROM outbox) AS said, pseq FROM producer";
            let rows = database.query(sql, vec![]).await.expect("read");
            ["accepted", "said", "pseq"].map(|n| rows[0].try_get::<i64>("", n).expect("a number"))
        };
        let tx = accept_and_say(database, &[1]).await.expect("written");
        let after = tx.query("SELECT 1 AS one", vec![]).await;
        match database.backend() {
            DbBackend::Postgres => assert!(matches!(after, Err(Fault::Permanent(_)))),
            _ => assert!(after.is_ok()),
        }
        tx.commit().await.expect("committed");
        assert_eq!(state().await, [1, 1, 1]);

        let missed = accept_and_say(database, &[2, 1]).await;
        assert!(matches!(missed.err(), Some(Fault::Conflict(_))));
        assert_eq!(state().await, [1, 1, 1]);
    })
    .await;
}
