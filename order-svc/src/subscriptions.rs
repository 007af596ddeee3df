//! What order listens to.

use std::collections::BTreeMap;

use events::body;
use events::catalog::{self, Entry, Kind, STEPS};
use events::fact::{CouponIssued, ProductListed};
use events::{OrderId, Step};
use futures::future::BoxFuture;
use jetstream::hearing::reaction::{Purpose, Reaction, Saying};
use jetstream::hearing::subscription::{Handler, Proof, Subscription};
use jetstream::{Delivery, Emission, Fault, Settings, Tx};

use crate::domain::{Answer, Flag, Input, Order, Rules};
use crate::placing;
use crate::store::orders::Change;
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
        let mut heard: BTreeMap<OrderId, Vec<u64>> = BTreeMap::new();
        let mut emissions = Vec::new();
        for delivery in slice {
            let id = OrderId(delivery.envelope.correlation);
            heard.entry(id).or_default().push(delivery.stream_sequence);
            let order = all
                .get_mut(&id)
                .ok_or_else(|| Fault::Permanent(format!("order {id} is not in the database")))?;
            let (step, answer) = answer(delivery)?;
            if jetstream::is_off("R4") && answer == Answer::Taken {
                count_success(order, step);
            }
            let mut said = order
                .hear(Input::Answer(step, answer), tx.now(), &self.0)
                .map_err(|contradiction| Fault::Permanent(contradiction.to_string()))?;
            said.retain(placing::is_said);
            emissions.extend(
                said.iter()
                    .map(|say| placing::because(order, say, step, delivery)),
            );
        }
        // Also one that an answer did not change: it remembers where the answer stands.
        let changes = all.iter().map(|(id, order)| Change {
            order,
            loaded: loaded[id],
            heard: &heard[id],
        });
        orders::save(tx, changes).await?;
        Ok(emissions)
    }
}

/// In a fault run without R4, the join counts: a success that is heard again stands for
/// that of another step.
fn count_success(order: &mut Order, step: Step) {
    if order.flags.get(&step) != Some(&Flag::Succeeded) {
        return;
    }
    let mut flags = order.flags.values_mut();
    if let Some(waiting) = flags.find(|flag| **flag == Flag::Waiting) {
        *waiting = Flag::Succeeded;
    }
    if order.flags.values().all(|flag| *flag == Flag::Succeeded) {
        // The one that is heard now is the last.
        order.flags.insert(step, Flag::Waiting);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use events::{Refusal, sample};

    use super::*;

    const STEPS: [Step; 2] = [Step::STOCK, Step::POINT];

    /// Everything that two steps, the user and the clock may do to an order.
    fn inputs() -> Vec<(Option<&'static Entry>, Input)> {
        let mut inputs = vec![(None, Input::UserCancel), (None, Input::Due)];
        for step in STEPS {
            let mut add = |entry, answer| inputs.push((Some(entry), Input::Answer(step, answer)));
            let said = step.entry();
            add(&said.taken, Answer::Taken);
            add(&said.refused, Answer::Refused(Refusal::new("NO")));
            for nothing_to_undo in [false, true] {
                add(&said.undone, Answer::Undone { nothing_to_undo });
            }
        }
        inputs
    }

    #[test]
    fn whatever_comes_in_whatever_order_the_join_says_what_is_declared() {
        let rules = Rules {
            cancel_window: i64::MAX / 2,
            compensation_deadlines: vec![1_000],
        };
        // Its sample needs stock and point.
        let order = Order::new(sample::context(sample::Form::Bare));
        let mut seen = BTreeSet::new();
        let mut open = vec![(order, BTreeSet::new(), 1_i64)];
        while let Some((order, said_once, turn)) = open.pop() {
            let known = format!(
                "{:?} {:?} {} {said_once:?}",
                order.state, order.flags, order.attempt
            );
            if turn > 8 || !seen.insert(known) {
                continue;
            }
            for (heard, input) in inputs() {
                let (mut order, mut said_once) = (order.clone(), said_once.clone());
                let now = order.context.deadline + turn * 1_000_000;
                let Ok(said) = order.hear(input, now, &rules) else {
                    continue;
                };
                for (heard, say) in said.iter().filter_map(|say| Some((heard?, say))) {
                    let entry = placing::entry(say);
                    let declared = joined(heard).expect("it is joined").says;
                    let saying = declared.iter().find(|saying| saying.entry == entry);
                    let saying = saying.unwrap_or_else(|| {
                        panic!("{} after {} in {order:?}", entry.subject, heard.subject)
                    });
                    let first = saying.again || said_once.insert((heard.subject, entry.subject));
                    assert!(first, "{} twice after {}", entry.subject, heard.subject);
                }
                open.push((order, said_once, turn + 1));
            }
        }
        assert!(seen.len() > 100, "{} orders were seen", seen.len());
    }
}
