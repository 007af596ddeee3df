//! One, two and four instances of each service on one machine: what it costs that they
//! share.

use std::fmt::Write as _;

use crate::load::{flags, median, of_runs, ours};
use crate::process::Scratch;
use crate::table::{Table, number};
use crate::{Args as All, Outcome, document};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Orders in flight
    #[arg(long, default_value_t = 256)]
    in_flight: u32,
}

pub(crate) fn run(all: &All, own: &Args) -> Outcome {
    let scratch = Scratch::create()?;
    let (orders, rounds) = if all.quick {
        (4_000, 1)
    } else {
        (24_000, all.repeat)
    };
    let counts = [1, 2, 4];
    let mut reports = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (of_count, count) in reports.iter_mut().zip(counts) {
            eprintln!("{count} instance(s) of each service");
            let load = flags(&format!(
                "--in-flight {} --orders {orders} --instances {count}",
                own.in_flight
            ));
            of_count.push(ours(all, &scratch.path().join("load"), true, &load)?);
        }
    }
    let first = reports[0].first().map(document::database);
    let mut text = document::machine(all, &[first.unwrap_or_default()]);
    let mut table = Table::new(&[
        "instances of each service",
        "orders/s",
        "of runs",
        "against one",
        "p50 ms",
        "p99 ms",
        "CPU ms per order",
        "services MB in all",
    ]);
    let one = median(&reports[0], "orders_per_second");
    for (runs, count) in reports.iter().zip(counts) {
        let of = |path: &str| number(median(runs, path));
        let rate = median(runs, "orders_per_second");
        let change = rate.zip(one).map(|(rate, one)| (rate / one - 1.0) * 100.0);
        table.row([
            count.to_string(),
            of("orders_per_second"),
            of_runs(runs, "orders_per_second"),
            change.map_or("–".to_owned(), |change| format!("{change:+.0} %")),
            of("complete_ms/p50"),
            of("complete_ms/p99"),
            of("cpu_ms_per_order/all"),
            of("memory_mb/services"),
        ]);
    }
    let _ = write!(text, "\n{}", table.text());
    document::write(&all.document, "instances", &text)
}
