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
/// Orders per second that go on, unless another rate is given.
pub(super) const USUAL_RATE: f64 = 100.0;
// Seconds that they go on at their rate before anything piles up.
const USUAL_SECONDS: f64 = 15.0;
const LOOK: Duration = Duration::from_millis(50);

/// What was found before the service came back.
struct Before {
    shop: Shop,
    /// One order at a time.
    idle: Window,
    /// As many a second as there will be when it is back.
    usual: Window,
    tally: Tally,
    /// Events that the service has not heard.
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
    system.only(&OTHERS)?;
    let before = piled_up(args, orders, system, shop).await?;
    let alone = [before.idle.clone(), before.usual.clone()];
    let events = before.events;
    let back = Instant::now();
    system.also(&[AWAY])?;
    let after = drained(args, orders, system, before, back).await?;
    Ok(vec![("backlog", described(events, &alone, &after))])
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

/// Measures orders that do not need the service, and has others pile up for it.
async fn piled_up(args: &Args, orders: u64, system: &System, shop: Shop) -> Result<Before, String> {
    let (places, nats_url) = (system.places(), system.nats_url().to_owned());
    let (mut plan, rate) = (Plan::of(args), args.rate().unwrap_or(USUAL_RATE));
    let (before, _) = on_a_thread(&[], move |progress, bounds| async move {
        let broker = connect(&nats_url).await?;
        let Shop {
            products,
            users,
            operator,
        } = shop;
        let all = customers(&places, users).await?;
        let market = async |plan: &Plan| {
            let outcomes = Some(Outcomes::listen(&broker).await?);
            let (progress, bounds) = (progress.clone(), bounds.clone());
            Ok(plan.market(progress, bounds, Some(products.clone()), outcomes))
        };
        let (idle, usual, tally, all) = alone(&mut plan, rate, all, market).await?;
        plan.mix.coupon = 100.0;
        let market = plan.market(progress.clone(), bounds, Some(products.clone()), None);
        progress.begin("piling up", orders);
        let all = load::pile_up(&market, all, orders).await?;
        let users = all.into_iter().filter_map(Customer::into_user).collect();
        // What the others have to do with these orders is done before it comes back.
        verify::quiet(&broker, Some(AWAY)).await?;
        let (events, delivered) = position(&broker).await?;
        Ok(Before {
            shop: Shop {
                products,
                users,
                operator,
            },
            idle,
            usual,
            tally,
            events,
            delivered,
        })
    })
    .await?;
    Ok(before)
}

/// Orders that do not need the service, with nothing else: one at a time, and at a rate.
async fn alone(
    plan: &mut Plan,
    rate: f64,
    mut all: Vec<Customer>,
    market: impl AsyncFn(&Plan) -> Result<Rc<Market>, String>,
) -> Result<(Window, Window, Tally, Vec<Customer>), String> {
    (plan.warm_up, plan.orders, plan.windows, plan.mix.coupon) = (20, IDLE, 1, 0.0);
    let idle = market(plan).await?;
    let one = vec![all.pop().ok_or("there is no user")?];
    all.extend(load::run(&idle, one, Pace::Closed).await?);
    let (idle, mut tally) = plan.results(idle)?;
    plan.orders = (rate * USUAL_SECONDS) as u64;
    let usual = market(plan).await?;
    let all = load::run(&usual, all, Pace::Open(rate)).await?;
    let (usual, more) = plan.results(usual)?;
    tally.add(more);
    Ok((one_of(idle)?, one_of(usual)?, tally, all))
}

/// Goes on with orders that do not need the service while it works off what piled up.
async fn drained(
    args: &Args,
    orders: u64,
    system: &System,
    before: Before,
    back: Instant,
) -> Result<After, String> {
    let (places, nats_url) = (system.places(), system.nats_url().to_owned());
    let (mut plan, rate) = (Plan::of(args), args.rate().unwrap_or(USUAL_RATE));
    let (after, _) = on_a_thread(&[], move |progress, bounds| async move {
        let broker = connect(&nats_url).await?;
        let outcomes = Outcomes::listen(&broker).await?;
        let Before {
            shop,
            mut tally,
            delivered,
            ..
        } = before;
        let names: Vec<String> = shop.users.iter().map(|user| user.name.clone()).collect();
        let all = customers(&places[..1], shop.users).await?;
        (plan.warm_up, plan.orders, plan.windows, plan.mix.coupon) = (1, u64::MAX / 2, 1, 0.0);
        let market = plan.market(
            progress,
            bounds,
            Some(shop.products.clone()),
            Some(outcomes),
        );
        let run = load::run(&market, all, Pace::Open(rate));
        let (_, (seconds, handled)) =
            tokio::try_join!(run, drain(&broker, &market, delivered, back))?;
        verify::quiet(&broker, None).await?;
        let decided = back.elapsed();
        let (live, during) = plan.results(market)?;
        tally.add(during);
        tally.add(Tally::confirmed(orders, true));
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

fn described(events: u64, [idle, usual]: &[Window; 2], after: &After) -> Value {
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
        "idle_ms": percentiles(&idle.complete),
        "usual_ms": percentiles(&usual.complete),
        "live_ms": percentiles(&after.live.complete),
    })
}
