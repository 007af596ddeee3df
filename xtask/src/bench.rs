//! `cargo xtask bench`: Ensemble and what it is compared with, on this machine.
//!
//! What is needed is got here; `bench/compare` runs it and writes BENCHMARKS.md.

use std::path::PathBuf;
use std::process::Command;

use crate::cluster::{Cluster, Durability};
use crate::failure::{Failure, Outcome};
use crate::process::{cargo, in_repository};
use crate::signals::Signals;
use crate::{nats, postgres, restate, up};

/// What can be run, and whether it is Ensemble with steps that can be slowed down.
const KINDS: [(&str, bool); 5] = [
    ("standard", false),
    ("growth", false),
    ("backlog", false),
    ("instances", false),
    ("steps", true),
];

/// Runs one kind, the standard one unless it is named, or `all` in turn.
pub(crate) fn bench(arguments: &[String]) -> Outcome {
    let (kind, rest) = match arguments.split_first() {
        Some((kind, rest)) if !kind.starts_with('-') => (kind.as_str(), rest),
        _ => ("standard", arguments),
    };
    let kinds: Vec<_> = KINDS
        .into_iter()
        .filter(|(name, _)| kind == "all" || kind == *name)
        .collect();
    if kinds.is_empty() {
        let known: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
        return Err(Failure::usage(format!(
            "there is no bench `{kind}`: choose from {}, all",
            known.join(", ")
        )));
    }
    let signals = Signals::watch()?;
    signals.blame(run(&signals, &kinds, rest))
}

fn run(signals: &Signals, kinds: &[(&str, bool)], rest: &[String]) -> Outcome {
    if rest.iter().any(|flag| flag == "--help" || flag == "-h") {
        let program = build_peers(signals, false)?.join("compare");
        for (name, _) in kinds {
            let mut help = Command::new(&program);
            help.args([name, "--help"]);
            signals.require(help)?;
        }
        return Ok(());
    }
    let nats = nats::server()?;
    let (url, cluster) = match postgres::source(signals)? {
        postgres::Source::Server(url) => (url, None),
        postgres::Source::Programs(programs) => {
            let cluster = Cluster::start(&programs, signals, Durability::Power)?;
            (cluster.url(), Some(cluster))
        }
    };
    let compares = kinds.iter().any(|(name, _)| *name == "standard");
    let restate = match compares {
        true => restate::server(signals)?,
        false => None,
    };
    let peers = build_peers(signals, compares)?;
    for (name, slow_steps) in kinds {
        let ensemble = build_ensemble(signals, *slow_steps)?;
        let mut compare = in_repository(peers.join("compare"));
        compare
            .arg(name)
            .arg("--ensemble")
            .arg(ensemble)
            .arg("--nats-server")
            .arg(&nats)
            .args(["--database-url", &url]);
        if let Some(cluster) = &cluster {
            compare.args(["--postgres-pid", &cluster.pid().to_string()]);
        }
        if *name == "standard" {
            compare.arg("--handwritten").arg(peers.join("handwritten"));
            if let Some(restate) = &restate {
                let service = peers.join("restate-peer");
                compare.arg("--restate-server").arg(restate);
                compare.arg("--restate-service").arg(service);
            }
        }
        compare.args(rest);
        signals.require(compare)?;
    }
    Ok(())
}

/// Builds the workspace of what is compared; the folder of its programs.
fn build_peers(signals: &Signals, compares: bool) -> Outcome<PathBuf> {
    let target = up::target_folder()?.join("bench");
    let mut build = cargo(["build", "--release", "--manifest-path", "bench/Cargo.toml"]);
    build.arg("--target-dir").arg(&target);
    if compares {
        build.arg("--workspace");
    } else {
        build.args(["--package", "compare"]);
    }
    signals.require(build)?;
    Ok(target.join("release"))
}

/// Builds Ensemble for release, all crates, as it is shipped; steps can be slowed down only
/// where that is what is measured.
fn build_ensemble(signals: &Signals, slow_steps: bool) -> Outcome<PathBuf> {
    let mut build: Command = cargo(["build", "--release", "--workspace", "--bins"]);
    if slow_steps {
        build.args(["--features", "ensemble/slow-steps"]);
    }
    signals.require(build)?;
    Ok(up::target_folder()?.join("release/ensemble"))
}
