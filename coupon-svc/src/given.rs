//! What coupon said from outside, taken as given when a stream is replayed: the tables come
//! to hold what the request did.

use events::fact::{CampaignCreated, CouponIssued};
use events::{Envelope, catalog};
use futures::future::BoxFuture;
use jetstream::{Fault, Settings, Tx};

pub(crate) fn take<'a>(
    tx: &'a Tx,
    _: &'a Settings,
    said: &'a Envelope,
) -> BoxFuture<'a, Result<(), Fault>> {
    Box::pin(async move {
        let body = said.body.clone();
        if *said.entry == catalog::CAMPAIGN_CREATED {
            created(tx, CampaignCreated::decode(body)?).await
        } else if *said.entry == catalog::COUPON_ISSUED {
            issued(tx, CouponIssued::decode(body)?).await
        } else {
            Ok(())
        }
    })
}

/// A campaign began, or what is known of it was said again.
async fn created(tx: &Tx, campaign: CampaignCreated) -> Result<(), Fault> {
    let sql = "INSERT INTO campaigns (campaign_id, name, discount, min_total, quantity, issued,
                   expires_at, said_at, created_at)
               VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $7)
               ON CONFLICT (campaign_id) DO UPDATE SET said_at = excluded.said_at";
    let values = vec![
        campaign.campaign_id.0.into(),
        campaign.name.into(),
        serde_json::to_string(&campaign.terms.discount)?.into(),
        campaign.terms.min_total.0.into(),
        campaign.quantity.into(),
        campaign.expires_at.unwrap_or(0).into(),
        tx.now().into(),
    ];
    tx.execute(sql, values).await?;
    Ok(())
}

/// A user got a coupon, or what is known of it was said again.
async fn issued(tx: &Tx, coupon: CouponIssued) -> Result<(), Fault> {
    let sql = "UPDATE coupons SET said_at = $2 WHERE coupon_id = $1";
    let values = vec![coupon.coupon_id.0.into(), tx.now().into()];
    if tx.execute(sql, values).await? > 0 {
        return Ok(());
    }
    let sql = "INSERT INTO coupons (coupon_id, campaign_id, user_id, discount, min_total,
                   expires_at, state, order_id, said_at, issued_at)
               VALUES ($1, $2, $3, $4, $5, $6, 'AVAILABLE', $7, $8, $8)";
    let values = vec![
        coupon.coupon_id.0.into(),
        coupon.campaign_id.0.into(),
        coupon.user_id.as_str().into(),
        serde_json::to_string(&coupon.terms.discount)?.into(),
        coupon.terms.min_total.0.into(),
        coupon.expires_at.unwrap_or(0).into(),
        uuid::Uuid::nil().into(),
        tx.now().into(),
    ];
    tx.execute(sql, values).await?;
    let sql = "UPDATE campaigns SET issued = issued + 1 WHERE campaign_id = $1";
    tx.execute(sql, vec![coupon.campaign_id.0.into()]).await?;
    Ok(())
}
