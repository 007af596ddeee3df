//! The price list is said again, under new ids and the same versions, before it ages out
//! of the stream, so that a consumer that starts late can build it from there.

use std::time::Duration;

use events::{ProductId, catalog};
use futures::FutureExt as _;
use jetstream::{Emission, Fault, Shell, clock};

const LOOK_EVERY: Duration = Duration::from_secs(600);
const AT_ONCE: i64 = 500;

pub(crate) fn start(shell: &Shell) {
    shell.every("price list said again", LOOK_EVERY, |shell| {
        say_again(shell).boxed()
    });
}

async fn say_again(shell: Shell) -> Result<(), Fault> {
    let tx = shell.backstage().begin().await?;
    let before = tx.now() - clock::millis(shell.settings().facts_again_after);
    let sql = "UPDATE products SET said_at = $1 WHERE product_id IN
                   (SELECT product_id FROM products WHERE said_at < $2 LIMIT $3)
               RETURNING product_id, name, option, price, price_version, initial_stock";
    let rows = tx
        .query(sql, vec![tx.now().into(), before.into(), AT_ONCE.into()])
        .await?;
    let mut said = Vec::with_capacity(rows.len());
    for row in rows {
        let id = ProductId(row.try_get("", "product_id")?);
        let body = crate::api::listed(id, &row)?.encode();
        said.push(Emission::fact(&catalog::PRODUCT_LISTED, id, body));
    }
    shell.commit(tx, said).await
}
