//! People at a deployment: who looks may read and nothing else, and who repairs needs the token
//! of an operator.

use std::fs;

use integration_tests::{Client, Deployment, Finished};
use serde_json::json;

/// A token in a file of its own.
fn token_file(deployment: &Deployment, name: &str, token: &str) -> String {
    let path = deployment.folder().join(name);
    fs::write(&path, token).expect("written");
    path.display().to_string()
}

/// What a command says that may not do what it should.
fn refused(finished: &Finished) -> &str {
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    let lines: Vec<&str> = finished.stderr.lines().collect();
    lines.last().copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_reads_everything_and_changes_nothing() {
    let deployment = Deployment::start().await;
    let operator = Client::operator(&deployment);
    let product = operator.product(500, 10).await;
    operator.charge("alice", 5_000).await;
    let alice = Client::user(&deployment, "alice");
    let items = json!([{ "product_id": product, "quantity": 2 }]);
    let order = alice.place(json!({ "items": items })).await;
    alice.until(order, "CONFIRMED").await;
    let order = order.to_string();
    let path = |name: &str| deployment.folder().join(name).display().to_string();
    let urls =
        ensemble::SERVICES.map(|service| format!("http://{}", deployment.address(service.name)));
    let urls = urls.join(",");
    let token = token_file(&deployment, "operator", operator.token());
    let (story, into, trace) = (path("story.jsonl"), path("replayed"), path("trace.json"));
    for (arguments, shows) in [
        (&["map", "--check", "--live"][..], ""),
        (&["timeline", &order], "order.confirmed"),
        (
            &["why", &order, "--url", &urls, "--token-file", &token],
            &order,
        ),
        (&["replay", "--order", &order], "order.confirmed"),
        (&["replay", "--into", &into], ""),
        (&["capture", "--order", &order, "--out", &story], ""),
        (&["trace", &order, "--out", &trace], ""),
        (&["provision", "--dry-run"], "nothing to change"),
    ] {
        let finished = deployment.command("look", arguments).await;
        assert!(finished.status.success(), "{arguments:?}: {finished:?}");
        assert!(
            finished.stdout.contains(shows),
            "{arguments:?}: {finished:?}"
        );
    }
    // What would change something is refused by the broker, and said.
    let other = ["provision", "--flows", "parallel", "--yes"];
    let finished = deployment.command("look", &other).await;
    assert!(refused(&finished).starts_with("ensemble: "), "{finished:?}");
    let again = deployment
        .command("provision", &["provision", "--dry-run"])
        .await;
    assert!(again.stdout.contains("nothing to change"), "{again:?}");
    // A service's own user is no reader: it may not look at the others.
    let finished = deployment
        .command("stock", &["map", "--live", "--check"])
        .await;
    assert_ne!(finished.status.code(), Some(0), "{finished:?}");
    deployment.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_repairs_needs_the_token_of_an_operator() {
    let deployment = Deployment::start().await;
    let url = format!("http://{}", deployment.address("stock"));
    let operator = Client::operator(&deployment);
    let alice = Client::user(&deployment, "alice");
    let good = token_file(&deployment, "operator", operator.token());
    let user = token_file(&deployment, "alice", alice.token());
    let none = token_file(&deployment, "none", "nonsense");
    let id = "01890000-0000-7000-8000-000000000000";
    let why = ["--reason", "seen"];
    for command in [
        vec!["dead-letters", "list"],
        [&["dead-letters", "redrive", id][..], &why].concat(),
        [&["dead-letters", "discard", id][..], &why].concat(),
        vec!["reconcile"],
        [&["fence", "lift", "stock"][..], &why].concat(),
    ] {
        for (token, status) in [(&user, "403"), (&none, "401")] {
            let flags = ["--url", &url, "--token-file", token];
            let arguments = [&command[..], &flags].concat();
            let finished = deployment.tool(&arguments).await;
            let said = format!("{}{}", finished.stdout, finished.stderr);
            assert!(!finished.status.success(), "{command:?}: {said}");
            assert!(said.contains(status), "{command:?}: {said}");
        }
        // An operator is let in, and there is nothing to repair.
        let flags = ["--url", &url, "--token-file", &good];
        let finished = deployment.tool(&[&command[..], &flags].concat()).await;
        let said = format!("{}{}", finished.stdout, finished.stderr);
        assert!(
            !said.contains("401") && !said.contains("403"),
            "{command:?}: {said}"
        );
    }
    let listed = ["dead-letters", "list", "--url", &url, "--token-file", &good];
    let listed = deployment.tool(&listed).await;
    assert!(listed.status.success(), "{listed:?}");
    deployment.end().await;
}
