//! Connections break, or stay open without a word.

use std::time::Duration;

use crate::proxy::{Line, Proxy};
use crate::scenario::{SCENARIO, Scenario};
use crate::stage::{Outcome, Stage, Wishes};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        id: "F20",
        what: "the connection to NATS is late, then half-open for 20 s, then cut for 60 s",
        wishes: || Wishes {
            nats_proxy: true,
            ..Wishes::default()
        },
        run: |stage| Box::pin(nats_is_cut_off(stage)),
        ..SCENARIO
    },
    Scenario {
        id: "F21",
        what: "connections to PostgreSQL are cut in the middle of transactions",
        wishes: || Wishes {
            database_proxy: true,
            ..Wishes::default()
        },
        run: |stage| Box::pin(the_database_is_cut_off(stage)),
        ci: true,
        ..SCENARIO
    },
];

async fn nats_is_cut_off(stage: &mut Stage) -> Outcome {
    let load = stage.load()?;
    let late = Line::Late(Duration::from_millis(200));
    for (percent, line, seconds) in [(15, late, 5), (35, Line::Silent, 20), (55, Line::Cut, 60)] {
        load.until_placed(percent).await?;
        stage.fault(&format!("the line to NATS is {line:?}"));
        of(&stage.nats_proxy)?.set(line);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        of(&stage.nats_proxy)?.set(Line::Open);
        stage.recovered().await?;
    }
    load.ended().await
}

async fn the_database_is_cut_off(stage: &mut Stage) -> Outcome {
    let load = stage.load()?;
    for cut in 1..=8 {
        load.until_placed(cut * 10).await?;
        let while_it_works = stage.random.within(0..30);
        tokio::time::sleep(Duration::from_millis(while_it_works)).await;
        stage.fault("the lines to PostgreSQL are cut");
        of(&stage.database_proxy)?.set(Line::Cut);
        tokio::time::sleep(Duration::from_millis(300)).await;
        of(&stage.database_proxy)?.set(Line::Open);
        stage.recovered().await?;
    }
    load.ended().await
}

fn of(proxy: &Option<Proxy>) -> Outcome<&Proxy> {
    proxy
        .as_ref()
        .ok_or_else(|| "the stage has no proxy".to_owned())
}
