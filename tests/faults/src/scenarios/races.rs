//! Two things happen at once, and one of them has to win.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::try_join_all;
use futures::stream::iter;
use jetstream::clock::wall;
use serde_json::json;

use crate::scenario::{SCENARIO, Scenario};
use crate::shop::{Mix, Shop};
use crate::stage::{Outcome, Stage, Wishes};

const RACES: u64 = 1000;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        id: "F24",
        what: "two steps fail at once: stock and point",
        wishes: || Wishes {
            mix: Mix {
                rare: 100,
                rare_stock: Some(0),
                coupon: 100,
                cart: 100,
                poor_one_in: 1,
                poor_points: 100,
                ..Mix::plain()
            },
            ..Wishes::default()
        },
        run: |stage| Box::pin(two_fail(stage)),
        ..SCENARIO
    },
    Scenario {
        id: "F25",
        what: "the user cancels at the last success, 1000 times",
        wishes: || Wishes {
            flags: vec!["--cancel-window", "0"],
            mix: Mix {
                orders: Some(RACES),
                ..Mix::plain()
            },
            ..Wishes::default()
        },
        run: |stage| Box::pin(cancel_races(stage)),
        ..SCENARIO
    },
    Scenario {
        id: "F26",
        what: "the deadline passes at the last success, 1000 times",
        wishes: || Wishes {
            flags: vec!["--order-deadline", "2"],
            mix: Mix {
                users: 125,
                orders: Some(RACES),
                ..Mix::plain()
            },
            ..Wishes::default()
        },
        run: |stage| Box::pin(deadline_races(stage)),
        ..SCENARIO
    },
    Scenario {
        id: "F30",
        what: "1000 orders for one unit with one coupon, in each flow",
        wishes: || Wishes {
            flags: vec!["--open-orders", "1000"],
            mix: Mix {
                users: 2,
                coupon: 100,
                look_every: Duration::from_millis(500),
                ..Mix::plain()
            },
            ..Wishes::default()
        },
        run: |stage| Box::pin(one_unit(stage)),
        ..SCENARIO
    },
];

async fn two_fail(stage: &mut Stage) -> Outcome {
    stage.load()?.ended().await?;
    let refused = "SELECT order_id AS id FROM holds WHERE state = 'REFUSED'";
    let stock: HashSet<_> = stage.ids("stock", refused).await?.into_iter().collect();
    let point = stage.ids("point", refused).await?;
    let both = point.iter().filter(|id| stock.contains(*id)).count() as u64;
    stage.figures.faults = both;
    match both >= stage.shop()?.orders / 4 {
        true => Ok(()),
        false => Err(format!("only {both} orders were refused twice")),
    }
}

/// Who won how often.
#[derive(Default)]
struct Won {
    confirmed: AtomicU64,
    canceled: AtomicU64,
}

impl Won {
    /// Counts the winner; both must have been seen, and each race counts once.
    fn conclude(&self, stage: &mut Stage, what: &str) -> Outcome {
        let confirmed = self.confirmed.load(Ordering::Relaxed);
        let canceled = self.canceled.load(Ordering::Relaxed);
        stage.figures.faults = confirmed + canceled;
        let id = stage.given.id;
        stage.figures.remarks.push(format!(
            "{id}: of {} races the confirmation won {confirmed}, and {what} {canceled}; each had \
             one winner.",
            confirmed + canceled
        ));
        match confirmed + canceled == RACES && confirmed > 0 && canceled > 0 {
            true => Ok(()),
            false => Err(format!(
                "the confirmation won {confirmed}, {what} {canceled}"
            )),
        }
    }
}

pub(crate) async fn cancel_races(stage: &mut Stage) -> Outcome {
    let (shop, won) = (stage.shop()?, Won::default());
    stage.given.progress.phase("1000 cancels");
    // Microseconds after the placing; finds the moment at which both win as often.
    let moment = AtomicI64::new(30_000);
    let one = async |user: u64| {
        for number in (user..RACES).step_by(shop.users.len()) {
            cancel_race(&shop, number, &moment, &won).await?;
        }
        Ok::<_, String>(())
    };
    try_join_all((0..shop.mix.users).map(one)).await?;
    won.conclude(stage, "the user")
}

async fn cancel_race(shop: &Shop, number: u64, moment: &AtomicI64, won: &Won) -> Outcome {
    let user = &shop.users[number as usize % shop.users.len()];
    let chance = shop.random.part(number).within(0..8_000);
    let order = shop.must_place(user, one_mug(shop)).await?;
    let after = moment.load(Ordering::Relaxed) + i64::try_from(chance).unwrap_or(0) - 4_000;
    tokio::time::sleep(Duration::from_micros(u64::try_from(after).unwrap_or(0))).await;
    let answer = shop.cancel(user, &order).await?;
    let end = shop.watch(user, &order, answer != 409).await?;
    match (answer, end.as_str()) {
        (200..300, "CANCELED") => {
            won.canceled.fetch_add(1, Ordering::Relaxed);
            moment.fetch_add(500, Ordering::Relaxed);
        }
        (409, "CONFIRMED") => {
            won.confirmed.fetch_add(1, Ordering::Relaxed);
            moment.fetch_sub(500, Ordering::Relaxed);
        }
        _ => shop.seen.wrong(format!(
            "F25 order {order}: the cancel was answered {answer}, and the order is {end}"
        )),
    }
    Ok(())
}

fn one_mug(shop: &Shop) -> serde_json::Value {
    json!({ "items": [{ "product_id": shop.mug, "quantity": 1 }] })
}

/// Deadlines are looked at every second. Each round holds back what point says, so that the
/// last success is heard when order looks; where that is in the second, the round before
/// has shown.
async fn deadline_races(stage: &mut Stage) -> Outcome {
    let (shop, won) = (stage.shop()?, Won::default());
    let (mut look, mut early) = (None::<i64>, 20);
    for round in 0..RACES / shop.mix.users {
        stage
            .given
            .progress
            .phase(&format!("{} deadlines", (round + 1) * shop.mix.users));
        let plan = match look {
            None => "late order.created.pending 1900 3100".to_owned(),
            Some(look) => {
                // Placed after a look, they are due at the third one after it.
                let placed = look + ((wall() - look) / 1000 + 1) * 1000 + 50;
                stage.tell("point", "")?;
                tokio::time::sleep(Duration::from_millis((placed - wall()).max(0) as u64)).await;
                let last = placed - 50 + 3000 - early;
                format!("until order.created.pending {} {}", last - 20, last + 20)
            }
        };
        stage.tell("point", &plan)?;
        tokio::time::sleep(Duration::from_millis(40)).await;
        let ends = try_join_all(shop.users.iter().map(|user| deadline_race(&shop, user)));
        let ends = ends.await?;
        let canceled = ends.iter().filter(|end| *end == "CANCELED").count() as u64;
        won.canceled.fetch_add(canceled, Ordering::Relaxed);
        won.confirmed
            .fetch_add(ends.len() as u64 - canceled, Ordering::Relaxed);
        // A little earlier when too many were late, and the other way round.
        early += if canceled * 2 > shop.mix.users { 8 } else { -8 };
        let said = "SELECT coalesce(max(decided_at), 0) AS n FROM outbox
                    WHERE subject = 'order.canceled'";
        look = Some(stage.number("order", said).await?).filter(|at| *at > 0);
    }
    won.conclude(stage, "the deadline")
}

async fn deadline_race(shop: &Shop, user: &crate::client::Client) -> Outcome<String> {
    let order = shop.must_place(user, one_mug(shop)).await?;
    let end = shop.watch(user, &order, false).await?;
    let reason = user.get("order", &format!("/orders/{order}")).await?;
    match (end.as_str(), reason.text("reason").as_str()) {
        ("CANCELED", "DEADLINE_PASSED") | ("CONFIRMED", "") => {}
        (end, reason) => shop.seen.wrong(format!(
            "F26 order {order}: it is {end}, with the reason {reason:?}"
        )),
    }
    Ok(end)
}

async fn one_unit(stage: &mut Stage) -> Outcome {
    let shop = stage.shop()?;
    for (n, flow) in ["sequential", "parallel"].into_iter().enumerate() {
        stage.fault(&format!("1000 orders want the same, {flow}"));
        let (user, coupon) = (&shop.users[n], &shop.coupons[n]);
        let unit = shop.list("the last one", 1).await?;
        let request = json!({
            "items": [{ "product_id": unit, "quantity": 1 }],
            "coupon_id": coupon,
            "flow": flow,
        });
        let race = (0..RACES).map(|_| async {
            let order = shop.must_place(user, request.clone()).await?;
            shop.watch(user, &order, false).await
        });
        let ends: Vec<_> = iter(race).buffer_unordered(1000).collect().await;
        let ends = ends.into_iter().collect::<Result<Vec<_>, _>>()?;
        let confirmed = ends.iter().filter(|end| *end == "CONFIRMED").count();
        let left = shop
            .operator
            .get("stock", &format!("/products/{unit}"))
            .await?;
        let free = left.body["available"] == 1;
        let coupons = user
            .get("coupon", &format!("/users/user{n}/coupons"))
            .await?;
        let unused = coupons.body.to_string().contains("\"AVAILABLE\"");
        stage.figures.remarks.push(format!(
            "{}: of 1000 {flow} orders for one unit with one coupon, {confirmed} was confirmed.",
            stage.given.id
        ));
        let right = match (flow, confirmed) {
            (_, 1) => !free && !unused,
            ("parallel", 0) => free && unused,
            _ => false,
        };
        if !right {
            stage.figures.violations.push(format!(
                "F30 {flow}: {confirmed} confirmed; the unit is free: {free}, the coupon: {unused}"
            ));
        }
    }
    Ok(())
}
