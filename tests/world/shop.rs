//! A shop with one customer, in which every step succeeds but the one that is to refuse.

use std::fmt::Write as _;

use events::{Flow, OrderId, Step};
use serde_json::{Value, json};

use crate::{Answer, Client, World, eventually, story};

/// Mugs at 500 each, and alice, who has points, a coupon of ten percent and a full cart.
/// Her order is for mugs, from the cart, with the coupon: it needs every step.
#[derive(Debug, Clone)]
pub struct Shop {
    /// The product that is ordered.
    pub mug: String,
    /// Another product, that is in the cart too.
    pub pen: String,
    /// Alice's coupon.
    pub coupon: String,
    quantity: i64,
}

impl Shop {
    /// Fills the shop; `refuses` is the step that will refuse alice's order. All services
    /// must be running.
    pub async fn open(world: &World, refuses: Option<Step>) -> Self {
        let [stock, point, coupon, cart] =
            [Step::STOCK, Step::POINT, Step::COUPON, Step::CART].map(|step| refuses == Some(step));
        let operator = world.operator();
        let alice = world.user("alice");
        let campaign = operator.campaign(json!({ "percent": 10 }), 100).await;
        let shop = Self {
            mug: operator.product(500, 10).await,
            pen: operator.product(100, 10).await,
            coupon: alice.issue(&campaign).await,
            quantity: if stock { 11 } else { 2 },
        };
        // Two mugs cost 900, eleven 4950.
        operator
            .charge("alice", if point { 899 } else { 5_000 })
            .await;
        alice
            .put_in_cart(&shop.mug, if cart { 1 } else { 20 })
            .await;
        alice.put_in_cart(&shop.pen, 3).await;
        if coupon {
            let items = json!([{ "product_id": shop.pen, "quantity": 1 }]);
            let first = json!({ "items": items, "coupon_id": shop.coupon });
            let first = alice.place(first).await;
            alice.until(first, "CONFIRMED").await;
        }
        world.quiet().await;
        shop
    }

    /// What alice orders.
    #[must_use]
    pub fn request(&self, flow: Flow) -> Value {
        json!({
            "items": [{ "product_id": self.mug, "quantity": self.quantity }],
            "coupon_id": self.coupon,
            "from_cart": true,
            "flow": flow,
        })
    }

    /// Alice orders.
    pub async fn order(&self, world: &World, flow: Flow) -> OrderId {
        world.user("alice").place(self.request(flow)).await
    }

    /// Alice cancels.
    pub async fn cancel(&self, world: &World, order: OrderId) -> Answer {
        let path = format!("/orders/{order}/cancel");
        world.user("alice").post(&path, Value::Null).await
    }

    /// Waits until order has heard these answers.
    pub async fn until_steps(&self, world: &World, order: OrderId, flags: &[(Step, &str)]) {
        eventually(&format!("{flags:?} of order {order}"), async || {
            let view = world.user("alice").order(order).await;
            let steps = &view["steps"];
            match flags.iter().all(|(step, flag)| steps[step.name()] == *flag) {
                true => Ok(()),
                false => Err(steps.to_string()),
            }
        })
        .await;
    }

    /// Everything that can be told of the order once all is quiet: its story, how it
    /// stands, and what alice and the shop have.
    pub async fn tell(&self, world: &World, order: OrderId) -> String {
        let story = story(&world.story(order).await);
        let view = self.view(&world.user("alice").order(order).await);
        let ledger = self.ledger(world).await;
        format!("{story}\n{view}\n{ledger}")
    }

    fn view(&self, view: &Value) -> String {
        let mut text = view["state"].as_str().expect("a state").to_owned();
        if let Some(reason) = view["reason"].as_str() {
            write!(text, ", {reason}").expect("a String takes everything");
        }
        text += "\n";
        for step in Step::all() {
            if let Some(flag) = view["steps"][step.name()].as_str() {
                writeln!(text, "{step}: {flag}").expect("a String takes everything");
            }
        }
        for refusal in view["refusals"].as_array().expect("refusals") {
            let (step, code) = (&refusal["step"], &refusal["code"]);
            let details = &refusal["details"];
            writeln!(text, "refused: {step} {code} {details}").expect("a String takes everything");
        }
        text.replace(&self.mug, "mug")
    }

    /// What alice and the shop have.
    pub async fn ledger(&self, world: &World) -> String {
        let alice = world.user("alice");
        let mug = product(&alice, &self.mug).await;
        let points = alice.get("/points/alice").await.ok();
        let coupons = alice.get("/users/alice/coupons").await.ok();
        let coupon = &coupons["coupons"][0]["status"];
        let in_cart = self.in_cart(&alice).await;
        format!(
            "mugs: {} available, {} held, {} sold\n\
             points: {} available, {} held, {} spent\n\
             coupon: {}\n\
             cart: {} mugs, {} pens\n",
            mug["available"],
            mug["held"],
            mug["settled"],
            points["balance"],
            points["held"],
            points["settled"],
            coupon.as_str().expect("a status"),
            in_cart[0],
            in_cart[1],
        )
    }

    async fn in_cart(&self, alice: &Client<'_>) -> [i64; 2] {
        let cart = alice.get("/carts/alice").await.ok();
        let items = cart["items"].as_array().expect("items");
        [&self.mug, &self.pen].map(|product| {
            let item = items.iter().find(|item| item["product_id"] == **product);
            item.map_or(0, |item| item["quantity"].as_i64().expect("a number"))
        })
    }
}

async fn product(client: &Client<'_>, id: &str) -> Value {
    client.get(&format!("/products/{id}")).await.ok()
}
