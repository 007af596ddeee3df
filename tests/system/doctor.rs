//! `ensemble doctor`: each finding on a real server, with the fault made.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::jetstream::consumer::pull::Config as Pull;
use async_nats::jetstream::stream::Config;
use events::{Flow, catalog};
use integration_tests::{Backend, Finished, Shop, World, eventually};
use serde_json::{Value, json};

use crate::commands;
use crate::held_back::HeldBack;

/// What the doctor finds: severity, code and subject of each finding.
async fn examine(world: &World) -> (Finished, Vec<[String; 3]>) {
    let monitor = world.monitor_url();
    let finished = commands::run(world, &["doctor", "--json", "--monitor", &monitor]).await;
    let found = findings(&commands::json(&finished));
    (finished, found)
}

fn findings(answer: &Value) -> Vec<[String; 3]> {
    let findings = answer["findings"].as_array().expect("findings");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    findings
        .iter()
        .map(|f| ["severity", "code", "subject"].map(|name| text(&f[name])))
        .collect()
}

fn has(found: &[[String; 3]], severity: &str, code: &str, subject: &str) -> bool {
    found.iter().any(|f| *f == [severity, code, subject])
}

/// Waits until the doctor finds this.
async fn until_found(world: &World, severity: &str, code: &str, subject: &str) {
    eventually(code, async || {
        let (finished, found) = examine(world).await;
        match has(&found, severity, code, subject) {
            true => {
                assert_eq!(finished.status.code(), Some(3), "{finished:?}");
                Ok(())
            }
            false => Err(finished.stdout),
        }
    })
    .await;
}

/// Waits until the doctor finds nothing but notes.
async fn until_well(world: &World) {
    eventually("well", async || {
        let (finished, found) = examine(world).await;
        match found.iter().all(|[severity, ..]| severity == "note") {
            true => {
                assert_eq!(finished.status.code(), Some(0), "{finished:?}");
                Ok(())
            }
            false => Err(finished.stdout),
        }
    })
    .await;
}

async fn change_stream(world: &World, change: impl FnOnce(&mut Config)) {
    let stream = world.broker().get_stream(catalog::STREAM).await;
    let mut config = stream.expect("the stream").cached_info().config.clone();
    change(&mut config);
    let updated = world.broker().update_stream(config).await;
    updated.expect("the stream is changed");
}

async fn change_consumer(world: &World, name: &str, change: impl FnOnce(&mut Pull)) {
    let stream = world.broker().get_stream(catalog::STREAM).await;
    let stream = stream.expect("the stream");
    let there = stream.get_consumer::<Pull>(name).await.expect("a consumer");
    let there = there.cached_info().config.clone();
    let mut config = Pull {
        durable_name: there.durable_name,
        filter_subjects: there.filter_subjects,
        ack_policy: there.ack_policy,
        ack_wait: there.ack_wait,
        max_ack_pending: there.max_ack_pending,
        max_deliver: there.max_deliver,
        ..Pull::default()
    };
    change(&mut config);
    stream.create_consumer(config).await.expect("changed");
}

async fn apart() -> (World, Shop) {
    let flags = ["--order-deadline", "600"];
    let mut world = World::with(Backend::Sqlite, &ensemble::SERVICES, &flags).await;
    world.start_apart().await;
    let shop = Shop::open(&world, None).await;
    (world, shop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_system_has_notes_and_nothing_is_unseen() {
    let (world, _) = apart().await;
    until_well(&world).await;
    let (finished, found) = examine(&world).await;
    assert!(has(&found, "note", "ONE_COPY", "stream"), "{found:?}");
    assert!(has(&found, "note", "NO_SIZE_LIMIT", "stream"), "{found:?}");
    assert_eq!(commands::json(&finished)["unseen"], json!([]));
    let printed = commands::run(&world, &["doctor"]).await;
    assert!(printed.stdout.contains("nothing is wrong"), "{printed:?}");
    let unseen = "not seen: how the broker writes to disk";
    assert!(printed.stdout.contains(unseen), "{printed:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_consumer_is_found_and_the_remedy_mends_it() {
    let (mut world, shop) = apart().await;
    crate::why::pause(&world, "cart").await;
    until_found(&world, "critical", "CONSUMER_PAUSED", "cart").await;
    change_consumer(&world, "point", |config| config.max_deliver = 7).await;
    until_found(&world, "critical", "MAX_DELIVER", "point").await;
    let stream = world.broker().get_stream(catalog::STREAM).await;
    let deleted = stream.expect("the stream").delete_consumer("stock").await;
    deleted.expect("deleted");
    until_found(&world, "critical", "NO_CONSUMER", "stock").await;
    let provision = ["provision", "--yes", "--resume", "--nats-url"];
    let mended = commands::on(&world, &provision, &[world.nats_url()]).await;
    assert!(mended.status.success(), "{mended:?}");
    until_well(&world).await;

    world.stop("coupon").await;
    until_found(&world, "critical", "SERVICE_DOWN", "coupon").await;
    change_consumer(&world, "coupon", |config| config.max_ack_pending = 1).await;
    let order = shop.order(&world, Flow::Parallel).await;
    let mut held = HeldBack::default();
    held.take(&world, "coupon", "order.created.pending").await;
    let while_held = async |world: &World, code: &str| {
        eventually(code, async || {
            held.keep().await;
            let (finished, found) = examine(world).await;
            match has(&found, "critical", code, "coupon") {
                true => Ok(()),
                false => Err(finished.stdout),
            }
        })
        .await;
    };
    while_held(&world, "ACKS_CAPPED").await;
    world.provision().await;
    // An instance that hangs with an event in hand, beside one that asks for more.
    world.start_alone("coupon").await;
    while_held(&world, "STALLED").await;
    held.let_through().await;
    world.user("alice").until(order, "CONFIRMED").await;
    until_well(&world).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_fills_up_and_the_outbox_that_grows_are_found() {
    let (world, shop) = apart().await;
    let stream = world.broker().get_stream(catalog::STREAM).await;
    let bytes = stream.expect("the stream").cached_info().state.bytes;
    let bytes = i64::try_from(bytes).expect("a size");
    change_stream(&world, |config| config.max_bytes = bytes * 100 / 85).await;
    until_found(&world, "warning", "NEARLY_FULL", "stream").await;
    change_stream(&world, |config| config.max_bytes = bytes + 1).await;
    until_found(&world, "critical", "NEARLY_FULL", "stream").await;
    let order = shop.order(&world, Flow::Parallel).await;
    until_found(&world, "critical", "OUTBOX_GROWS", "order").await;
    change_stream(&world, |config| config.max_bytes = -1).await;
    world.user("alice").until(order, "CONFIRMED").await;
    until_well(&world).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_that_ages_out_is_found() {
    let (mut world, shop) = apart().await;
    world.stop("coupon").await;
    let order = shop.order(&world, Flow::Parallel).await;
    let age = |seconds: u64| {
        move |config: &mut Config| {
            config.duplicate_window = Duration::from_secs(seconds.min(120));
            config.max_age = Duration::from_secs(seconds);
        }
    };
    change_stream(&world, age(24)).await;
    until_found(&world, "warning", "BACKLOG_AGES_OUT", "coupon").await;
    change_stream(&world, age(14 * 24 * 60 * 60)).await;
    world.start_alone("coupon").await;
    world.user("alice").until(order, "CONFIRMED").await;
    until_well(&world).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_service_is_found() {
    let (mut world, shop) = apart().await;
    let garbage = world
        .broker()
        .publish("cart.cleared", "no event".into())
        .await;
    garbage.expect("sent").await.expect("stored");
    until_found(&world, "warning", "DEAD_LETTERS", "order").await;
    let letters = world.database("order");
    let close = "UPDATE dead_letters SET state = 'DISCARDED'";
    letters.execute(close, vec![]).await.expect("closed");

    eventually("the clock", async || {
        // It is set right every few seconds.
        let ahead = jetstream::clock::wall() + 600_000;
        world.database("stock").clock().set(ahead);
        let (finished, found) = examine(&world).await;
        match has(&found, "warning", "CLOCK_SKEW", "stock") {
            true => Ok(()),
            false => Err(finished.stdout),
        }
    })
    .await;
    until_well(&world).await;

    let database = world.folder().join("stock.sqlite");
    let backup = world.folder().join("stock.backup");
    world.stop("stock").await;
    std::fs::copy(&database, &backup).expect("copied");
    world.start_alone("stock").await;
    let items = json!([{ "product_id": shop.pen, "quantity": 1 }]);
    let order = world.user("alice").place(json!({ "items": items })).await;
    world.user("alice").until(order, "CONFIRMED").await;
    world.quiet().await;
    world.stop("stock").await;
    std::fs::copy(&backup, &database).expect("copied");
    world.start_alone("stock").await;
    until_found(&world, "critical", "FENCED", "stock").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_write_to_disk_is_found() {
    let mut world = World::start(Backend::Postgres).await;
    // The server for tests runs so.
    until_found(&world, "critical", "FSYNC_OFF", "order").await;
    until_found(&world, "critical", "FULL_PAGE_WRITES_OFF", "order").await;
    let sql = "DO $$ BEGIN EXECUTE format(
                   'ALTER DATABASE %I SET synchronous_commit = off', current_database());
               END $$";
    let changed = world.database("point").execute(sql, vec![]).await;
    changed.expect("changed");
    // Connections that there are go on as they were.
    let (_, found) = examine(&world).await;
    assert!(!has(&found, "critical", "SYNCHRONOUS_COMMIT_OFF", "point"));
    world.stop("all").await;
    world.start_together("all").await;
    until_found(&world, "critical", "SYNCHRONOUS_COMMIT_OFF", "point").await;
    let (_, found) = examine(&world).await;
    assert!(!has(&found, "critical", "SYNCHRONOUS_COMMIT_OFF", "stock"));
    world.end().await;
}

/// A nats-server with a configuration of its own; dropping it ends it.
struct Server {
    child: Child,
    url: String,
    monitor: String,
}

impl Server {
    async fn start(world: &World, more: &str) -> Self {
        let [port, monitor] = [free_port(), free_port()];
        let store = world.folder().join(format!("own-{port}"));
        let config = world.folder().join(format!("own-{port}.conf"));
        let text = format!(
            "host: 127.0.0.1\nport: {port}\nhttp: \"127.0.0.1:{monitor}\"\n{more}\n\
             jetstream {{ store_dir: \"{}\" }}\n",
            store.display()
        );
        std::fs::write(&config, text).expect("written");
        let mut command = Command::new(world.nats_program());
        command
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = Self {
            child: command.spawn().expect("a nats-server"),
            url: format!("nats://127.0.0.1:{port}"),
            monitor: format!("http://127.0.0.1:{monitor}"),
        };
        eventually("a nats-server", async || {
            let connected = std::net::TcpStream::connect(("127.0.0.1", port));
            connected.map(drop).map_err(|error| error.to_string())
        })
        .await;
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_syncs_late_and_has_no_stream_is_found() {
    let world = World::empty(Backend::Sqlite).await;
    let server = Server::start(&world, "").await;
    let reach = ["--nats-url", &server.url, "--monitor", &server.monitor];
    let finished = commands::on(&world, &["doctor", "--json"], &reach).await;
    assert_eq!(finished.status.code(), Some(3), "{finished:?}");
    let found = findings(&commands::json(&finished));
    assert!(
        has(&found, "warning", "SYNC_INTERVAL", "broker"),
        "{finished:?}"
    );
    assert!(
        has(&found, "critical", "NO_STREAM", "stream"),
        "{finished:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_credentials_do_not_show_is_said() {
    let world = World::empty(Backend::Sqlite).await;
    let permissions = "authorization { users = [ { user: reader, password: hunter2, permissions: {
        publish: [\"$JS.API.DIRECT.GET.>\"], subscribe: [\"_INBOX_reader.>\"] } } ] }";
    let server = Server::start(&world, permissions).await;
    let password = world.folder().join("password");
    std::fs::write(&password, "hunter2").expect("a file");
    let password = password.display().to_string();
    let reach = [
        "--nats-url",
        &server.url,
        "--nats-user",
        "reader",
        "--nats-password-file",
        &password,
        "--monitor",
        &server.monitor,
    ];
    let finished = commands::on(&world, &["doctor", "--json"], &reach).await;
    let answer = commands::json(&finished);
    let unseen = answer["unseen"].as_array().expect("what is not seen");
    let said = |words: &str| {
        unseen
            .iter()
            .any(|u| u.as_str().is_some_and(|u| u.contains(words)))
    };
    assert!(said("how the stream is cannot be seen"), "{answer}");
    assert!(said("$JS.API.STREAM.INFO.EVENTS"), "{answer}");
    assert!(said("how coupon is cannot be seen"), "{answer}");
    // A remedy is with the provisioner's credentials, and a password in an address is shown
    // by nothing.
    let url = server.url.replace("nats://", "nats://reader:hunter2@");
    let inside = ["--nats-url", &url, "--monitor", &server.monitor];
    for finished in [finished, commands::on(&world, &["doctor"], &inside).await] {
        assert!(!finished.stdout.contains("hunter2"), "{finished:?}");
        assert!(!finished.stderr.contains("hunter2"), "{finished:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_answers_it_says_so() {
    let world = World::empty(Backend::Sqlite).await;
    let away = [
        "--nats-url",
        "nats://127.0.0.1:1",
        "--url",
        "http://127.0.0.1:1",
    ];
    let finished = commands::on(&world, &["doctor"], &away).await;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
}
