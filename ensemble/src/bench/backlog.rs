//! A service that was away comes back: how fast it works off what has piled up, and what
//! those notice of it who do not need it.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use events::catalog::STREAM;
use jetstream::http::auth::DevelopmentKey;
use jetstream::stream::broker::{Context, PullConfig};
use serde_json::{Value, json};

use super::load::{self, Customer, Market, Pace, Tally};
use super::meter::Window;
use super::outcomes::Outcomes;
use super::report::percentiles;
use super::run::{Parts, Plan, connect, customers, on_a_thread};
use super::shop::{self, Shop};
use super::system::System;
use super::{Args, verify};

/// The service that is away, and the others.
const AWAY: &str = "coupon";
const OTHERS: [&str; 4] = ["order", "stock", "point", "cart"];
// Orders that are placed one by one, to know how long they take when nothing else goes on.
const IDLE: u64 = 200;
const WARM_UP: u64 = 20;
/// Orders per second that go on, unless another rate is given.
pub(super) const USUAL_RATE: f64 = 100.0;
const LOOK: Duration = Duration::from_millis(50);

/// What was found while nothing was away or piled up.
struct Alone {
    /// One order at a time.
    idle: Window,
    /// As many a second as there will be in the end.
    usual: Window,
    tally: Tally,
}

/// What had piled up when the service came back.
struct Waiting {
    /// Events that it has not heard.
    events: u64,
    /// Deliveries that it has had until then.
    delivered: u64,
}

/// What was found when it was back.
struct After {
    seconds: f64,
    handled: u64,
    decided: Duration,
    live: Window,
}

/// Has orders pile up for a service that is away, and measures what happens when it is back.
pub(super) async fn measure(
    args: &Args,
    orders: u64,
    folder: &Path,
    system: &mut System,
) -> Result<Parts, String> {
    let shop = filled(args, orders, folder, system).await?;
    // Before it is away, so that what waits for it is what piles up.
    let (alone, shop) = alone(args, system, shop).await?;
    system.only(&OTHERS)?;
    let (waiting, shop) = piled_up(args, orders, system, shop).await?;
    let mut tally = alone.tally;
    tally.add(Tally::confirmed(orders, true));
    let back = Instant::now();
    system.also(&[AWAY])?;
    let after = drained(args, system, shop, (&waiting, back), tally).await?;
    Ok(vec![("backlog", described(waiting.events, &alone, &after))])
}

/// The shop, filled while all services run.
async fn filled(args: &Args, orders: u64, folder: &Path, system: &System) -> Result<Shop, String> {
    let key = DevelopmentKey::of(folder)?;
    let (places, nats_url, plan) = (
        system.places(),
        system.nats_url().to_owned(),
        Plan::of(args),
    );
    let each = u32::try_from(orders / u64::from(plan.customers) * 5 / 4 + 10).unwrap_or(u32::MAX);
    let (shop, _) = on_a_thread(&[], move |progress, _| async move {
        let broker = connect(&nats_url).await?;
        let shop = shop::fill(&places[0], &key, &plan.mix, plan.customers, each, &progress).await?;
        verify::quiet(&broker, None).await?;
        Ok(shop)
    })
    .await?;
    Ok(shop)
}

/// Measures orders that do not need the service, with nothing else going on.
async fn alone(args: &Args, system: &System, shop: Shop) -> Result<(Alone, Shop), String> {
    let (places, nats_url) = (system.places(), system.nats_url().to_owned());
    let at_rate = without_coupons(args);
    let one_by_one = Plan {
        pace: Pace::Closed,
        orders: IDLE,
        ..without_coupons(args)
    };
    let (found, _) = on_a_thread(&[], move |progress, bounds| async move {
        let broker = connect(&nats_url).await?;
        let measured = async |plan: Plan, customers| {
            let outcomes = Some(Outcomes::listen(&broker).await?);
            let (progress, bounds) = (progress.clone(), bounds.clone());
            let market = plan.market(progress, bounds, Some(shop.products.clone()), outcomes);
            let customers = load::run(&market, customers, plan.pace).await?;
            let (windows, tally) = plan.results(market)?;
            Ok::<_, String>((one_of(windows)?, tally, customers))
        };
        let mut all = customers(&places, shop.users).await?;
        let others = all.split_off(1);
        let (idle, mut tally, mut all) = measured(one_by_one, all).await?;
        all.extend(others);
        let (usual, more, all) = measured(at_rate, all).await?;
        tally.add(more);
        verify::quiet(&broker, None).await?;
        let users = all.into_iter().filter_map(Customer::into_user).collect();
        Ok((Alone { idle, usual, tally }, Shop { users, ..shop }))
    })
    .await?;
    Ok(found)
}

/// Has orders pile up for the service.
async fn piled_up(
    args: &Args,
    orders: u64,
    system: &System,
    shop: Shop,
) -> Result<(Waiting, Shop), String> {
    let (places, nats_url) = (system.places(), system.nats_url().to_owned());
    let mut plan = Plan::of(args);
    plan.mix.coupon = 100.0;
    let (found, _) = on_a_thread(&[], move |progress, bounds| async move {
        let broker = connect(&nats_url).await?;
        let all = customers(&places, shop.users).await?;
        let market = plan.market(progress.clone(), bounds, Some(shop.products.clone()), None);
        progress.begin("piling up", orders);
        let all = load::pile_up(&market, all, orders).await?;
        let users = all.into_iter().filter_map(Customer::into_user).collect();
        // What the others have to do with these orders is done before it comes back.
        verify::quiet(&broker, Some(AWAY)).await?;
        let (events, delivered) = position(&broker).await?;
        Ok((Waiting { events, delivered }, Shop { users, ..shop }))
    })
    .await?;
    Ok(found)
}

/// Goes on with orders that do not need the service while it works off what piled up.
async fn drained(
    args: &Args,
    system: &System,
    shop: Shop,
    (waiting, back): (&Waiting, Instant),
    mut tally: Tally,
) -> Result<After, String> {
    let (places, nats_url) = (system.places(), system.nats_url().to_owned());
    let mut plan = without_coupons(args);
    // It goes on until the service has caught up.
    (plan.warm_up, plan.orders) = (1, u64::MAX / 2);
    let delivered = waiting.delivered;
    let (after, _) = on_a_thread(&[], move |progress, bounds| async move {
        let broker = connect(&nats_url).await?;
        let outcomes = Outcomes::listen(&broker).await?;
        let names: Vec<String> = shop.users.iter().map(|user| user.name.clone()).collect();
        let all = customers(&places[..1], shop.users).await?;
        let market = plan.market(
            progress,
            bounds,
            Some(shop.products.clone()),
            Some(outcomes),
        );
        let run = load::run(&market, all, plan.pace);
        let (_, (seconds, handled)) =
            tokio::try_join!(run, drain(&broker, &market, delivered, back))?;
        verify::quiet(&broker, None).await?;
        let decided = back.elapsed();
        let (live, during) = plan.results(market)?;
        tally.add(during);
        verify::check(&places, &shop.operator, &shop.products, &names, tally).await?;
        Ok(After {
            seconds,
            handled,
            decided,
            live: one_of(live)?,
        })
    })
    .await?;
    Ok(after)
}

/// Orders that do not need the service, in one window.
fn without_coupons(args: &Args) -> Plan {
    let mut plan = Plan::of(args);
    (plan.warm_up, plan.windows, plan.mix.coupon) = (WARM_UP, 1, 0.0);
    plan
}

/// Waits until the service has heard and acked everything, then ends the load: how long it
/// took, and how many events it had.
async fn drain(
    broker: &Context,
    market: &Rc<Market>,
    delivered: u64,
    back: Instant,
) -> Result<(f64, u64), String> {
    loop {
        let (waiting, now) = position(broker).await?;
        if waiting == 0 {
            let seconds = back.elapsed().as_secs_f64();
            market.meter.borrow_mut().end();
            return Ok((seconds, now - delivered));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// How many events the service has not acked, and how many deliveries it has had.
async fn position(broker: &Context) -> Result<(u64, u64), String> {
    let consumer = broker.get_consumer_from_stream::<PullConfig, _, _>(AWAY, STREAM);
    let consumer = consumer.await.map_err(|error| error.to_string())?;
    let info = consumer.cached_info();
    let waiting = info.num_pending + info.num_ack_pending as u64;
    Ok((waiting, info.delivered.consumer_sequence))
}

fn one_of(windows: Vec<Window>) -> Result<Window, String> {
    let first = windows.into_iter().next();
    first.ok_or("nothing was measured".to_owned())
}

fn described(events: u64, alone: &Alone, after: &After) -> Value {
    // New events came meanwhile; they are not counted for how fast the old ones went.
    let drained = events as f64 / after.seconds;
    let live = after.live.orders as f64 / after.live.seconds;
    json!({
        "away": AWAY,
        "events": events,
        "drained_seconds": after.seconds,
        "drained_per_second": drained,
        "handled_per_second": after.handled as f64 / after.seconds,
        "decided_seconds": after.decided.as_secs_f64(),
        "live_orders_per_second": live,
        "idle_ms": percentiles(&alone.idle.complete),
        "usual_ms": percentiles(&alone.usual.complete),
        "live_ms": percentiles(&after.live.complete),
    })
}
