//! What stock said from outside, taken as given when a stream is replayed: the tables come
//! to hold what the request did.

use events::fact::{self, ProductListed};
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
        if *said.entry == catalog::PRODUCT_LISTED {
            listed(tx, ProductListed::decode(body)?).await
        } else if *said.entry == catalog::STOCK_ADDED {
            let (product, quantity) = fact::read_stock_added(body)?;
            let sql = "UPDATE products SET available = available + $2,
                           restocked_total = restocked_total + $2 WHERE product_id = $1";
            tx.execute(sql, vec![product.0.into(), quantity.into()])
                .await?;
            Ok(())
        } else {
            Ok(())
        }
    })
}

/// A product was created, its price was changed, or what is known of it was said again.
async fn listed(tx: &Tx, product: ProductListed) -> Result<(), Fault> {
    let sql = "INSERT INTO products (product_id, name, option, price, price_version,
                   previous_price, replaced_at, initial_stock, restocked_total, available, held,
                   settled, said_at, created_at)
               VALUES ($1, $2, $3, $4, $5, 0, 0, $6, 0, $6, 0, 0, $7, $7)
               ON CONFLICT (product_id) DO UPDATE SET said_at = excluded.said_at,
                   previous_price = CASE WHEN excluded.price_version > products.price_version
                       THEN products.price ELSE products.previous_price END,
                   replaced_at = CASE WHEN excluded.price_version > products.price_version
                       THEN excluded.said_at ELSE products.replaced_at END,
                   price = CASE WHEN excluded.price_version > products.price_version
                       THEN excluded.price ELSE products.price END,
                   price_version = CASE WHEN excluded.price_version > products.price_version
                       THEN excluded.price_version ELSE products.price_version END";
    let values = vec![
        product.product_id.0.into(),
        product.name.into(),
        product.option.into(),
        product.price.0.into(),
        product.version.into(),
        product.initial_stock.into(),
        tx.now().into(),
    ];
    tx.execute(sql, values).await?;
    Ok(())
}
