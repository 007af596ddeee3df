//! A client of the HTTP API.

use std::net::SocketAddr;
use std::time::Duration;

use events::{OrderId, UserId};
use jetstream::http::auth::DevelopmentKey;
use jetstream::shell::host::Host;
use jetstream::stream::history::{self, Recorded};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::{World, eventually};

/// Where requests go: running services, in this process or in others.
pub trait Site: Sync {
    /// The address of an instance of a service; a user always asks the same one.
    fn url(&self, service: &str, user: &str) -> String;

    /// What sends the requests.
    fn http(&self) -> &reqwest::Client;

    /// The key that signs tokens.
    fn key(&self) -> &DevelopmentKey;
}

/// Asks as a user or as an operator.
pub struct Client<'a> {
    site: &'a dyn Site,
    token: String,
    name: String,
}

/// An answer of the API.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// When to come back, in seconds, if it says so.
    pub retry_after: Option<u32>,
    /// All headers.
    pub headers: HeaderMap,
    /// The body; null when there is none.
    pub body: Value,
}

impl Answer {
    /// Status and code of a problem.
    #[must_use]
    pub fn problem(&self) -> (u16, &str) {
        (self.status, self.body["code"].as_str().unwrap_or_default())
    }

    /// A header, empty when there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// Whether it was given before, to a request with the same key.
    #[must_use]
    pub fn is_replayed(&self) -> bool {
        self.header("idempotency-replayed") == "true"
    }

    /// The body of a success.
    ///
    /// # Panics
    /// When it is an error.
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        self.body
    }
}

impl<'a> Client<'a> {
    /// A client that asks as a user.
    ///
    /// # Panics
    /// When the name is no user id.
    pub fn user(site: &'a dyn Site, name: &str) -> Self {
        Self::new(site, name, false)
    }

    /// A client that asks as an operator.
    ///
    /// # Panics
    /// When no token can be made.
    pub fn operator(site: &'a dyn Site) -> Self {
        Self::new(site, "operator", true)
    }

    fn new(site: &'a dyn Site, name: &str, operator: bool) -> Self {
        let user = UserId::new(name).expect("a user id");
        let valid = Duration::from_secs(3600);
        Self {
            token: site.key().token(&user, operator, valid).expect("a token"),
            name: name.to_owned(),
            site,
        }
    }

    /// A request to the host that has the route, to be completed and sent.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.site.http().request(method, self.url(path));
        request.bearer_auth(&self.token)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.site.url(service(path), &self.name))
    }

    /// Its token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Sends a request to the host that has the route.
    ///
    /// # Panics
    /// When no running host answers.
    pub async fn send(&self, method: Method, path: &str, body: Value) -> Answer {
        self.try_send(method, path, body).await.expect("an answer")
    }

    /// Sends a request to a host that may be gone.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        body: Value,
    ) -> Result<Answer, reqwest::Error> {
        self.try_send_with(method, path, body, &[]).await
    }

    async fn try_send_with(
        &self,
        method: Method,
        path: &str,
        body: Value,
        headers: &[(&str, &str)],
    ) -> Result<Answer, reqwest::Error> {
        let site = self.site.url(service(path), &self.name);
        self.try_send_to(&site, method, path, body, headers).await
    }

    async fn try_send_to(
        &self,
        site: &str,
        method: Method,
        path: &str,
        body: Value,
        headers: &[(&str, &str)],
    ) -> Result<Answer, reqwest::Error> {
        let url = format!("{site}{path}");
        let request = self.site.http().request(method, url);
        let mut request = request.bearer_auth(&self.token);
        if !body.is_null() {
            request = request.json(&body);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after");
        let retry_after = retry_after.and_then(|seconds| seconds.to_str().ok()?.parse().ok());
        let headers = response.headers().clone();
        let body = response.bytes().await?;
        Ok(Answer {
            status,
            retry_after,
            headers,
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        })
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, Value::Null).await
    }

    /// `POST`.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, body).await
    }

    /// `POST` with an idempotency key.
    ///
    /// # Panics
    /// When no running host answers.
    pub async fn post_once(&self, key: &str, path: &str, body: Value) -> Answer {
        let headers = [("idempotency-key", key)];
        self.send_with(Method::POST, path, body, &headers).await
    }

    /// As [`Self::post_once`], to a host that may be gone.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn try_post_once(
        &self,
        key: &str,
        path: &str,
        body: Value,
    ) -> Result<Answer, reqwest::Error> {
        let headers = [("idempotency-key", key)];
        self.try_send_with(Method::POST, path, body, &headers).await
    }

    /// As [`Self::post_once`], to one of several instances.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn post_once_at(
        &self,
        host: SocketAddr,
        key: &str,
        path: &str,
        body: Value,
    ) -> Answer {
        let (site, headers) = (format!("http://{host}"), [("idempotency-key", key)]);
        let answer = self.try_send_to(&site, Method::POST, path, body, &headers);
        answer.await.expect("an answer")
    }

    /// `GET`, from one of several processes.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn get_at(&self, host: SocketAddr, path: &str) -> Answer {
        let site = format!("http://{host}");
        let answer = self.try_send_to(&site, Method::GET, path, Value::Null, &[]);
        answer.await.expect("an answer")
    }

    /// Sends a request with headers.
    ///
    /// # Panics
    /// When no running host answers.
    pub async fn send_with(
        &self,
        method: Method,
        path: &str,
        body: Value,
        headers: &[(&str, &str)],
    ) -> Answer {
        let answer = self.try_send_with(method, path, body, headers).await;
        answer.expect("an answer")
    }

    /// `PUT`.
    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, body).await
    }

    /// A new product; its id.
    pub async fn product(&self, price: i64, stock: i64) -> String {
        let new = json!({ "name": "mug", "price": price, "stock": stock });
        text(&self.post("/products", new).await.ok()["product_id"])
    }

    /// Gives points to a user.
    pub async fn charge(&self, user: &str, amount: i64) {
        let path = format!("/points/{user}/charge");
        self.post(&path, json!({ "amount": amount })).await.ok();
    }

    /// A new campaign; its id.
    pub async fn campaign(&self, discount: Value, quantity: i64) -> String {
        let new = json!({ "name": "welcome", "discount": discount, "quantity": quantity });
        text(&self.post("/coupons", new).await.ok()["campaign_id"])
    }

    /// Takes a coupon of a campaign; its id.
    pub async fn issue(&self, campaign: &str) -> String {
        let issued = self
            .post(&format!("/coupons/{campaign}/issue"), json!({}))
            .await;
        text(&issued.ok()["coupon_id"])
    }

    /// Puts a quantity of a product into the user's own cart.
    pub async fn put_in_cart(&self, product: &str, quantity: i64) {
        let path = format!("/carts/{}/items/{product}", self.name);
        self.put(&path, json!({ "quantity": quantity })).await.ok();
    }

    /// Places an order. What was created a moment ago may not have been heard of yet: as
    /// the API says, it comes back.
    pub async fn place(&self, order: Value) -> OrderId {
        eventually("placing", async || {
            let answer = self.post("/orders", order.clone()).await;
            match answer.status {
                202 => Ok(id(&answer.body["order_id"])),
                422 if matches!(
                    answer.body["code"].as_str(),
                    Some("UNKNOWN_PRODUCT" | "UNKNOWN_COUPON")
                ) =>
                {
                    Err(answer.body.to_string())
                }
                _ => panic!("not accepted: {answer:?}"),
            }
        })
        .await
    }

    /// The order as it is.
    pub async fn order(&self, order: OrderId) -> Value {
        self.get(&format!("/orders/{order}")).await.ok()
    }

    /// Waits until the order is in a state, and returns it.
    pub async fn until(&self, order: OrderId, state: &str) -> Value {
        eventually(&format!("{state} of order {order}"), async || {
            let view = self.order(order).await;
            match view["state"] == state {
                true => Ok(view),
                false => Err(view.to_string()),
            }
        })
        .await
    }

    /// Waits until the order is CONFIRMED, CANCELED or COMPENSATION_FAILED.
    pub async fn until_final(&self, order: OrderId) -> Value {
        eventually(&format!("the end of order {order}"), async || {
            let view = self.order(order).await;
            match view["state"].as_str() {
                Some("CONFIRMED" | "CANCELED" | "COMPENSATION_FAILED") => Ok(view),
                _ => Err(view.to_string()),
            }
        })
        .await
    }
}

/// The service that has a route.
fn service(path: &str) -> &str {
    match path.split(['/', '?']).nth(1) {
        Some("orders") => "order",
        Some("products") => "stock",
        Some("points") => "point",
        Some("coupons" | "users") => "coupon",
        Some("carts") => "cart",
        // Served by every host, for its own services; one is enough here.
        Some(
            "dead-letters" | "internals" | "fence" | "reconcile" | "health" | "metrics"
            | "openapi.json" | "docs",
        ) => "stock",
        other => other.unwrap_or_default(),
    }
}

impl Site for World {
    fn url(&self, service: &str, user: &str) -> String {
        let serves = |host: &&Host| {
            let mut running = host.services().iter();
            running.any(|running| running.shell().name() == service)
        };
        let hosts: Vec<&Host> = self.hosts().filter(serves).collect();
        assert!(!hosts.is_empty(), "{service} runs");
        let share: usize = user.bytes().map(usize::from).sum();
        format!("http://{}", hosts[share % hosts.len()].address())
    }

    fn http(&self) -> &reqwest::Client {
        &self.http
    }

    fn key(&self) -> &DevelopmentKey {
        &self.key
    }
}

impl World {
    /// What the stream has of an order.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub async fn story(&self, order: OrderId) -> Vec<Recorded> {
        history::of_order(self.broker(), order)
            .await
            .expect("the stream answers")
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn id(value: &Value) -> OrderId {
    text(value).parse().expect("an order id")
}
