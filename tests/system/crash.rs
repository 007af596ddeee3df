//! The whole system, or its broker, is killed in the middle of the work.

use std::collections::BTreeSet;

use integration_tests::{Backend, Client, Signal, System, eventually, nats_servers_on};
use serde_json::Value;
use tokio::sync::watch;

use crate::crowd::{Crowd, all_orders, count, each, flow, order};

const ORDERS: usize = 200;

async fn everything_is_killed_and_started_again(backend: Backend) {
    let mut system = System::new(backend);
    system.start().await;
    let mut crowd = Crowd::default();
    let product = crowd.product(&system, 100, 1_000).await;
    crowd
        .users(&system, ORDERS, |i| if i % 10 == 9 { 50 } else { 500 })
        .await;

    // The second half orders when the kill is on its way: so it falls into the middle,
    // however fast the system is.
    let (decided, some_are_decided) = watch::channel(false);
    let placing = each(0..ORDERS, async |i| {
        if i >= ORDERS / 2 {
            let mut some = some_are_decided.clone();
            some.wait_for(|yes| *yes).await.expect("it is told");
        }
        let user = Client::user(&system, crowd.user(i));
        place_while_it_lives(&user, order(&product, 1, flow(i))).await
    });
    let watching = async {
        until_final(&system, ORDERS / 4).await;
        decided.send_replace(true);
    };
    let killing = async {
        let mut some = some_are_decided.clone();
        some.wait_for(|yes| *yes).await.expect("it is told");
        system.process().signal(Signal::KILL);
    };
    let (placed, (), ()) = tokio::join!(placing, watching, killing);
    let killed = system.take().ended().await;
    assert_eq!(killed.status.code(), None, "killed by a signal");
    system.has_no_broker().await;
    let accepted: BTreeSet<String> = placed.into_iter().flatten().collect();
    assert!(accepted.len() < ORDERS, "killed in the middle");

    system.start().await;
    let orders = crowd.settle(&system).await;
    let known: BTreeSet<&str> = orders
        .iter()
        .filter_map(|o| o["order_id"].as_str())
        .collect();
    let lost: Vec<_> = accepted
        .iter()
        .filter(|id| !known.contains(id.as_str()))
        .collect();
    assert!(lost.is_empty(), "accepted and lost: {lost:?}");
    assert!(orders.len() <= ORDERS, "no order without a request");
    assert!(count(&orders, "CONFIRMED") > 0);
    system.end().await;
}

/// The id of the order if it was accepted before everything was killed.
async fn place_while_it_lives(user: &Client<'_>, new: Value) -> Option<String> {
    loop {
        let answer = user
            .try_send(reqwest::Method::POST, "/orders", new.clone())
            .await;
        match answer {
            Ok(answer) if answer.status == 202 => {
                return answer.body["order_id"].as_str().map(str::to_owned);
            }
            Ok(answer) if answer.body["code"] == "UNKNOWN_PRODUCT" => {
                tokio::task::yield_now().await
            }
            Ok(answer) => panic!("not accepted: {answer:?}"),
            Err(_) => return None,
        }
    }
}

async fn until_final(system: &System, least: usize) {
    eventually("the end of some orders", async || {
        let orders = all_orders(system).await;
        match count(&orders, "CONFIRMED") + count(&orders, "CANCELED") {
            enough if enough >= least => Ok(()),
            few => Err(format!("{few} are final")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_survives_kill_9_on_sqlite() {
    everything_is_killed_and_started_again(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_survives_kill_9_on_postgres() {
    everything_is_killed_and_started_again(Backend::Postgres).await;
}

async fn only_the_broker_is_killed(backend: Backend) {
    let mut system = System::new(backend).with("--order-deadline", "600");
    system.start().await;
    let mut crowd = Crowd::default();
    let product = crowd.product(&system, 100, 1_000).await;
    crowd
        .users(&system, ORDERS, |i| if i % 10 == 9 { 50 } else { 500 })
        .await;
    let before = broker_pid(&system);
    let placing = crowd.place(&system, async |i, _: Client<'_>| {
        order(&product, 1, flow(i))
    });
    let killing = async {
        until_final(&system, ORDERS / 4).await;
        kill(before);
    };
    tokio::join!(placing, killing);

    let orders = crowd.settle(&system).await;
    assert_eq!(count(&orders, "CONFIRMED"), ORDERS * 9 / 10);
    assert_eq!(count(&orders, "CANCELED"), ORDERS / 10);
    assert_ne!(broker_pid(&system), before, "another process");
    assert_eq!(nats_servers_on(&system.data_dir()).len(), 1);
    let log = system.process().stderr();
    assert!(log.contains("nats-server has ended"), "the log says so");
    system.end().await;
}

fn broker_pid(system: &System) -> i32 {
    let file = system.data_dir().join("nats/nats.pid");
    let text = std::fs::read_to_string(file).expect("the broker's process id");
    text.trim().parse().expect("a number")
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
    rustix::process::kill_process(pid, Signal::KILL).expect("it runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_is_started_again_on_sqlite() {
    only_the_broker_is_killed(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_is_started_again_on_postgres() {
    only_the_broker_is_killed(Backend::Postgres).await;
}
