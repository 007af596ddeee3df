//! How coupons are kept.

use std::collections::{BTreeMap, BTreeSet};

use events::hold::Hold;
use events::{Coupon, CouponId, Money, OrderContext, OrderId, Refusal, Step, UserId};
use jetstream::database::bulk::{Column, Rows};
use jetstream::hearing::participant::Participant;
use jetstream::{Fault, Tx};
use sea_orm::QueryResult;
use uuid::Uuid;

use crate::domain::{Drawer, Given, State};

/// Takes the step `coupon`.
pub(crate) struct Coupons;

/// The coupons of a batch, and how they were when they were loaded.
pub(crate) struct Loaded {
    drawer: Drawer,
    before: BTreeMap<CouponId, Given>,
}

impl Participant for Coupons {
    const STEP: Step = Step::COUPON;
    type Held = CouponId;
    type Resources = Loaded;

    async fn load(&self, tx: &Tx, orders: &[&OrderContext]) -> Result<Loaded, Fault> {
        let ids: BTreeSet<_> = orders.iter().filter_map(|o| o.coupon_id).collect();
        let sql = "SELECT coupon_id, user_id, discount, min_total, expires_at, state, order_id
                   FROM coupons WHERE coupon_id IN (SELECT id FROM v) ORDER BY coupon_id";
        let ids = Rows::ids(ids.into_iter().map(|id| id.0));
        let mut coupons = BTreeMap::new();
        for row in tx.load(ids, sql, vec![]).await? {
            let given = Given {
                owner: UserId::new(row.try_get::<String>("", "user_id")?)?,
                terms: terms(&row)?,
                expires_at: row.try_get("", "expires_at")?,
                state: state(&row)?,
            };
            coupons.insert(CouponId(row.try_get("", "coupon_id")?), given);
        }
        Ok(Loaded {
            before: coupons.clone(),
            drawer: Drawer { coupons },
        })
    }

    fn hold(
        &self,
        loaded: &mut Loaded,
        order: &OrderContext,
        now: i64,
    ) -> Result<CouponId, Refusal> {
        loaded.drawer.hold(order, now)
    }

    fn release(&self, loaded: &mut Loaded, order: &OrderContext, held: &CouponId, _: Hold) {
        loaded.drawer.release(order.order_id, *held);
    }

    fn settle(&self, loaded: &mut Loaded, order: &OrderContext, held: &CouponId) {
        loaded.drawer.settle(order.order_id, *held);
    }

    async fn save(&self, tx: &Tx, loaded: Loaded) -> Result<(), Fault> {
        let mut rows = Rows::of(&[
            ("id", Column::Id),
            ("state", Column::Text),
            ("order_id", Column::Id),
            ("was", Column::Text),
            ("was_of", Column::Id),
        ]);
        for (id, before) in &loaded.before {
            let Some(coupon) = loaded.drawer.coupons.get(id).filter(|now| *now != before) else {
                continue;
            };
            let ((state, order), (was, was_of)) = (columns(coupon.state), columns(before.state));
            let (state, was) = (state.into(), was.into());
            rows.push([id.0.into(), state, order.into(), was, was_of.into()]);
        }
        let sql = "UPDATE coupons SET state = v.state, order_id = v.order_id
                   FROM v WHERE coupons.coupon_id = v.id";
        let unchanged = "coupons.state = v.was AND coupons.order_id = v.was_of";
        tx.write(rows, &tx.as_loaded(sql, unchanged), vec![]).await
    }
}

/// A state, and the order that it belongs to, as they are stored.
fn columns(state: State) -> (&'static str, Uuid) {
    match state {
        State::Available => ("AVAILABLE", Uuid::nil()),
        State::Held(order) => ("HELD", order.0),
        State::Used(order) => ("USED", order.0),
    }
}

/// The terms of a row that has `discount` and `min_total`.
pub(crate) fn terms(row: &QueryResult) -> Result<Coupon, Fault> {
    let discount: String = row.try_get("", "discount")?;
    Ok(Coupon {
        discount: serde_json::from_str(&discount)?,
        min_total: Money(row.try_get("", "min_total")?),
    })
}

/// When a row expires, if ever.
pub(crate) fn expiry(row: &QueryResult) -> Result<Option<i64>, Fault> {
    let expires_at: i64 = row.try_get("", "expires_at")?;
    Ok((expires_at != 0).then_some(expires_at))
}

fn state(row: &QueryResult) -> Result<State, Fault> {
    let order = OrderId(row.try_get("", "order_id")?);
    let state: String = row.try_get("", "state")?;
    match state.as_str() {
        "AVAILABLE" => Ok(State::Available),
        "HELD" => Ok(State::Held(order)),
        "USED" => Ok(State::Used(order)),
        other => Err(Fault::Permanent(format!("a coupon has the state {other}"))),
    }
}

#[cfg(test)]
mod tests;
