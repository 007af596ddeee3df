//! What operators do, or should have seen to: clocks, limits, backups, upgrades.

use std::fs;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::scenario::{SCENARIO, Scenario};
use crate::stage::{Backend, Outcome, Stage};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        id: "F27",
        what: "the clocks of instances are 10 min ahead, or behind",
        run: |stage| Box::pin(clocks_are_wrong(stage)),
        reaches: &["clock"],
        ..SCENARIO
    },
    Scenario {
        id: "F32",
        what: "the stream is full, and then there is room again",
        run: |stage| Box::pin(the_stream_is_full(stage)),
        ..SCENARIO
    },
    Scenario {
        id: "F33",
        what: "the database of point is set back to an older state, fenced, and restored",
        backend: Backend::Sqlite,
        run: |stage| Box::pin(a_database_is_set_back(stage)),
        ..SCENARIO
    },
    Scenario {
        id: "F34",
        what: "a rolling upgrade, with orders in flight, to a build whose events and tables have grown",
        run: |stage| Box::pin(rolling_upgrade(stage)),
        reaches: &["grown"],
        ..SCENARIO
    },
];

async fn clocks_are_wrong(stage: &mut Stage) -> Outcome {
    stage.serve_in_turn()?;
    stage.add("order-2", "order")?;
    stage.start_with("order-2", "clock 600000")?;
    let load = stage.load()?;
    for (percent, instance, clock) in [
        (15, "stock", "clock 600000"),
        (30, "point", "clock -600000"),
        (45, "coupon", "clock 600000"),
        (60, "order-2", "clock -600000"),
    ] {
        load.until_placed(percent).await?;
        stage.fault(&format!("{instance}: {clock}"));
        stage.tell(instance, clock)?;
        stage.recovered().await?;
    }
    // Both instances of order are away for longer than a deadline. Their clocks must not
    // hide from them that answers wait, or they cancel what has succeeded.
    load.until_placed(75).await?;
    let both = ["order", "order-2"];
    stage.fault("order is 10 min behind, and away for 21 s");
    for instance in both {
        stage.tell(instance, "clock -600000")?;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    both.iter().for_each(|one| stage.signal(one, Signal::STOP));
    tokio::time::sleep(Duration::from_secs(21)).await;
    both.iter().for_each(|one| stage.signal(one, Signal::CONT));
    stage.recovered().await?;
    load.ended().await?;
    let early = "SELECT count(*) AS n FROM orders WHERE reason = 'DEADLINE_PASSED'";
    match stage.number("order", early).await? {
        0 => Ok(()),
        n => Err(format!(
            "{n} orders were canceled by a deadline that had not passed"
        )),
    }
}

async fn the_stream_is_full(stage: &mut Stage) -> Outcome {
    let load = stage.load()?;
    load.until_placed(30).await?;
    // It would see to it that the stream is as it is declared.
    stage.stop_guard();
    stage.fault("the stream is full");
    let stream = stage.broker.get_stream(events::catalog::STREAM).await;
    let stream = stream.map_err(|e| e.to_string())?;
    let mut config = stream.cached_info().config.clone();
    let room = config.max_bytes;
    config.max_bytes = i64::try_from(stream.cached_info().state.bytes).unwrap_or(i64::MAX);
    let full = stage.broker.update_stream(&config).await;
    full.map_err(|e| e.to_string())?;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let waits = "SELECT count(*) AS n FROM outbox WHERE pseq NOT IN (SELECT pseq FROM published)";
    if stage.number("order", waits).await? == 0 {
        return Err("nothing waits, although the stream is full".to_owned());
    }
    config.max_bytes = room;
    let free = stage.broker.update_stream(&config).await;
    free.map_err(|e| e.to_string())?;
    stage.start_guard();
    stage.recovered().await?;
    load.ended().await
}

async fn a_database_is_set_back(stage: &mut Stage) -> Outcome {
    let data = stage.given.folder.join("data");
    let (older, newest) = (data.join("older"), data.join("newest"));
    let load = stage.load()?;
    load.until_placed(25).await?;
    stage.terminate("point").await?;
    move_database(&data, &older, |from, to| fs::copy(from, to).map(drop))?;
    stage.start("point")?;
    load.until_placed(50).await?;
    stage.fault("the database is set back");
    stage.kill("point");
    move_database(&data, &newest, |from, to| fs::rename(from, to))?;
    move_database(&older, &data, |from, to| fs::copy(from, to).map(drop))?;
    stage.start("point")?;
    let operator = stage.shop()?.operator.clone();
    let fenced = async |_: &Stage| {
        let path = "/health/ready";
        let ready = operator.ask("point", Method::GET, path, None, &Value::Null);
        let missing = ready.await?.body["services"]["point"]["missing"].to_string();
        let fenced = missing.contains("lifting of the fence");
        fenced.then_some(()).ok_or(missing)
    };
    stage
        .until("the fence", Duration::from_secs(30), fenced)
        .await?;
    let said = "SELECT count(*) AS n FROM outbox";
    let before = stage.number("point", said).await?;
    let charge = json!({ "amount": 1 });
    let path = "/points/user0/charge";
    let charged = operator
        .ask("point", Method::POST, path, Some("fenced"), &charge)
        .await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = stage.number("point", said).await?;
    if charged.text("code") != "FENCED" || before != after {
        return Err(format!(
            "a fenced service wrote: {charged:?}, {} events",
            after - before
        ));
    }
    // A person repairs it: the newest database is found.
    stage.kill("point");
    move_database(&data, &data.join("wrong"), |from, to| fs::rename(from, to))?;
    move_database(&newest, &data, |from, to| fs::rename(from, to))?;
    stage.start("point")?;
    stage.recovered().await?;
    load.ended().await
}

/// Moves or copies the files of point's database into another folder.
fn move_database(
    from: &Path,
    to: &Path,
    how: impl Fn(&Path, &Path) -> std::io::Result<()>,
) -> Outcome {
    fs::create_dir_all(to).map_err(|e| e.to_string())?;
    for ending in ["", "-wal", "-shm"] {
        let name = format!("point.sqlite{ending}");
        let file = from.join(&name);
        if file.is_file() {
            how(&file, &to.join(&name)).map_err(|e| format!("{}: {e}", file.display()))?;
        }
    }
    Ok(())
}

async fn rolling_upgrade(stage: &mut Stage) -> Outcome {
    for service in ensemble::SERVICES {
        let second = format!("{}-2", service.name);
        stage.add(&second, service.name)?;
        stage.start(&second)?;
    }
    let load = stage.load()?;
    for (turn, service) in ["cart", "order", "stock", "point", "coupon"]
        .into_iter()
        .enumerate()
    {
        load.until_placed(10 + turn as u64 * 15).await?;
        // First the tables grow, under the old build; then its instances are replaced.
        for table in ["outbox", "processed_events", "dead_letters"] {
            let sql = format!("ALTER TABLE {table} ADD COLUMN later TEXT NOT NULL DEFAULT ''");
            stage.execute(service, &sql).await?;
        }
        for instance in [service, &format!("{service}-2")] {
            stage.fault(&format!("{instance} is upgraded"));
            stage.terminate(instance).await?;
            stage.start_with(instance, "grown")?;
        }
        stage.recovered().await?;
    }
    load.ended().await
}
