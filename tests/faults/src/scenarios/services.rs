//! A service dies, at random or between commit, publish, mark and ack.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;

use crate::scenario::{SCENARIO, Scenario};
use crate::stage::{Backend, Outcome, Stage};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        id: "F1",
        what: "kill -9 of order, again and again",
        run: |stage| Box::pin(is_killed(stage, "order")),
        ci: true,
        ..SCENARIO
    },
    Scenario {
        id: "F2",
        what: "kill -9 of stock, again and again",
        run: |stage| Box::pin(is_killed(stage, "stock")),
        ..SCENARIO
    },
    Scenario {
        id: "F3",
        what: "kill -9 of point, again and again",
        backend: Backend::Sqlite,
        run: |stage| Box::pin(is_killed(stage, "point")),
        ..SCENARIO
    },
    Scenario {
        id: "F4",
        what: "kill -9 of coupon, again and again",
        run: |stage| Box::pin(is_killed(stage, "coupon")),
        ..SCENARIO
    },
    Scenario {
        id: "F5",
        what: "kill -9 of cart, again and again",
        backend: Backend::Sqlite,
        run: |stage| Box::pin(is_killed(stage, "cart")),
        ..SCENARIO
    },
    Scenario {
        id: "F6",
        what: "each service dies after a commit, before the publish",
        run: |stage| Box::pin(each_dies_at(stage, "committed", Duration::ZERO)),
        ci: true,
        reaches: &["committed"],
        ..SCENARIO
    },
    Scenario {
        id: "F7",
        what: "each service dies after the publish, before the mark",
        backend: Backend::Sqlite,
        run: |stage| Box::pin(each_dies_at(stage, "published", Duration::ZERO)),
        ci: true,
        reaches: &["published"],
        ..SCENARIO
    },
    Scenario {
        id: "F8",
        what: "as F7, and away for longer than the broker remembers message ids",
        // Each service is away for seconds, in which the others go on.
        orders: 8,
        run: |stage| Box::pin(the_broker_has_forgotten(stage)),
        reaches: &["published", "duplicates"],
        ..SCENARIO
    },
    Scenario {
        id: "F9",
        what: "each service dies after a commit, before the ack",
        run: |stage| Box::pin(each_dies_at(stage, "acking", Duration::ZERO)),
        ci: true,
        reaches: &["acking"],
        ..SCENARIO
    },
    Scenario {
        id: "F18",
        what: "an instance of stock and of order is paused past ack_wait, and goes on later",
        run: |stage| Box::pin(zombies(stage)),
        reaches: &["redelivered"],
        ..SCENARIO
    },
];

const KILLS: u64 = 4;

async fn is_killed(stage: &mut Stage, service: &'static str) -> Outcome {
    let load = stage.load()?;
    for kill in 1..=KILLS {
        load.until_placed(kill * 80 / KILLS).await?;
        let while_it_works = stage.random.within(0..40);
        tokio::time::sleep(Duration::from_millis(while_it_works)).await;
        stage.fault(&format!("{service} is killed"));
        stage.kill(service);
        stage.start(service)?;
        stage.recovered().await?;
    }
    load.ended().await
}

async fn each_dies_at(stage: &mut Stage, point: &str, away: Duration) -> Outcome {
    let load = stage.load()?;
    // First those without which no order is decided: what there is to do waits for them.
    let services = ["stock", "order", "point", "cart", "coupon"];
    for (turn, service) in services.into_iter().enumerate() {
        load.until_placed(5 + turn as u64 * 12).await?;
        // Marks are made for many events at once, and so there are few of them.
        let most = if point == "published" { 2 } else { 4 };
        let times = stage.random.within(1..most);
        stage.tell(service, &format!("at {point} kill {times}"))?;
        stage.until_dead(service).await?;
        stage.fault(&format!("{service} died, {point}"));
        tokio::time::sleep(away).await;
        stage.start(service)?;
        stage.recovered().await?;
    }
    load.ended().await
}

async fn the_broker_has_forgotten(stage: &mut Stage) -> Outcome {
    let window = Duration::from_secs(1);
    let stream = stage.broker.get_stream(events::catalog::STREAM).await;
    let mut config = stream
        .map_err(|e| e.to_string())?
        .cached_info()
        .config
        .clone();
    config.duplicate_window = window;
    let updated = stage.broker.update_stream(config).await;
    updated.map_err(|e| e.to_string())?;
    each_dies_at(stage, "published", 3 * window).await
}

async fn zombies(stage: &mut Stage) -> Outcome {
    for service in ["stock", "order"] {
        stage.add(&format!("{service}-2"), service)?;
        stage.start(&format!("{service}-2"))?;
    }
    let load = stage.load()?;
    for (turn, service) in ["stock", "order"].into_iter().enumerate() {
        load.until_placed(15 + turn as u64 * 40).await?;
        let zombie = pause_the_preferred(stage, service).await?;
        // `ack_wait` is 5 s: what it has in hand goes to the other instance.
        tokio::time::sleep(Duration::from_secs(7)).await;
        stage.signal(&zombie, Signal::CONT);
        stage.recovered().await?;
    }
    load.ended().await
}

/// Pauses the instance that has the work: while the other one is paused, orders go on.
async fn pause_the_preferred(stage: &mut Stage, service: &str) -> Result<String, String> {
    let decided = |stage: &Stage| Ok::<_, String>(stage.shop()?.seen.ended.load(Ordering::Relaxed));
    let second = format!("{service}-2");
    stage.signal(service, Signal::STOP);
    let before = decided(stage)?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let zombie = match decided(stage)? > before + 10 {
        true => {
            stage.signal(service, Signal::CONT);
            stage.signal(&second, Signal::STOP);
            second
        }
        false => service.to_owned(),
    };
    stage.fault(&format!("{zombie} is paused"));
    Ok(zombie)
}
