//! `POST /orders/{id}/stream-ticket`: browsers cannot set headers on a stream, so they
//! show a ticket: for one order, for 30 seconds, once.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use events::{OrderId, UserId};
use futures::FutureExt as _;
use jetstream::http::auth::Caller;
use jetstream::http::ticket::{Ticket, digest_of};
use jetstream::{Fault, Problem, Shell, clock};
use serde_json::{Value, json};

use super::read;

const VALID: Duration = Duration::from_secs(30);
const PRUNE_EVERY: Duration = Duration::from_secs(60);

type NoStore = [(HeaderName, &'static str); 1];

pub(super) async fn issue(
    State(shell): State<Shell>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, NoStore, Json<Value>), Problem> {
    let id = read::order_id(&id)?;
    read::find(&shell, &caller, id).await?;
    let ticket = Ticket::new()?;
    let expires_at = shell.database().clock().now() + clock::millis(VALID);
    let sql = "INSERT INTO stream_tickets (digest, order_id, user_id, operator, expires_at)
               VALUES ($1, $2, $3, $4, $5)";
    let values = vec![
        ticket.digest.into(),
        id.0.into(),
        caller.user().as_str().into(),
        i64::from(caller.is_operator()).into(),
        expires_at.into(),
    ];
    shell.database().execute(sql, values).await?;
    let body = json!({ "ticket": ticket.secret, "expires_at": clock::rfc3339(expires_at) });
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, no_store, Json(body)))
}

/// Takes a ticket: on whose behalf the order may be watched. Deleting its row is what
/// makes it serve once, whichever instance it is shown to.
pub(super) async fn redeem(shell: &Shell, id: OrderId, secret: &str) -> Result<Caller, Problem> {
    let sql = "DELETE FROM stream_tickets
               WHERE digest = $1 AND order_id = $2 AND expires_at > $3
               RETURNING user_id, operator";
    let tx = shell.begin().await?;
    let values = vec![digest_of(secret).into(), id.0.into(), tx.now().into()];
    let taken = tx.query(sql, values).await?;
    let caller = taken.first().map(|row| {
        let user: String = row.try_get("", "user_id")?;
        let operator: i64 = row.try_get("", "operator")?;
        Ok::<_, Fault>(Caller::vouched_for(UserId::new(user)?, operator == 1))
    });
    shell.commit(tx, vec![]).await?;
    match caller {
        Some(caller) => Ok(caller?),
        None => Err(Problem::unauthorized(
            "the ticket is used, too old, or for another order; get a new one from \
             POST /orders/{id}/stream-ticket",
        )),
    }
}

/// Forgets tickets that were not used in time.
pub(super) fn prune(shell: &Shell) {
    shell.every("stream tickets", PRUNE_EVERY, |shell| {
        async move {
            let now = shell.database().clock().now();
            let sql = "DELETE FROM stream_tickets WHERE expires_at <= $1";
            shell.database().execute(sql, vec![now.into()]).await?;
            Ok(())
        }
        .boxed()
    });
}
