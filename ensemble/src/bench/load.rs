//! The load: who places orders, and when.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use events::OrderId;
use jetstream::clock;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::client::Connection;
use super::meter::{Done, Meter};
use super::mix::{Fate, Mix, Plan};
use super::outcomes::{Outcome, Outcomes, PATIENCE};
use super::progress::Progress;
use super::shop::{self, Products, User};

/// When orders are placed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// Closed loop: each customer places the next one when the one before has its end.
    Closed,
    /// Open loop: so many per second, whatever becomes of them.
    Open(f64),
}

/// What all customers share.
pub(super) struct Market {
    pub(super) mix: Mix,
    pub(super) products: Option<Arc<Products>>,
    /// Where decisions are heard; without it, the answers wait for the end.
    pub(super) outcomes: Option<Outcomes>,
    pub(super) meter: RefCell<Meter>,
    pub(super) progress: Arc<Progress>,
    pub(super) tally: RefCell<Tally>,
    pub(super) placed: Cell<u64>,
}

/// All orders that came to their end, measured or not.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) confirmed: u64,
    /// What confirmed orders cost.
    pub(super) paid: i64,
}

/// Somebody who places orders, one at a time, on a connection of their own.
pub(super) struct Customer {
    pub(super) connection: Connection,
    pub(super) buys: Buys,
}

/// Where a customer buys.
pub(super) enum Buys {
    /// In the shop of a system of ours.
    Here(Box<User>),
    /// Elsewhere: the path that orders go to.
    Elsewhere {
        path: String,
        user: u32,
        placed: u32,
    },
}

/// Has customers place orders until all windows of the meter are full; they can go on.
pub(super) async fn run(
    market: &Rc<Market>,
    customers: Vec<Customer>,
    pace: Pace,
) -> Result<Vec<Customer>, String> {
    match pace {
        Pace::Closed => closed(market, customers).await,
        Pace::Open(rate) => open(market, customers, rate).await,
    }
}

async fn closed(market: &Rc<Market>, customers: Vec<Customer>) -> Result<Vec<Customer>, String> {
    let mut running = JoinSet::new();
    for mut customer in customers {
        let market = market.clone();
        running.spawn_local(async move {
            while !market.is_over() && customer.place(&market, Instant::now()).await? {}
            Ok::<Customer, String>(customer)
        });
    }
    let mut customers = Vec::new();
    while let Some(ended) = running.join_next().await {
        customers.push(ended.map_err(|error| error.to_string())??);
    }
    Ok(customers)
}

/// An order is due at its time, also when all customers are busy: what it then waits counts.
async fn open(
    market: &Rc<Market>,
    customers: Vec<Customer>,
    rate: f64,
) -> Result<Vec<Customer>, String> {
    let (idle, mut next) = mpsc::unbounded_channel();
    for customer in customers {
        let _ = idle.send(customer);
    }
    let start = Instant::now();
    let mut running: JoinSet<Result<(), String>> = JoinSet::new();
    for n in 0_u32.. {
        let intended = start + Duration::from_secs_f64(f64::from(n) / rate);
        tokio::time::sleep_until(intended.into()).await;
        while let Some(ended) = running.try_join_next() {
            ended.map_err(|error| error.to_string())??;
        }
        if market.is_over() {
            break;
        }
        let customer = tokio::time::timeout(PATIENCE, next.recv()).await;
        let Ok(Some(mut customer)) = customer else {
            return Err("no customer is free: the system does not keep up".to_owned());
        };
        let (market, idle) = (market.clone(), idle.clone());
        running.spawn_local(async move {
            if customer.place(&market, intended).await? {
                let _ = idle.send(customer);
            }
            Ok(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.map_err(|error| error.to_string())??;
    }
    Ok(std::iter::from_fn(|| next.try_recv().ok()).collect())
}

/// Has each customer spend a coupon, so that there is one that coupon refuses.
pub(super) async fn spend_a_coupon_each(
    market: &Rc<Market>,
    customers: Vec<Customer>,
) -> Result<Vec<Customer>, String> {
    let plan = Plan {
        fate: Fate::Confirmed,
        coupon: true,
        cart: false,
        hot: false,
        flow: market.mix.flows()[0],
    };
    let mut placing = JoinSet::new();
    for mut customer in customers {
        let market = market.clone();
        placing.spawn_local(async move {
            customer.place_as(&market, plan, Instant::now()).await?;
            Ok::<Customer, String>(customer)
        });
    }
    let placed = placing.join_all().await;
    placed.into_iter().collect()
}

/// Has customers place so many orders as fast as they are accepted, whatever becomes of them.
pub(super) async fn pile_up(
    market: &Rc<Market>,
    customers: Vec<Customer>,
    orders: u64,
) -> Result<Vec<Customer>, String> {
    let left = Rc::new(Cell::new(orders));
    let mut placing = JoinSet::new();
    for mut customer in customers {
        let (market, left) = (market.clone(), left.clone());
        placing.spawn_local(async move {
            while left.get() > 0 {
                left.set(left.get() - 1);
                customer.pile_up(&market).await?;
                market.progress.advance(1);
            }
            Ok::<Customer, String>(customer)
        });
    }
    placing.join_all().await.into_iter().collect()
}

impl Market {
    fn is_over(&self) -> bool {
        self.meter.borrow().is_full()
    }

    fn plan(&self) -> Plan {
        let n = self.placed.get();
        self.placed.set(n + 1);
        self.mix.plan(n)
    }

    fn record(&self, plan: Plan, order: &str, done: &Done) -> Result<(), String> {
        let expected = match plan.fate {
            Fate::Confirmed => Outcome::Confirmed,
            Fate::RefusedBy(_) | Fate::Canceled => Outcome::Canceled,
        };
        if done.outcome != expected {
            let found = done.outcome;
            return Err(format!(
                "order {order} is {found:?} and was to be {expected:?}: {:?}",
                plan.fate
            ));
        }
        if done.outcome == Outcome::Confirmed {
            let one = Tally::confirmed(1, plan.coupon);
            self.tally.borrow_mut().add(one);
        }
        self.progress.advance(1);
        self.meter.borrow_mut().record(done)
    }
}

#[derive(Deserialize)]
struct Placed {
    order_id: OrderId,
    #[serde(default)]
    state: String,
}

impl Tally {
    /// What confirmed orders come to.
    pub(super) fn confirmed(orders: u64, with_coupon: bool) -> Self {
        let price = 2 * shop::PRICE - if with_coupon { shop::DISCOUNT } else { 0 };
        Self {
            confirmed: orders,
            paid: price * i64::try_from(orders).unwrap_or(i64::MAX),
        }
    }

    /// Both together.
    pub(super) fn add(&mut self, other: Self) {
        self.confirmed += other.confirmed;
        self.paid += other.paid;
    }
}

impl Customer {
    /// The user, without the connection.
    pub(super) fn into_user(self) -> Option<User> {
        match self.buys {
            Buys::Here(user) => Some(*user),
            Buys::Elsewhere { .. } => None,
        }
    }

    /// Whose orders they are, in a shop of ours.
    pub(super) fn name(&self) -> Option<String> {
        match &self.buys {
            Buys::Here(user) => Some(user.name.clone()),
            Buys::Elsewhere { .. } => None,
        }
    }

    /// Places an order and waits for its end; false when this customer has nothing to place
    /// another one with.
    async fn place(&mut self, market: &Market, intended: Instant) -> Result<bool, String> {
        self.place_as(market, market.plan(), intended).await
    }

    async fn place_as(
        &mut self,
        market: &Market,
        plan: Plan,
        intended: Instant,
    ) -> Result<bool, String> {
        match &mut self.buys {
            Buys::Here(user) => {
                let Some(products) = &market.products else {
                    return Err("there is no shop".to_owned());
                };
                let Some(body) = user.order(plan, products) else {
                    return Ok(false);
                };
                let authorization = user.authorization.clone();
                self.here(market, plan, intended, &authorization, &body)
                    .await?;
                Ok(true)
            }
            Buys::Elsewhere { path, user, placed } => {
                let order = clock::new_id().to_string();
                let path = path.replace("{id}", &order);
                let body = elsewhere(&order, *user, *placed);
                *placed += 1;
                let answer = self.connection.send("POST", &path, "", &body).await?;
                let decided = Instant::now();
                let outcome = outcome(answer.json()["state"].as_str().unwrap_or_default());
                let (200, Some(outcome)) = (answer.status, outcome) else {
                    let said = String::from_utf8_lossy(&answer.body).into_owned();
                    return Err(format!(
                        "order {order} was answered {}: {said}",
                        answer.status
                    ));
                };
                let done = Done {
                    intended,
                    accepted: None,
                    decided,
                    outcome,
                };
                market.record(plan, &order, &done)?;
                Ok(true)
            }
        }
    }

    /// Places an order, and does not ask what becomes of it.
    async fn pile_up(&mut self, market: &Market) -> Result<(), String> {
        let (Buys::Here(user), Some(products)) = (&mut self.buys, &market.products) else {
            return Err("there is no shop".to_owned());
        };
        let body = user.order(market.plan(), products);
        let body = body.ok_or("the customers ran out of coupons")?;
        let placed = self
            .connection
            .send("POST", "/orders", &user.authorization, &body);
        let answer = placed.await?;
        match answer.status {
            202 => Ok(()),
            status => Err(format!("an order was answered {status}")),
        }
    }

    async fn here(
        &mut self,
        market: &Market,
        plan: Plan,
        intended: Instant,
        authorization: &str,
        body: &str,
    ) -> Result<(), String> {
        let waiting = format!("{authorization}prefer: wait=30\r\n");
        let headers = match market.outcomes {
            Some(_) => authorization,
            None => &waiting,
        };
        let answer = self
            .connection
            .send("POST", "/orders", headers, body)
            .await?;
        let answered = Instant::now();
        if !matches!(answer.status, 200 | 202) {
            let said = String::from_utf8_lossy(&answer.body).into_owned();
            return Err(format!("an order was answered {}: {said}", answer.status));
        }
        let placed: Placed =
            serde_json::from_slice(&answer.body).map_err(|e| format!("an order's answer: {e}"))?;
        let order = placed.order_id.to_string();
        let done = match &market.outcomes {
            None => {
                let outcome = outcome(&placed.state);
                let outcome = outcome.ok_or(format!("order {order} was not decided in 30 s"))?;
                Done {
                    intended,
                    accepted: None,
                    decided: answered,
                    outcome,
                }
            }
            Some(outcomes) => {
                let canceled = plan.fate == Fate::Canceled;
                if canceled {
                    let path = format!("/orders/{order}/cancel");
                    self.connection
                        .call("POST", &path, authorization, &json!({}))
                        .await?;
                }
                let (outcome, decided) = outcomes.of(placed.order_id, canceled).await?;
                Done {
                    intended,
                    accepted: Some(answered),
                    decided,
                    outcome,
                }
            }
        };
        market.record(plan, &order, &done)
    }
}

fn outcome(state: &str) -> Option<Outcome> {
    match state {
        "CONFIRMED" => Some(Outcome::Confirmed),
        "CANCELED" => Some(Outcome::Canceled),
        "COMPENSATION_FAILED" => Some(Outcome::CompensationFailed),
        _ => None,
    }
}

/// The same order for a system elsewhere, which filled its shop by numbers: see
/// `bench/README.md`.
fn elsewhere(order: &str, user: u32, placed: u32) -> String {
    let first = user * 2 % shop::PRODUCTS;
    let product = |n: u32| format!("00000000-0000-7000-8000-{n:012x}");
    format!(
        r#"{{"order_id":"{order}","user_id":"user{user}","items":[{{"product_id":"{}","quantity":1}},{{"product_id":"{}","quantity":1}}],"coupon_id":"{user:08x}-0000-7000-8000-{placed:012x}"}}"#,
        product(first),
        product(first + 1),
    )
}
