//! The broker dies, forgets what it has acknowledged, or has no room.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::scenario::{SCENARIO, Scenario};
use crate::stage::{Backend, Outcome, Stage, Wishes};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        id: "F10",
        what: "kill -9 of nats-server, again and again",
        run: |stage| Box::pin(is_killed(stage)),
        ci: true,
        ..SCENARIO
    },
    Scenario {
        id: "F11",
        what: "the broker's store is set back to an older state",
        run: |stage| Box::pin(is_set_back(stage)),
        reaches: &["republished"],
        ..SCENARIO
    },
    Scenario {
        id: "F12",
        what: "the broker's store is deleted",
        backend: Backend::Sqlite,
        run: |stage| Box::pin(is_deleted(stage)),
        reaches: &["republished"],
        ..SCENARIO
    },
    Scenario {
        id: "F13",
        what: "a bit is flipped in a block of the broker's store",
        run: |stage| Box::pin(is_damaged(stage, flip_a_bit)),
        ci: true,
        reaches: &["republished"],
        ..SCENARIO
    },
    Scenario {
        id: "F14",
        what: "a block of the broker's store is truncated",
        backend: Backend::Sqlite,
        run: |stage| Box::pin(is_damaged(stage, truncate)),
        reaches: &["republished"],
        ..SCENARIO
    },
    Scenario {
        id: "F15",
        what: "the broker's disk is full, and then there is room again",
        wishes: || Wishes {
            nats_disk: Some(24),
            ..Wishes::default()
        },
        run: |stage| Box::pin(has_no_room(stage)),
        needs_root: true,
        ..SCENARIO
    },
    Scenario {
        id: "F19",
        what: "nats-server is paused for 60 s",
        backend: Backend::Sqlite,
        run: |stage| Box::pin(is_paused(stage)),
        ..SCENARIO
    },
];

async fn is_killed(stage: &mut Stage) -> Outcome {
    let load = stage.load()?;
    for kill in 1..=4 {
        load.until_placed(kill * 20).await?;
        stage.fault("nats-server is killed");
        stage.restart_nats(true, |_| Ok(()))?;
        stage.recovered().await?;
    }
    load.ended().await
}

async fn is_set_back(stage: &mut Stage) -> Outcome {
    let copy = stage.given.folder.join("older");
    let load = stage.load()?;
    load.until_placed(25).await?;
    stage.restart_nats(false, |store| copy_all(store, &copy))?;
    load.until_placed(75).await?;
    stage.fault("the store is set back");
    stage.restart_nats(true, |store| {
        fs::remove_dir_all(store).map_err(|e| e.to_string())?;
        copy_all(&copy, store)
    })?;
    stage.recovered().await?;
    load.ended().await
}

async fn is_deleted(stage: &mut Stage) -> Outcome {
    let load = stage.load()?;
    load.until_placed(60).await?;
    stage.fault("the store is deleted");
    stage.restart_nats(true, |store| {
        fs::remove_dir_all(store).map_err(|e| e.to_string())
    })?;
    stage.recovered().await?;
    load.ended().await
}

async fn is_damaged(stage: &mut Stage, damage: fn(&mut Vec<u8>, u64)) -> Outcome {
    let load = stage.load()?;
    load.until_placed(60).await?;
    stage.fault("a block is damaged");
    let chance = stage.random.next();
    stage.restart_nats(true, |store| {
        let blocks = blocks(store)?;
        let block = blocks.first().ok_or("the store has no block")?;
        let mut bytes = fs::read(block).map_err(|e| e.to_string())?;
        damage(&mut bytes, chance);
        fs::write(block, bytes).map_err(|e| e.to_string())?;
        // The server believes its index, unless the last shutdown left none.
        for file in files(store, "db")? {
            let _ = fs::remove_file(file);
        }
        Ok(())
    })?;
    stage.recovered().await?;
    load.ended().await
}

#[allow(clippy::ptr_arg)] // its sibling shortens the vector
fn flip_a_bit(bytes: &mut Vec<u8>, chance: u64) {
    let at = chance as usize % bytes.len().max(1) / 2;
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << (chance >> 61);
    }
}

fn truncate(bytes: &mut Vec<u8>, chance: u64) {
    let half = bytes.len() / 2;
    bytes.truncate(half + chance as usize % half.max(1) / 2);
}

async fn has_no_room(stage: &mut Stage) -> Outcome {
    let load = stage.load()?;
    load.until_placed(30).await?;
    stage.fault("the broker's disk is full");
    disk(stage)?.fill()?;
    tokio::time::sleep(Duration::from_secs(8)).await;
    disk(stage)?.free()?;
    // The server goes on refusing until it is started again.
    stage.restart_nats(false, |_| Ok(()))?;
    stage.recovered().await?;
    load.ended().await
}

fn disk(stage: &Stage) -> Outcome<&crate::disk::SmallDisk> {
    stage
        .nats_disk
        .as_ref()
        .ok_or_else(|| "there is no small disk".to_owned())
}

async fn is_paused(stage: &mut Stage) -> Outcome {
    let load = stage.load()?;
    load.until_placed(40).await?;
    stage.fault("nats-server is paused");
    stage.signal_nats(Signal::STOP);
    tokio::time::sleep(Duration::from_secs(60)).await;
    stage.signal_nats(Signal::CONT);
    stage.recovered().await?;
    load.ended().await
}

/// The blocks of the stream, the oldest first.
fn blocks(store: &Path) -> Outcome<Vec<PathBuf>> {
    let mut blocks = files(store, "blk")?;
    blocks.retain(|path| path.display().to_string().contains("/EVENTS/msgs/"));
    blocks.sort();
    Ok(blocks)
}

fn files(folder: &Path, ending: &str) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| e.to_string())?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, ending)?);
        } else if path.extension().is_some_and(|e| e == ending) {
            found.push(path);
        }
    }
    Ok(found)
}

fn copy_all(from: &Path, to: &Path) -> Outcome {
    let failed = |e: std::io::Error| format!("cannot copy {}: {e}", from.display());
    fs::create_dir_all(to).map_err(failed)?;
    for entry in fs::read_dir(from).map_err(failed)?.flatten() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_all(&entry.path(), &target)?,
            false => {
                fs::copy(entry.path(), target).map_err(failed)?;
            }
        }
    }
    Ok(())
}
