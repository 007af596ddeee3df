//! A service that was away comes back to what has piled up, while others go on.

use std::fmt::Write as _;

use crate::load::{flags, ours};
use crate::process::Scratch;
use crate::table::{Table, number};
use crate::{Args as All, Outcome, document};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Orders that pile up; each is an event that waits for the service
    #[arg(long, default_value_t = 100_000)]
    orders: u64,
    /// Orders per second that go on and do not need the service
    #[arg(long, default_value_t = 100)]
    rate: u32,
}

pub(crate) fn run(all: &All, own: &Args) -> Outcome {
    let scratch = Scratch::create()?;
    let orders = if all.quick {
        own.orders.min(3_000)
    } else {
        own.orders
    };
    let load = flags(&format!(
        "--backlog {orders} --rate {} --in-flight 1024",
        own.rate
    ));
    let report = ours(all, &scratch.path().join("load"), true, &load)?;
    let found = &report["backlog"];
    let of = |path: &str| found.pointer(path).and_then(serde_json::Value::as_f64);
    let shown = |path: &str| number(of(path));
    let mut text = document::machine(all, &[document::database(&report)]);
    let ratio = of("/drained_per_second")
        .zip(of("/live_orders_per_second"))
        .map(|(drained, live)| drained / live);
    let _ = write!(
        text,
        "\nThe service {} was away while {orders} orders that need it were placed, and came back \
         while {} orders per second went on that do not.\n\n\
         - {} events waited for it. It had worked off these, and what came meanwhile, {} s after it \
         was started: {} of them a second, {} × the live rate. With new ones it handled {} events \
         a second.\n\
         - All of the orders were decided, and everything settled, after {} s.\n\n",
        found["away"].as_str().unwrap_or_default(),
        shown("/live_orders_per_second"),
        shown("/events"),
        shown("/drained_seconds"),
        shown("/drained_per_second"),
        number(ratio),
        shown("/handled_per_second"),
        shown("/decided_seconds"),
    );
    let mut table = Table::new(&["an order that does not need it", "p50 ms", "p99 ms"]);
    for (what, times) in [
        ("one at a time, before", "idle_ms"),
        ("at that rate, before", "usual_ms"),
        ("while the backlog was drained", "live_ms"),
    ] {
        let cells = ["p50", "p99"].map(|name| shown(&format!("/{times}/{name}")));
        table.row([what.to_owned()].into_iter().chain(cells));
    }
    text.push_str(&table.text());
    document::write(&all.document, "backlog", &text)
}
