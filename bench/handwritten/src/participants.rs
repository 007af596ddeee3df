//! Stock, point, coupon and cart: each takes its step of an order.

use futures::future::BoxFuture;
use shop::Step;
use sqlx::{PgConnection, PgPool};

use crate::Error;
use crate::events::Event;
use crate::services::{Decided, Service};

pub(crate) struct Participant {
    step: Step,
    database: PgPool,
}

impl Participant {
    pub(crate) fn new(step: Step, database: PgPool) -> Self {
        Self { step, database }
    }

    async fn take(&self, tx: &mut PgConnection, event: &Event) -> Result<Decided, Error> {
        let order = &event.order;
        let say = |what: &str| Event::new(format!("hw.{}.{what}", self.step.name()), order.clone());
        match event.subject.as_str() {
            "hw.order.created" => match self.step.hold(tx, order).await? {
                true => Ok(Decided::Commit(Some(say("held")))),
                false => Ok(Decided::Refuse(say("refused"))),
            },
            "hw.order.confirmed" => {
                self.step.settle(tx, order).await?;
                Ok(Decided::Commit(None))
            }
            _ => {
                self.step.release(tx, order).await?;
                Ok(Decided::Commit(Some(say("released"))))
            }
        }
    }
}

impl Service for Participant {
    fn name(&self) -> &'static str {
        self.step.name()
    }

    fn hears(&self) -> Vec<String> {
        ["created", "confirmed", "canceled"]
            .map(|what| format!("hw.order.{what}"))
            .to_vec()
    }

    fn database(&self) -> &PgPool {
        &self.database
    }

    fn handle<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        event: &'a Event,
    ) -> BoxFuture<'a, Result<Decided, Error>> {
        Box::pin(self.take(tx, event))
    }
}
