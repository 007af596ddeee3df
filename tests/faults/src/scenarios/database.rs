//! PostgreSQL dies, or has no room.

use std::time::Duration;

use crate::postgres::Postgres;
use crate::scenario::{SCENARIO, Scenario};
use crate::stage::{Outcome, Stage, Wishes};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        id: "F16",
        what: "kill -9 of PostgreSQL, again and again",
        wishes: || Wishes {
            own_postgres: true,
            ..Wishes::default()
        },
        run: |stage| Box::pin(is_killed(stage)),
        ..SCENARIO
    },
    Scenario {
        id: "F17",
        what: "PostgreSQL's disk is full, and then there is room again",
        wishes: || Wishes {
            own_postgres: true,
            database_disk: Some(160),
            ..Wishes::default()
        },
        run: |stage| Box::pin(has_no_room(stage)),
        needs_root: true,
        ..SCENARIO
    },
];

async fn is_killed(stage: &mut Stage) -> Outcome {
    let load = stage.load()?;
    for kill in 1..=3 {
        load.until_placed(kill * 25).await?;
        stage.fault("PostgreSQL is killed");
        postgres(stage)?.kill();
        tokio::time::sleep(Duration::from_secs(1)).await;
        postgres(stage)?.restart().await?;
        stage.recovered().await?;
    }
    load.ended().await
}

async fn has_no_room(stage: &mut Stage) -> Outcome {
    let load = stage.load()?;
    load.until_placed(30).await?;
    stage.fault("PostgreSQL's disk is full");
    disk(stage)?.fill()?;
    tokio::time::sleep(Duration::from_secs(8)).await;
    disk(stage)?.free()?;
    // It has ended if it could not write its log; else this only makes sure of it.
    postgres(stage)?.restart().await?;
    stage.recovered().await?;
    load.ended().await
}

fn postgres(stage: &mut Stage) -> Outcome<&mut Postgres> {
    let own = stage.postgres.as_mut();
    own.ok_or_else(|| "the stage has no PostgreSQL of its own".to_owned())
}

fn disk(stage: &Stage) -> Outcome<&crate::disk::SmallDisk> {
    let disk = stage.database_disk.as_ref();
    disk.ok_or_else(|| "there is no small disk".to_owned())
}
