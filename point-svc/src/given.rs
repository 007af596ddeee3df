//! What point said from outside, taken as given when a stream is replayed: the tables come
//! to hold what the request did.

use events::{Envelope, catalog, fact};
use futures::future::BoxFuture;
use jetstream::{Fault, Settings, Tx};

pub(crate) fn take<'a>(
    tx: &'a Tx,
    _: &'a Settings,
    said: &'a Envelope,
) -> BoxFuture<'a, Result<(), Fault>> {
    Box::pin(async move {
        match *said.entry == catalog::POINT_CHARGED {
            true => charged(tx, said).await,
            false => Ok(()),
        }
    })
}

async fn charged(tx: &Tx, said: &Envelope) -> Result<(), Fault> {
    let (user, amount) = fact::read_point_charged(said.body.clone())?;
    let sql = "INSERT INTO accounts (user_id, balance, held, settled, charged_total)
               VALUES ($1, $2, 0, 0, $2)
               ON CONFLICT (user_id) DO UPDATE SET balance = accounts.balance + $2,
                   charged_total = accounts.charged_total + $2";
    let values = vec![user.as_str().into(), amount.0.into()];
    tx.execute(sql, values).await?;
    // The event does not say the id of the charge; its own is as good.
    let sql = "INSERT INTO charges (charge_id, user_id, amount, charged_at)
               VALUES ($1, $2, $3, $4)";
    let values = vec![
        said.id.0.into(),
        user.as_str().into(),
        amount.0.into(),
        tx.now().into(),
    ];
    tx.execute(sql, values).await?;
    Ok(())
}
