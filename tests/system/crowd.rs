//! Many users who order at once, and the sums that must hold when all is final.

use std::collections::{BTreeMap, BTreeSet};

use events::OrderId;
use futures::StreamExt as _;
use integration_tests::{Client, Site, eventually};
use serde_json::{Value, json};

// Requests at a time: enough to fill batches, few enough for a small machine.
const AT_ONCE: usize = 16;

/// A shop with products and users, and what was ordered in it.
#[derive(Default)]
pub(crate) struct Crowd {
    products: BTreeMap<String, i64>,
    users: Vec<String>,
    pub(crate) placed: Vec<(String, OrderId)>,
}

impl Crowd {
    /// Adds a product; its id.
    pub(crate) async fn product(&mut self, site: &dyn Site, price: i64, stock: i64) -> String {
        let id = Client::operator(site).product(price, stock).await;
        self.products.insert(id.clone(), stock);
        id
    }

    /// Adds users, each with points.
    pub(crate) async fn users(
        &mut self,
        site: &dyn Site,
        count: usize,
        points: impl Fn(usize) -> i64,
    ) {
        let first = self.users.len();
        let operator = Client::operator(site);
        each(first..first + count, async |i| {
            operator.charge(&format!("user-{i}"), points(i)).await;
        })
        .await;
        self.users
            .extend((first..first + count).map(|i| format!("user-{i}")));
    }

    /// The name of a user.
    pub(crate) fn user(&self, i: usize) -> &str {
        &self.users[i]
    }

    /// Every user places an order; the ids, in the order of the users.
    pub(crate) async fn place(
        &mut self,
        site: &dyn Site,
        order: impl AsyncFn(usize, Client<'_>) -> Value,
    ) -> Vec<OrderId> {
        let users = &self.users;
        let mut placed = each(0..users.len(), async |i| {
            let client = Client::user(site, &users[i]);
            let order = order(i, Client::user(site, &users[i])).await;
            (i, client.place(order).await)
        })
        .await;
        placed.sort_unstable_by_key(|(i, _)| *i);
        let ids = placed.iter().map(|(i, id)| (users[*i].clone(), *id));
        self.placed.extend(ids);
        placed.into_iter().map(|(_, id)| id).collect()
    }

    /// Waits until every order is final, and then until every sum is exact; the orders.
    pub(crate) async fn settle(&self, site: &dyn Site) -> Vec<Value> {
        let orders = eventually("the end of all orders", async || {
            let orders = all_orders(site).await;
            let open: Vec<_> = orders.iter().filter(|order| !is_final(order)).collect();
            match open.as_slice() {
                [] => Ok(orders),
                [first, ..] => Err(format!("{} are open, like {first}", open.len())),
            }
        })
        .await;
        let known: BTreeSet<_> = orders.iter().map(|o| text(&o["order_id"])).collect();
        for (user, order) in &self.placed {
            let found = known.contains(order.to_string().as_str());
            assert!(found, "order {order} of {user} was accepted, and is gone");
        }
        eventually("sums that add up", async || self.sums(site, &orders).await).await;
        orders
    }

    async fn sums(&self, site: &dyn Site, orders: &[Value]) -> Result<(), String> {
        let confirmed = || orders.iter().filter(|order| order["state"] == "CONFIRMED");
        let operator = Client::operator(site);
        for (product, initial) in &self.products {
            let view = operator.get(&format!("/products/{product}")).await.ok();
            let lines = confirmed().flat_map(|order| order["items"].as_array().expect("items"));
            let sold = lines.filter(|line| line["product_id"] == product.as_str());
            let sold: i64 = sold.map(|line| number(&line["quantity"])).sum();
            let stock = initial + number(&view["restocked_total"]);
            let split = ["available", "held", "settled"].map(|key| number(&view[key]));
            let expected = [stock - sold, 0, sold];
            if split != expected {
                return Err(format!("product: {view} instead of {expected:?}"));
            }
        }
        for user in &self.users {
            let view = operator.get(&format!("/points/{user}")).await.ok();
            let own = confirmed().filter(|order| order["user_id"] == user.as_str());
            let spent: i64 = own.map(|order| number(&order["total"])).sum();
            let split = ["balance", "held", "settled"].map(|key| number(&view[key]));
            let expected = [number(&view["charged_total"]) - spent, 0, spent];
            if split != expected {
                return Err(format!("points: {view} instead of {expected:?}"));
            }
        }
        Ok(())
    }
}

/// Does something for each number, some at a time.
pub(crate) async fn each<T>(
    range: std::ops::Range<usize>,
    act: impl AsyncFn(usize) -> T,
) -> Vec<T> {
    let act = &act;
    futures::stream::iter(range)
        .map(|i| async move { act(i).await })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

/// Every order there is, page by page.
pub(crate) async fn all_orders(site: &dyn Site) -> Vec<Value> {
    let operator = Client::operator(site);
    let mut orders = Vec::new();
    let mut path = "/orders?limit=100".to_owned();
    loop {
        let mut page = operator.get(&path).await.ok();
        if let Value::Array(some) = page["orders"].take() {
            orders.extend(some);
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/orders?limit=100&cursor={cursor}"),
            None => return orders,
        }
    }
}

/// How many orders are in a state.
pub(crate) fn count(orders: &[Value], state: &str) -> usize {
    orders
        .iter()
        .filter(|order| order["state"] == state)
        .count()
}

/// How many orders were refused by a step.
pub(crate) fn refused(orders: &[Value], step: &str) -> usize {
    let by = |order: &&Value| order["steps"][step] == "refused";
    orders.iter().filter(by).count()
}

/// An order of one product.
pub(crate) fn order(product: &str, quantity: i64, flow: &str) -> Value {
    json!({ "items": [{ "product_id": product, "quantity": quantity }], "flow": flow })
}

/// One flow for half of the users, the other for the rest.
pub(crate) fn flow(i: usize) -> &'static str {
    match i % 2 {
        0 => "parallel",
        _ => "sequential",
    }
}

fn is_final(order: &Value) -> bool {
    matches!(text(&order["state"]), "CONFIRMED" | "CANCELED")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn number(value: &Value) -> i64 {
    value.as_i64().expect("a number")
}
