//! `ensemble trace`: the trace of an order, made from its events afterwards.

use std::collections::{BTreeSet, HashMap};

use events::OrderId;
use integration_tests::{Backend, Collector, Span, System, eventually, hang_together};
use serde_json::{Value, json};

/// An order that is refused: point has nothing, stock gives back. In the sequential flow
/// nothing depends on who is faster.
async fn refused(system: &System) -> OrderId {
    let product = system.operator().product(500, 10).await;
    let items = json!([{ "product_id": product, "quantity": 1 }]);
    let alice = system.user("alice");
    let order = alice
        .place(json!({ "items": items, "flow": "sequential" }))
        .await;
    alice.until(order, "CANCELED").await;
    order
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_trace_has_the_spans_of_the_recorded_one() {
    let (live, rebuilt) = (Collector::start().await, Collector::start().await);
    let mut system = System::new(Backend::Sqlite).with("--otlp", live.url());
    system.start().await;
    let order = refused(&system).await.to_string();
    let finished = system
        .command(&["trace", &order, "--otlp", rebuilt.url()])
        .await;
    assert!(finished.status.success(), "{finished:?}");
    let spans = rebuilt.spans();
    let trace = &spans[0].trace;
    let said = format!(
        "trace {trace}: {} spans were sent to {}\n",
        spans.len(),
        rebuilt.url()
    );
    assert_eq!(finished.stdout, said);
    hang_together(&spans).unwrap_or_else(|wrong| panic!("{wrong}"));
    system.end().await;

    let live = live.spans();
    let of_id: HashMap<&str, &Span> = live.iter().map(|span| (span.id.as_str(), span)).collect();
    for span in &spans {
        let same = of_id.get(span.id.as_str());
        let same = same.unwrap_or_else(|| panic!("{span:?} was not recorded"));
        assert_eq!((&span.name, &span.service), (&same.name, &same.service));
        assert_eq!((&span.trace, &span.kind), (&same.trace, &same.kind));
        // The request is in no event.
        if !of_id[same.parent.as_str()].name.starts_with("POST ") {
            assert_eq!(span.parent, same.parent, "{span:?}");
        }
        let mut attributes = span.attributes.clone();
        assert_eq!(attributes.remove("rebuilt").as_deref(), Some("true"));
        assert_eq!(attributes, same.attributes);
        assert_eq!(span.events, same.events);
        let links = |span: &Span| span.links.iter().cloned().collect::<BTreeSet<_>>();
        assert_eq!(links(span), links(same));
    }
    // What is missing said nothing: the request, and who had nothing to answer.
    let told: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    let silent = live
        .iter()
        .filter(|s| s.trace == *trace && !told.contains(&*s.id));
    for span in silent {
        let name = &span.name;
        assert!(
            name.starts_with("POST ") || name.starts_with("process "),
            "{span:?}"
        );
        assert!(
            !live
                .iter()
                .any(|child| child.parent == span.id && name.starts_with("process "))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_not_sampled_has_a_trace_of_its_own_id_that_jaeger_opens() {
    let mut system = System::new(Backend::Sqlite);
    system.start().await;
    let order = refused(&system).await;
    let path = system.folder().join("trace.json").display().to_string();
    let id = order.to_string();
    let finished = system.command(&["trace", &id, "--out", &path]).await;
    assert!(finished.status.success(), "{finished:?}");
    let trace = id.replace('-', "");
    assert!(
        finished.stdout.starts_with(&format!("trace {trace}: ")),
        "{finished:?}"
    );
    let text = std::fs::read_to_string(&path).expect("a file");
    let file: Value = serde_json::from_str(&text).expect("JSON");
    let data = &file["data"][0];
    assert_eq!(data["traceID"], trace);
    let spans = data["spans"].as_array().expect("spans");
    let ids: BTreeSet<_> = spans.iter().map(|s| s["spanID"].as_str()).collect();
    assert_eq!(ids.len(), spans.len());
    for span in spans {
        assert!(data["processes"][span["processID"].as_str().expect("a process")].is_object());
        assert!(
            span["startTime"]
                .as_u64()
                .is_some_and(|micros| micros > 1_600_000_000_000_000)
        );
        for reference in span["references"].as_array().expect("references") {
            assert!(ids.contains(&reference["spanID"].as_str()), "{span}");
        }
        let tags = span["tags"].as_array().expect("tags");
        assert!(tags.contains(&json!({ "key": "order.id", "type": "string", "value": id })));
    }
    let refused = spans
        .iter()
        .flat_map(|span| span["logs"].as_array().expect("logs"));
    assert_eq!(refused.count(), 1, "one step refused: {file}");
    // The same on standard output.
    let printed = system.command(&["trace", &id]).await;
    let printed: Value = serde_json::from_str(&printed.stdout).expect("JSON");
    let count = printed["data"][0]["spans"].as_array().map(Vec::len);
    assert_eq!(count, Some(spans.len()));
    system.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_traced_is_said_in_a_sentence() {
    let mut system = System::new(Backend::Sqlite);
    system.start().await;
    let order = refused(&system).await.to_string();
    let nowhere = "/nowhere/trace.json";
    for (arguments, words) in [
        (vec!["trace", "order-1"], "not an order id"),
        (
            vec!["trace", "01890a5d-ac96-774b-bcce-b302099a8057"],
            "no event of order",
        ),
        (
            vec!["trace", &order, "--otlp", "jaeger:4317"],
            "is no OTLP/gRPC endpoint",
        ),
        (
            vec!["trace", &order, "--otlp", "http://127.0.0.1:1"],
            "does not take the trace",
        ),
        (vec!["trace", &order, "--out", nowhere], "cannot be written"),
    ] {
        let finished = system.command(&arguments).await;
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
        assert!(finished.stderr.contains(words), "{}", finished.stderr);
    }
    // The order was handled all the same, and its timeline is there.
    eventually("the timeline", async || {
        let timeline = system.command(&["timeline", &order]).await;
        match timeline.status.success() {
            true => Ok(()),
            false => Err(timeline.stderr),
        }
    })
    .await;
    system.end().await;
}
