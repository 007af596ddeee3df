//! Giving coupons out: whoever asks at the same time is answered in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use events::fact::CouponIssued;
use events::{CampaignId, CouponId, UserId, catalog};
use futures::future::BoxFuture;
use jetstream::database::bulk::{Column, Rows};
use jetstream::http::intake::{Commands, Decided};
use jetstream::{Emission, Fault, Tx, clock};

use crate::domain::{Campaign, Campaigns, NotIssued};
use crate::store::terms;

/// A user asks for a coupon, with the trace that this belongs to.
pub(crate) struct Ask {
    pub(crate) campaign: CampaignId,
    pub(crate) user: UserId,
    pub(crate) traceparent: Option<String>,
}

/// Decides who gets one.
pub(crate) struct Issuing;

impl Commands for Issuing {
    type Command = Ask;
    type Answer = Answer;

    fn decide<'a>(
        &'a self,
        tx: &'a Tx,
        asked: &'a [Ask],
    ) -> BoxFuture<'a, Result<Decided<Self::Answer>, Fault>> {
        Box::pin(issue(tx, asked))
    }
}

type Answer = Result<CouponIssued, NotIssued>;

async fn issue(tx: &Tx, asked: &[Ask]) -> Result<Decided<Answer>, Fault> {
    let mut campaigns = load(tx, asked).await?;
    let mut answers = Vec::with_capacity(asked.len());
    let mut emissions = Vec::new();
    for ask in asked {
        let id = CouponId(clock::new_id());
        let answer = campaigns.issue(ask.campaign, &ask.user, id, tx.now());
        if let Ok(issued) = &answer {
            let said = Emission::fact(&catalog::COUPON_ISSUED, id, issued.encode());
            emissions.push(said.traced(ask.traceparent.clone()));
        }
        answers.push(answer);
    }
    save(tx, answers.iter().flatten(), &campaigns).await?;
    Ok((answers, emissions))
}

/// Loads and locks the campaigns; once they are locked, nobody else gives their coupons
/// out, so who has one already is read after that.
async fn load(tx: &Tx, asked: &[Ask]) -> Result<Campaigns, Fault> {
    let ids: BTreeSet<_> = asked.iter().map(|ask| ask.campaign.0).collect();
    let sql = format!(
        "SELECT campaign_id, discount, min_total, quantity, issued, expires_at FROM campaigns
         WHERE campaign_id IN (SELECT id FROM v) ORDER BY campaign_id {}",
        tx.for_update()
    );
    let mut of = BTreeMap::new();
    for row in tx.fetch(Rows::ids(ids), &sql, vec![]).await? {
        let campaign = Campaign {
            terms: terms(&row)?,
            quantity: row.try_get("", "quantity")?,
            issued: row.try_get("", "issued")?,
            expires_at: row.try_get("", "expires_at")?,
            holders: BTreeMap::new(),
        };
        of.insert(CampaignId(row.try_get("", "campaign_id")?), campaign);
    }
    let mut pairs = Rows::of(&[("campaign_id", Column::Id), ("user_id", Column::Text)]);
    for ask in asked {
        pairs.push([ask.campaign.0.into(), ask.user.as_str().into()]);
    }
    let sql = "SELECT coupons.campaign_id, coupons.user_id, coupons.coupon_id
               FROM coupons JOIN v ON coupons.campaign_id = v.campaign_id
                   AND coupons.user_id = v.user_id";
    for row in tx.fetch(pairs, sql, vec![]).await? {
        let campaign = CampaignId(row.try_get("", "campaign_id")?);
        if let Some(campaign) = of.get_mut(&campaign) {
            let user = UserId::new(row.try_get::<String>("", "user_id")?)?;
            let coupon = CouponId(row.try_get("", "coupon_id")?);
            campaign.holders.insert(user, coupon);
        }
    }
    Ok(Campaigns { of })
}

async fn save<'a>(
    tx: &Tx,
    issued: impl Iterator<Item = &'a CouponIssued>,
    campaigns: &Campaigns,
) -> Result<(), Fault> {
    let mut coupons = Rows::of(&[
        ("coupon_id", Column::Id),
        ("campaign_id", Column::Id),
        ("user_id", Column::Text),
        ("discount", Column::Text),
        ("min_total", Column::Int),
        ("expires_at", Column::Int),
        ("order_id", Column::Id),
    ]);
    let mut touched = BTreeSet::new();
    for coupon in issued {
        touched.insert(coupon.campaign_id);
        coupons.push([
            coupon.coupon_id.0.into(),
            coupon.campaign_id.0.into(),
            coupon.user_id.as_str().into(),
            serde_json::to_string(&coupon.terms.discount)?.into(),
            coupon.terms.min_total.0.into(),
            coupon.expires_at.unwrap_or(0).into(),
            uuid::Uuid::nil().into(),
        ]);
    }
    let sql = "INSERT INTO coupons (coupon_id, campaign_id, user_id, discount, min_total,
                   expires_at, state, order_id, said_at, issued_at)
               SELECT coupon_id, campaign_id, user_id, discount, min_total, expires_at,
                   'AVAILABLE', order_id, CAST($1 AS BIGINT), CAST($1 AS BIGINT) FROM v";
    tx.run(coupons, sql, vec![tx.now().into()]).await?;
    let mut counts = Rows::of(&[("id", Column::Id), ("issued", Column::Int)]);
    for id in touched {
        let issued = campaigns.of.get(&id).map_or(0, |campaign| campaign.issued);
        counts.push([id.0.into(), issued.into()]);
    }
    let sql = "UPDATE campaigns SET issued = v.issued FROM v WHERE campaigns.campaign_id = v.id";
    tx.run(counts, sql, vec![]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jetstream::Database;
    use jetstream::database::fixture::on_each_database;
    use uuid::Uuid;

    fn ask(campaign: u128, user: &str) -> Ask {
        Ask {
            campaign: CampaignId(Uuid::from_u128(campaign)),
            user: UserId::new(user).expect("valid"),
            traceparent: None,
        }
    }

    async fn campaign(tx: &Tx, id: u128, quantity: i64) {
        let sql = "INSERT INTO campaigns VALUES ($1, 'Sale', '{\"amount\":5}', 0, $2, 0, 0, 0, 0)";
        tx.execute(sql, vec![Uuid::from_u128(id).into(), quantity.into()])
            .await
            .expect("created");
    }

    async fn number(tx: &Tx, sql: &str) -> i64 {
        let rows = tx.query(sql, vec![]).await.expect("read");
        rows[0].try_get("", "n").expect("a number")
    }

    async fn groups_get_exactly_what_there_is(database: &Database) {
        let tx = database.begin().await.expect("begun");
        campaign(&tx, 1, 3).await;
        campaign(&tx, 2, 9).await;
        let group = ["alice", "bob", "alice"].map(|user| ask(1, user));
        let (answers, said) = Issuing.decide(&tx, &group).await.expect("decided");
        let got: Vec<_> = answers.iter().map(Result::is_ok).collect();
        assert_eq!((got, said.len()), (vec![true, true, false], 2));
        let alices = answers[0].as_ref().expect("issued").coupon_id;
        assert_eq!(answers[2], Err(NotIssued::Already(alices)));

        let group = [
            ask(1, "alice"),
            ask(1, "carol"),
            ask(1, "dave"),
            ask(2, "dave"),
            ask(3, "eve"),
        ];
        let (answers, said) = Issuing.decide(&tx, &group).await.expect("decided");
        assert_eq!(answers[0], Err(NotIssued::Already(alices)));
        assert!(answers[1].is_ok() && answers[3].is_ok());
        assert_eq!(answers[2], Err(NotIssued::SoldOut));
        assert_eq!(answers[4], Err(NotIssued::Unknown));
        assert_eq!(said.len(), 2);
        assert_eq!(
            number(
                &tx,
                "SELECT CAST(SUM(issued) AS BIGINT) AS n FROM campaigns"
            )
            .await,
            4
        );
        assert_eq!(number(&tx, "SELECT COUNT(*) AS n FROM coupons").await, 4);
    }

    async fn the_tables_refuse_what_the_code_must_never_do(database: &Database) {
        let again = "INSERT INTO coupons SELECT $1, campaign_id, user_id, discount, min_total,
                         expires_at, state, order_id, said_at, issued_at FROM coupons";
        for (wrong, values) in [
            ("UPDATE campaigns SET issued = 4", vec![]),
            ("UPDATE campaigns SET issued = -1", vec![]),
            (again, vec![Uuid::from_u128(99).into()]),
        ] {
            let tx = database.begin().await.expect("begun");
            campaign(&tx, 1, 3).await;
            Issuing
                .decide(&tx, &[ask(1, "alice")])
                .await
                .expect("decided");
            assert!(tx.execute(wrong, values).await.is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn coupons_are_given_out_exactly() {
        on_each_database(&crate::SERVICE, async |database| {
            groups_get_exactly_what_there_is(database).await;
            the_tables_refuse_what_the_code_must_never_do(database).await;
        })
        .await;
    }
}
