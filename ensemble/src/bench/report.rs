//! What a bench prints.

use std::time::Duration;

use serde_json::{Value, json};

use super::load::Measured;

const PERCENTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("max", 1.0),
];

pub(super) fn print(args: &super::Args, measured: &Measured) {
    let orders = measured.confirmed + measured.canceled;
    let per_second = orders as f64 / measured.seconds;
    let database = if args.database_url.is_some() {
        "postgresql"
    } else {
        "sqlite"
    };
    let accept = percentiles(&measured.accept);
    let complete = percentiles(&measured.complete);
    if args.json {
        let table = |row: &[(&str, f64)]| -> Value {
            row.iter()
                .map(|(name, ms)| ((*name).to_owned(), json!(ms)))
                .collect()
        };
        let report = json!({
            "in_flight": args.in_flight,
            "flow": args.flow,
            "database": database,
            "confirmed": measured.confirmed,
            "canceled": measured.canceled,
            "orders_per_second": per_second,
            "accept_ms": table(&accept),
            "complete_ms": table(&complete),
        });
        println!("{report}");
        return;
    }
    println!(
        "{database}, {} flow, {} in flight: {orders} orders ({} confirmed, {} canceled) in {:.1} s",
        args.flow, args.in_flight, measured.confirmed, measured.canceled, measured.seconds
    );
    println!("{per_second:.0} orders/s\n");
    let names: String = PERCENTILES
        .iter()
        .map(|(name, _)| format!("{name:>9}"))
        .collect();
    println!("ms        {names}");
    for (what, row) in [("accept", accept), ("complete", complete)] {
        let cells: String = row.iter().map(|(_, ms)| format!("{ms:>9.2}")).collect();
        println!("{what:<10}{cells}");
    }
}

fn percentiles(times: &[Duration]) -> Vec<(&'static str, f64)> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = |share: f64| {
        let rank = (share * sorted.len() as f64).ceil() as usize;
        let time = sorted
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or_default();
        time.as_secs_f64() * 1000.0
    };
    PERCENTILES
        .iter()
        .map(|(name, share)| (*name, at(*share)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        let values: Vec<f64> = percentiles(&times).into_iter().map(|(_, ms)| ms).collect();
        assert_eq!(values, [50.0, 90.0, 99.0, 100.0, 100.0]);
    }
}
