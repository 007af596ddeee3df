//! The five services as five processes of their own, and what one of them takes up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;
use integration_tests::{Backend, Client, Events, Process, Signal, Site};
use jetstream::http::auth::DevelopmentKey;
use jetstream::stream::local_server::{self, LocalServer};
use serde_json::{Value, json};

/// A broker, and a process per service.
struct Processes {
    urls: BTreeMap<&'static str, String>,
    running: BTreeMap<&'static str, Process>,
    http: reqwest::Client,
    key: DevelopmentKey,
    database_url: Option<String>,
    _broker: LocalServer,
    _folder: tempfile::TempDir,
}

impl Processes {
    async fn start(backend: Backend, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let given = std::env::var_os("ENSEMBLE_NATS_SERVER").map(PathBuf::from);
        let program = local_server::find(given.as_deref()).expect("a nats-server");
        let broker = LocalServer::start(&program, &folder.path().join("nats")).expect("a broker");
        let provision = ["provision", "--nats-url", broker.url()];
        let provision = Process::start("ensemble", provision, folder.path(), "provision");
        let provision = provision.ended().await;
        assert!(provision.status.success(), "{}", provision.stderr);

        let database_url = integration_tests::database_url(backend);
        let data_dir = folder.path().join("data");
        let start = |name: &'static str| {
            let mut flags = flags(broker.url(), &data_dir, database_url.as_deref());
            flags.extend(more.iter().map(|flag| (*flag).to_owned()));
            let binary = format!("{name}-svc");
            (name, Process::start(&binary, flags, folder.path(), name))
        };
        // All at once, on a directory that is not there yet.
        let started: Vec<_> = ensemble::SERVICES.iter().map(|s| start(s.name)).collect();
        let mut urls = BTreeMap::new();
        let mut running = BTreeMap::new();
        for (name, mut process) in started {
            urls.insert(name, process.says("the address", address).await);
            running.insert(name, process);
        }
        let timeout = Duration::from_secs(30);
        let http = reqwest::Client::builder().timeout(timeout).build();
        Self {
            urls,
            running,
            http: http.expect("a client"),
            key: DevelopmentKey::of(&data_dir).expect("a key"),
            database_url,
            _broker: broker,
            _folder: folder,
        }
    }

    async fn end(self) {
        for process in self.running.values() {
            process.signal(Signal::TERM);
        }
        for process in self.running.into_values() {
            let finished = process.ended().await;
            assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
        }
        integration_tests::forget_databases(self.database_url).await;
    }
}

fn flags(nats_url: &str, data_dir: &Path, database_url: Option<&str>) -> Vec<String> {
    let data_dir = data_dir.display().to_string();
    let mut flags = vec!["--log-json", "--listen", "127.0.0.1:0"];
    flags.extend(["--nats-url", nats_url, "--data-dir", &data_dir]);
    if let Some(url) = database_url {
        flags.extend(["--database-url", url]);
    }
    flags.into_iter().map(str::to_owned).collect()
}

/// The address that a service logs when it serves.
pub(crate) fn address(process: &Process) -> Option<String> {
    let log = process.stderr();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut addresses = lines.filter_map(|line| {
        let fields = &line["fields"];
        (fields["message"] == "serving").then(|| fields["address"].as_str().map(str::to_owned))?
    });
    Some(format!("http://{}", addresses.next()?))
}

impl Site for Processes {
    fn url(&self, service: &str, _user: &str) -> String {
        self.urls[service].clone()
    }

    fn http(&self) -> &reqwest::Client {
        &self.http
    }

    fn key(&self) -> &DevelopmentKey {
        &self.key
    }
}

async fn five_processes_take_orders(backend: Backend) {
    let processes = Processes::start(backend, &[]).await;
    let operator = Client::operator(&processes);
    let product = operator.product(500, 10).await;
    let campaign = operator.campaign(json!({ "percent": 10 }), 2).await;
    operator.charge("alice", 5_000).await;
    operator.charge("bob", 10).await;

    let mut ends = Vec::new();
    for name in ["alice", "bob"] {
        let user = Client::user(&processes, name);
        user.put_in_cart(&product, 2).await;
        let items = json!([{ "product_id": product, "quantity": 2 }]);
        let coupon = user.issue(&campaign).await;
        let new = json!({ "items": items, "coupon_id": coupon, "from_cart": true });
        let order = user.place(new).await;
        ends.push(user.until_final(order).await);
    }

    let [confirmed, canceled] = ends.as_slice() else {
        panic!("two orders: {ends:?}");
    };
    assert_eq!(confirmed["state"], "CONFIRMED", "{confirmed}");
    assert_eq!(confirmed["total"], 900);
    assert_eq!(
        confirmed["steps"].as_object().map(serde_json::Map::len),
        Some(4)
    );
    assert_eq!(canceled["state"], "CANCELED", "{canceled}");
    assert_eq!(canceled["steps"]["point"], "refused");
    for step in ["stock", "coupon", "cart"] {
        let flag = canceled["steps"][step].as_str();
        assert!(matches!(flag, Some("compensated" | "void")), "{canceled}");
    }
    processes.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_processes_confirm_and_compensate_and_drain_on_sqlite() {
    five_processes_take_orders(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_processes_confirm_and_compensate_and_drain_on_postgres() {
    five_processes_take_orders(Backend::Postgres).await;
}

/// What a process has in memory, in KiB.
fn resident(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid()));
    let status = status.expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_open_streams_take_less_than_100_mb() {
    let flags = ["--order-deadline", "120"];
    let processes = Processes::start(Backend::Sqlite, &flags).await;
    let product = Client::operator(&processes).product(500, 1_000).await;
    let names: Vec<String> = (0..20).map(|n| format!("user{n}")).collect();
    for name in &names {
        Client::operator(&processes).charge(name, 500).await;
    }
    // Orders stay open as long as point is paused.
    processes.running["point"].signal(Signal::STOP);
    let mut streams = vec![];
    for name in &names {
        let user = Client::user(&processes, name);
        let one = json!({ "items": [{ "product_id": product, "quantity": 1 }] });
        let order = user.place(one).await;
        streams.extend(join_all((0..50).map(|_| user.events(order))).await);
    }
    assert_eq!(streams.len(), 1_000);
    let resident = resident(&processes.running["order"]);
    assert!(resident < 100 * 1024, "{resident} KiB");
    processes.running["point"].signal(Signal::CONT);
    for changes in join_all(streams.into_iter().map(Events::all)).await {
        let (_, last) = changes.last().expect("at least one");
        assert_eq!(last["state"], "CONFIRMED");
    }
    processes.end().await;
}
