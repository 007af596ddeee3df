//! The shop that is ordered from: what there is, and who orders; and what clients saw.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::future::try_join_all;
use futures::stream::iter;
use jetstream::clock::new_id;
use jetstream::http::auth::DevelopmentKey;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::random::Random;

const WATCH: Duration = Duration::from_millis(40);
const RETRY: Duration = Duration::from_millis(50);
pub(crate) const PATIENCE: Duration = Duration::from_secs(200);
const AT_ONCE: usize = 64;

/// Who orders, and what; shares are in percent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mix {
    /// Who orders; each has one order at a time.
    pub(crate) users: u64,
    /// How many orders, if it is another number than usually.
    pub(crate) orders: Option<u64>,
    /// Orders that their user cancels at once.
    pub(crate) cancel: u64,
    /// Orders of the product of which there is little.
    pub(crate) rare: u64,
    /// How much there is of it, if it is not a twelfth of the orders.
    pub(crate) rare_stock: Option<u64>,
    pub(crate) sequential: u64,
    pub(crate) coupon: u64,
    pub(crate) cart: u64,
    /// One user in so many is poor; 0: none.
    pub(crate) poor_one_in: u64,
    /// What the poor have; a unit costs 500.
    pub(crate) poor_points: u64,
    /// How often a client looks at its order.
    pub(crate) look_every: Duration,
    /// How seldom it looks when the order takes long.
    pub(crate) look_seldom: Duration,
    /// When it looks first.
    pub(crate) first_look: Duration,
    /// How long it waits at most before it asks again what could not be answered.
    pub(crate) retry_most: Duration,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            users: 24,
            orders: None,
            cancel: 15,
            rare: 15,
            rare_stock: None,
            sequential: 30,
            coupon: 30,
            cart: 40,
            poor_one_in: 8,
            poor_points: 2_000,
            look_every: WATCH,
            look_seldom: WATCH,
            first_look: Duration::ZERO,
            retry_most: RETRY,
        }
    }
}

impl Mix {
    /// Orders of one unit that nobody cancels, and that need stock and points.
    pub(crate) fn plain() -> Self {
        Self {
            cancel: 0,
            rare: 0,
            sequential: 0,
            coupon: 0,
            cart: 0,
            poor_one_in: 0,
            ..Self::default()
        }
    }
}

/// What there is to order, and who orders.
pub(crate) struct Shop {
    pub(crate) users: Vec<Client>,
    pub(crate) operator: Client,
    probe: Client,
    pub(crate) mug: String,
    pub(crate) rare: String,
    pub(crate) campaign: String,
    pub(crate) coupons: Vec<String>,
    pub(crate) random: Random,
    pub(crate) orders: u64,
    pub(crate) mix: Mix,
    pub(crate) seen: Seen,
}

/// What the clients have seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) placed: AtomicU64,
    pub(crate) ended: AtomicU64,
    // Requests to place an order whose client was never answered: it gave up, or was
    // stopped. Each of them has placed one order or none.
    unanswered: AtomicU64,
    accepted: Mutex<Vec<String>>,
    wrong: Mutex<Vec<String>>,
}

impl Seen {
    pub(crate) fn wrong(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.push(what);
    }

    pub(crate) fn accepted(&self, order: &str) {
        let mut all = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(order.to_owned());
    }

    /// What clients saw that none may see.
    pub(crate) fn take_wrong(&self) -> Vec<String> {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut wrong)
    }

    /// How many requests to place an order were never answered.
    pub(crate) fn count_unanswered(&self) -> u64 {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// How many orders were accepted.
    pub(crate) fn count_accepted(&self) -> u64 {
        let all = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        all.len() as u64
    }
}

impl Shop {
    /// Lists products, and gives users points, coupons and carts. Some are poor; of one
    /// product there is little.
    pub(crate) async fn open(
        key: &DevelopmentKey,
        urls: BTreeMap<&'static str, String>,
        random: Random,
        mix: Mix,
        orders: u64,
    ) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .build()
            .map_err(|e| e.to_string())?;
        let client = |name: &str, operator| {
            let client = Client::new(&http, &urls, key, name, operator);
            client.map(|client| client.asking_again_after(mix.retry_most))
        };
        let operator = client("operator", true)?;
        let users = (0..mix.users).map(|n| client(&format!("user{n}"), false));
        let users = users.collect::<Result<Vec<_>, _>>()?;
        let mut shop = Self {
            users,
            probe: client("probe", false)?,
            operator,
            mug: String::new(),
            rare: String::new(),
            campaign: String::new(),
            coupons: vec![],
            random,
            orders,
            mix,
            seen: Seen::default(),
        };
        shop.mug = shop.list("mug", 1_000_000).await?;
        let few = mix.rare_stock.unwrap_or(orders / 12);
        shop.rare = shop.list("rare", few).await?;
        let campaign =
            json!({ "name": "ten", "discount": { "percent": 10 }, "quantity": mix.users });
        let campaign = shop.operator.post("coupon", "/coupons", None, campaign);
        shop.campaign = campaign.await?.text("campaign_id");
        shop.charge("probe", 1_000_000_000).await?;
        let fills = (0..shop.users.len())
            .map(|n| shop.fill(n))
            .collect::<Vec<_>>();
        let coupons: Vec<_> = iter(fills).buffered(AT_ONCE).collect().await;
        shop.coupons = coupons.into_iter().collect::<Result<_, _>>()?;
        // The shop is open when an order goes through.
        shop.probe().await?;
        Ok(shop)
    }

    /// Lists a product at 500; its id.
    pub(crate) async fn list(&self, name: &str, stock: u64) -> Result<String, String> {
        let new = json!({ "name": name, "price": 500, "stock": stock });
        let made = self.operator.post("stock", "/products", None, new).await?;
        Ok(made.text("product_id"))
    }

    async fn charge(&self, user: &str, amount: u64) -> Result<(), String> {
        let path = format!("/points/{user}/charge");
        let key = new_id().to_string();
        let amount = json!({ "amount": amount });
        let charged = self
            .operator
            .post("point", &path, Some(&key), amount)
            .await?;
        match charged.status {
            200..300 => Ok(()),
            _ => Err(format!("charging points is answered {charged:?}")),
        }
    }

    /// Gives a user points, a cart and a coupon; the coupon.
    async fn fill(&self, n: usize) -> Result<String, String> {
        let (user, mix) = (&self.users[n], &self.mix);
        let poor = mix.poor_one_in > 0 && (n as u64 + 1).is_multiple_of(mix.poor_one_in);
        let amount = if poor { mix.poor_points } else { 10_000_000 };
        self.charge(&format!("user{n}"), amount).await?;
        if mix.cart > 0 {
            let lines = [&self.mug, &self.rare].map(async |product| {
                let path = format!("/carts/user{n}/items/{product}");
                let line = json!({ "quantity": 10_000 });
                user.insist("cart", Method::PUT, &path, None, &line).await
            });
            try_join_all(lines).await?;
        }
        if mix.coupon == 0 {
            return Ok(String::new());
        }
        let issue = format!("/coupons/{}/issue", self.campaign);
        let coupon = user.post("coupon", &issue, None, json!({})).await?;
        Ok(coupon.text("coupon_id"))
    }

    /// How long it takes now until an order is confirmed.
    pub(crate) async fn probe(&self) -> Result<Duration, String> {
        let begun = Instant::now();
        let items = json!({ "items": [{ "product_id": self.mug, "quantity": 1 }] });
        loop {
            let placed = self.place(&self.probe, items.clone()).await?;
            if placed.status == 202 {
                let order = placed.text("order_id");
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

    /// Places an order.
    pub(crate) async fn place(&self, user: &Client, request: Value) -> Result<Answer, String> {
        let key = new_id().to_string();
        self.seen.unanswered.fetch_add(1, Ordering::Relaxed);
        let placed = user.post("order", "/orders", Some(&key), request).await?;
        self.seen.unanswered.fetch_sub(1, Ordering::Relaxed);
        if placed.status == 202 {
            self.seen.accepted(&placed.text("order_id"));
        }
        Ok(placed)
    }

    /// Places an order that has to be accepted; its id.
    pub(crate) async fn must_place(&self, user: &Client, request: Value) -> Result<String, String> {
        let placed = self.place(user, request).await?;
        match placed.status {
            202 => {
                self.seen.placed.fetch_add(1, Ordering::Relaxed);
                Ok(placed.text("order_id"))
            }
            _ => Err(format!("placing is answered {placed:?}")),
        }
    }

    /// Cancels an order for its user; the status of the answer.
    pub(crate) async fn cancel(&self, user: &Client, order: &str) -> Result<u16, String> {
        let path = format!("/orders/{order}/cancel");
        let canceled = user.post("order", &path, None, Value::Null).await?;
        Ok(canceled.status)
    }

    /// Watches an order to its end: the state it ends in.
    pub(crate) async fn watch(
        &self,
        user: &Client,
        order: &str,
        cancels: bool,
    ) -> Result<String, String> {
        let begun = Instant::now();
        let (mut before, path) = ("PENDING".to_owned(), format!("/orders/{order}"));
        let mut pause = self.mix.look_every;
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
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(self.mix.look_seldom.max(self.mix.look_every));
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
