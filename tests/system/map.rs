//! `ensemble map --check --live`: where a broker differs from the code.

use async_nats::jetstream::consumer::pull::Config;
use events::catalog;
use integration_tests::{Backend, Finished, Process, World};
use serde_json::Value;

async fn check(world: &World, name: &str) -> (Finished, Vec<String>) {
    let url = ["--nats-url", world.nats_url()];
    let arguments = ["map", "--check", "--live", "--json"].into_iter();
    let process = Process::start("ensemble", arguments.chain(url), world.folder(), name);
    let finished = process.ended().await;
    let answer: Value = serde_json::from_str(&finished.stdout).unwrap_or_default();
    let findings = answer["findings"].as_array().cloned().unwrap_or_default();
    let text = |finding: &Value| finding.as_str().unwrap_or_default().to_owned();
    let findings = findings.iter().map(text).collect();
    (finished, findings)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_differs_from_the_code_is_found() {
    let mut world = World::start(Backend::Sqlite).await;
    let (finished, findings) = check(&world, "as-provisioned").await;
    assert!(finished.status.success(), "{finished:?}");
    assert_eq!(findings, Vec::<String>::new());

    let stream = world.broker().get_stream(catalog::STREAM).await;
    let stream = stream.expect("the stream");
    let strange = Config {
        durable_name: Some("laundry".to_owned()),
        ..Config::default()
    };
    let created = stream.create_consumer(strange).await;
    created.expect("a strange consumer");
    let cart = stream.get_consumer::<Config>("cart").await;
    let mut changed = cart.expect("cart's").cached_info().config.clone();
    changed.filter_subjects.retain(|f| f != "order.canceled");
    changed.filter_subjects.push("point.charged".to_owned());
    let changed = Config {
        durable_name: changed.durable_name,
        filter_subjects: changed.filter_subjects,
        ack_policy: changed.ack_policy,
        ack_wait: changed.ack_wait,
        max_ack_pending: changed.max_ack_pending,
        max_deliver: 7,
        ..Config::default()
    };
    let changed = stream.create_consumer(changed).await;
    changed.expect("a changed consumer");

    let (finished, findings) = check(&world, "changed").await;
    assert_eq!(finished.status.code(), Some(3), "{finished:?}");
    for words in [
        "the consumer laundry is of no service",
        "the consumer cart does not hear order.canceled",
        "the consumer cart hears point.charged",
        "the consumer cart gives up an event after 7 deliveries",
    ] {
        let hit = findings.iter().any(|finding| finding.starts_with(words));
        assert!(hit, "{words} in {findings:?}");
    }
    assert_eq!(findings.len(), 4, "{findings:?}");

    // What is found is mended by what the findings say.
    let deleted = stream.delete_consumer("laundry").await;
    deleted.expect("deleted");
    world.provision().await;
    let (finished, findings) = check(&world, "mended").await;
    assert!(finished.status.success(), "{finished:?} {findings:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subjects_that_no_code_knows_are_found() {
    let world = World::start(Backend::Sqlite).await;
    let stream = world.broker().get_stream(catalog::STREAM).await;
    let mut config = stream.expect("the stream").cached_info().config.clone();
    config.subjects.push("cart.burned".to_owned());
    let updated = world.broker().update_stream(config).await;
    updated.expect("the stream takes another subject");
    let said = world.broker().publish("cart.burned", "ashes".into()).await;
    said.expect("sent").await.expect("stored");
    let (finished, findings) = check(&world, "strange-subject").await;
    assert_eq!(finished.status.code(), Some(3), "{finished:?}");
    for words in [
        "the stream takes cart.burned, which no code says",
        "there are messages on cart.burned, which no code knows",
    ] {
        let hit = findings.iter().any(|finding| finding.starts_with(words));
        assert!(hit, "{words} in {findings:?}");
    }
    assert_eq!(findings.len(), 2, "{findings:?}");
    world.end().await;
}
