//! The price list and the coupons, as their owners say them.

use std::collections::{BTreeMap, BTreeSet};

use events::fact::{CouponIssued, ProductListed};
use events::{Coupon, CouponId, Money, ProductId, UserId};
use jetstream::database::bulk::{Column, Rows};
use jetstream::{Database, Fault, Tx};

use crate::domain::pricing::{Issued, Known, Listed, Request};

/// Keeps what was listed; a lower version never replaces a higher one.
pub(crate) async fn keep_listed(tx: &Tx, listed: Vec<ProductListed>) -> Result<(), Fault> {
    let mut newest: BTreeMap<ProductId, ProductListed> = BTreeMap::new();
    for product in listed {
        let known = newest.get(&product.product_id).map_or(0, |p| p.version);
        if product.version > known {
            newest.insert(product.product_id, product);
        }
    }
    let mut rows = Rows::of(&[
        ("id", Column::Id),
        ("price", Column::Int),
        ("version", Column::Int),
    ]);
    for (id, product) in newest {
        rows.push([id.0.into(), product.price.0.into(), product.version.into()]);
    }
    let sql = "INSERT INTO price_list (product_id, price, version)
               SELECT id, price, version FROM v WHERE true
               ON CONFLICT (product_id) DO UPDATE
               SET price = excluded.price, version = excluded.version
               WHERE excluded.version > price_list.version";
    tx.run(rows, sql, vec![]).await?;
    Ok(())
}

/// Keeps coupons that were issued; an issued coupon never changes.
pub(crate) async fn keep_issued(tx: &Tx, issued: Vec<CouponIssued>) -> Result<(), Fault> {
    let mut rows = Rows::of(&[
        ("id", Column::Id),
        ("user_id", Column::Text),
        ("discount", Column::Text),
        ("min_total", Column::Int),
        ("expires_at", Column::Int),
    ]);
    let issued: BTreeMap<CouponId, CouponIssued> = issued
        .into_iter()
        .map(|coupon| (coupon.coupon_id, coupon))
        .collect();
    for (id, coupon) in issued {
        rows.push([
            id.0.into(),
            coupon.user_id.as_str().into(),
            serde_json::to_string(&coupon.terms.discount)?.into(),
            coupon.terms.min_total.0.into(),
            coupon.expires_at.unwrap_or(0).into(),
        ]);
    }
    let sql = "INSERT INTO coupons (coupon_id, user_id, discount, min_total, expires_at)
               SELECT id, user_id, discount, min_total, expires_at FROM v WHERE true
               ON CONFLICT DO NOTHING";
    tx.run(rows, sql, vec![]).await?;
    Ok(())
}

/// What is needed to price these requests; read outside a transaction, side by side.
pub(crate) async fn load(database: &Database, requests: &[&Request]) -> Result<Known, Fault> {
    let items = requests.iter().flat_map(|request| &request.items);
    let ids: BTreeSet<_> = items.map(|(product, _)| product.0).collect();
    let sql = "SELECT product_id, price, version FROM price_list
               WHERE product_id IN (SELECT id FROM v)";
    let listed = database.fetch(Rows::ids(ids), sql, vec![]);
    let ids: BTreeSet<_> = requests
        .iter()
        .filter_map(|r| Some(r.coupon_id?.0))
        .collect();
    let sql = "SELECT coupon_id, user_id, discount, min_total, expires_at FROM coupons
               WHERE coupon_id IN (SELECT id FROM v)";
    let issued = database.fetch(Rows::ids(ids), sql, vec![]);
    let (listed, issued) = tokio::try_join!(listed, issued)?;
    let listed = listed.iter().map(|row| {
        let listed = Listed {
            price: Money(row.try_get("", "price")?),
            version: row.try_get("", "version")?,
        };
        Ok((ProductId(row.try_get("", "product_id")?), listed))
    });
    let issued = issued.iter().map(|row| {
        let discount: String = row.try_get("", "discount")?;
        let expires_at: i64 = row.try_get("", "expires_at")?;
        let issued = Issued {
            user_id: UserId::new(row.try_get::<String>("", "user_id")?)?,
            terms: Coupon {
                discount: serde_json::from_str(&discount)?,
                min_total: Money(row.try_get("", "min_total")?),
            },
            expires_at: (expires_at != 0).then_some(expires_at),
        };
        Ok((CouponId(row.try_get("", "coupon_id")?), issued))
    });
    Ok(Known {
        products: listed.collect::<Result<_, Fault>>()?,
        coupons: issued.collect::<Result<_, Fault>>()?,
    })
}
