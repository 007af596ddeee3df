//! `ensemble up`: used wrongly, it says in one sentence what to do; stopped, it drains.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use integration_tests::{Backend, Finished, Process, Signal, System, nats_servers_on};
use serde_json::json;

/// Starts `ensemble up` with wrong flags, and expects one sentence with these words.
async fn is_refused(flags: &[(&str, &str)], words: &[&str]) {
    let mut system = System::new(Backend::Sqlite);
    for (flag, value) in flags {
        system = system.with(flag, value);
    }
    let began = Instant::now();
    let finished = system.launch(&[]).ended().await;
    says_what_to_do(&finished, words);
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "it is not slow to say so"
    );
    assert!(
        nats_servers_on(system.folder()).is_empty(),
        "its broker is gone"
    );
}

/// One sentence on stderr beside the log, and a failure.
fn says_what_to_do(finished: &Finished, words: &[&str]) {
    assert_eq!(
        finished.status.code().map(|code| code > 0),
        Some(true),
        "{finished:?}"
    );
    let is_log = |line: &&str| line.starts_with('{');
    let said: Vec<&str> = finished
        .stderr
        .lines()
        .filter(|line| !is_log(line))
        .collect();
    let said: Vec<&str> = said
        .into_iter()
        .take_while(|line| !line.is_empty())
        .collect();
    let [sentence] = said.as_slice() else {
        panic!("one sentence: {said:?}");
    };
    for word in words {
        assert!(sentence.contains(word), "`{word}` in: {sentence}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    is_refused(&[("--listen", &address)], &[&address, "in use", "--listen"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_nats_server_is_named() {
    let flags = [("--nats-server", "/nonexistent")];
    is_refused(&flags, &["/nonexistent", "--nats-server"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_nats_server_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("nats-server");
    std::fs::write(&program, "#!/bin/sh\necho 'nats-server: v2.9.0'\n").expect("written");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&program, executable).expect("executable");
    let program = program.display().to_string();
    is_refused(
        &[("--nats-server", &program)],
        &["2.9.0", "2.12", "--nats-server"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_cannot_be_written_is_named() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let under = file.path().join("data").display().to_string();
    is_refused(
        &[("--data-dir", &under)],
        &[&under, "cannot write", "--data-dir"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_is_named() {
    let flags = [("--database-url", "postgres://127.0.0.1:1/x")];
    let words = ["127.0.0.1:1", "does not answer", "--database-url"];
    is_refused(&flags, &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_does_not_answer_is_named() {
    let flags = [("--nats-url", "nats://127.0.0.1:1")];
    is_refused(&flags, &["nats://127.0.0.1:1", "--nats-url"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_service_is_answered_with_the_known_ones() {
    let flags = [("--nats-url", "nats://127.0.0.1:1"), ("--services", "stok")];
    is_refused(&flags, &["`stok`", "order, stock, point, coupon, cart"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_flow_is_answered_with_the_known_ones() {
    is_refused(
        &[("--flows", "circular")],
        &["circular", "parallel or sequential"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn some_services_need_the_broker_of_the_others() {
    let mut system = System::new(Backend::Sqlite);
    let finished = system.launch(&["--services", "stock"]).ended().await;
    assert!(!finished.status.success());
    assert!(
        finished.stderr.contains("--nats-url"),
        "{}",
        finished.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_directory_leaves_the_first_one_alone() {
    let mut system = System::new(Backend::Sqlite);
    system.start().await;
    let brokers = nats_servers_on(system.folder());
    let second = system.launch(&[]).ended().await;
    says_what_to_do(&second, &["in use", "ensemble up", "--data-dir"]);
    assert_eq!(nats_servers_on(system.folder()), brokers);
    let product = system.operator().product(500, 10).await;
    system.operator().charge("alice", 5_000).await;
    let items = json!([{ "product_id": product, "quantity": 1 }]);
    let order = system.user("alice").place(json!({ "items": items })).await;
    system.user("alice").until(order, "CONFIRMED").await;
    system.end().await;
}

async fn stops_and_continues(backend: Backend) {
    let mut system = System::new(backend);
    system.start().await;
    let product = system.operator().product(500, 10).await;
    system.operator().charge("alice", 5_000).await;
    let items = json!([{ "product_id": product, "quantity": 1 }]);
    let order = system.user("alice").place(json!({ "items": items })).await;

    let process = system.take();
    process.signal(Signal::INT);
    let finished = process.ended().await;
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    system.has_no_broker().await;
    let looked = system.command(&["trace", &order.to_string()]).await;
    says_what_to_do(&looked, &["if it has ended", "ensemble up", "--nats-url"]);

    system.start().await;
    let view = system.user("alice").until_final(order).await;
    assert_eq!(view["state"], "CONFIRMED", "{view}");
    system.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_drains_and_the_next_start_continues_on_sqlite() {
    stops_and_continues(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_drains_and_the_next_start_continues_on_postgres() {
    stops_and_continues(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_ctrl_c_during_the_demo_is_enough() {
    let mut system = System::new(Backend::Sqlite);
    let mut process = system.launch(&["--demo"]);
    let announced = |p: &Process| p.stdout().contains("operator ").then_some(());
    process.says("the announcement", announced).await;
    process.signal(Signal::INT);
    let finished = process.ended().await;
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    system.has_no_broker().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_left_behind_is_ended() {
    let mut system = System::new(Backend::Sqlite);
    system.start().await;
    let pid_file = system.data_dir().join("nats/nats.pid");
    let before = read(&pid_file);
    system.take().kill().await;
    system.start().await;
    assert_ne!(read(&pid_file), before);
    assert_eq!(nats_servers_on(system.folder()).len(), 1);
    system.end().await;
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a file")
}
