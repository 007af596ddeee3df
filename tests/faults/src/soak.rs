//! F36: random faults for a long time, while orders come at a steady rate, whatever happens.
//!
//! Each service has two instances. The first one is never killed, so that its memory can be
//! watched; it is paused, cut off and slowed down like the second, which is also killed.
//! The broker is killed in the first half only, for the same reason.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use crate::again::Again;
use crate::memory::Memory;
use crate::proxy::{Line, Proxy};
use crate::random::Random;
use crate::scenario::{SCENARIO, Scenario};
use crate::shop::{Mix, Shop};
use crate::stage::{Outcome, Stage, Wishes};

/// How long, and how many orders come in a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Soak {
    pub(crate) duration: Duration,
    pub(crate) rate: u32,
}

pub(crate) const SOAK: Scenario = Scenario {
    id: "F36",
    what: "random faults, for a long time",
    wishes: || Wishes {
        nats_proxy: true,
        database_proxy: true,
        own_postgres: true,
        flags: vec!["--open-orders", "1000", "--sampling", "0"],
        mix: Mix {
            users: 200,
            coupon: 5,
            first_look: Duration::from_secs(1),
            // Who waits must not be what keeps the services busy.
            look_every: Duration::from_secs(1),
            look_seldom: Duration::from_secs(10),
            retry_most: Duration::from_secs(5),
            ..Mix::default()
        },
        ..Wishes::default()
    },
    run: |stage| Box::pin(soak(stage)),
    // A look reads everything that there is, on the machine that the orders come to.
    look_every: Duration::from_secs(600),
    reaches: &["duplicates", "redelivered"],
    ..SCENARIO
};

const SAY_EVERY: Duration = Duration::from_secs(10);
// What comes in so many seconds is what clients follow at once, at most: more is longer than
// any fault lasts, and who cannot keep up is not buried in what waits.
const AT_ONCE_SECONDS: u32 = 20;
// Services compare the last 10 minutes with the stream: before, memory only fills up.
const JUDGED: Duration = Duration::from_secs(20 * 60);

/// What has become of it so far.
#[derive(Default)]
struct Offered {
    orders: AtomicU64,
    decided: AtomicU64,
    faults: AtomicU64,
    stopped: AtomicBool,
}

impl Offered {
    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

async fn soak(stage: &mut Stage) -> Outcome {
    let soak = stage.given.soak.ok_or("it is not said how long")?;
    stage.serve_in_turn()?;
    for service in ensemble::SERVICES {
        let second = second(service.name);
        stage.add(&second, service.name)?;
        stage.start(&second)?;
    }
    stage.recovered().await?;
    let first = ensemble::SERVICES.map(|s| (s.name.to_owned(), stage.pid(s.name)));
    let memory = Memory::watch(first.into(), stage.nats_pid(), soak.duration);
    let offered = Arc::new(Offered::default());
    let load = tokio::spawn(offer(stage.shop()?, soak, offered.clone()));
    let said = say(stage, soak, &offered, &memory);
    let broken = break_things(stage, soak, &offered, &memory).await;
    // Who has ordered is waited for, also when something went wrong: what they were told is
    // held against what there is.
    offered.stop();
    let load = load.await;
    said.abort();
    broken?;
    let remarks = load.map_err(|e| format!("the clients broke down: {e}"))??;
    stage.figures.remarks.insert(0, remarks);
    for service in ensemble::SERVICES {
        // Much has come since PostgreSQL has looked; the checker's queries are large.
        stage.execute(service.name, "ANALYZE").await?;
    }
    let memory = memory.end();
    stage.figures.remarks.extend(memory.lines());
    match soak.duration < JUDGED {
        true => Ok(()),
        false => memory.is_flat(),
    }
}

/// One fault after another, until the time is up or an order has gone wrong.
async fn break_things(
    stage: &mut Stage,
    soak: Soak,
    offered: &Offered,
    memory: &Memory,
) -> Outcome {
    let mut random = stage.random.part(36);
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    let begun = Instant::now();
    while begun.elapsed() < soak.duration && !offered.is_stopped() {
        let share = begun.elapsed().as_secs_f64() / soak.duration.as_secs_f64();
        let fault = Fault::choose(&mut random, share);
        *kinds.entry(fault.name()).or_default() += 1;
        let mended = fault.happen(stage, &mut random).await;
        mended.map_err(|why| format!("{}: {why}", fault.name()))?;
        offered.faults.fetch_add(1, Ordering::Relaxed);
        memory.broker_is(stage.nats_pid());
        stage.recovered().await?;
        let calm = Duration::from_millis(random.within(2_000..8_000));
        tokio::time::sleep(calm).await;
    }
    let faults = kinds.iter().map(|(kind, times)| format!("{kind} {times}"));
    let faults = faults.collect::<Vec<_>>().join(", ");
    let remark = format!("F36: faults: {faults}.");
    stage.figures.remarks.push(remark);
    Ok(())
}

/// What the run is at, a line now and then.
fn say(
    stage: &Stage,
    soak: Soak,
    offered: &Arc<Offered>,
    memory: &Memory,
) -> tokio::task::JoinHandle<()> {
    let (progress, offered, memory) = (
        stage.given.progress.clone(),
        offered.clone(),
        memory.clone(),
    );
    tokio::spawn(async move {
        let begun = Instant::now();
        loop {
            tokio::time::sleep(SAY_EVERY).await;
            let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
            progress.phase(&format!(
                "{} of {} s; orders: {} offered, {} decided; {} faults; MB resident: {}",
                begun.elapsed().as_secs(),
                soak.duration.as_secs(),
                of(&offered.orders),
                of(&offered.decided),
                of(&offered.faults),
                memory.now()
            ));
        }
    })
}

fn second(service: &str) -> String {
    format!("{service}-2")
}

/// Offers orders at a steady rate, whatever becomes of those before, and waits until all
/// are decided; what is to be said about it. When too many wait, the next is offered as soon
/// as one is decided, until the rate is made up for.
async fn offer(shop: Arc<Shop>, soak: Soak, offered: Arc<Offered>) -> Outcome<String> {
    let mut tick = interval(Duration::from_secs(1) / soak.rate);
    // What came late is made up for: the rate holds.
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (begun, at_once) = (Instant::now(), (soak.rate * AT_ONCE_SECONDS) as usize);
    let end = tokio::time::Instant::now() + soak.duration;
    let mut following = Following::default();
    let (mut most, mut held_up) = (0, Duration::ZERO);
    while tokio::time::timeout_at(end, tick.tick()).await.is_ok() && !offered.is_stopped() {
        let full = Instant::now();
        while following.orders.len() >= at_once {
            following.one(&offered).await;
        }
        held_up += full.elapsed();
        let number = offered.orders.fetch_add(1, Ordering::Relaxed);
        let shop = shop.clone();
        following
            .orders
            .spawn(async move { shop.order(number).await });
        following.all_that_ended(&offered);
        most = most.max(following.orders.len());
    }
    let (count, took) = (offered.orders.load(Ordering::Relaxed), begun.elapsed());
    let rate = count as f64 / took.as_secs_f64();
    while !following.orders.is_empty() {
        following.one(&offered).await;
    }
    if let Some(wrong) = following.wrong {
        return Err(wrong);
    }
    if rate < f64::from(soak.rate) * 0.99 {
        return Err(format!(
            "only {rate:.0} orders/s could be offered: {at_once} at once were open for {:.0} s",
            held_up.as_secs_f64()
        ));
    }
    Ok(format!(
        "F36: {count} orders were offered, {rate:.0} per second over {:.0} s, and all of them \
         were decided; clients waited for {most} of them at most ({at_once} may be open at once; \
         it took {:.0} s in all until another could be offered).",
        took.as_secs_f64(),
        held_up.as_secs_f64()
    ))
}

/// Orders that clients follow.
#[derive(Default)]
struct Following {
    orders: JoinSet<Outcome>,
    // The first that went wrong; nothing is offered after it.
    wrong: Option<String>,
}

impl Following {
    /// Waits for the end of one.
    async fn one(&mut self, offered: &Offered) {
        if let Some(ended) = self.orders.join_next().await {
            self.ended(ended, offered);
        }
    }

    fn all_that_ended(&mut self, offered: &Offered) {
        while let Some(ended) = self.orders.try_join_next() {
            self.ended(ended, offered);
        }
    }

    fn ended(&mut self, ended: Result<Outcome, JoinError>, offered: &Offered) {
        match ended.map_err(|e| e.to_string()).flatten() {
            Ok(()) => {
                offered.decided.fetch_add(1, Ordering::Relaxed);
            }
            Err(wrong) => {
                self.wrong.get_or_insert(wrong);
                offered.stop();
            }
        }
    }
}

/// What may happen.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Killed,
    DiesAt(&'static str),
    Stopped,
    Paused,
    BrokerKilled,
    BrokerPaused,
    BrokerLine(Line),
    DatabaseCut,
    DatabaseKilled,
    ConsumerDeleted,
    WrongClock,
    Late,
    Twice,
}

impl Fault {
    /// Chooses one; `share`: how much of the time has passed.
    fn choose(random: &mut Random, share: f64) -> Self {
        match random.within(0..32) {
            0..5 => Self::Killed,
            5 | 6 => Self::DiesAt("committed"),
            7 | 8 => Self::DiesAt("published"),
            9 | 10 => Self::DiesAt("acking"),
            11 | 12 => Self::Stopped,
            13..17 => Self::Paused,
            // Everything is heard again from the start, which takes ever longer.
            17 if share < 0.1 => Self::ConsumerDeleted,
            18 if share < 0.5 => Self::BrokerKilled,
            17..20 => Self::BrokerPaused,
            20 => Self::BrokerLine(Line::Late(Duration::from_millis(100))),
            21 => Self::BrokerLine(Line::Silent),
            22 => Self::BrokerLine(Line::Cut),
            23 | 24 => Self::DatabaseCut,
            25 => Self::DatabaseKilled,
            26 | 27 => Self::WrongClock,
            28 | 29 => Self::Late,
            _ => Self::Twice,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Killed => "kill -9 of a service",
            Self::DiesAt("committed") => "death between commit and publish",
            Self::DiesAt("published") => "death between publish and mark",
            Self::DiesAt(_) => "death between commit and ack",
            Self::Stopped => "restart of a service",
            Self::Paused => "pause of a service",
            Self::BrokerKilled => "kill -9 of the broker",
            Self::BrokerPaused => "pause of the broker",
            Self::BrokerLine(Line::Late(_)) => "slow line to the broker",
            Self::BrokerLine(Line::Silent) => "half-open line to the broker",
            Self::BrokerLine(_) => "cut line to the broker",
            Self::DatabaseCut => "cut line to PostgreSQL",
            Self::DatabaseKilled => "kill -9 of PostgreSQL",
            Self::ConsumerDeleted => "deleted consumer",
            Self::WrongClock => "wrong clock",
            Self::Late => "messages out of order",
            Self::Twice => "messages said twice",
        }
    }

    /// It happens, and is mended.
    async fn happen(self, stage: &mut Stage, random: &mut Random) -> Outcome {
        let all = ensemble::SERVICES.map(|service| service.name);
        let service = all[usize::try_from(random.within(0..5)).unwrap_or(0)];
        let second = second(service);
        let either = if random.percent(50) { service } else { &second };
        let mut pause = async |millis| {
            let pause = Duration::from_millis(random.within(millis));
            tokio::time::sleep(pause).await;
        };
        stage.fault(&format!("{}: {service}", self.name()));
        match self {
            Self::Killed => {
                stage.kill(&second);
                pause(0..1_000).await;
                stage.start(&second)?;
            }
            Self::DiesAt(point) => {
                stage.tell(&second, &format!("at {point} kill 2"))?;
                stage.until_dead(&second).await?;
                stage.start(&second)?;
            }
            Self::Stopped => {
                stage.terminate(&second).await?;
                stage.start(&second)?;
            }
            Self::Paused => {
                stage.signal(either, Signal::STOP);
                pause(500..7_000).await;
                stage.signal(either, Signal::CONT);
            }
            Self::BrokerKilled => stage.restart_nats(true, |_| Ok(()))?,
            Self::BrokerPaused => {
                stage.signal_nats(Signal::STOP);
                pause(500..5_000).await;
                stage.signal_nats(Signal::CONT);
            }
            Self::BrokerLine(line) => {
                proxy(&stage.nats_proxy)?.set(line);
                pause(1_000..5_000).await;
                proxy(&stage.nats_proxy)?.set(Line::Open);
            }
            Self::DatabaseCut => {
                proxy(&stage.database_proxy)?.set(Line::Cut);
                pause(100..1_000).await;
                proxy(&stage.database_proxy)?.set(Line::Open);
            }
            Self::DatabaseKilled => {
                let own = stage.postgres.as_mut().ok_or("there is no PostgreSQL")?;
                own.kill();
                own.restart().await?;
            }
            Self::ConsumerDeleted => {
                let stream = events::catalog::STREAM;
                let deleted = stage.broker.delete_consumer_from_stream(service, stream);
                deleted.await.map_err(|e| e.to_string())?;
            }
            Self::WrongClock => {
                stage.tell(&second, "clock 600000")?;
                pause(3_000..6_000).await;
                stage.tell(&second, "clock -600000")?;
                pause(3_000..6_000).await;
                stage.tell(&second, "")?;
            }
            Self::Late => {
                stage.tell(either, "late > 0 300")?;
                pause(2_000..5_000).await;
                stage.tell(either, "")?;
            }
            Self::Twice => {
                let seed = stage.random.part(stage.figures.faults);
                let _again = Again::start(&stage.broker, seed, 20).await?;
                pause(2_000..5_000).await;
            }
        }
        Ok(())
    }
}

fn proxy(proxy: &Option<Proxy>) -> Outcome<&Proxy> {
    proxy
        .as_ref()
        .ok_or_else(|| "the stage has no proxy".to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_happens_and_the_measured_are_not_killed_late() {
        let mut random = Random::new(1);
        let mut seen = |share| {
            let chosen = (0..1_000).map(|_| Fault::choose(&mut random, share).name());
            chosen.collect::<BTreeSet<_>>()
        };
        let (early, late) = (seen(0.05), seen(0.9));
        assert_eq!(early.len(), 17);
        let only_early: Vec<_> = early.difference(&late).copied().collect();
        assert_eq!(only_early, ["deleted consumer", "kill -9 of the broker"]);
    }
}
