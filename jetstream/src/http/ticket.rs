//! Tickets: browsers cannot set headers on a stream, so they show a secret that opens the
//! stream of one order once, for a while.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use events::{OrderId, UserId};
use futures::FutureExt as _;
use serde::Deserialize;

use crate::clock;
use crate::fault::Fault;
use crate::http::auth::Caller;
use crate::http::body::Query;
use crate::http::owner::Reader;
use crate::http::problem::Problem;
use crate::shell::Shell;

const VALID: Duration = Duration::from_secs(30);
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// The table of tickets that were not shown yet, for the migration of a service that gives
/// some.
pub const TABLES: [&str; 2] = [
    "CREATE TABLE stream_tickets (
        digest TEXT PRIMARY KEY,
        order_id {id} NOT NULL,
        user_id TEXT NOT NULL,
        operator BIGINT NOT NULL,
        expires_at BIGINT NOT NULL
    )",
    "CREATE INDEX stream_tickets_expiry ON stream_tickets (expires_at)",
];

/// A ticket that was given.
#[derive(Debug)]
pub struct Given {
    /// What its owner presents.
    pub secret: String,
    /// Until when, in milliseconds since the Unix epoch.
    pub expires_at: i64,
}

/// Gives whoever may see an order a ticket for it; that they may was asked before.
///
/// # Errors
/// A fault of the database.
pub async fn give(reader: &Reader, order: OrderId) -> Result<Given, Fault> {
    let ticket = Ticket::new()?;
    let caller = reader.caller();
    let database = caller.shell().database();
    let expires_at = database.clock().now() + clock::millis(VALID);
    let sql = "INSERT INTO stream_tickets (digest, order_id, user_id, operator, expires_at)
               VALUES ($1, $2, $3, $4, $5)";
    let values = vec![
        ticket.digest.into(),
        order.0.into(),
        caller.user().as_str().into(),
        i64::from(caller.is_operator()).into(),
        expires_at.into(),
    ];
    database.execute(sql, values).await?;
    Ok(Given {
        secret: ticket.secret,
        expires_at,
    })
}

/// Forgets tickets that were not shown in time.
pub fn prune(shell: &Shell) {
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

/// What somebody shows who wants to follow an order: a token, or a ticket in the query.
pub struct Presented {
    token: Result<Caller, Problem>,
    ticket: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown {
    ticket: Option<String>,
}

impl<S> FromRequestParts<S> for Presented
where
    Shell: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let token = Caller::from_request_parts(parts, state).await;
        let Query(shown) = Query::<Shown>::from_request_parts(parts, state).await?;
        if shown.ticket.is_none()
            && let Err(problem) = token
        {
            return Err(problem);
        }
        Ok(Self {
            token,
            ticket: shown.ticket,
        })
    }
}

impl Presented {
    /// On whose behalf the order may be followed. A ticket has served then.
    ///
    /// # Errors
    /// 401 when neither token nor ticket is good.
    pub async fn reader(self, shell: &Shell, order: OrderId) -> Result<Reader, Problem> {
        match (self.token, self.ticket) {
            (Err(_), Some(ticket)) => redeem(shell, order, &ticket).await,
            (token, _) => token.map(Reader::of),
        }
    }
}

/// Deleting its row is what makes a ticket serve once, whichever instance it is shown to.
async fn redeem(shell: &Shell, order: OrderId, secret: &str) -> Result<Reader, Problem> {
    let sql = "DELETE FROM stream_tickets
               WHERE digest = $1 AND order_id = $2 AND expires_at > $3
               RETURNING user_id, operator";
    let tx = shell.begin().await?;
    let values = vec![digest_of(secret).into(), order.0.into(), tx.now().into()];
    let taken = tx.query(sql, values).await?;
    let caller = taken.first().map(|row| {
        let user: String = row.try_get("", "user_id")?;
        let operator: i64 = row.try_get("", "operator")?;
        Ok::<_, Fault>(Caller::vouched_for(
            shell,
            UserId::new(user)?,
            operator == 1,
        ))
    });
    shell.commit(tx, vec![]).await?;
    match caller {
        Some(caller) => Ok(Reader::of(caller?)),
        None => Err(Problem::unauthorized(
            "the ticket is used, too old, or for another order; get a new one from \
             POST /orders/{id}/stream-ticket",
        )),
    }
}

/// A new ticket. Only its digest is kept, so that who reads the database has none.
#[derive(Debug)]
struct Ticket {
    /// What its owner presents: 256 random bits, in letters that a URL may have.
    secret: String,
    /// What is kept.
    digest: String,
}

impl Ticket {
    /// Makes a ticket that nobody can guess.
    fn new() -> Result<Self, Fault> {
        let mut bits = [0; 32];
        aws_lc_rs::rand::fill(&mut bits)
            .map_err(|_| Fault::Unexpected("the system has no randomness".to_owned()))?;
        let secret = URL_SAFE_NO_PAD.encode(bits);
        Ok(Self {
            digest: digest_of(&secret),
            secret,
        })
    }
}

/// The digest of a ticket that is presented.
fn digest_of(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, secret.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_known_by_its_digest_and_no_two_are_the_same() {
        let [one, two] = [(); 2].map(|()| Ticket::new().expect("randomness"));
        assert_eq!(one.digest, digest_of(&one.secret));
        assert_ne!(one.digest, one.secret);
        assert_ne!(one.secret, two.secret);
    }
}
