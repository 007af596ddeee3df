//! The price list and the coupons, as their owners say them.

use std::collections::{BTreeMap, BTreeSet};

use events::fact::{CouponIssued, ProductListed};
use events::{Coupon, CouponId, Money, ProductId, UserId};
use jetstream::database::bulk::{Column, Rows};
use jetstream::{Fault, Tx};

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

/// What is needed to price these requests.
pub(crate) async fn load(tx: &Tx, requests: &[&Request]) -> Result<Known, Fault> {
    let items = requests.iter().flat_map(|request| &request.items);
    let products: BTreeSet<_> = items.map(|(product, _)| product.0).collect();
    let coupons: BTreeSet<_> = requests
        .iter()
        .filter_map(|r| r.coupon_id)
        .map(|c| c.0)
        .collect();
    let mut known = Known::default();
    let sql = "SELECT product_id, price, version FROM price_list
               WHERE product_id IN (SELECT id FROM v)";
    for row in tx.fetch(Rows::ids(products), sql, vec![]).await? {
        let listed = Listed {
            price: Money(row.try_get("", "price")?),
            version: row.try_get("", "version")?,
        };
        known
            .products
            .insert(ProductId(row.try_get("", "product_id")?), listed);
    }
    let sql = "SELECT coupon_id, user_id, discount, min_total, expires_at FROM coupons
               WHERE coupon_id IN (SELECT id FROM v)";
    for row in tx.fetch(Rows::ids(coupons), sql, vec![]).await? {
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
        known
            .coupons
            .insert(CouponId(row.try_get("", "coupon_id")?), issued);
    }
    Ok(known)
}
