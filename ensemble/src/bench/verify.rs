//! What must hold when the load is over. A run that breaks it has no result.

use std::time::{Duration, Instant};

use events::catalog::STREAM;
use jetstream::stream::broker::{Context, PullConfig};
use serde_json::Value;

use super::client::{Connection, Place};
use super::load::Tally;
use super::outcomes::PATIENCE;
use super::shop::{self, Products};
use crate::SERVICES;

const LOOK: Duration = Duration::from_millis(50);

/// Waits until every service has heard and acked everything that is in the stream, and
/// nothing new came meanwhile; but for one that is away.
pub(super) async fn quiet(broker: &Context, away: Option<&str>) -> Result<(), String> {
    let start = Instant::now();
    let mut before = None;
    loop {
        let found = restless(broker, away).await?;
        match found {
            Ok(last) if before.replace(last) == Some(last) => return Ok(()),
            Ok(_) => {}
            Err(who) if start.elapsed() > PATIENCE => {
                return Err(format!("{who} after {PATIENCE:?}"));
            }
            Err(_) => before = None,
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The number of the stream's last event when all of them are handled, or who has not.
async fn restless(broker: &Context, away: Option<&str>) -> Result<Result<u64, String>, String> {
    for service in SERVICES.iter().filter(|s| Some(s.name) != away) {
        let consumer = broker.get_consumer_from_stream::<PullConfig, _, _>(service.name, STREAM);
        let consumer = consumer.await.map_err(|error| error.to_string())?;
        let info = consumer.cached_info();
        if info.num_pending > 0 || info.num_ack_pending > 0 {
            let (unheard, unacked) = (info.num_pending, info.num_ack_pending);
            let who = service.name;
            return Ok(Err(format!(
                "{who} has {unheard} events to hear and {unacked} to ack"
            )));
        }
    }
    let stream = broker.get_stream(STREAM).await;
    let stream = stream.map_err(|error| error.to_string())?;
    Ok(Ok(stream.cached_info().state.last_sequence))
}

/// Compares what the services say with what the load knows: nothing is held any more, all
/// sums are right, exactly what confirmed orders took is gone, and nothing died.
pub(super) async fn check(
    places: &[Place],
    operator: &str,
    products: &Products,
    users: &[String],
    tally: Tally,
) -> Result<(), String> {
    let mut connection = Connection::open(&places[0]).await?;
    let mut get = async |path: String| connection.call("GET", &path, operator, &Value::Null).await;
    let mut settled = 0;
    for (product, stock) in products.all() {
        let found = get(format!("/products/{product}")).await?;
        settled += account(&found, "available", stock)
            .map_err(|wrong| format!("product {product}: {wrong}"))?;
    }
    let taken = i64::try_from(2 * tally.confirmed).unwrap_or(i64::MAX);
    must_be("units that orders took", settled, taken)?;
    let mut paid = 0;
    for user in users {
        let found = get(format!("/points/{user}")).await?;
        paid += account(&found, "balance", shop::PLENTY)
            .map_err(|wrong| format!("points of {user}: {wrong}"))?;
    }
    must_be("points that orders cost", paid, tally.paid)?;
    for process in places.iter().flat_map(Place::processes) {
        no_dead_letters(&process, operator).await?;
    }
    Ok(())
}

async fn no_dead_letters(process: &Place, operator: &str) -> Result<(), String> {
    let mut connection = Connection::open(process).await?;
    let asked = connection.call("GET", "/dead-letters", operator, &Value::Null);
    let letters = asked.await?;
    match letters["dead_letters"].as_array().map(Vec::as_slice) {
        Some([]) => Ok(()),
        Some([first, ..]) => Err(format!("there are dead letters, like {first}")),
        None => Err(format!("no list of dead letters: {letters}")),
    }
}

/// Checks that nothing is held and nothing was lost; how much is settled of all that there
/// was.
fn account(found: &Value, free: &str, total: i64) -> Result<i64, String> {
    let number = |name: &str| {
        found[name]
            .as_i64()
            .ok_or(format!("no `{name}` in {found}"))
    };
    let (free, held, settled) = (number(free)?, number("held")?, number("settled")?);
    match held == 0 && free >= 0 && free + held + settled == total {
        true => Ok(settled),
        false => Err(format!(
            "{free} free, {held} held, {settled} settled, {total} in all"
        )),
    }
}

fn must_be(what: &str, found: i64, expected: i64) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{what}: {found}, and the load counted {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_held_or_lost_is_a_violation() {
        let stock = |available: i64, held: i64, settled: i64| {
            let found = json!({ "available": available, "held": held, "settled": settled });
            account(&found, "available", 10)
        };
        assert_eq!(stock(4, 0, 6), Ok(6));
        assert!(stock(4, 1, 5).is_err(), "a hold without a living order");
        assert!(stock(4, 0, 5).is_err(), "one is lost");
        assert!(stock(-1, 0, 11).is_err(), "below zero");
        assert!(must_be("units", 1, 2).is_err());
    }
}
