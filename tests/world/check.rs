//! What must hold at the end of every test.

use ensemble::check::{Place, Report, check};
use events::catalog;
use jetstream::Database;
use jetstream::operating::evidence::Letter;
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
        let sql = "SELECT count(*) AS n FROM outbox
                   WHERE pseq NOT IN (SELECT pseq FROM published)";
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

/// Holds the whole to its invariants, and to having no dead letters; what is wrong, a line
/// each.
pub(crate) async fn whole(world: &World) -> Result<(), String> {
    let report = report(world).await;
    let letters = report.open_letters.iter().flat_map(|(service, letters)| {
        let letter = move |letter: &Letter| {
            format!(
                "dead letter of {service}: {} {}",
                letter.subject, letter.reason
            )
        };
        letters.iter().map(letter)
    });
    let violations = report.violations.iter().map(ToString::to_string);
    let wrong: Vec<String> = letters.chain(violations).collect();
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n")),
    }
}

/// What `ensemble check` says of the services that run.
pub(crate) async fn report(world: &World) -> Report {
    let places: Vec<Place> = databases(world)
        .into_iter()
        .filter_map(|(name, database)| {
            let service = world.services.iter().find(|service| service.name == name);
            let service = *service?;
            Some(Place { service, database })
        })
        .collect();
    let report = check(world.broker(), &world.settings(), &places).await;
    report.expect("databases and broker answer")
}

fn databases(world: &World) -> Vec<(&'static str, Database)> {
    let mut all: Vec<(&'static str, Database)> = world
        .hosts()
        .flat_map(|host| host.services())
        .map(|running| (running.shell().name(), running.database().clone()))
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
