//! What the orders of a bench need: products, and users with points, carts and coupons.

use std::collections::VecDeque;
use std::time::Duration;

use events::UserId;
use futures::StreamExt as _;
use futures::stream;
use jetstream::http::auth::DevelopmentKey;
use reqwest::{Client, Method};
use serde_json::{Value, json};

// Requests at once while the shop is filled.
const AT_ONCE: usize = 64;

/// A user with all that several orders need.
pub(super) struct User {
    pub(super) token: String,
    pub(super) coupons: VecDeque<String>,
}

/// A filled shop.
pub(super) struct Shop {
    pub(super) products: Vec<String>,
    pub(super) users: Vec<User>,
}

/// Fills the shop for so many users, each of whom places so many orders.
pub(super) async fn fill(
    client: &Client,
    url: &str,
    key: &DevelopmentKey,
    users: u32,
    orders_each: u32,
) -> Result<Shop, String> {
    let valid = Duration::from_secs(24 * 60 * 60);
    let token = |name: &str, operator| {
        let user = UserId::new(name).map_err(|error| error.to_string())?;
        key.token(&user, operator, valid)
    };
    let operator = token("operator", true)?;
    let mut products = Vec::new();
    // Orders are spread over some products, as in a shop; two of them per order.
    for n in 0..16 {
        let new = json!({ "name": format!("product {n}"), "price": 500, "stock": 1_000_000_000 });
        let made = call(client, Method::POST, url, "/products", &operator, new).await?;
        products.push(text(&made["product_id"]));
    }
    let mut campaigns = Vec::new();
    for n in 0..orders_each {
        let new = json!({
            "name": format!("campaign {n}"), "discount": { "amount": 100 }, "quantity": users,
        });
        let made = call(client, Method::POST, url, "/coupons", &operator, new).await?;
        campaigns.push(text(&made["campaign_id"]));
    }
    let (products_ref, campaigns_ref, operator_ref) = (&products, &campaigns, &operator);
    let filled = stream::iter(0..users).map(|n| async move {
        let name = format!("user{n}");
        let token = token(&name, false)?;
        let path = format!("/points/{name}/charge");
        let amount = json!({ "amount": 1_000_000_000 });
        call(client, Method::POST, url, &path, operator_ref, amount).await?;
        for product in chosen(products_ref, n) {
            let path = format!("/carts/{name}/items/{product}");
            call(
                client,
                Method::PUT,
                url,
                &path,
                &token,
                json!({ "quantity": 10_000 }),
            )
            .await?;
        }
        let mut coupons = VecDeque::new();
        for campaign in campaigns_ref {
            let path = format!("/coupons/{campaign}/issue");
            let issued = call(client, Method::POST, url, &path, &token, json!({})).await?;
            coupons.push_back(text(&issued["coupon_id"]));
        }
        Ok(User { token, coupons })
    });
    let filled: Vec<Result<User, String>> = filled.buffered(AT_ONCE).collect().await;
    let users = filled.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(Shop { products, users })
}

/// The two products that a user orders.
pub(super) fn chosen(products: &[String], user: u32) -> [&String; 2] {
    let count = products.len();
    let first = user as usize % count;
    [&products[first], &products[(first + 1) % count]]
}

async fn call(
    client: &Client,
    method: Method,
    url: &str,
    path: &str,
    token: &str,
    body: Value,
) -> Result<Value, String> {
    let request = client
        .request(method, format!("{url}{path}"))
        .bearer_auth(token)
        .json(&body);
    let response = request.send().await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body: Value = response.json().await.unwrap_or_default();
    match status.is_success() {
        true => Ok(body),
        false => Err(format!(
            "filling the shop: {path} was answered {status}: {body}"
        )),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
