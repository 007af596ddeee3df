//! Ours and theirs in turn: every round runs every system at every load.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::load::{bench, figure, flags, median, of_runs, ours};
use crate::process::Scratch;
use crate::table::{Table, number};
use crate::targets::{self, Target};
use crate::{Args as All, Outcome, apart, document, peers};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The program of the hand-written peer; without it, it is left out
    #[arg(long)]
    handwritten: Option<PathBuf>,
    /// The program restate-server; without it, Restate is left out
    #[arg(long, requires = "restate_service")]
    restate_server: Option<PathBuf>,
    /// The service that Restate calls
    #[arg(long)]
    restate_service: Option<PathBuf>,
}

const LOADS: [u32; 4] = [1, 32, 256, 1024];
const ON_POSTGRES: &str = "Ensemble on PostgreSQL";
const ON_SQLITE: &str = "Ensemble on SQLite";
const HANDWRITTEN: &str = "hand-written choreography";
const RESTATE: &str = "Restate with PostgreSQL";

/// The reports of all rounds, by system and by orders in flight.
type Reports = BTreeMap<(&'static str, u32), Vec<Value>>;

pub(crate) fn run(all: &All, own: &Args) -> Outcome {
    let scratch = Scratch::create()?;
    let folder = scratch.path();
    let mut reports = Reports::new();
    let rounds = if all.quick { 1 } else { all.repeat };
    for round in 1..=rounds {
        for system in [ON_POSTGRES, HANDWRITTEN, RESTATE, ON_SQLITE] {
            eprintln!("round {round} of {rounds}: {system}");
            one_round(all, own, folder, system, &mut reports)?;
        }
    }
    let peak = peak(&reports, ON_POSTGRES).map(|(_, rate)| rate);
    let peak = peak.ok_or("nothing was measured")?;
    let mut accepts = accepts(all, folder, peak, rounds)?;
    accepts.extend(at_the_peak(&reports));
    let fates = fates(all, folder, rounds)?;
    let apart = apart::runs(all, folder, rounds)?;
    let text = written(all, own, &reports, &accepts, &fates, &apart);
    document::write(&all.document, "standard", &text)?;
    eprintln!("written: {}", all.document.display());
    Ok(())
}

/// One system at every load, started anew.
fn one_round(
    all: &All,
    own: &Args,
    folder: &Path,
    system: &'static str,
    reports: &mut Reports,
) -> Outcome {
    let peer = match (
        system,
        &own.handwritten,
        &own.restate_server,
        &own.restate_service,
    ) {
        (HANDWRITTEN, Some(program), _, _) => Some(peers::handwritten(
            all,
            program,
            &folder.join("handwritten"),
        )?),
        (RESTATE, _, Some(server), Some(service)) => Some(peers::restate(
            all,
            server,
            service,
            &folder.join("restate"),
        )?),
        (HANDWRITTEN | RESTATE, ..) => return Ok(()),
        _ => None,
    };
    for in_flight in LOADS {
        let orders = orders(all, system, in_flight);
        let load = flags(&format!("--in-flight {in_flight} --orders {orders}"));
        let report = match &peer {
            Some(peer) => bench(
                all,
                &folder.join("load"),
                &[load, peer.flags.clone()].concat(),
            )?,
            None => ours(all, &folder.join("load"), system == ON_POSTGRES, &load)?,
        };
        let rate = number(figure(&report, 0, "orders_per_second"));
        eprintln!("  {in_flight} in flight: {rate} orders/s");
        reports.entry((system, in_flight)).or_default().push(report);
    }
    Ok(())
}

/// So many that a run takes about eight seconds; a second in a quick one.
fn orders(all: &All, system: &str, in_flight: u32) -> u32 {
    let full = match (system, in_flight) {
        (HANDWRITTEN | RESTATE, 1) => 400,
        (HANDWRITTEN, _) => 2_000,
        (RESTATE, _) => 5_000,
        (_, 1) => 1_000,
        (_, 32) => 10_000,
        _ => 24_000,
    };
    if all.quick { full / 8 } else { full }
}

/// How fast an order is accepted in the open loop. At the peak itself an open loop has no
/// steady state; there the closed loop tells.
fn accepts(all: &All, folder: &Path, peak: f64, rounds: u32) -> Outcome<Vec<(String, Vec<Value>)>> {
    let mut found = Vec::new();
    for (what, share) in [("half of the peak", 0.5), ("nine tenths of the peak", 0.9)] {
        let rate = (peak * share).round();
        let orders = rate * if all.quick { 2.0 } else { 8.0 };
        let load = flags(&format!("--rate {rate} --orders {orders}"));
        let mut reports = Vec::new();
        for _ in 0..rounds {
            eprintln!("open loop at {what}: {rate} orders/s");
            reports.push(ours(all, &folder.join("load"), true, &load)?);
        }
        found.push((
            format!("open loop, {what}: {} orders/s", number(Some(rate))),
            reports,
        ));
    }
    Ok(found)
}

/// The runs of the closed loop at its peak.
fn at_the_peak(reports: &Reports) -> Option<(String, Vec<Value>)> {
    let (load, rate) = peak(reports, ON_POSTGRES)?;
    let runs = reports.get(&(ON_POSTGRES, load))?.clone();
    let rate = number(Some(rate));
    let what = format!("closed loop at the peak, {load} in flight: {rate} orders/s");
    Some((what, runs))
}

/// What an order costs that is confirmed, refused or canceled.
fn fates(all: &All, folder: &Path, rounds: u32) -> Outcome<Vec<(&'static str, Vec<Value>)>> {
    let mut found = Vec::new();
    for (what, mix) in [
        ("confirmed", ""),
        ("refused by stock", "--refuse stock=100"),
        ("refused by cart", "--refuse cart=100"),
        ("canceled by its user at once", "--cancel 100"),
    ] {
        let orders = if all.quick { 2_000 } else { 12_000 };
        let load = flags(&format!("--in-flight 256 --orders {orders} {mix}"));
        let mut reports = Vec::new();
        for _ in 0..rounds {
            eprintln!("orders that are {what}");
            reports.push(ours(all, &folder.join("load"), true, &load)?);
        }
        found.push((what, reports));
    }
    Ok(found)
}

/// The load at which a system has most orders per second, and how many.
fn peak(reports: &Reports, system: &str) -> Option<(u32, f64)> {
    let of_system = reports.iter().filter(|((name, _), _)| *name == system);
    of_system
        .filter_map(|((_, load), runs)| Some((*load, median(runs, "orders_per_second")?)))
        .max_by(|one, other| one.1.total_cmp(&other.1))
}

fn written(
    all: &All,
    own: &Args,
    reports: &Reports,
    accepts: &[(String, Vec<Value>)],
    fates: &[(&'static str, Vec<Value>)],
    apart: &[(u32, Vec<Value>)],
) -> String {
    let ours = reports.get(&(ON_POSTGRES, 1)).and_then(|runs| runs.first());
    let mut versions = vec![ours.map_or(String::new(), document::database)];
    if let Some(server) = &own.restate_server {
        versions.push(format!("Restate {}", version(server)));
    }
    let mut text = document::machine(all, &versions);
    for (system, missing) in [
        (HANDWRITTEN, own.handwritten.is_none()),
        (RESTATE, own.restate_server.is_none()),
    ] {
        if missing {
            let _ = writeln!(text, "\n**Left out, as it could not be had: {system}.**");
        }
    }
    let _ = write!(text, "\n### Ratios at the peaks\n\n{}", ratios(reports));
    let mut wanted = wanted(reports, accepts, fates);
    wanted.push(apart::wanted(apart));
    let _ = write!(text, "\n### What was wanted\n\n{}", targets::table(&wanted));
    let _ = write!(text, "\n### Closed loop\n\n{}", loads(reports));
    let _ = write!(text, "\n### Accepting an order\n\n{}", accepted(accepts));
    let _ = write!(text, "\n### What becomes of an order\n\n{}", costs(fates));
    let _ = write!(text, "\n### Five processes\n\n{}", apart::table(apart));
    text
}

fn version(server: &Path) -> String {
    let output = std::process::Command::new(server).arg("--version").output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    text.split_whitespace()
        .find(|word| word.starts_with(char::is_numeric))
        .map_or(text.clone(), str::to_owned)
}

fn ratios(reports: &Reports) -> String {
    let mut table = Table::new(&[
        "system",
        "peak, orders/s",
        "at in flight",
        "Ensemble on PostgreSQL is",
    ]);
    let Some((_, best)) = peak(reports, ON_POSTGRES) else {
        return String::new();
    };
    for system in [ON_POSTGRES, ON_SQLITE, RESTATE, HANDWRITTEN] {
        let Some((load, rate)) = peak(reports, system) else {
            continue;
        };
        let ratio = format!("{:.1} ×", best / rate);
        let cells = [
            system.to_owned(),
            number(Some(rate)),
            load.to_string(),
            ratio,
        ];
        table.row(cells);
    }
    table.text()
}

/// What the project has set itself; the ratios first, as they carry over to other machines.
fn wanted(
    reports: &Reports,
    accepts: &[(String, Vec<Value>)],
    fates: &[(&'static str, Vec<Value>)],
) -> Vec<Target> {
    let best = peak(reports, ON_POSTGRES).map(|(_, rate)| rate);
    let against = |system| Some(best? / peak(reports, system)?.1);
    let of = |system, load, path: &str| median(reports.get(&(system, load))?, path);
    let rate = |system, load| of(system, load, "orders_per_second");
    let p99 = |load| of(ON_POSTGRES, load, "complete_ms/p99");
    let accepted = |n: usize| median(&accepts.get(n)?.1, "accept_ms/p99");
    let cost = |n: usize| median(&fates.get(n)?.1, "cpu_ms_per_order/all");
    let dearest = (1..fates.len()).filter_map(cost).max_by(f64::total_cmp);
    let ratio = dearest
        .zip(cost(0))
        .map(|(dearest, confirmed)| dearest / confirmed);
    vec![
        Target::new("peak against Restate", "×", [4.5, 3.0], against(RESTATE)),
        Target::new(
            "peak against hand-written",
            "×",
            [12.0, 8.0],
            against(HANDWRITTEN),
        ),
        Target::new(
            "1 in flight, p50",
            "ms",
            [6.0, 9.0],
            of(ON_POSTGRES, 1, "complete_ms/p50"),
        ),
        Target::new(
            "32 in flight",
            "orders/s",
            [1700.0, 1100.0],
            rate(ON_POSTGRES, 32),
        ),
        Target::new("32 in flight, p99", "ms", [30.0, 45.0], p99(32)),
        Target::new(
            "256 in flight",
            "orders/s",
            [3000.0, 2200.0],
            rate(ON_POSTGRES, 256),
        ),
        Target::new("256 in flight, p99", "ms", [120.0, 180.0], p99(256)),
        Target::new(
            "1,024 in flight",
            "orders/s",
            [3800.0, 2500.0],
            rate(ON_POSTGRES, 1024),
        ),
        Target::new(
            "SQLite, 256 in flight",
            "orders/s",
            [4000.0, 2800.0],
            rate(ON_SQLITE, 256),
        ),
        Target::new(
            "202 at half of the peak, p99",
            "ms",
            [10.0, 10.0],
            accepted(0),
        ),
        Target::new("202 at the peak, p99", "ms", [50.0, 50.0], accepted(2)),
        Target::new(
            "an order that is not confirmed",
            "× the CPU",
            [2.0, 2.0],
            ratio,
        ),
    ]
}

fn loads(reports: &Reports) -> String {
    let mut table = Table::new(&[
        "system",
        "in flight",
        "orders/s",
        "of runs",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "CPU ms per order",
        "of it broker",
        "PostgreSQL",
        "services",
        "load",
        "written KB",
        "services MB",
    ]);
    for ((system, load), runs) in reports {
        let of = |path: &str| number(median(runs, path));
        let broker = median(runs, "cpu_ms_per_order/nats-server")
            .or_else(|| median(runs, "cpu_ms_per_order/restate-server"));
        table.row([
            (*system).to_owned(),
            load.to_string(),
            of("orders_per_second"),
            of_runs(runs, "orders_per_second"),
            of("complete_ms/p50"),
            of("complete_ms/p99"),
            of("complete_ms/p99.9"),
            of("cpu_ms_per_order/all"),
            number(broker),
            of("cpu_ms_per_order/postgresql"),
            of("cpu_ms_per_order/services"),
            of("cpu_ms_per_order/load"),
            of("written_kb_per_order/all"),
            of("memory_mb/services"),
        ]);
    }
    table.text()
}

fn accepted(accepts: &[(String, Vec<Value>)]) -> String {
    let mut table = Table::new(&[
        "at",
        "202 p50 ms",
        "p99 ms",
        "p99.9 ms",
        "final p50 ms",
        "p99 ms",
    ]);
    for (what, runs) in accepts {
        let paths = [
            "accept_ms/p50",
            "accept_ms/p99",
            "accept_ms/p99.9",
            "complete_ms/p50",
            "complete_ms/p99",
        ];
        let figures = paths.map(|path| number(median(runs, path)));
        table.row([what.clone()].into_iter().chain(figures));
    }
    table.text()
}

fn costs(fates: &[(&'static str, Vec<Value>)]) -> String {
    let mut table = Table::new(&[
        "an order that is",
        "orders/s",
        "CPU ms per order",
        "against confirmed",
    ]);
    let cost = |runs: &[Value]| median(runs, "cpu_ms_per_order/all");
    let confirmed = fates.first().and_then(|(_, runs)| cost(runs));
    for (what, runs) in fates {
        let ratio = cost(runs)
            .zip(confirmed)
            .map(|(cost, confirmed)| cost / confirmed);
        table.row([
            (*what).to_owned(),
            number(median(runs, "orders_per_second")),
            number(cost(runs)),
            ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2} ×")),
        ]);
    }
    table.text()
}
