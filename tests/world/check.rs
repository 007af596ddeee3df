//! What must hold at the end of every test.

use events::{Step, catalog};
use jetstream::Database;
use jetstream::stream::broker::PullConfig;
use sea_orm::Value;

use crate::{World, eventually};

/// Waits until no event is unpublished, unheard or unacked, and no order is open.
pub(crate) async fn quiet(world: &World) {
    // One look is no proof: what it saw first may have been set off again by what it saw
    // last. Nothing can happen between two quiet looks without an event more.
    let mut before = None;
    eventually("quiet", async || match look(world).await {
        Ok(events) if before.replace(events) == Some(events) => Ok(()),
        Ok(_) => Err("quiet, but not for two looks in a row".to_owned()),
        Err(restless) => {
            before = None;
            Err(restless)
        }
    })
    .await;
}

/// Whether everything is quiet at this moment: the number of the stream's last event, or
/// what is not.
pub(crate) async fn look(world: &World) -> Result<u64, String> {
    for (service, database) in databases(world) {
        let sql = "SELECT count(*) AS n FROM outbox WHERE published_at IS NULL";
        match count(&database, sql).await {
            0 => {}
            n => return Err(format!("{service} has {n} unpublished events")),
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
    // Of every service, so that one that was not started is missed.
    for service in world.services.iter().map(|service| service.name) {
        let consumer = world
            .broker()
            .get_consumer_from_stream::<PullConfig, _, _>(service, catalog::STREAM)
            .await
            .map_err(|error| error.to_string())?;
        let info = consumer.cached_info();
        if info.num_pending > 0 || info.num_ack_pending > 0 {
            return Err(format!(
                "{service} has {} events to hear and {} to ack",
                info.num_pending, info.num_ack_pending
            ));
        }
    }
    let stream = world.broker().get_stream(catalog::STREAM).await;
    let stream = stream.map_err(|error| error.to_string())?;
    Ok(stream.cached_info().state.last_sequence)
}

/// The sums that hold whatever happened; the tables' own CHECKs hold the rest.
pub(crate) async fn sums(world: &World) -> Result<(), String> {
    for (service, database) in databases(world) {
        let letters = dead_letters(&database).await;
        if !letters.is_empty() {
            return Err(format!("{service} has dead letters: {letters:?}"));
        }
        let mut zero = vec![(
            "numbers that are missing",
            "SELECT coalesce(max(pseq), 0) - count(*) AS n FROM outbox",
        )];
        if Step::named(service).is_ok() {
            zero.push((
                "holds without a living order",
                "SELECT count(*) AS n FROM holds WHERE state = 'HELD'",
            ));
        }
        // PostgreSQL sums integers as decimals, hence the casts.
        zero.extend(match service {
            "stock" => Some((
                "units held",
                "SELECT CAST(coalesce(sum(held), 0) AS BIGINT) AS n FROM products",
            )),
            "point" => Some((
                "points held",
                "SELECT CAST(coalesce(sum(held), 0) AS BIGINT) AS n FROM accounts",
            )),
            "coupon" => Some((
                "coupons held",
                "SELECT count(*) AS n FROM coupons WHERE state = 'HELD'",
            )),
            _ => None,
        });
        for (what, sql) in zero {
            match count(&database, sql).await {
                0 => {}
                n => return Err(format!("{service}: {n} {what}")),
            }
        }
    }
    Ok(())
}

async fn dead_letters(database: &Database) -> Vec<(String, String)> {
    let sql = "SELECT subject, reason FROM dead_letters WHERE state = 'OPEN'";
    let rows = database.query(sql, vec![]).await;
    rows.expect("the database answers")
        .iter()
        .map(|row| (row.try_get("", "subject"), row.try_get("", "reason")))
        .map(|(subject, reason)| (subject.expect("text"), reason.expect("text")))
        .collect()
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
