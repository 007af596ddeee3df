//! What an order costs as the system fills: the same load in parts, from the first order to
//! the last, and how long the services take to start again with all that.

use std::fmt::Write as _;

use crate::load::{figure, flags, ours};
use crate::process::Scratch;
use crate::table::{Table, number};
use crate::{Args as All, Outcome, document};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Orders to place; with the coupons for them they are eight times as many events
    #[arg(long, default_value_t = 1_300_000)]
    orders: u64,
    /// Parts in which they are reported
    #[arg(long, default_value_t = 13)]
    parts: u32,
    /// Orders in flight
    #[arg(long, default_value_t = 256)]
    in_flight: u32,
}

pub(crate) fn run(all: &All, own: &Args) -> Outcome {
    let scratch = Scratch::create()?;
    let orders = if all.quick {
        own.orders.min(20_000)
    } else {
        own.orders
    };
    let load = flags(&format!(
        "--in-flight {} --orders {orders} --windows {} --restart",
        own.in_flight, own.parts
    ));
    let report = ours(all, &scratch.path().join("load"), true, &load)?;
    let mut text = document::machine(all, &[document::database(&report)]);
    let mut table = Table::new(&[
        "orders before",
        "orders/s",
        "p50 ms",
        "p99 ms",
        "CPU ms per order",
        "against the first",
        "of it broker",
        "PostgreSQL",
        "services",
        "written KB",
        "broker MB",
        "PostgreSQL MB",
        "services MB",
    ]);
    let first = figure(&report, 0, "cpu_ms_per_order/all");
    for part in 0..own.parts as usize {
        let of = |path: &str| number(figure(&report, part, path));
        let cost = figure(&report, part, "cpu_ms_per_order/all");
        let change = cost
            .zip(first)
            .map(|(cost, first)| (cost / first - 1.0) * 100.0);
        let before = orders / u64::from(own.parts) * part as u64;
        table.row([
            number(Some(before as f64)),
            of("orders_per_second"),
            of("complete_ms/p50"),
            of("complete_ms/p99"),
            of("cpu_ms_per_order/all"),
            change.map_or("–".to_owned(), |change| format!("{change:+.0} %")),
            of("cpu_ms_per_order/nats-server"),
            of("cpu_ms_per_order/postgresql"),
            of("cpu_ms_per_order/services"),
            of("written_kb_per_order/all"),
            of("memory_mb/nats-server"),
            of("memory_mb/postgresql"),
            of("memory_mb/services"),
        ]);
    }
    let _ = write!(text, "\n{}", table.text());
    let _ = writeln!(
        text,
        "\nAt the end there were {} events in the stream. Started again with all that, the five \
         services served after {} ms.",
        number(report["events"].as_f64()),
        number(report["restart_ms"].as_f64())
    );
    document::write(&all.document, "growth", &text)
}
