//! The load: each user has one order in flight, and places the next when it is decided.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use events::catalog::{ORDER_COMPENSATED, ORDER_CONFIRMED};
use events::{Envelope, OrderId};
use futures::StreamExt as _;
use jetstream::http::auth::DevelopmentKey;
use jetstream::stream::broker::Context;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::shop::{self, User};

const PATIENCE: Duration = Duration::from_secs(60);

/// What was measured.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) seconds: f64,
    pub(super) confirmed: u64,
    pub(super) canceled: u64,
    /// From sending the request to the 202.
    pub(super) accept: Vec<Duration>,
    /// From sending the request to the decision.
    pub(super) complete: Vec<Duration>,
}

/// Orders that wait for their decision, and decisions that were heard before the answer
/// with the order's id was.
#[derive(Default)]
struct Waiting {
    waiting: HashMap<OrderId, oneshot::Sender<(bool, Instant)>>,
    early: HashMap<OrderId, (bool, Instant)>,
}

type Decisions = Arc<Mutex<Waiting>>;

pub(super) async fn run(
    args: &super::Args,
    url: &str,
    key: &DevelopmentKey,
    broker: &Context,
) -> Result<Measured, String> {
    let client = Client::builder()
        .timeout(PATIENCE)
        .tcp_nodelay(true)
        .build()
        .map_err(|error| error.to_string())?;
    let warm_up = (args.orders / 10).div_ceil(args.in_flight).max(1);
    let each = args.orders.div_ceil(args.in_flight);
    eprintln!(
        "filling the shop: {} users, {} coupons each",
        args.in_flight,
        warm_up + each
    );
    let shop = shop::fill(&client, url, key, args.in_flight, warm_up + each).await?;
    let decisions = Decisions::default();
    listen(broker, decisions.clone()).await?;
    let products = Arc::new(shop.products);
    let mut users = shop.users;
    for (what, orders) in [("warming up", warm_up), ("measuring", each)] {
        eprintln!(
            "{what}: {} orders",
            u64::from(orders) * u64::from(args.in_flight)
        );
        let start = Instant::now();
        let mut running = Vec::new();
        for (n, user) in (0..).zip(users.drain(..)) {
            let customer = Customer {
                n,
                user,
                url: url.to_owned(),
                client: client.clone(),
                products: products.clone(),
                decisions: decisions.clone(),
            };
            running.push(tokio::spawn(customer.place_all(orders)));
        }
        let mut measured = Measured::default();
        for customer in running {
            let (user, one) = customer.await.map_err(|error| error.to_string())??;
            users.push(user);
            measured.add(one);
        }
        measured.seconds = start.elapsed().as_secs_f64();
        if what == "measuring" {
            return Ok(measured);
        }
    }
    Err("nothing was measured".to_owned())
}

/// Hears the decisions as they are published.
async fn listen(broker: &Context, decisions: Decisions) -> Result<(), String> {
    for (entry, good) in [(&ORDER_CONFIRMED, true), (&ORDER_COMPENSATED, false)] {
        let subscribed = broker.client().subscribe(entry.subject).await;
        let mut events = subscribed.map_err(|error| error.to_string())?;
        let decisions = decisions.clone();
        tokio::spawn(async move {
            while let Some(message) = events.next().await {
                let now = Instant::now();
                let Ok(envelope) = Envelope::decode(entry.subject, message.payload) else {
                    continue;
                };
                let order = OrderId(envelope.correlation);
                let mut decisions = decisions.lock().unwrap_or_else(PoisonError::into_inner);
                match decisions.waiting.remove(&order) {
                    Some(waiting) => drop(waiting.send((good, now))),
                    None => drop(decisions.early.insert(order, (good, now))),
                }
            }
        });
    }
    broker
        .client()
        .flush()
        .await
        .map_err(|error| error.to_string())
}

struct Customer {
    n: u32,
    user: User,
    url: String,
    client: Client,
    products: Arc<Vec<String>>,
    decisions: Decisions,
}

impl Customer {
    async fn place_all(mut self, orders: u32) -> Result<(User, Measured), String> {
        let mut measured = Measured::default();
        for _ in 0..orders {
            let coupon = self.user.coupons.pop_front().ok_or("no coupon is left")?;
            let sent = Instant::now();
            let order = self.place(&coupon).await?;
            measured.accept.push(sent.elapsed());
            let (good, decided) = self.decision(order).await?;
            measured.complete.push(decided.duration_since(sent));
            match good {
                true => measured.confirmed += 1,
                false => measured.canceled += 1,
            }
        }
        Ok((self.user, measured))
    }

    /// Places an order; one that comes a moment too early is placed again.
    async fn place(&self, coupon: &str) -> Result<OrderId, String> {
        let [one, two] = shop::chosen(&self.products, self.n);
        let body = json!({
            "items": [{ "product_id": one, "quantity": 1 }, { "product_id": two, "quantity": 1 }],
            "coupon_id": coupon,
            "from_cart": true,
        });
        let deadline = Instant::now() + PATIENCE;
        loop {
            let request = self.client.post(format!("{}/orders", self.url));
            let response = request
                .bearer_auth(&self.user.token)
                .json(&body)
                .send()
                .await
                .map_err(|error| error.to_string())?;
            let status = response.status();
            let answer: Value = response.json().await.unwrap_or_default();
            match status {
                StatusCode::ACCEPTED => {
                    let id = answer["order_id"].as_str().unwrap_or_default();
                    return id
                        .parse()
                        .map_err(|_| "an answer without an order id".to_owned());
                }
                StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY
                    if Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                _ => return Err(format!("an order was answered {status}: {answer}")),
            }
        }
    }

    async fn decision(&self, order: OrderId) -> Result<(bool, Instant), String> {
        let heard = {
            let mut decisions = self
                .decisions
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(early) = decisions.early.remove(&order) {
                return Ok(early);
            }
            let (waiting, heard) = oneshot::channel();
            decisions.waiting.insert(order, waiting);
            heard
        };
        match tokio::time::timeout(PATIENCE, heard).await {
            Ok(Ok(decision)) => Ok(decision),
            _ => Err(format!("order {order} was not decided within {PATIENCE:?}")),
        }
    }
}

impl Measured {
    fn add(&mut self, other: Self) {
        self.confirmed += other.confirmed;
        self.canceled += other.canceled;
        self.accept.extend(other.accept);
        self.complete.extend(other.complete);
    }
}
