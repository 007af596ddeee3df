//! Orders: placed over HTTP, joined from what the participants say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream;
use futures::future::BoxFuture;
use shop::{Order, Step};
use sqlx::{PgConnection, PgPool};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::Error;
use crate::events::Event;
use crate::services::{Decided, Service, publish};

const ALL_HELD: i32 = 0b1111;

pub(crate) struct Orders {
    database: PgPool,
    broker: jetstream::Context,
    // Who waits for the end of an order.
    waiting: Mutex<HashMap<Uuid, oneshot::Sender<&'static str>>>,
}

impl Orders {
    pub(crate) fn new(database: PgPool, broker: jetstream::Context) -> Self {
        let waiting = Mutex::default();
        Self {
            database,
            broker,
            waiting,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Uuid, oneshot::Sender<&'static str>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Places an order and waits for its end.
    pub(crate) async fn place(&self, mut order: Order) -> Result<&'static str, Error> {
        order.total = self.price(&order).await?;
        let (tell, told) = oneshot::channel();
        self.waiting().insert(order.order_id, tell);
        let sql = "INSERT INTO orders (order_id, user_id, state, held, body)
                   VALUES ($1, $2, 'PENDING', 0, $3)";
        sqlx::query(sql)
            .bind(order.order_id)
            .bind(&order.user_id)
            .bind(serde_json::to_string(&order)?)
            .execute(&self.database)
            .await?;
        publish(&self.broker, &Event::new("hw.order.created", order)).await?;
        Ok(told.await?)
    }

    async fn price(&self, order: &Order) -> Result<i64, Error> {
        let products: Vec<Uuid> = order.items.iter().map(|item| item.product_id).collect();
        let sql = "SELECT product_id, price FROM prices WHERE product_id = ANY($1)";
        let prices: Vec<(Uuid, i64)> = sqlx::query_as(sql)
            .bind(products)
            .fetch_all(&self.database)
            .await?;
        let prices: HashMap<Uuid, i64> = prices.into_iter().collect();
        let mut total = 0;
        for item in &order.items {
            let price = prices.get(&item.product_id).ok_or("an unknown product")?;
            total += price * item.quantity;
        }
        let sql = "SELECT discount FROM known_coupons WHERE coupon_id = $1 AND user_id = $2";
        let discount: i64 = sqlx::query_scalar(sql)
            .bind(order.coupon_id)
            .bind(&order.user_id)
            .fetch_one(&self.database)
            .await?;
        Ok(total - discount)
    }

    /// Says again what may never have been said: of orders that are pending for long.
    pub(crate) async fn sweep(self: Arc<Self>) {
        let sql = "SELECT body FROM orders
                   WHERE state = 'PENDING' AND placed_at < now() - INTERVAL '5 s' LIMIT 1000";
        loop {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let bodies: Vec<String> = sqlx::query_scalar(sql)
                .fetch_all(&self.database)
                .await
                .unwrap_or_default();
            for order in bodies
                .iter()
                .filter_map(|body| serde_json::from_str(body).ok())
            {
                let _ = publish(&self.broker, &Event::new("hw.order.created", order)).await;
            }
        }
    }

    async fn join(&self, tx: &mut PgConnection, event: &Event) -> Result<Decided, Error> {
        let id = event.order.order_id;
        let say = |what: &str| Event::new(format!("hw.order.{what}"), event.order.clone());
        let mut parts = event.subject.split('.').skip(1);
        let (step, what) = (parts.next(), parts.next());
        if what == Some("refused") {
            let sql = "UPDATE orders SET state = 'CANCELED'
                       WHERE order_id = $1 AND state = 'PENDING'";
            let canceled = sqlx::query(sql).bind(id).execute(tx).await?.rows_affected() == 1;
            return Ok(Decided::Commit(canceled.then(|| say("canceled"))));
        }
        let step = Step::ALL
            .into_iter()
            .find(|known| Some(known.name()) == step);
        let flag = 1_i32 << step.ok_or("an unknown step")?.index();
        let sql = "UPDATE orders SET held = held | $2, state = CASE
                       WHEN state = 'PENDING' AND held | $2 = $3 THEN 'CONFIRMED' ELSE state END
                   WHERE order_id = $1 AND held & $2 = 0 RETURNING state, held";
        let joined: Option<(String, i32)> = sqlx::query_as(sql)
            .bind(id)
            .bind(flag)
            .bind(ALL_HELD)
            .fetch_optional(tx)
            .await?;
        let confirmed =
            joined.is_some_and(|(state, held)| state == "CONFIRMED" && held == ALL_HELD);
        Ok(Decided::Commit(confirmed.then(|| say("confirmed"))))
    }
}

impl Service for Orders {
    fn name(&self) -> &'static str {
        "order"
    }

    fn hears(&self) -> Vec<String> {
        let steps = Step::ALL.into_iter().map(Step::name);
        steps
            .flat_map(|step| [format!("hw.{step}.held"), format!("hw.{step}.refused")])
            .collect()
    }

    fn database(&self) -> &PgPool {
        &self.database
    }

    fn handle<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        event: &'a Event,
    ) -> BoxFuture<'a, Result<Decided, Error>> {
        Box::pin(self.join(tx, event))
    }

    fn said(&self, event: &Event) {
        let state = match event.subject.as_str() {
            "hw.order.confirmed" => "CONFIRMED",
            _ => "CANCELED",
        };
        if let Some(tell) = self.waiting().remove(&event.order.order_id) {
            let _ = tell.send(state);
        }
    }
}
