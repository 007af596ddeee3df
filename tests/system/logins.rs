//! The ways to the broker beside a password: nkeys, credentials, and TLS.

use std::fs;

use integration_tests::{Client, Deployment, Login, Process};
use serde_json::json;

/// An order that takes every service through its part, and a look at the stream.
async fn an_order_goes_through(deployment: &Deployment) {
    let operator = Client::operator(deployment);
    let product = operator.product(500, 10).await;
    let campaign = operator.campaign(json!({ "percent": 10 }), 2).await;
    operator.charge("alice", 5_000).await;
    let alice = Client::user(deployment, "alice");
    alice.put_in_cart(&product, 2).await;
    let coupon = alice.issue(&campaign).await;
    let items = json!([{ "product_id": product, "quantity": 2 }]);
    let new = json!({ "items": items, "coupon_id": coupon, "from_cart": true });
    let order = alice.place(new).await;
    alice.until(order, "CONFIRMED").await;
    let seen = deployment
        .command("look", &["timeline", &order.to_string()])
        .await;
    assert!(seen.stdout.contains("order.confirmed"), "{seen:?}");
}

async fn nothing_was_refused(deployment: Deployment) {
    for (service, log) in deployment.end().await {
        let refused = log.to_lowercase().contains("permissions violation");
        assert!(!refused, "{service}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_flow_works_with_nkeys_over_tls() {
    let mut deployment = Deployment::with(Login::Nkey, true).await;
    deployment.serve().await;
    an_order_goes_through(&deployment).await;
    nothing_was_refused(deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_flow_works_with_credentials() {
    let mut deployment = Deployment::with(Login::Credentials, false).await;
    deployment.serve().await;
    an_order_goes_through(&deployment).await;
    nothing_was_refused(deployment).await;
}

/// What `order-svc` says when it is started like this: one sentence.
async fn says(deployment: &Deployment, url: &str, flags: &[String]) -> String {
    let name = format!("wrong-{}", jetstream::clock::new_id().simple());
    let data = deployment.folder().join(&name).display().to_string();
    let address = [
        "--nats-url",
        url,
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        &data,
    ];
    let arguments = address.map(str::to_owned).into_iter();
    let arguments = arguments.chain(flags.iter().cloned());
    let process = Process::start("order-svc", arguments, deployment.folder(), &name);
    let finished = process.ended().await;
    assert!(!finished.status.success(), "{flags:?}");
    assert!(
        !std::path::Path::new(&data).exists(),
        "{flags:?}: nothing is written"
    );
    let lines = finished.stderr.lines();
    let lines: Vec<&str> = lines.filter(|line| !line.contains("  INFO ")).collect();
    let [sentence] = lines[..] else {
        panic!("{flags:?}: one sentence, and not {lines:#?}");
    };
    sentence.to_owned()
}

fn owned(flags: &[&str]) -> Vec<String> {
    flags.iter().map(|flag| (*flag).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_trusted_or_does_not_trust_is_one_sentence() {
    let deployment = Deployment::with(Login::Password, true).await;
    let password = deployment
        .secrets()
        .join("nats_order")
        .display()
        .to_string();
    let who = owned(&["--nats-user", "order", "--nats-password-file", &password]);
    let files = deployment.certificates().expect("certificates");
    let (ca, other) = (files.path("ca.pem"), files.path("other.pem"));
    let (client, key) = (files.path("client.pem"), files.path("client-key.pem"));
    let own = ["--nats-cert", &client, "--nats-cert-key", &key];
    let url = deployment.nats_url().to_owned();
    let elsewhere = url.replace("127.0.0.1", "localhost");
    for (what, url, tls) in [
        (
            "another authority",
            &url,
            [&["--nats-ca", &other][..], &own].concat(),
        ),
        ("no authority", &url, own.to_vec()),
        ("no certificate of its own", &url, vec!["--nats-ca", &ca]),
        (
            "another name",
            &elsewhere,
            [&["--nats-ca", &ca][..], &own].concat(),
        ),
    ] {
        let flags = [who.clone(), owned(&tls)].concat();
        let sentence = says(&deployment, url, &flags).await;
        assert!(sentence.contains("--nats-ca"), "{what}: {sentence}");
    }
    // And who asks for TLS where there is none does not talk without it.
    let plain = Deployment::empty().await;
    let password = plain.secrets().join("nats_order").display().to_string();
    let who = ["--nats-user", "order", "--nats-password-file", &password];
    let flags = owned(&[&who[..], &["--nats-ca", &ca]].concat());
    says(&plain, plain.nats_url(), &flags).await;
    plain.end().await;
    deployment.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nkey_or_credentials_that_the_broker_does_not_know_are_one_sentence() {
    let nkeys = Deployment::with(Login::Nkey, false).await;
    let other = Deployment::with(Login::Nkey, false).await;
    let key = other.secrets().join("nkey_order").display().to_string();
    let nonsense = other.folder().join("nonsense").display().to_string();
    fs::write(&nonsense, "SUNOSEED").expect("written");
    for key in [&key, &nonsense] {
        let flags = owned(&["--nats-user", "order", "--nats-nkey-file", key]);
        let sentence = says(&nkeys, nkeys.nats_url(), &flags).await;
        assert!(sentence.contains("--nats-nkey-file"), "{sentence}");
        assert!(!sentence.contains("SUNOSEED"), "{sentence}");
    }
    let creds = Deployment::with(Login::Credentials, false).await;
    let strange = Deployment::with(Login::Credentials, false).await;
    let file = strange.secrets().join("creds_order").display().to_string();
    let flags = owned(&["--nats-user", "order", "--nats-creds-file", &file]);
    let sentence = says(&creds, creds.nats_url(), &flags).await;
    assert!(sentence.contains("--nats-creds-file"), "{sentence}");
    for deployment in [nkeys, other, creds, strange] {
        deployment.end().await;
    }
}
