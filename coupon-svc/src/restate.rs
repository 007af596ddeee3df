//! Campaigns and coupons that can still be used are said again, under new ids, before
//! they age out of the stream, so that a consumer that starts late can price with them.

use std::time::Duration;

use events::fact::{CampaignCreated, CouponIssued};
use events::{CampaignId, CouponId, UserId, catalog};
use futures::FutureExt as _;
use jetstream::{Emission, Fault, Shell, Tx, clock};
use sea_orm::Value;

use crate::store::{expiry, terms};

const LOOK_EVERY: Duration = Duration::from_secs(600);
const AT_ONCE: usize = 500;

pub(crate) fn start(shell: &Shell) {
    shell.every("coupons said again", LOOK_EVERY, |shell| {
        say_again(shell).boxed()
    });
}

async fn say_again(shell: Shell) -> Result<(), Fault> {
    // There may be far more coupons than fit in one transaction.
    while !shell.stopping().is_cancelled() {
        let tx = shell.backstage().begin().await?;
        let before = tx.now() - clock::millis(shell.settings().facts_again_after);
        let mut said = campaigns(&tx, before).await?;
        said.extend(coupons(&tx, before).await?);
        let count = said.len();
        shell.commit(tx, said).await?;
        if count < AT_ONCE {
            break;
        }
    }
    Ok(())
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
    let mut said = Vec::new();
    for row in tx.query(&sql, bounds(tx, before)).await? {
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

async fn coupons(tx: &Tx, before: i64) -> Result<Vec<Emission>, Fault> {
    let sql = format!(
        "UPDATE coupons SET said_at = $1 WHERE coupon_id IN
             (SELECT coupon_id FROM coupons
              WHERE said_at < $2 AND order_id = {nil} AND (expires_at = 0 OR expires_at > $1)
              ORDER BY coupon_id LIMIT $3 {for_update})
         RETURNING coupon_id, campaign_id, user_id, discount, min_total, expires_at",
        nil = tx.nil(),
        for_update = tx.for_update(),
    );
    let mut said = Vec::new();
    for row in tx.query(&sql, bounds(tx, before)).await? {
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

fn bounds(tx: &Tx, before: i64) -> Vec<Value> {
    let at_once = i64::try_from(AT_ONCE).unwrap_or(i64::MAX);
    vec![tx.now().into(), before.into(), at_once.into()]
}
