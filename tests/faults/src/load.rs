//! Clients that order: a mix of everything that an order can need and run into, chosen by
//! the seed. Each watches its orders to their end, and says when one does what none may do.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use serde_json::json;

use crate::progress::Progress;
use crate::shop::{PATIENCE, Shop};

impl Shop {
    /// One order of the mix, from its placing to its end.
    pub(crate) async fn order(&self, number: u64) -> Result<(), String> {
        let (mut random, mix) = (self.random.part(number), &self.mix);
        let user_number = usize::try_from(number % mix.users).unwrap_or(0);
        let user = &self.users[user_number];
        let product = if random.percent(mix.rare) {
            &self.rare
        } else {
            &self.mug
        };
        let flow = if random.percent(mix.sequential) {
            "sequential"
        } else {
            "parallel"
        };
        let mut request = json!({
            "items": [{ "product_id": product, "quantity": random.within(1..4) }],
            "from_cart": random.percent(mix.cart),
            "flow": flow,
        });
        if random.percent(mix.coupon) {
            request["coupon_id"] = self.coupons[user_number].clone().into();
        }
        let cancel = random.percent(mix.cancel);
        let order = self.must_place(user, request).await?;
        if cancel {
            tokio::time::sleep(Duration::from_millis(random.within(0..60))).await;
            self.cancel(user, &order).await?;
        }
        tokio::time::sleep(mix.first_look).await;
        self.watch(user, &order, cancel).await?;
        self.seen.ended.fetch_add(1, Ordering::Relaxed);
        Ok(())
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
            let users = ordering.mix.users;
            let one = async |user: u64| {
                let mut number = user;
                while number < ordering.orders {
                    ordering.order(number).await?;
                    number += users;
                    let ended = ordering.seen.ended.load(Ordering::Relaxed);
                    if ended * 4 / ordering.orders != (ended - 1) * 4 / ordering.orders {
                        progress.phase(&format!("{ended} orders are decided"));
                    }
                }
                Ok::<_, String>(())
            };
            try_join_all((0..users).map(one)).await.map(drop)
        });
        Self { shop, clients }
    }

    /// Waits until so many orders, in percent, have been accepted.
    pub(crate) async fn until_placed(&self, percent: u64) -> Result<(), String> {
        self.until(percent, "placed", |shop| &shop.seen.placed)
            .await
    }

    /// Waits until so many orders, in percent, have been decided.
    pub(crate) async fn until_decided(&self, percent: u64) -> Result<(), String> {
        self.until(percent, "decided", |shop| &shop.seen.ended)
            .await
    }

    async fn until(
        &self,
        percent: u64,
        what: &str,
        count: fn(&Shop) -> &std::sync::atomic::AtomicU64,
    ) -> Result<(), String> {
        let begun = Instant::now();
        while count(&self.shop).load(Ordering::Relaxed) * 100 < self.shop.orders * percent {
            if self.clients.is_finished() || begun.elapsed() > PATIENCE {
                return Err(format!("not {percent} % of the orders were {what}"));
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
