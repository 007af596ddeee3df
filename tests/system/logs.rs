//! The log: what a line says, and what no line and no span says.

use integration_tests::{Backend, Collector, Signal, System, eventually, hang_together};
use jetstream::stream::broker;
use serde_json::{Value, json};

/// What is nobody's business but the user's: it stands in requests and events.
const SECRETS: [&str; 4] = ["Bearer", "eyJ", "carol.of.the.log", "a bowl of secrets"];

#[tokio::test(flavor = "multi_thread")]
async fn lines_name_order_event_and_trace_and_nothing_else() {
    let collector = Collector::start().await;
    let mut system = System::new(Backend::Sqlite).with("--otlp", collector.url());
    system.start().await;
    let operator = system.operator();
    let product = json!({ "name": SECRETS[3], "price": 500, "stock": 10 });
    let product = operator.post("/products", product).await.ok();
    let carol = system.user(SECRETS[2]);
    let items = json!([{ "product_id": product["product_id"], "quantity": 1 }]);
    // She has no points: her order is refused.
    let order = carol.place(json!({ "items": items })).await;
    carol.until(order, "CANCELED").await;
    let trace = carol.order(order).await["trace_id"].clone();

    // An event that nobody can handle, with a body that says too much.
    let printed = system.process().stdout();
    let nats = printed.lines().find_map(|line| line.strip_prefix("nats "));
    let nats = nats.and_then(|line| line.split_whitespace().next());
    let broker = broker::connect(nats.expect("its address"), "test").await;
    let broker = broker.expect("the broker answers");
    let sent = broker.publish("order.confirmed", SECRETS[3].into()).await;
    sent.expect("sent").await.expect("stored");
    let log = eventually("dead letters of the four who hear it", async || {
        let log = system.process().stderr();
        match log.matches("is a dead letter now").count() {
            4 => Ok(log),
            n => Err(n.to_string()),
        }
    })
    .await;
    let lines = log.lines().map(|line| {
        let line: Value = serde_json::from_str(line).expect("a JSON object");
        assert!(
            line["timestamp"].is_string() && line["level"].is_string(),
            "{line}"
        );
        assert!(line["fields"]["message"].is_string(), "{line}");
        line
    });
    let lines: Vec<Value> = lines.collect();
    let said = |message: &str| {
        let mut lines = lines.iter().map(|line| &line["fields"]);
        lines.find(|fields| fields["message"] == message).cloned()
    };
    let letter = said("an event could not be handled and is a dead letter now");
    let letter = letter.expect("a line");
    assert_eq!(letter["subject"], "order.confirmed");
    let mut answered = lines.iter().map(|line| &line["fields"]);
    let answered = answered.find(|f| f["route"] == "/orders" && f["status"] == 202);
    let answered = answered.expect("a line of the request");
    assert_eq!(answered["trace_id"], trace);

    let process = system.take();
    process.signal(Signal::INT);
    let finished = process.ended().await;
    assert!(finished.status.success(), "{}", finished.stderr);
    let spans = collector.spans();
    hang_together(&spans).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(spans.len() > 20, "{}", spans.len());
    let told = format!("{spans:?}");
    for secret in SECRETS {
        // The line of a request names its user; nothing else does.
        let unexpected = |line: &&str| line.contains(secret) && !line.contains("\"answered\"");
        assert_eq!(finished.stderr.lines().find(unexpected), None);
        assert!(!told.contains(secret), "{secret} is in a span");
    }
}
