//! What a bench reports: one value, as JSON and as a table.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::meter::Window;
use super::processes::{Cost, Watched};

const PERCENTILES: [(&str, f64); 5] = [
    ("p50", 50.0),
    ("p90", 90.0),
    ("p99", 99.0),
    ("p99.9", 99.9),
    ("max", 100.0),
];

/// What the processes had cost at a bound of a window, and the memory that they had.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    costs: Vec<(String, Cost)>,
    // Not looked at where a window only begins: it takes its time.
    memory_mb: Vec<(String, Option<f64>)>,
}

impl Bound {
    /// Looks at the processes now; at their memory too where a window ends.
    pub(super) fn now(processes: &[Watched], ends_a_window: bool) -> Self {
        let name = |process: &Watched| process.name.clone();
        let ended = if ends_a_window { processes } else { &[] };
        Self {
            costs: processes.iter().map(|p| (name(p), p.cost())).collect(),
            memory_mb: ended.iter().map(|p| (name(p), p.memory_mb())).collect(),
        }
    }
}

/// The figures of a window, between its two bounds.
pub(super) fn figures(window: &Window, before: &Bound, after: &Bound) -> Value {
    let orders = window.orders as f64;
    let mut cpu = Map::new();
    let mut written = Map::new();
    for ((name, before), (_, after)) in before.costs.iter().zip(&after.costs) {
        let spent = before
            .cpu_ms
            .zip(after.cpu_ms)
            .map(|(b, a)| (a - b) / orders);
        add(&mut cpu, name, spent);
        let bytes = before.written.zip(after.written);
        let kb = bytes.map(|(b, a)| a.saturating_sub(b) as f64 / 1024.0 / orders);
        add(&mut written, name, kb);
    }
    let mut memory = Map::new();
    for (name, mb) in &after.memory_mb {
        add(&mut memory, name, *mb);
    }
    for costs in [&mut cpu, &mut written] {
        let all: f64 = costs.values().filter_map(Value::as_f64).sum();
        costs.insert("all".to_owned(), all.into());
    }
    json!({
        "orders": window.orders,
        "confirmed": window.confirmed,
        "canceled": window.canceled,
        "seconds": window.seconds,
        "orders_per_second": orders / window.seconds,
        "accept_ms": percentiles(&window.accept),
        "complete_ms": percentiles(&window.complete),
        "cpu_ms_per_order": cpu,
        "memory_mb": memory,
        "written_kb_per_order": written,
    })
}

/// Processes of one name are one line.
fn add(all: &mut Map<String, Value>, name: &str, value: Option<f64>) {
    let Some(value) = value else { return };
    let before = all.get(name).and_then(Value::as_f64).unwrap_or(0.0);
    all.insert(name.to_owned(), (before + value).into());
}

pub(super) fn percentiles(times: &Histogram<u64>) -> Value {
    if times.is_empty() {
        return Value::Null;
    }
    let at = |percentile| times.value_at_percentile(percentile) as f64 / 1000.0;
    let row = PERCENTILES
        .iter()
        .map(|(name, at_)| ((*name).to_owned(), at(*at_).into()));
    Value::Object(row.collect())
}

/// Of runs with the same shape, each number's median; what is no number is that of the
/// first.
pub(super) fn median(runs: &[Value]) -> Value {
    let Some(first) = runs.first() else {
        return Value::Null;
    };
    match first {
        Value::Object(members) => {
            let of = |name: &String| -> Vec<Value> {
                runs.iter().map(|run| run[name.as_str()].clone()).collect()
            };
            let names = members.keys();
            Value::Object(
                names
                    .map(|name| (name.clone(), median(&of(name))))
                    .collect(),
            )
        }
        Value::Array(elements) => {
            let of = |n: usize| -> Vec<Value> { runs.iter().map(|run| run[n].clone()).collect() };
            (0..elements.len()).map(|n| median(&of(n))).collect()
        }
        Value::Number(_) => {
            let mut numbers: Vec<f64> = runs.iter().filter_map(Value::as_f64).collect();
            numbers.sort_by(f64::total_cmp);
            let (low, high) = (numbers[(numbers.len() - 1) / 2], numbers[numbers.len() / 2]);
            f64::midpoint(low, high).into()
        }
        other => other.clone(),
    }
}

/// The report as text for the terminal.
pub(super) fn table(report: &Value) -> String {
    let mut text = String::new();
    let words = |name: &str| report[name].as_str().unwrap_or_default();
    let _ = writeln!(
        text,
        "{}: {}, {}",
        words("system"),
        words("database"),
        words("load")
    );
    let windows = report["windows"].as_array().map_or(&[][..], Vec::as_slice);
    for (n, window) in windows.iter().enumerate() {
        if windows.len() > 1 {
            let _ = writeln!(text, "\n-- part {} of {}", n + 1, windows.len());
        }
        one_window(&mut text, window);
    }
    if let Some(runs) = report["runs_orders_per_second"]
        .as_array()
        .filter(|r| r.len() > 1)
    {
        let runs: Vec<String> = runs.iter().map(|rate| number(rate, 0)).collect();
        let _ = writeln!(
            text,
            "\nmedians of {} runs: {} orders/s",
            runs.len(),
            runs.join(", ")
        );
    }
    if report["backlog"].is_object() {
        let backlog = &report["backlog"];
        let of = |name: &str| number(&backlog[name], 1);
        let _ = writeln!(
            text,
            "a backlog of {} events was drained in {} s, {} of them a second; {} events/s were \
             handled, new ones too\nall orders were decided after {} s; meanwhile {} orders/s \
             without a coupon\n",
            of("events"),
            of("drained_seconds"),
            of("drained_per_second"),
            of("handled_per_second"),
            of("decided_seconds"),
            of("live_orders_per_second"),
        );
        let names: Vec<&str> = PERCENTILES.iter().map(|(name, _)| *name).collect();
        let rows = [
            ("when idle", "idle_ms"),
            ("at that rate", "usual_ms"),
            ("while drained", "live_ms"),
        ];
        rows_of(&mut text, "ms", &names, backlog, &rows);
    }
    if let Some(ms) = report["restart_ms"].as_f64() {
        let _ = writeln!(text, "\nstarted again with these data in {ms:.0} ms");
    }
    text
}

fn one_window(text: &mut String, window: &Value) {
    let _ = writeln!(
        text,
        "{} orders ({} confirmed, {} canceled) in {} s: {} orders/s\n",
        number(&window["orders"], 0),
        number(&window["confirmed"], 0),
        number(&window["canceled"], 0),
        number(&window["seconds"], 1),
        number(&window["orders_per_second"], 0),
    );
    let names: Vec<&str> = PERCENTILES.iter().map(|(name, _)| *name).collect();
    let rows = [("accept", "accept_ms"), ("complete", "complete_ms")];
    rows_of(text, "ms", &names, window, &rows);
    let processes = window["cpu_ms_per_order"].as_object();
    let names: Vec<&str> = processes
        .into_iter()
        .flat_map(Map::keys)
        .map(String::as_str)
        .collect();
    let rows = [
        ("CPU ms/order", "cpu_ms_per_order"),
        ("memory MB", "memory_mb"),
        ("written KB/order", "written_kb_per_order"),
    ];
    text.push('\n');
    rows_of(text, "", &names, window, &rows);
}

fn rows_of(
    text: &mut String,
    title: &str,
    columns: &[&str],
    window: &Value,
    rows: &[(&str, &str)],
) {
    let heads: String = columns.iter().map(|name| format!("{name:>16}")).collect();
    let _ = writeln!(text, "{title:<17}{heads}");
    for (what, member) in rows
        .iter()
        .filter(|(_, member)| window[*member].is_object())
    {
        let cells: String = columns
            .iter()
            .map(|name| format!("{:>16}", number(&window[*member][*name], 3)))
            .collect();
        let _ = writeln!(text, "{what:<17}{cells}");
    }
}

/// A number with so many digits behind the point at most, and fewer when it is large.
fn number(value: &Value, digits: usize) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(number) if number >= 100.0 => format!("{number:.0}"),
        Some(number) if number >= 10.0 => format!("{number:.*}", digits.min(1)),
        Some(number) => format!("{number:.digits$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_taken_number_by_number() {
        let run =
            |rate: f64, p50: f64| json!({ "load": "x", "rate": rate, "ms": [{ "p50": p50 }] });
        let runs = [run(3.0, 1.0), run(1.0, 2.0), run(2.0, 9.0)];
        assert_eq!(
            median(&runs),
            json!({ "load": "x", "rate": 2.0, "ms": [{ "p50": 2.0 }] })
        );
        assert_eq!(median(&runs[..2])["rate"], 2.0);
        assert_eq!(median(&[]), Value::Null);
    }

    #[test]
    fn processes_of_one_name_are_added() {
        let mut all = Map::new();
        for (name, value) in [
            ("services", Some(1.0)),
            ("nats", None),
            ("services", Some(2.0)),
        ] {
            add(&mut all, name, value);
        }
        assert_eq!(Value::Object(all), json!({ "services": 3.0 }));
    }
}
