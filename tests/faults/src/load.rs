//! Clients that order: a mix of everything that an order can need and run into, chosen by
//! the seed. Each watches its orders to their end, and says when one does what none may do.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use jetstream::clock::new_id;
use jetstream::http::auth::DevelopmentKey;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Client;
use crate::progress::Progress;
use crate::random::Random;

const USERS: u64 = 24;
const WATCH: Duration = Duration::from_millis(40);
const PATIENCE: Duration = Duration::from_secs(200);

/// What there is to order, and who orders.
pub(crate) struct Shop {
    users: Vec<Client>,
    probe: Client,
    mug: String,
    rare: String,
    coupons: Vec<String>,
    random: Random,
    orders: u64,
    pub(crate) seen: Seen,
}

/// What the clients have seen.
#[derive(Default)]
pub(crate) struct Seen {
    placed: AtomicU64,
    ended: AtomicU64,
    accepted: Mutex<Vec<String>>,
    wrong: Mutex<Vec<String>>,
}

impl Seen {
    fn wrong(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.push(what);
    }

    fn accepted(&self, order: &str) {
        let mut all = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(order.to_owned());
    }

    /// What clients saw that none may see.
    pub(crate) fn take_wrong(&self) -> Vec<String> {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut wrong)
    }

    /// The orders that were accepted.
    pub(crate) fn all_accepted(&self) -> Vec<String> {
        let all = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }
}

impl Shop {
    /// Lists products, and gives users points, coupons and carts. One in eight is poor; of
    /// one product there is little.
    pub(crate) async fn open(
        key: &DevelopmentKey,
        urls: BTreeMap<&'static str, String>,
        random: Random,
        orders: u64,
    ) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .build()
            .map_err(|e| e.to_string())?;
        let client = |name: &str, operator| Client::new(&http, &urls, key, name, operator);
        let operator = client("operator", true)?;
        let users = (0..USERS).map(|n| client(&format!("user{n}"), false));
        let users = users.collect::<Result<Vec<_>, _>>()?;
        let probe = client("probe", false)?;
        let list = async |name: &str, stock: u64| {
            let new = json!({ "name": name, "price": 500, "stock": stock });
            let made = operator.post("stock", "/products", None, new).await?;
            Ok::<_, String>(made.text("product_id"))
        };
        let (mug, rare) = (
            list("mug", 1_000_000).await?,
            list("rare", orders / 12).await?,
        );
        let campaign = json!({ "name": "ten", "discount": { "percent": 10 }, "quantity": USERS });
        let campaign = operator.post("coupon", "/coupons", None, campaign).await?;
        let issue = format!("/coupons/{}/issue", campaign.text("campaign_id"));
        let fill = async |n: usize, user: &Client| {
            let amount = if n % 8 == 7 { 2_000 } else { 10_000_000 };
            let charge = format!("/points/user{n}/charge");
            let key = new_id().to_string();
            let charge = operator.post("point", &charge, Some(&key), json!({ "amount": amount }));
            charge.await?;
            for product in [&mug, &rare] {
                let path = format!("/carts/user{n}/items/{product}");
                let line = json!({ "quantity": 10_000 });
                user.insist("cart", Method::PUT, &path, None, &line).await?;
            }
            let coupon = user.post("coupon", &issue, None, json!({})).await?;
            Ok::<_, String>(coupon.text("coupon_id"))
        };
        let coupons = users.iter().enumerate().map(|(n, user)| fill(n, user));
        let coupons = try_join_all(coupons).await?;
        let key = new_id().to_string();
        let charge = json!({ "amount": 1_000_000_000 });
        operator
            .post("point", "/points/probe/charge", Some(&key), charge)
            .await?;
        let shop = Self {
            users,
            probe,
            mug,
            rare,
            coupons,
            random,
            orders,
            seen: Seen::default(),
        };
        // The shop is open when an order goes through.
        shop.probe().await?;
        Ok(shop)
    }

    /// How long it takes now until an order is confirmed.
    pub(crate) async fn probe(&self) -> Result<Duration, String> {
        let begun = Instant::now();
        let items = json!({ "items": [{ "product_id": self.mug, "quantity": 1 }] });
        loop {
            let key = new_id().to_string();
            let placed = self
                .probe
                .post("order", "/orders", Some(&key), items.clone())
                .await?;
            if placed.status == 202 {
                let order = placed.text("order_id");
                self.seen.accepted(&order);
                if self.watch(&self.probe, &order, false).await? == "CONFIRMED" {
                    return Ok(begun.elapsed());
                }
            } else if placed.text("code") != "TOO_MANY_OPEN_ORDERS" {
                return Err(format!("the order that probes is answered {placed:?}"));
            }
            if begun.elapsed() > PATIENCE {
                return Err("no order is confirmed any more".to_owned());
            }
        }
    }

    async fn order(&self, number: u64) -> Result<(), String> {
        let mut random = self.random.part(number);
        let user_number = usize::try_from(number % USERS).unwrap_or(0);
        let user = &self.users[user_number];
        let product = if random.percent(15) {
            &self.rare
        } else {
            &self.mug
        };
        let flow = if random.percent(30) {
            "sequential"
        } else {
            "parallel"
        };
        let mut request = json!({
            "items": [{ "product_id": product, "quantity": random.within(1..4) }],
            "from_cart": random.percent(40),
            "flow": flow,
        });
        if random.percent(30) {
            request["coupon_id"] = self.coupons[user_number].clone().into();
        }
        let cancel = random.percent(15);
        let key = new_id().to_string();
        let placed = user.post("order", "/orders", Some(&key), request).await?;
        if placed.status != 202 {
            return Err(format!("placing is answered {placed:?}"));
        }
        let order = placed.text("order_id");
        self.seen.accepted(&order);
        self.seen.placed.fetch_add(1, Ordering::Relaxed);
        if cancel {
            tokio::time::sleep(Duration::from_millis(random.within(0..60))).await;
            let path = format!("/orders/{order}/cancel");
            user.post("order", &path, None, Value::Null).await?;
        }
        self.watch(user, &order, cancel).await?;
        self.seen.ended.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Watches an order to its end: the state it ends in.
    async fn watch(&self, user: &Client, order: &str, cancels: bool) -> Result<String, String> {
        let begun = Instant::now();
        let (mut before, path) = ("PENDING".to_owned(), format!("/orders/{order}"));
        loop {
            let now = user.get("order", &path).await?;
            if now.status != 200 {
                self.seen.wrong(format!(
                    "I15 order {order}: accepted, and answers {}",
                    now.status
                ));
                return Ok(String::new());
            }
            let now = now.text("state");
            if !may_follow(&before, &now, cancels) {
                self.seen
                    .wrong(format!("I16 order {order}: {before}, and then {now}"));
            }
            let is_final = match now.as_str() {
                // The user's cancel may still come to it.
                "CONFIRMED" => true,
                state => matches!(state, "CANCELED" | "COMPENSATION_FAILED"),
            };
            if is_final {
                return Ok(now);
            }
            before = now;
            if begun.elapsed() > PATIENCE {
                return Err(format!("order {order} is still {before}"));
            }
            tokio::time::sleep(WATCH).await;
        }
    }
}

/// Whether a client may see a state after another (I16).
fn may_follow(before: &str, now: &str, user_cancels: bool) -> bool {
    match (before, now) {
        _ if before == now => true,
        ("PENDING", _) => true,
        ("CONFIRMED", "COMPENSATING" | "CANCELED") => user_cancels,
        ("COMPENSATING", "CANCELED" | "COMPENSATION_FAILED") => true,
        ("COMPENSATION_FAILED", "COMPENSATING" | "CANCELED") => true,
        _ => false,
    }
}

/// Clients that are at it.
pub(crate) struct Load {
    shop: Arc<Shop>,
    clients: tokio::task::JoinHandle<Result<(), String>>,
}

impl Load {
    pub(crate) fn start(shop: Arc<Shop>, progress: Progress) -> Self {
        let ordering = shop.clone();
        let clients = tokio::spawn(async move {
            let one = async |user: u64| {
                let mut number = user;
                while number < ordering.orders {
                    ordering.order(number).await?;
                    number += USERS;
                    let ended = ordering.seen.ended.load(Ordering::Relaxed);
                    if ended * 4 / ordering.orders != (ended - 1) * 4 / ordering.orders {
                        progress.phase(&format!("{ended} orders are decided"));
                    }
                }
                Ok::<_, String>(())
            };
            try_join_all((0..USERS).map(one)).await.map(drop)
        });
        Self { shop, clients }
    }

    /// Waits until so many orders, in percent, have been accepted.
    pub(crate) async fn until_placed(&self, percent: u64) -> Result<(), String> {
        let begun = Instant::now();
        while self.shop.seen.placed.load(Ordering::Relaxed) * 100 < self.shop.orders * percent {
            if self.clients.is_finished() || begun.elapsed() > PATIENCE {
                return Err(format!("not {percent} % of the orders were placed"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Waits until all orders are decided.
    pub(crate) async fn ended(self) -> Result<(), String> {
        match self.clients.await {
            Ok(result) => result,
            Err(error) => Err(format!("a client broke down: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::may_follow;

    #[test]
    fn an_order_never_flips() {
        assert!(may_follow("PENDING", "CANCELED", false));
        assert!(may_follow("CONFIRMED", "COMPENSATING", true));
        assert!(!may_follow("CONFIRMED", "CANCELED", false));
        assert!(!may_follow("CANCELED", "CONFIRMED", true));
        assert!(!may_follow("COMPENSATING", "PENDING", true));
    }
}
