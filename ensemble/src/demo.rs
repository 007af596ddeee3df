//! `ensemble up --demo`: a small shop, one order, and its story.

use std::time::Duration;

use events::{OrderId, UserId};
use jetstream::http::auth::DevelopmentKey;
use jetstream::stream::broker::Context;
use jetstream::stream::history;
use jetstream::stream::timeline::Told;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::terminal::Paint;
use crate::timeline::draw;
use crate::timeline::event::{Event, in_order};
use crate::timeline::source::Found;

const PATIENCE: Duration = Duration::from_secs(15);

/// Fills an empty shop, places an order as alice, waits until it is final, and prints
/// what happened.
pub(crate) async fn play(url: &str, key: &DevelopmentKey, broker: &Context) -> Result<(), String> {
    let shop = Shop::new(url, key)?;
    println!("\nDemo");
    let products = shop.products().await?;
    shop.call(
        Method::POST,
        "/points/alice/charge",
        true,
        json!({ "amount": 1_000_000 }),
    )
    .await?;
    let coupon = shop.coupon().await?;
    let item = |index: usize, quantity: i64| json!({ "product_id": products[index]["product_id"], "quantity": quantity });
    for (index, quantity) in [(0, 2), (1, 1)] {
        let path = format!(
            "/carts/alice/items/{}",
            text(&products[index]["product_id"])
        );
        shop.call(Method::PUT, &path, false, json!({ "quantity": quantity }))
            .await?;
    }
    let order = json!({
        "items": [item(0, 2), item(1, 1)],
        "coupon_id": coupon,
        "from_cart": true,
    });
    let placed = shop.place(order).await?;
    let id: OrderId = text(&placed["order_id"])
        .parse()
        .map_err(|_| "no order id".to_owned())?;
    let state = shop.until_final(id).await?;
    println!("alice ordered 2 mugs and a teapot with a coupon, from her cart: {state}\n");
    let recorded = until_told(broker, id).await?;
    let told = recorded.into_iter().map(Told::from);
    let events = told.filter_map(|told| Event::of(&told)).collect();
    let link = placed["trace_url"].as_str().map(str::to_owned);
    let found = Found {
        events: in_order(events),
        trace_url: link,
        ..Found::default()
    };
    let drawn = draw::timeline(id, &found, Paint::of_stdout());
    print!("{drawn}");
    println!("\nAgain at any time:  ensemble timeline {id}");
    Ok(())
}

/// The event that decides an order is published a moment after its database has it.
async fn until_told(broker: &Context, id: OrderId) -> Result<Vec<history::Recorded>, String> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let recorded = history::of_order(broker, id)
            .await
            .map_err(|error| error.to_string())?;
        let mut subjects = recorded.iter().map(|event| event.envelope.entry.subject);
        let told = subjects.any(|s| s == "order.confirmed" || s == "order.compensated");
        if told || tokio::time::Instant::now() > deadline {
            return Ok(recorded);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

struct Shop {
    client: Client,
    url: String,
    alice: String,
    operator: String,
}

impl Shop {
    fn new(url: &str, key: &DevelopmentKey) -> Result<Self, String> {
        let token = |name: &str, operator| {
            let user = UserId::new(name).map_err(|e| e.to_string())?;
            key.token(&user, operator, Duration::from_secs(600))
        };
        Ok(Self {
            client: Client::builder()
                .timeout(PATIENCE)
                .build()
                .map_err(|e| e.to_string())?,
            url: url.to_owned(),
            alice: token("alice", false)?,
            operator: token("operator", true)?,
        })
    }

    /// The sample products; created the first time.
    async fn products(&self) -> Result<Vec<Value>, String> {
        let listed = self
            .call(Method::GET, "/products?limit=100", true, Value::Null)
            .await?;
        let known = listed["products"].as_array().cloned().unwrap_or_default();
        let mut products = Vec::new();
        for (name, option, price) in [("mug", "blue", 1200), ("teapot", "1 l", 4500)] {
            let found = known
                .iter()
                .find(|p| p["name"] == name && p["available"].as_i64() > Some(9));
            products.push(match found {
                Some(product) => product.clone(),
                None => {
                    let new =
                        json!({ "name": name, "option": option, "price": price, "stock": 1000 });
                    self.call(Method::POST, "/products", true, new).await?
                }
            });
        }
        Ok(products)
    }

    /// A coupon for alice, of a campaign of its own.
    async fn coupon(&self) -> Result<Value, String> {
        let campaign = json!({
            "name": "welcome", "discount": { "percent": 10, "max": 500 }, "quantity": 100,
        });
        let campaign = self.call(Method::POST, "/coupons", true, campaign).await?;
        let path = format!("/coupons/{}/issue", text(&campaign["campaign_id"]));
        Ok(self.call(Method::POST, &path, false, json!({})).await?["coupon_id"].clone())
    }

    /// Places the order; products and coupon may not have been heard of yet, and an order
    /// of an earlier run may still be open.
    async fn place(&self, order: Value) -> Result<Value, String> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (status, body) = self
                .send(Method::POST, "/orders", false, order.clone())
                .await?;
            let early = matches!(
                status,
                StatusCode::UNPROCESSABLE_ENTITY | StatusCode::CONFLICT
            );
            match status {
                StatusCode::ACCEPTED => return Ok(body),
                _ if early && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                _ => return Err(format!("the demo's order was not accepted: {body}")),
            }
        }
    }

    async fn until_final(&self, id: OrderId) -> Result<String, String> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let order = self
                .call(Method::GET, &format!("/orders/{id}"), false, Value::Null)
                .await?;
            let state = text(&order["state"]);
            if matches!(state, "CONFIRMED" | "CANCELED" | "COMPENSATION_FAILED")
                || tokio::time::Instant::now() > deadline
            {
                return Ok(state.to_owned());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        operator: bool,
        body: Value,
    ) -> Result<Value, String> {
        let (status, answer) = self.send(method, path, operator, body).await?;
        match status.is_success() {
            true => Ok(answer),
            false => Err(format!(
                "the demo's call of {path} was answered {status}: {answer}"
            )),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        operator: bool,
        body: Value,
    ) -> Result<(StatusCode, Value), String> {
        let failed = |error: reqwest::Error| format!("the demo's call of {path} failed: {error}");
        let token = if operator {
            &self.operator
        } else {
            &self.alice
        };
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(token);
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        Ok((status, response.json().await.unwrap_or(Value::Null)))
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
