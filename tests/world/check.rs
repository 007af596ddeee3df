//! What must hold at the end of every test.

use events::catalog;
use jetstream::Database;
use sea_orm::Value;

use crate::{World, eventually};

/// Waits until no event is unpublished, unheard or unacked, and no order is open.
pub(crate) async fn quiet(world: &World) {
    eventually("quiet", async || {
        for (service, database) in databases(world) {
            let unpublished = count(
                &database,
                "SELECT count(*) AS n FROM outbox WHERE published_at IS NULL",
            );
            match unpublished.await {
                0 => {}
                n => return Err(format!("{service} has {n} unpublished events")),
            }
            let info = world
                .broker()
                .get_consumer_from_stream::<jetstream::broker::PullConfig, _, _>(
                    service,
                    catalog::STREAM,
                )
                .await
                .map_err(|error| error.to_string())?;
            let info = info.cached_info();
            if info.num_pending > 0 || info.num_ack_pending > 0 {
                return Err(format!(
                    "{service} has {} events to hear and {} to ack",
                    info.num_pending, info.num_ack_pending
                ));
            }
            if service == "order" {
                let sql = "SELECT count(*) AS n FROM orders
                           WHERE state IN ('PENDING', 'COMPENSATING')";
                match count(&database, sql).await {
                    0 => {}
                    n => return Err(format!("{n} orders are open")),
                }
            }
        }
        Ok(())
    })
    .await;
}

/// The sums that hold whatever happened; the tables' own CHECKs hold the rest.
pub(crate) async fn sums(world: &World) {
    for (service, database) in databases(world) {
        let letters = database
            .query(
                "SELECT subject, reason FROM dead_letters WHERE state = 'OPEN'",
                vec![],
            )
            .await
            .expect("the database answers");
        let letters: Vec<(String, String)> = letters
            .iter()
            .map(|row| (row.try_get("", "subject"), row.try_get("", "reason")))
            .map(|(subject, reason)| (subject.expect("text"), reason.expect("text")))
            .collect();
        assert!(
            letters.is_empty(),
            "{service} has dead letters: {letters:?}"
        );
        let gaps = "SELECT coalesce(max(pseq), 0) - count(*) AS n FROM outbox";
        assert_eq!(
            count(&database, gaps).await,
            0,
            "{service}: numbers without gaps"
        );
        let held = match service {
            "order" => continue,
            _ => "SELECT count(*) AS n FROM holds WHERE state = 'HELD'",
        };
        assert_eq!(
            count(&database, held).await,
            0,
            "{service}: a hold without a living order"
        );
        match service {
            "stock" => {
                let sql = "SELECT coalesce(sum(held), 0) AS n FROM products";
                assert_eq!(sum(&database, sql).await, 0, "units are held");
            }
            "point" => {
                let sql = "SELECT coalesce(sum(held), 0) AS n FROM accounts";
                assert_eq!(sum(&database, sql).await, 0, "points are held");
            }
            _ => {}
        }
    }
}

fn databases(world: &World) -> Vec<(&'static str, Database)> {
    let mut all: Vec<(&'static str, Database)> = world
        .hosts()
        .flat_map(|host| host.services())
        .map(|running| (running.shell().name(), running.shell().database().clone()))
        .collect();
    all.sort_by_key(|(name, _)| *name);
    all.dedup_by_key(|(name, _)| *name);
    all
}

async fn count(database: &Database, sql: &str) -> i64 {
    let rows = database
        .query(sql, Vec::<Value>::new())
        .await
        .expect("the database answers");
    rows[0].try_get("", "n").expect("a number")
}

/// PostgreSQL sums integers as decimals.
async fn sum(database: &Database, sql: &str) -> i64 {
    let sql =
        sql.replacen("coalesce(", "CAST(coalesce(", 1)
            .replacen(" AS n", " AS BIGINT) AS n", 1);
    count(database, &sql).await
}
