//! A rolling upgrade, with orders in flight.
//!
//! There are two builds: the programs of the project, which know four steps, and this test,
//! which is compiled with a fifth. One service after another is replaced by the new build,
//! order last, while orders keep coming. What it shows: the two builds understand each
//! other, a service that stops hands over what it has, and no order is lost, left open or
//! decided wrongly. What it does not show: an upgrade that changes tables.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use events::OrderId;
use integration_tests::{Backend, Client, Process, Signal, Site, World, eventually};
use jetstream::http::auth::DevelopmentKey;
use reqwest::Method;
use serde_json::{Value, json};

use crate::wrap;

const USERS: usize = 30;
// Placed before a service is replaced, and after.
const MORE: usize = 25;

/// Where each service is now.
#[derive(Clone)]
struct Addresses {
    urls: Arc<Mutex<BTreeMap<String, String>>>,
    http: reqwest::Client,
    key: Arc<DevelopmentKey>,
}

impl Addresses {
    fn set(&self, service: &str, url: String) {
        self.urls
            .lock()
            .expect("a lock")
            .insert(service.to_owned(), url);
    }
}

impl Site for Addresses {
    fn url(&self, service: &str, _user: &str) -> String {
        self.urls.lock().expect("a lock")[service].clone()
    }

    fn http(&self) -> &reqwest::Client {
        &self.http
    }

    fn key(&self) -> &DevelopmentKey {
        &self.key
    }
}

/// Users who order again and again, whatever happens meanwhile.
struct Load {
    placed: Arc<Mutex<Vec<(String, OrderId)>>>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    fn start(site: Addresses, plenty: String, scarce: String) -> Self {
        let placed: Arc<Mutex<Vec<(String, OrderId)>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (kept, told) = (placed.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let mut round = 0;
            while !told.load(Ordering::Relaxed) {
                let name = format!("user-{}", round % USERS);
                let product = if round % 9 == 8 { &scarce } else { &plenty };
                let flow = ["parallel", "sequential"][round % 2];
                let items = json!([{ "product_id": product, "quantity": 1 }]);
                let order = json!({ "items": items, "flow": flow });
                let user = Client::user(&site, &name);
                // Refused while the user's last order is open, or while order is replaced.
                let answer = user.try_send(Method::POST, "/orders", order).await;
                match answer {
                    Ok(answer) if answer.status == 202 => {
                        let id = answer.body["order_id"].as_str().expect("an id");
                        let id = id.parse().expect("an order id");
                        kept.lock().expect("a lock").push((name, id));
                    }
                    Ok(answer) => assert!(matches!(answer.status, 409 | 503), "{answer:?}"),
                    Err(_) => {}
                }
                round += 1;
                // A pace, so that the two builds and not the machine are tried.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Self { placed, stop, task }
    }

    fn count(&self) -> usize {
        self.placed.lock().expect("a lock").len()
    }

    /// Waits until some more orders have been accepted.
    async fn goes_on(&self) {
        let before = self.count();
        eventually("more orders", async || match self.count() {
            now if now >= before + MORE => Ok(()),
            now => Err(format!("{now} orders, {before} before")),
        })
        .await;
    }

    async fn end(self) -> Vec<(String, OrderId)> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the load ends");
        std::mem::take(&mut self.placed.lock().expect("a lock"))
    }
}

/// Starts a service of the old build; the address that it logs.
async fn old(world: &World, service: &'static str) -> (Process, String) {
    let mut flags = world.flags();
    let more = ["--log-json", "--nats-url", world.nats_url()];
    flags.extend(more.map(str::to_owned));
    let mut process = Process::start(&format!("{service}-svc"), flags, world.folder(), service);
    let address = |process: &Process| {
        let log = process.stderr();
        let lines = log
            .lines()
            .filter_map(|l| serde_json::from_str::<Value>(l).ok());
        let mut serving = lines.filter(|line| line["fields"]["message"] == "serving");
        Some(serving.next()?["fields"]["address"].as_str()?.to_owned())
    };
    let address = process.says("its address", address).await;
    (process, format!("http://{address}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_upgrade_loses_no_order() {
    let mut services = ensemble::SERVICES.to_vec();
    services.push(wrap::SERVICE);
    // The broker first: its stream and consumers are those of the new build.
    let mut world = World::with(Backend::Postgres, &services, &[]).await;
    let key = DevelopmentKey::of(world.folder()).expect("a key");
    let site = Addresses {
        urls: Arc::default(),
        http: reqwest::Client::new(),
        key: Arc::new(key),
    };
    let mut running = BTreeMap::new();
    for service in ensemble::SERVICES {
        let (process, url) = old(&world, service.name).await;
        site.set(service.name, url);
        running.insert(service.name, process);
    }
    let operator = Client::operator(&site);
    let plenty = operator.product(100, 1_000_000).await;
    let scarce = operator.product(100, 3).await;
    for user in 0..USERS {
        operator.charge(&format!("user-{user}"), 1_000_000).await;
    }
    // Order prices with what it has heard.
    let known = json!({ "items": [{ "product_id": scarce, "quantity": 1 }] });
    let user = Client::user(&site, "user-0");
    let first = user.place(known).await;
    user.until(first, "CONFIRMED").await;

    let load = Load::start(site.clone(), plenty, scarce);
    load.goes_on().await;
    world.start_alone("wrap").await;
    let paper = "UPDATE paper SET sheets = 1000000";
    world
        .database("wrap")
        .execute(paper, vec![])
        .await
        .expect("paper");
    for service in ["stock", "point", "coupon", "cart", "order"] {
        let process = running.remove(service).expect("the old build runs");
        process.signal(Signal::TERM);
        let finished = process.ended().await;
        assert_eq!(
            finished.status.code(),
            Some(0),
            "{service}: {}",
            finished.stderr
        );
        world.start_alone(service).await;
        site.set(service, Site::url(&world, service, ""));
        load.goes_on().await;
    }
    let placed = load.end().await;

    let (mut states, mut with_wrap) = (BTreeMap::new(), 0);
    for (name, id) in &placed {
        let order = Client::user(&site, name).until_final(*id).await;
        let state = order["state"].as_str().expect("a state").to_owned();
        *states.entry(state).or_insert(0) += 1;
        with_wrap += usize::from(order["steps"].get("wrap").is_some());
    }
    assert_eq!(states.values().sum::<usize>(), placed.len(), "{states:?}");
    assert!(
        states["CONFIRMED"] > 0 && states["CANCELED"] > 0,
        "{states:?}"
    );
    let by_old = placed.len() - with_wrap;
    assert!(
        by_old >= MORE && with_wrap >= MORE,
        "{by_old} by the old build, {with_wrap} by the new"
    );
    // Nothing is held, unpublished or unheard, no sum is off, no event a dead letter.
    world.end().await;
}
