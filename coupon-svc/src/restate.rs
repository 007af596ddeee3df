//! Campaigns and coupons that can still be used are said again, under new ids, before
//! they age out of the stream, so that a consumer that starts late can price with them.
//!
//! Coupons are gone through by their ids, all of them. An index of those to be said would be
//! changed by each order.

use std::time::Duration;

use events::fact::{CampaignCreated, CouponIssued};
use events::{CampaignId, CouponId, UserId, catalog};
use futures::FutureExt as _;
use jetstream::{Emission, Fault, Shell, Tx, clock};
use uuid::Uuid;

use crate::store::{expiry, terms};

const LOOK_EVERY: Duration = Duration::from_secs(600);
// Rows that a transaction looks at, at most.
const AT_ONCE: i64 = 500;

pub(crate) fn start(shell: &Shell) {
    shell.every("coupons said again", LOOK_EVERY, |shell| {
        say_again(shell).boxed()
    });
}

async fn say_again(shell: Shell) -> Result<(), Fault> {
    // There may be far more than fit in one transaction.
    let mut full = true;
    while full && !shell.stopping().is_cancelled() {
        let tx = shell.backstage().begin().await?;
        let said = campaigns(&tx, said_before(&tx, &shell)).await?;
        full = said.len() as i64 == AT_ONCE;
        shell.commit(tx, said).await?;
    }
    let mut from = Some(Uuid::nil());
    while let Some(first) = from.filter(|_| !shell.stopping().is_cancelled()) {
        let tx = shell.backstage().begin().await?;
        from = after(&tx, first).await?;
        let said = coupons(&tx, said_before(&tx, &shell), first, from).await?;
        shell.commit(tx, said).await?;
    }
    Ok(())
}

fn said_before(tx: &Tx, shell: &Shell) -> i64 {
    tx.now() - clock::millis(shell.settings().facts_again_after)
}

async fn campaigns(tx: &Tx, before: i64) -> Result<Vec<Emission>, Fault> {
    let sql = format!(
        "UPDATE campaigns SET said_at = $1 WHERE campaign_id IN
             (SELECT campaign_id FROM campaigns
              WHERE said_at < $2 AND (expires_at = 0 OR expires_at > $1)
              ORDER BY campaign_id LIMIT $3 {})
         RETURNING campaign_id, name, discount, min_total, quantity, expires_at",
        tx.for_update()
    );
    let values = vec![tx.now().into(), before.into(), AT_ONCE.into()];
    let mut said = Vec::new();
    for row in tx.query(&sql, values).await? {
        let created = CampaignCreated {
            campaign_id: CampaignId(row.try_get("", "campaign_id")?),
            name: row.try_get("", "name")?,
            terms: terms(&row)?,
            quantity: row.try_get("", "quantity")?,
            expires_at: expiry(&row)?,
        };
        let id = created.campaign_id;
        said.push(Emission::fact(
            &catalog::CAMPAIGN_CREATED,
            id,
            created.encode(),
        ));
    }
    Ok(said)
}

/// The coupon that the next transaction begins with, if there is one.
async fn after(tx: &Tx, first: Uuid) -> Result<Option<Uuid>, Fault> {
    let sql = "SELECT coupon_id FROM coupons WHERE coupon_id >= $1
               ORDER BY coupon_id LIMIT 1 OFFSET $2";
    let rows = tx.query(sql, vec![first.into(), AT_ONCE.into()]).await?;
    let next = rows.first().map(|row| row.try_get("", "coupon_id"));
    Ok(next.transpose()?)
}

async fn coupons(
    tx: &Tx,
    before: i64,
    first: Uuid,
    next: Option<Uuid>,
) -> Result<Vec<Emission>, Fault> {
    let sql = format!(
        "UPDATE coupons SET said_at = $1 WHERE coupon_id IN
             (SELECT coupon_id FROM coupons
              WHERE coupon_id >= $3 AND coupon_id < $4 AND said_at < $2
                  AND state = 'AVAILABLE' AND (expires_at = 0 OR expires_at > $1)
              ORDER BY coupon_id {})
         RETURNING coupon_id, campaign_id, user_id, discount, min_total, expires_at",
        tx.for_update()
    );
    let next = next.unwrap_or(Uuid::max());
    let values = vec![tx.now().into(), before.into(), first.into(), next.into()];
    let mut said = Vec::new();
    for row in tx.query(&sql, values).await? {
        let issued = CouponIssued {
            coupon_id: CouponId(row.try_get("", "coupon_id")?),
            campaign_id: CampaignId(row.try_get("", "campaign_id")?),
            user_id: UserId::new(row.try_get::<String>("", "user_id")?)?,
            terms: terms(&row)?,
            expires_at: expiry(&row)?,
        };
        let id = issued.coupon_id;
        said.push(Emission::fact(&catalog::COUPON_ISSUED, id, issued.encode()));
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use jetstream::Database;
    use jetstream::database::bulk::{Column, Rows};
    use jetstream::database::fixture::on_each_database;

    use super::*;

    /// Coupons of one campaign, one of a user each.
    async fn give(database: &Database, count: i64, state: &str, expires_at: i64, said_at: i64) {
        let mut rows = Rows::of(&[("id", Column::Id), ("user_id", Column::Text)]);
        for _ in 0..count {
            let id = clock::new_id();
            rows.push([id.into(), id.to_string().into()]);
        }
        let sql = "INSERT INTO coupons SELECT id, id, user_id, '{\"percent\":10}', 0,
                       CAST($1 AS BIGINT), $2, id, CAST($3 AS BIGINT), 0 FROM v WHERE true";
        let values = vec![expires_at.into(), state.into(), said_at.into()];
        database.run(rows, sql, values).await.expect("given");
    }

    /// How many one way through all coupons says, and in how many parts.
    async fn say(tx: &Tx, before: i64) -> (usize, usize) {
        let (mut said, mut parts) = (0, 0);
        let mut from = Some(Uuid::nil());
        while let Some(first) = from {
            from = after(tx, first).await.expect("read");
            let part = coupons(tx, before, first, from).await.expect("said");
            said += part.len();
            parts += 1;
        }
        (said, parts)
    }

    #[tokio::test]
    async fn all_that_can_still_be_used_is_said_again_once() {
        on_each_database(&crate::SERVICE, async |database| {
            let most = 300;
            for _ in 0..4 {
                give(database, most, "AVAILABLE", 0, 5).await;
                give(database, most, "USED", 0, 5).await;
            }
            give(database, 3, "AVAILABLE", 1, 5).await;
            give(database, 3, "AVAILABLE", 0, i64::MAX).await;
            give(database, 1, "AVAILABLE", i64::MAX, 5).await;
            let tx = database.begin().await.expect("begun");
            assert_eq!(say(&tx, 6).await, (1201, 5));
            assert_eq!(say(&tx, 6).await, (0, 5));
        })
        .await;
    }
}
