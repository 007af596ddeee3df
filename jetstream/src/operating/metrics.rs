//! What is measured, in the text format of Prometheus (OpenMetrics).
//!
//! A process has one [`Metrics`], each service in it its [`Meters`]: nothing is global, so
//! several systems fit into one process. Meters are looked up once, when a service starts;
//! on the way of an event they are atomic additions.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// The content type of what is measured.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A gauge that need not be whole.
type Number = Gauge<f64, AtomicU64>;

/// What the services of a process measure.
#[derive(Clone)]
pub struct Metrics(Arc<Shared>);

struct Shared {
    registry: Registry,
    families: Families,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    service: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDependency {
    service: &'static str,
    dependency: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfWhat {
    service: &'static str,
    what: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRoute {
    service: &'static str,
    method: &'static str,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAnswer {
    service: &'static str,
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    service: &'static str,
    outcome: &'static str,
    reason: &'static str,
    step: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfEnd {
    service: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

/// How an order ended, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// `confirmed`, `canceled` or `compensation_failed`.
    pub outcome: &'static str,
    /// Why it was canceled; empty when it was not.
    pub reason: &'static str,
    /// The step that was refused first; empty when none was.
    pub step: &'static str,
    /// When it began, in milliseconds since the Unix epoch.
    pub began: i64,
}

/// What is counted once a transaction has committed.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) duplicates: u64,
    pub(crate) ended: Vec<(Ending, i64)>,
}

/// What one service measures; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Meters(Arc<Own>);

#[derive(Default)]
pub(crate) struct Own {
    service: &'static str,
    // None where nobody looks: a database that belongs to no running service.
    families: Option<Families>,
    /// Events of batches that have committed.
    pub(crate) handled: Counter,
    /// Events that were acked unread, because it was not the service's turn.
    pub(crate) skipped: Counter,
    /// Events that the broker delivered again.
    pub(crate) redelivered: Counter,
    /// Events that the inbox knew already.
    pub(crate) duplicates: Counter,
    /// Events that failed and are tried again.
    pub(crate) retried: Counter,
    /// Events that became dead letters.
    pub(crate) dead_letters: Counter,
    /// Events that the broker has acknowledged.
    pub(crate) published: Counter,
    /// Publishes that were not acknowledged.
    pub(crate) unacknowledged: Counter,
    /// Events that the broker had lost and that were said again.
    pub(crate) republished: Counter,
    pub(crate) dead_letters_open: Gauge,
    pub(crate) outbox_unpublished: Gauge,
    pub(crate) outbox_oldest: Number,
    pub(crate) consumer_pending: Gauge,
    pub(crate) consumer_ack_pending: Gauge,
    pub(crate) consumer_ack_pending_most: Gauge,
    pub(crate) consumer_behind: Number,
    pub(crate) fenced: Gauge,
    batch: Option<Histogram>,
    transaction: Option<Histogram>,
}

impl std::ops::Deref for Meters {
    type Target = Own;

    fn deref(&self) -> &Own {
        &self.0
    }
}

impl Meters {
    /// A batch has committed.
    pub(crate) fn batch(&self, events: usize) {
        self.handled.inc_by(events as u64);
        if let Some(batch) = &self.0.batch {
            batch.observe(events as f64);
        }
    }

    /// A transaction has committed.
    pub(crate) fn committed(&self, took: Duration, tally: Tally) {
        if let Some(transaction) = &self.0.transaction {
            transaction.observe(took.as_secs_f64());
        }
        self.duplicates.inc_by(tally.duplicates);
        let Some(families) = &self.0.families else {
            return;
        };
        for (ending, at) in tally.ended {
            let Ending {
                outcome,
                reason,
                step,
                began,
            } = ending;
            let service = self.0.service;
            let of = OfOutcome {
                service,
                outcome,
                reason,
                step,
            };
            families.orders.get_or_create(&of).inc();
            let took = (at - began).max(0) as f64 / 1000.0;
            let of = OfEnd { service, outcome };
            families.durations.get_or_create(&of).observe(took);
        }
    }

    /// Whether what the service depends on is there.
    pub(crate) fn dependency(&self, dependency: &'static str, up: bool) {
        if let Some(families) = &self.0.families {
            let service = self.0.service;
            let of = OfDependency {
                service,
                dependency,
            };
            families.dependencies.get_or_create(&of).set(up.into());
        }
    }

    /// How many rows of a kind should be gone by now.
    pub(crate) fn overdue(&self, what: &'static str, count: i64) {
        if let Some(families) = &self.0.families {
            let service = self.0.service;
            let of = OfWhat { service, what };
            families.overdue.get_or_create(&of).set(count);
        }
    }
}

/// A family for each kind of measure; the clones share what they count.
#[derive(Clone)]
struct Families {
    requests: Family<OfAnswer, Counter>,
    request_durations: Family<OfRoute, Histogram>,
    orders: Family<OfOutcome, Counter>,
    durations: Family<OfEnd, Histogram>,
    dependencies: Family<OfDependency, Gauge>,
    overdue: Family<OfWhat, Gauge>,
    batch: Family<Of, Histogram>,
    transaction: Family<Of, Histogram>,
    counters: [Family<Of, Counter>; 9],
    gauges: [Family<Of, Gauge>; 6],
    numbers: [Family<Of, Number>; 2],
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("ensemble");
        let families = Families::register(&mut registry);
        Self(Arc::new(Shared { registry, families }))
    }
}

impl Families {
    #[rustfmt::skip] // a table reads better
    fn register(registry: &mut Registry) -> Self {
        let build = Family::<Build, Gauge>::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        keep(registry, "build", "The version that runs", build);
        let requests = Family::new_with_constructor(requests as fn() -> Histogram);
        let durations = Family::new_with_constructor(sagas as fn() -> Histogram);
        let batch = Family::new_with_constructor(batches as fn() -> Histogram);
        let transaction = Family::new_with_constructor(transactions as fn() -> Histogram);
        Self {
            requests: keep(registry, "http_requests", "Requests answered, by route and status", Family::default()),
            request_durations: keep(registry, "http_request_duration_seconds", "Time until a request was answered", requests),
            orders: keep(registry, "orders", "Orders that came to an end, by outcome and reason", Family::default()),
            durations: keep(registry, "order_duration_seconds", "Time from placing an order to its end", durations),
            dependencies: keep(registry, "dependency_up", "Whether what the service depends on is there", Family::default()),
            overdue: keep(registry, "overdue", "Rows that should be gone by now: orders and holds past their deadline, compensations that were given up", Family::default()),
            batch: keep(registry, "batch_events", "Events handled in one transaction", batch),
            transaction: keep(registry, "transaction_duration_seconds", "Time from the begin of a transaction to its commit", transaction),
            counters: [
                ("events_handled", "Events handled"),
                ("events_skipped", "Events acked unread, because it was not the service's turn"),
                ("events_redelivered", "Events that the broker delivered again"),
                ("events_duplicate", "Events that the inbox knew already"),
                ("events_retried", "Events that failed and were tried again"),
                ("dead_letters", "Events that became dead letters"),
                ("events_published", "Events that the broker has acknowledged"),
                ("publish_failures", "Publishes that were not acknowledged; they are repeated"),
                ("events_republished", "Events that the broker had lost and that were said again"),
            ].map(|(name, help)| keep(registry, name, help, Family::default())),
            gauges: [
                ("dead_letters_open", "Dead letters that nobody has resolved"),
                ("outbox_unpublished", "Events that are committed and not published"),
                ("consumer_pending", "Events that the service has not pulled yet"),
                ("consumer_ack_pending", "Events that were delivered and not acked"),
                ("consumer_ack_pending_limit", "Events that may be delivered and not acked"),
                ("fenced", "1 when the service is fenced"),
            ].map(|(name, help)| keep(registry, name, help, Family::default())),
            numbers: [
                ("outbox_oldest_seconds", "Age of the oldest event that is not published"),
                ("consumer_behind_seconds", "Age of the oldest event that the service has not acked"),
            ].map(|(name, help)| keep(registry, name, help, Family::default())),
        }
    }
}

fn keep<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn requests() -> Histogram {
    Histogram::new([
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    ])
}

fn sagas() -> Histogram {
    Histogram::new([
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0,
    ])
}

fn batches() -> Histogram {
    Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0])
}

fn transactions() -> Histogram {
    Histogram::new([
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ])
}

impl Metrics {
    /// What one service measures.
    pub(crate) fn of(&self, service: &'static str) -> Meters {
        let of = Of { service };
        let families = &self.0.families;
        let [
            handled,
            skipped,
            redelivered,
            duplicates,
            retried,
            dead_letters,
            published,
            unacknowledged,
            republished,
        ] = families
            .counters
            .each_ref()
            .map(|f| f.get_or_create_owned(&of));
        let [
            dead_letters_open,
            outbox_unpublished,
            consumer_pending,
            consumer_ack_pending,
            consumer_ack_pending_most,
            fenced,
        ] = families
            .gauges
            .each_ref()
            .map(|f| f.get_or_create_owned(&of));
        let [outbox_oldest, consumer_behind] = families
            .numbers
            .each_ref()
            .map(|f| f.get_or_create_owned(&of));
        Meters(Arc::new(Own {
            service,
            batch: Some(families.batch.get_or_create_owned(&of)),
            transaction: Some(families.transaction.get_or_create_owned(&of)),
            families: Some(families.clone()),
            handled,
            skipped,
            redelivered,
            duplicates,
            retried,
            dead_letters,
            published,
            unacknowledged,
            republished,
            dead_letters_open,
            outbox_unpublished,
            outbox_oldest,
            consumer_pending,
            consumer_ack_pending,
            consumer_ack_pending_most,
            consumer_behind,
            fenced,
        }))
    }

    /// A request was answered.
    pub(crate) fn answered(
        &self,
        service: &'static str,
        method: &axum::http::Method,
        route: &str,
        status: u16,
        took: Duration,
    ) {
        let method = method_label(method);
        let of = OfAnswer {
            service,
            method,
            route: route.to_owned(),
            status,
        };
        self.0.families.requests.get_or_create(&of).inc();
        let OfAnswer { route, .. } = of;
        let of = OfRoute {
            service,
            method,
            route,
        };
        let durations = &self.0.families.request_durations;
        durations.get_or_create(&of).observe(took.as_secs_f64());
    }

    /// All that was measured, as text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::with_capacity(32 * 1024);
        // A String takes whatever is written.
        let _ = text::encode(&mut text, &self.0.registry);
        text
    }
}

/// A client may send any word as its method: those that no route has are one.
fn method_label(method: &axum::http::Method) -> &'static str {
    ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
        .into_iter()
        .find(|known| method.as_str() == *known)
        .unwrap_or("OTHER")
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::*;

    fn ending(outcome: &'static str, step: &'static str) -> Ending {
        Ending {
            outcome,
            reason: if step.is_empty() { "" } else { "REFUSED" },
            step,
            began: 1_000,
        }
    }

    #[test]
    fn services_of_a_process_share_each_metric_and_are_told_apart() {
        let metrics = Metrics::default();
        let (order, stock) = (metrics.of("order"), metrics.of("stock"));
        order.batch(3);
        stock.batch(40);
        stock.overdue("holds", 2);
        let ended = vec![
            (ending("confirmed", ""), 1_030),
            (ending("canceled", "stock"), 9_000),
        ];
        let tally = Tally {
            duplicates: 5,
            ended,
        };
        order.committed(Duration::from_millis(3), tally);
        let text = metrics.text();
        for line in [
            r#"ensemble_events_handled_total{service="order"} 3"#,
            r#"ensemble_events_handled_total{service="stock"} 40"#,
            r#"ensemble_batch_events_bucket{le="64.0",service="stock"} 1"#,
            r#"ensemble_events_duplicate_total{service="order"} 5"#,
            r#"ensemble_overdue{service="stock",what="holds"} 2"#,
            r#"ensemble_orders_total{service="order",outcome="canceled",reason="REFUSED",step="stock"} 1"#,
            r#"ensemble_order_duration_seconds_bucket{le="0.05",service="order",outcome="confirmed"} 1"#,
            r#"ensemble_order_duration_seconds_sum{service="order",outcome="canceled"} 8.0"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        let types = text
            .lines()
            .filter(|l| l.starts_with("# TYPE ensemble_events_handled "));
        assert_eq!(types.count(), 1, "each metric is described once");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn two_processes_in_one_do_not_count_for_each_other() {
        let (one, other) = (Metrics::default(), Metrics::default());
        one.of("order").batch(1);
        other.of("order");
        let zero = r#"ensemble_events_handled_total{service="order"} 0"#;
        assert!(other.text().contains(zero));
    }

    #[test]
    fn a_client_cannot_make_series_with_words_of_its_own() {
        let metrics = Metrics::default();
        let method = Method::from_bytes(b"BREW").expect("a method");
        metrics.answered("order", &method, "/orders", 405, Duration::ZERO);
        let text = metrics.text();
        assert!(text.contains(r#"method="OTHER""#) && !text.contains("BREW"));
    }
}
