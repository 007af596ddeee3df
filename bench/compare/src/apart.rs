//! Each service in a process of its own, as they are deployed: what each of them needs.

use std::path::Path;

use serde_json::Value;

use crate::load::{flags, median, ours};
use crate::table::{Table, number};
use crate::targets::Target;
use crate::{Args as All, Outcome};

const LOADS: [u32; 2] = [256, 1024];
const SERVICES: [&str; 5] = ["order", "stock", "point", "coupon", "cart"];

/// The reports of all rounds, by orders in flight.
pub(crate) type Runs = Vec<(u32, Vec<Value>)>;

pub(crate) fn runs(all: &All, folder: &Path, rounds: u32) -> Outcome<Runs> {
    let mut found: Runs = LOADS.map(|load| (load, vec![])).into();
    for _ in 0..rounds {
        for (in_flight, reports) in &mut found {
            eprintln!("five processes, {in_flight} in flight");
            let orders = if all.quick { 3_000 } else { 24_000 };
            let load = flags(&format!(
                "--in-flight {in_flight} --orders {orders} --apart"
            ));
            reports.push(ours(all, &folder.join("load"), true, &load)?);
        }
    }
    Ok(found)
}

/// The memory of the largest service.
pub(crate) fn wanted(found: &[(u32, Vec<Value>)]) -> Target {
    let memory = |service| median(&found.last()?.1, &format!("memory_mb/{service}"));
    let largest = SERVICES
        .into_iter()
        .filter_map(memory)
        .max_by(f64::total_cmp);
    Target::new(
        "memory of the largest service, 1,024 in flight",
        "MB",
        [100.0, 100.0],
        largest,
    )
}

pub(crate) fn table(found: &[(u32, Vec<Value>)]) -> String {
    let mut heads = vec![
        "in flight",
        "orders/s",
        "p50 ms",
        "p99 ms",
        "CPU ms per order",
    ];
    heads.extend(["order MB", "stock MB", "point MB", "coupon MB", "cart MB"]);
    let mut table = Table::new(&heads);
    for (load, runs) in found {
        let of = |path: &str| number(median(runs, path));
        let mut cells = vec![load.to_string()];
        let figures = ["orders_per_second", "complete_ms/p50", "complete_ms/p99"];
        cells.extend(figures.map(of));
        cells.push(of("cpu_ms_per_order/all"));
        cells.extend(SERVICES.map(|service| of(&format!("memory_mb/{service}"))));
        table.row(cells);
    }
    table.text()
}
