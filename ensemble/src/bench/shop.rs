//! What the orders of a bench need: products, and users with points, carts and coupons.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;
use jetstream::http::auth::DevelopmentKey;
use serde_json::{Value, json};
use uuid::Uuid;

use super::client::{Connection, Place, authorization};
use super::mix::{Fate, Mix, Plan};
use super::progress::Progress;

/// Orders are spread over so many products, two neighbours for each user.
pub(super) const PRODUCTS: u32 = 256;
pub(super) const PRICE: i64 = 500;
pub(super) const DISCOUNT: i64 = 100;
pub(super) const PLENTY: i64 = 1_000_000_000;
/// What a cart holds of a product at most; each order takes one out.
pub(super) const CART: u64 = 10_000;
// Requests at once while the shop is filled.
const AT_ONCE: usize = 64;

/// Products by what they are for.
#[derive(Debug)]
pub(super) struct Products {
    usual: Vec<Uuid>,
    /// The one that everybody wants.
    hot: Uuid,
    /// There is none of it: stock refuses.
    scarce: Uuid,
    /// Nobody can pay it: point refuses.
    dear: Uuid,
    /// In nobody's cart: cart refuses.
    elsewhere: Uuid,
}

/// A user with all that several orders need.
pub(super) struct User {
    pub(super) authorization: String,
    pub(super) name: String,
    products: [Uuid; 2],
    coupons: VecDeque<Uuid>,
    // Used by an earlier order: coupon refuses.
    spent: Option<Uuid>,
}

/// A filled shop.
pub(super) struct Shop {
    pub(super) products: Arc<Products>,
    pub(super) users: Vec<User>,
    pub(super) operator: String,
}

impl Products {
    /// All of them, with the stock that they began with.
    pub(super) fn all(&self) -> impl Iterator<Item = (Uuid, i64)> {
        let special = [self.hot, self.dear, self.elsewhere];
        let plenty = self.usual.iter().copied().chain(special);
        let plenty = plenty.map(|product| (product, PLENTY));
        plenty.chain([(self.scarce, 0)])
    }
}

impl User {
    /// The body of an order by plan; none when the user has no coupon left for it.
    pub(super) fn order(&mut self, plan: Plan, products: &Products) -> Option<String> {
        let refuser = match plan.fate {
            Fate::RefusedBy(step) => step.name(),
            _ => "",
        };
        let [usual, second] = self.products;
        let first = match refuser {
            "stock" => products.scarce,
            "point" => products.dear,
            "cart" => products.elsewhere,
            _ if plan.hot => products.hot,
            _ => usual,
        };
        let coupon = match refuser {
            "coupon" => Some(self.spent?),
            _ if plan.coupon => Some(self.coupons.pop_front()?),
            _ => None,
        };
        let coupon = coupon.map_or(String::new(), |id| format!(r#""coupon_id":"{id}","#));
        Some(format!(
            r#"{{"items":[{{"product_id":"{first}","quantity":1}},{{"product_id":"{second}","quantity":1}}],{coupon}"from_cart":{},"flow":"{}"}}"#,
            plan.cart,
            plan.flow.name(),
        ))
    }

    /// Sets a coupon aside, which the first order of the user will spend.
    fn spend(&mut self) {
        self.spent = self.coupons.front().copied();
    }
}

/// Fills the shop for so many users, each of whom places at most so many orders.
pub(super) async fn fill(
    place: &Place,
    key: &DevelopmentKey,
    mix: &Mix,
    users: u32,
    orders_each: u32,
    progress: &Progress,
) -> Result<Shop, String> {
    let operator = authorization(key, "operator", true)?;
    let mut connection = Connection::open(place).await?;
    let products = Arc::new(products(&mut connection, &operator).await?);
    // One more, which is spent before anything is measured.
    let coupons = match mix.coupon > 0.0 || mix.refused_by("coupon") > 0.0 {
        true => orders_each + 1,
        false => 0,
    };
    let mut campaigns = Vec::new();
    for n in 0..coupons {
        let discount = json!({ "amount": DISCOUNT });
        let new =
            json!({ "name": format!("campaign {n}"), "discount": discount, "quantity": users });
        let made = connection.call("POST", "/coupons", &operator, &new).await?;
        campaigns.push(id(&made["campaign_id"])?);
    }
    progress.begin("filling the shop", u64::from(users));
    let (products_ref, campaigns, operator_ref) = (&products, &campaigns, &operator);
    let filled = stream::iter(0..users).map(|n| async move {
        let mut connection = Connection::open(place).await?;
        let name = format!("user{n}");
        let authorization = authorization(key, &name, false)?;
        let amount = json!({ "amount": PLENTY });
        let path = format!("/points/{name}/charge");
        connection
            .call("POST", &path, operator_ref, &amount)
            .await?;
        let first = (n * 2 % PRODUCTS) as usize;
        let products = [products_ref.usual[first], products_ref.usual[first + 1]];
        for product in in_cart(mix, products_ref, products) {
            let path = format!("/carts/{name}/items/{product}");
            let quantity = json!({ "quantity": CART });
            connection
                .call("PUT", &path, &authorization, &quantity)
                .await?;
        }
        let mut coupons = VecDeque::with_capacity(campaigns.len());
        for campaign in campaigns {
            let path = format!("/coupons/{campaign}/issue");
            let issued = connection
                .call("POST", &path, &authorization, &json!({}))
                .await?;
            coupons.push_back(id(&issued["coupon_id"])?);
        }
        progress.advance(1);
        let mut user = User {
            authorization,
            name,
            products,
            coupons,
            spent: None,
        };
        user.spend();
        Ok(user)
    });
    let filled: Vec<Result<User, String>> = filled.buffered(AT_ONCE).collect().await;
    Ok(Shop {
        users: filled.into_iter().collect::<Result<Vec<_>, _>>()?,
        products,
        operator,
    })
}

/// What a cart has to have for the orders that are to come from it.
fn in_cart(mix: &Mix, products: &Products, own: [Uuid; 2]) -> Vec<Uuid> {
    let mut all = own.to_vec();
    all.extend((mix.hot > 0.0).then_some(products.hot));
    all.extend((mix.refused_by("stock") > 0.0).then_some(products.scarce));
    all.extend((mix.refused_by("point") > 0.0).then_some(products.dear));
    if mix.cart > 0.0 || mix.refused_by("cart") > 0.0 {
        return all;
    }
    vec![]
}

async fn products(connection: &mut Connection, operator: &str) -> Result<Products, String> {
    let mut list = async |name: String, price: i64, stock: i64| {
        let new = json!({ "name": name, "price": price, "stock": stock });
        let made = connection.call("POST", "/products", operator, &new).await?;
        id(&made["product_id"])
    };
    let mut usual = Vec::new();
    for n in 0..PRODUCTS {
        usual.push(list(format!("product {n}"), PRICE, PLENTY).await?);
    }
    Ok(Products {
        usual,
        hot: list("hot".to_owned(), PRICE, PLENTY).await?,
        scarce: list("scarce".to_owned(), PRICE, 0).await?,
        dear: list("dear".to_owned(), 10_000_000_000, PLENTY).await?,
        elsewhere: list("elsewhere".to_owned(), PRICE, PLENTY).await?,
    })
}

fn id(value: &Value) -> Result<Uuid, String> {
    let text = value.as_str().unwrap_or_default();
    text.parse().map_err(|_| format!("`{text}` is no id"))
}
