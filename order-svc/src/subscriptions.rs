//! What order listens to.

use std::collections::BTreeMap;

use events::body;
use events::catalog::{self, Entry, Kind, STEPS};
use events::fact::{CouponIssued, ProductListed};
use events::{OrderId, Step};
use futures::future::BoxFuture;
use jetstream::reaction::{Purpose, Reaction, Saying};
use jetstream::subscription::{Handler, Proof, Subscription};
use jetstream::{Delivery, Emission, Fault, Settings, Tx};

use crate::domain::{Answer, Input, Order, Rules};
use crate::placing;
use crate::store::{known, orders};

pub(crate) fn all(settings: &Settings) -> Vec<Subscription> {
    let answers = STEPS
        .iter()
        .flat_map(|step| [&step.taken, &step.refused, &step.undone]);
    vec![
        // the answers of every step ─► the join
        //   → order.confirmed, order.canceled, order.compensated
        Subscription::new(
            answers.map(|answer| answer.subject),
            Proof::Inbox,
            Join(placing::rules(settings)),
        )
        .reacting(joined),
        // product.listed ─► the price list
        Subscription::new(
            [catalog::PRODUCT_LISTED.subject],
            Proof::NaturalRow("price_list"),
            PriceList,
        ),
        // coupon.issued ─► the coupons to price with
        Subscription::new(
            [catalog::COUPON_ISSUED.subject],
            Proof::NaturalRow("coupons"),
            Coupons,
        ),
    ]
}

/// What the join may say because of an answer. An order is decided once; only a late
/// success has compensation asked for again (R6), each time that it comes.
fn joined(answer: &'static Entry) -> Option<Reaction> {
    let says = match answer.kind {
        Kind::Taken(_) => vec![
            Saying::once(&catalog::ORDER_CONFIRMED),
            Saying::again(&catalog::ORDER_CANCELED),
        ],
        _ => vec![
            Saying::once(&catalog::ORDER_CANCELED),
            Saying::once(&catalog::ORDER_COMPENSATED),
        ],
    };
    let purpose = Purpose::Join;
    Some(Reaction { purpose, says })
}

/// Joins the answers of the steps.
struct Join(Rules);

impl Handler for Join {
    fn handle<'a>(
        &'a self,
        tx: &'a Tx,
        slice: &'a [Delivery],
    ) -> BoxFuture<'a, Result<Vec<Emission>, Fault>> {
        Box::pin(self.join(tx, slice))
    }
}

impl Join {
    async fn join(&self, tx: &Tx, slice: &[Delivery]) -> Result<Vec<Emission>, Fault> {
        let ids = slice
            .iter()
            .map(|delivery| OrderId(delivery.envelope.correlation));
        let mut all = orders::load(tx, ids).await?;
        let loaded: BTreeMap<_, _> = all.iter().map(|(id, order)| (*id, order.version)).collect();
        let mut emissions = Vec::new();
        for delivery in slice {
            let id = OrderId(delivery.envelope.correlation);
            let order = all
                .get_mut(&id)
                .ok_or_else(|| Fault::Permanent(format!("order {id} is not in the database")))?;
            let (step, answer) = answer(delivery)?;
            let said = order
                .hear(Input::Answer(step, answer), tx.now(), &self.0)
                .map_err(|contradiction| Fault::Permanent(contradiction.to_string()))?;
            emissions.extend(
                said.iter()
                    .map(|say| placing::because(order, say, delivery)),
            );
        }
        let changed = |order: &&Order| loaded.get(&order.context.order_id) != Some(&order.version);
        let changed = all.values().filter(changed);
        orders::save(
            tx,
            changed.map(|order| (order, loaded[&order.context.order_id])),
        )
        .await?;
        Ok(emissions)
    }
}

fn answer(delivery: &Delivery) -> Result<(Step, Answer), Fault> {
    let bytes = delivery.envelope.body.clone();
    match delivery.envelope.entry.kind {
        Kind::Taken(step) => Ok((step, Answer::Taken)),
        Kind::Refused(step) => Ok((step, Answer::Refused(body::refusal(bytes)?))),
        Kind::Undone(step) => {
            let nothing_to_undo = body::read_undone(bytes)?.nothing_to_undo;
            Ok((step, Answer::Undone { nothing_to_undo }))
        }
        _ => Err(Fault::Permanent("not the answer of a step".to_owned())),
    }
}

/// Keeps the price list.
struct PriceList;

impl Handler for PriceList {
    fn handle<'a>(
        &'a self,
        tx: &'a Tx,
        slice: &'a [Delivery],
    ) -> BoxFuture<'a, Result<Vec<Emission>, Fault>> {
        Box::pin(async move {
            let listed = slice
                .iter()
                .map(|d| ProductListed::decode(d.envelope.body.clone()));
            known::keep_listed(tx, listed.collect::<Result<_, _>>()?).await?;
            Ok(vec![])
        })
    }
}

/// Keeps the coupons to price with.
struct Coupons;

impl Handler for Coupons {
    fn handle<'a>(
        &'a self,
        tx: &'a Tx,
        slice: &'a [Delivery],
    ) -> BoxFuture<'a, Result<Vec<Emission>, Fault>> {
        Box::pin(async move {
            let issued = slice
                .iter()
                .map(|d| CouponIssued::decode(d.envelope.body.clone()));
            known::keep_issued(tx, issued.collect::<Result<_, _>>()?).await?;
            Ok(vec![])
        })
    }
}
