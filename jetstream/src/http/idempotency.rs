//! Idempotency keys: a request that is sent again has its effect once.
//!
//! The key, a hash of the request and the answer are written in the transaction of the
//! effect. So either all of it is there or nothing, and the primary key decides between
//! two requests at once. Refusals are not kept: a retry may succeed.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::digest;
use axum::Json;
use axum::extract::FromRequest;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use events::UserId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::clock;
use crate::database::bulk::{Column, Rows};
use crate::database::{Database, Tx};
use crate::event::Emission;
use crate::fault::Fault;
use crate::http::access::visible;
use crate::http::auth::Caller;
use crate::http::{Problem, body};
use crate::shell::Shell;

/// The header with the key.
pub(crate) const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that was given before.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

pub(crate) const PRUNE_EVERY: Duration = Duration::from_secs(600);
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
// Rows that are removed by one statement: requests must not wait for it.
const PRUNED_AT_ONCE: u64 = 500;
const LONGEST_KEY: usize = 255;

/// A JSON body, with the client's idempotency key if it sent one. No body means `{}`.
pub struct Once<T> {
    /// The body.
    pub body: T,
    /// The key.
    pub key: Option<Key>,
}

/// A key, with a hash of the body that it was sent with.
pub struct Key {
    text: String,
    hash: Vec<u8>,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Once<T> {
    type Rejection = Problem;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Problem> {
        let key = key(request.headers());
        let bytes = body::read(request, state).await?;
        let bytes = body::or_empty(&bytes);
        let body = body::parse(bytes)?;
        let key = match key? {
            Some(text) => Some(Key {
                text,
                hash: hash(bytes)?,
            }),
            None => None,
        };
        Ok(Self { body, key })
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut given = headers.get_all(KEY).iter();
    match (given.next(), given.next()) {
        (None, _) => Ok(None),
        (Some(one), None) if visible(one.as_bytes(), LONGEST_KEY) => {
            Ok(one.to_str().ok().map(str::to_owned))
        }
        _ => {
            let rule = format!("must be given once, with 1 to {LONGEST_KEY} visible characters");
            Err(Problem::invalid("Idempotency-Key", &rule))
        }
    }
}

/// Of what the body says, not of how it is written: whitespace and the order of fields
/// do not matter.
fn hash(body: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut value: Value = body::parse(body)?;
    value.sort_all_objects();
    let hash = digest::digest(&digest::SHA256, value.to_string().as_bytes());
    Ok(hash.as_ref().to_vec())
}

impl Key {
    /// The request that the key names: another user's, or on another route, is another
    /// one. The route says what the request is about: `POST /points/alice/charge`.
    #[must_use]
    pub fn on(self, caller: &Caller, route: String) -> Request {
        Request {
            user: caller.user().clone(),
            route,
            key: self.text,
            hash: self.hash,
        }
    }
}

/// A request with a key.
#[derive(Debug, Clone)]
pub struct Request {
    user: UserId,
    route: String,
    key: String,
    hash: Vec<u8>,
}

impl Request {
    /// Its identity.
    pub(crate) fn id(&self) -> (&str, &str, &str) {
        (self.user.as_str(), &self.route, &self.key)
    }

    pub(crate) fn in_progress() -> Problem {
        let detail =
            "a request with this Idempotency-Key is in progress: send it again in a moment";
        Problem::conflict("IDEMPOTENCY_IN_PROGRESS", detail).retry_after(1)
    }

    fn reused() -> Problem {
        let detail = "this Idempotency-Key came with another body before: use a new one";
        Problem::unprocessable("IDEMPOTENCY_KEY_REUSED", detail)
    }
}

/// An answer that can be given again.
#[derive(Debug)]
pub struct Answered {
    status: StatusCode,
    body: Value,
    replayed: bool,
}

impl Answered {
    /// A new answer.
    ///
    /// # Errors
    /// When the view is no JSON.
    pub fn new(status: StatusCode, view: &impl Serialize) -> Result<Self, Fault> {
        Ok(Self {
            status,
            body: serde_json::to_value(view)?,
            replayed: false,
        })
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Value {
        &self.body
    }
}

impl IntoResponse for Answered {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if self.replayed {
            let yes = HeaderValue::from_static("true");
            response.headers_mut().insert(REPLAYED, yes);
        }
        response
    }
}

/// What is known of requests, by their identity.
pub(crate) struct Known(BTreeMap<(String, String, String), Before>);

struct Before {
    hash: Vec<u8>,
    status: StatusCode,
    body: Value,
}

impl Known {
    /// Looks requests up: one query, whatever their number.
    pub(crate) async fn of<'a>(
        database: &Database,
        requests: impl IntoIterator<Item = &'a Request>,
    ) -> Result<Self, Fault> {
        let mut rows = Rows::of(&[
            ("user_id", Column::Text),
            ("route", Column::Text),
            ("key", Column::Text),
        ]);
        for request in requests {
            let (user, route, key) = request.id();
            rows.push([user.into(), route.into(), key.into()]);
        }
        let sql = "SELECT k.user_id, k.route, k.key, k.request_hash, k.status, k.answer
                   FROM idempotency_keys AS k JOIN v
                   ON k.user_id = v.user_id AND k.route = v.route AND k.key = v.key";
        let mut known = BTreeMap::new();
        for row in database.fetch(rows, sql, vec![]).await? {
            let text = |column| row.try_get::<String>("", column);
            let status: i64 = row.try_get("", "status")?;
            let status = u16::try_from(status).ok();
            let status = status.and_then(|status| StatusCode::from_u16(status).ok());
            let before = Before {
                hash: row.try_get("", "request_hash")?,
                status: status.unwrap_or(StatusCode::OK),
                body: serde_json::from_str(&text("answer")?)?,
            };
            known.insert((text("user_id")?, text("route")?, text("key")?), before);
        }
        Ok(Self(known))
    }

    /// How a request was answered before, if it was: 422 when it had another body.
    pub(crate) fn answer(&self, request: &Request) -> Option<Result<Answered, Problem>> {
        let (user, route, key) = request.id();
        let id = (user.to_owned(), route.to_owned(), key.to_owned());
        let before = self.0.get(&id)?;
        if before.hash != request.hash {
            return Some(Err(Request::reused()));
        }
        Some(Ok(Answered {
            status: before.status,
            body: before.body.clone(),
            replayed: true,
        }))
    }
}

async fn find(
    database: &Database,
    request: &Request,
) -> Result<Option<Result<Answered, Problem>>, Fault> {
    let known = Known::of(database, [request]).await?;
    Ok(known.answer(request))
}

/// Writes what was answered, in the transaction of the effect.
///
/// # Errors
/// [`Fault::Conflict`] when one of the requests was answered meanwhile: then its effect
/// must not happen again.
pub(crate) async fn record<'a>(
    tx: &Tx,
    answered: impl IntoIterator<Item = (&'a Request, &'a Answered)>,
) -> Result<(), Fault> {
    let mut answered: Vec<_> = answered.into_iter().collect();
    // In one order everywhere, so that two instances do not wait for each other.
    answered.sort_unstable_by_key(|(request, _)| request.id());
    let mut rows = Rows::of(&[
        ("user_id", Column::Text),
        ("route", Column::Text),
        ("key", Column::Text),
        ("request_hash", Column::Bytes),
        ("status", Column::Int),
        ("answer", Column::Text),
    ]);
    for (request, answered) in answered {
        let (user, route, key) = request.id();
        rows.push([
            user.into(),
            route.into(),
            key.into(),
            request.hash.clone().into(),
            i64::from(answered.status.as_u16()).into(),
            answered.body.to_string().into(),
        ]);
    }
    let sql = "INSERT INTO idempotency_keys (user_id, route, key, request_hash, status, answer, at)
               SELECT user_id, route, key, request_hash, status, answer, CAST($1 AS BIGINT) FROM v";
    tx.write(rows, sql, vec![tx.now().into()]).await
}

/// What a route has done, in a transaction that has not committed yet.
pub struct Done {
    /// The transaction.
    pub tx: Tx,
    /// The events that it decided.
    pub said: Vec<Emission>,
    /// The answer.
    pub answer: Answered,
}

/// Commits what a route does; with a key, once.
///
/// # Errors
/// The problem of the route, 422 when the key came with another body, or 409 when a
/// request with the key is in progress.
pub async fn once(
    shell: &Shell,
    request: Option<Request>,
    route: impl Future<Output = Result<Done, Problem>> + Send,
) -> Result<Answered, Problem> {
    let Some(request) = request else {
        let Done { tx, said, answer } = route.await?;
        shell.commit(tx, said).await?;
        return Ok(answer);
    };
    if let Some(known) = find(shell.database(), &request).await? {
        return known;
    }
    let problem = match attempt(shell, &request, route).await {
        Ok(answer) => return Ok(answer),
        Err(problem) => problem,
    };
    // The same request may have been faster, and have made this one fail.
    match find(shell.database(), &request).await? {
        Some(known) => known,
        None => Err(problem),
    }
}

async fn attempt(
    shell: &Shell,
    request: &Request,
    route: impl Future<Output = Result<Done, Problem>> + Send,
) -> Result<Answered, Problem> {
    let Done { tx, said, answer } = route.await?;
    match record(&tx, [(request, &answer)]).await {
        Ok(()) => shell.commit(tx, said).await?,
        Err(Fault::Conflict(_)) => return Err(Request::in_progress()),
        Err(fault) => return Err(fault.into()),
    }
    Ok(answer)
}

/// Forgets keys that are too old to come again, a few at a time.
pub(crate) async fn prune(shell: Shell) -> Result<(), Fault> {
    let database = shell.database();
    while !shell.stopping().is_cancelled() && prune_some(database).await? == PRUNED_AT_ONCE {}
    Ok(())
}

async fn prune_some(database: &Database) -> Result<u64, Fault> {
    let sql = "DELETE FROM idempotency_keys WHERE (user_id, route, key) IN
                   (SELECT user_id, route, key FROM idempotency_keys
                    WHERE at < $1 ORDER BY at LIMIT $2)";
    let before = database.clock().now() - clock::millis(KEPT);
    let most = i64::try_from(PRUNED_AT_ONCE).unwrap_or(i64::MAX);
    database
        .execute(sql, vec![before.into(), most.into()])
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_of_what_a_body_says() {
        let of = |body: &str| hash(body.as_bytes()).expect("JSON");
        let one = of(r#"{"amount":1,"to":{"a":1,"b":[1,2]}}"#);
        assert_eq!(
            of("{ \"to\": {\"b\":[1, 2], \"a\":1},\n \"amount\":1 }"),
            one
        );
        assert_ne!(of(r#"{"amount":1,"to":{"a":1,"b":[2,1]}}"#), one);
        assert_ne!(of(r#"{"amount":2,"to":{"a":1,"b":[1,2]}}"#), one);
    }

    #[test]
    fn a_key_is_one_and_visible() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(KEY, value.parse().expect("a header"));
            }
            key(&headers)
        };
        assert_eq!(of(&[]).expect("none"), None);
        assert_eq!(of(&["\"a-1\""]).expect("one").as_deref(), Some("\"a-1\""));
        let long = "x".repeat(256);
        for wrong in [&[""][..], &["a b"], &["a", "a"], &[long.as_str()]] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }
}
