//! On whose behalf a request reads and changes.
//!
//! A handler reaches the database through one of these, and they are made from a token
//! that was checked: forgetting to ask who it is does not compile. [`Owner`] and
//! [`Reader`] put the owner into the query themselves, so neither can it be forgotten
//! there.

use std::ops::Deref;

use axum::extract::{FromRef, FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use events::UserId;
use sea_orm::{QueryResult, Value};

use crate::database::Tx;
use crate::fault::Fault;
use crate::http::auth::Caller;
use crate::http::problem::Problem;
use crate::shell::Shell;

/// Where the condition goes that a row is the owner's: `SELECT … WHERE {mine} AND …`. The
/// column is `user_id`. It takes `$1`; the values of the query begin at `$2`.
const MINE: &str = "{mine}";

/// An operator: whoever has the scope `operator`; 403 for everybody else.
#[derive(Clone)]
pub struct Operator(Caller);

/// The user that a path names, in `{user}`: the caller itself, or anybody when an operator
/// asks. For everybody else another user is 404, so that nobody learns who exists.
#[derive(Clone)]
pub struct Owner {
    caller: Caller,
    user: UserId,
}

/// Whoever asks for a resource by its id: a user sees their own, an operator anybody's.
#[derive(Clone)]
pub struct Reader {
    caller: Caller,
    // Nobody in particular: an operator, who has not asked for one user's.
    user: Option<UserId>,
}

impl Deref for Operator {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.0
    }
}

impl Operator {
    /// Queries, whosever it is.
    ///
    /// # Errors
    /// A fault of the database.
    pub async fn query(&self, sql: &str, values: Vec<Value>) -> Result<Vec<QueryResult>, Fault> {
        self.0.shell().database().query(sql, values).await
    }

    /// The time on the database's clock, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.0.shell().database().clock().now()
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// When the database is away, or the service is fenced.
    pub async fn begin(&self) -> Result<Tx, Fault> {
        self.0.shell().begin().await
    }
}

impl Owner {
    /// The user.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Queries the user's rows, which the query names by `{mine}`.
    ///
    /// # Errors
    /// A fault of the database, or a query without `{mine}`.
    pub async fn query(&self, sql: &str, values: Vec<Value>) -> Result<Vec<QueryResult>, Fault> {
        owned(&self.caller, Some(&self.user), sql, values).await
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// When the database is away, or the service is fenced.
    pub async fn begin(&self) -> Result<Tx, Fault> {
        self.caller.shell().begin().await
    }
}

impl Reader {
    /// Who sees what somebody may see.
    pub(crate) fn of(caller: Caller) -> Self {
        let user = (!caller.is_operator()).then(|| caller.user().clone());
        Self { caller, user }
    }

    /// Who asks.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Sees one user's alone, if one is named.
    ///
    /// # Errors
    /// 404 when it is not the caller's to see.
    pub fn narrowed(self, user: Option<&str>) -> Result<Self, Problem> {
        let Some(user) = user else { return Ok(self) };
        let user = owner(&self.caller, user)?;
        Ok(Self {
            user: Some(user),
            ..self
        })
    }

    /// Whether a user's resources may be seen.
    #[must_use]
    pub fn sees(&self, owner: &UserId) -> bool {
        self.user.as_ref().is_none_or(|user| user == owner)
    }

    /// Queries the rows that may be seen, which the query names by `{mine}`.
    ///
    /// # Errors
    /// A fault of the database, or a query without `{mine}`.
    pub async fn query(&self, sql: &str, values: Vec<Value>) -> Result<Vec<QueryResult>, Fault> {
        owned(&self.caller, self.user.as_ref(), sql, values).await
    }
}

async fn owned(
    caller: &Caller,
    user: Option<&UserId>,
    sql: &str,
    values: Vec<Value>,
) -> Result<Vec<QueryResult>, Fault> {
    let mut all = vec![user.map_or("", UserId::as_str).into()];
    all.extend(values);
    let sql = condition(user.is_some(), sql)?;
    caller.shell().database().query(&sql, all).await
}

fn condition(one: bool, sql: &str) -> Result<String, Fault> {
    let mine = match one {
        true => "user_id = $1",
        // The value is bound in either case, so that the others keep their numbers.
        false => "CAST($1 AS TEXT) = ''",
    };
    match sql.contains(MINE) {
        true => Ok(sql.replace(MINE, mine)),
        false => Err(Fault::Permanent(format!(
            "a query on somebody's behalf does not say whose rows it reads: {MINE} is missing"
        ))),
    }
}

fn owner(caller: &Caller, user: &str) -> Result<UserId, Problem> {
    let user = UserId::new(user).map_err(|_| Problem::not_found("user"))?;
    match caller.is_operator() || user == *caller.user() {
        true => Ok(user),
        false => Err(Problem::not_found("user")),
    }
}

impl<S> FromRequestParts<S> for Operator
where
    Shell: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state).await?;
        match caller.is_operator() {
            true => Ok(Self(caller)),
            false => Err(Problem::forbidden()),
        }
    }
}

impl<S> FromRequestParts<S> for Owner
where
    Shell: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let missing = || Problem::not_found("user");
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| missing())?;
        let named = params.iter().find(|(name, _)| *name == "user");
        let user = owner(&caller, named.ok_or_else(missing)?.1)?;
        Ok(Self { caller, user })
    }
}

impl<S> FromRequestParts<S> for Reader
where
    Shell: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Caller::from_request_parts(parts, state).await.map(Self::of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_without_its_owner_is_refused() {
        let sql = "SELECT * FROM orders WHERE {mine} AND order_id = $2";
        let one = condition(true, sql).expect("an owner");
        assert_eq!(
            one,
            "SELECT * FROM orders WHERE user_id = $1 AND order_id = $2"
        );
        let anybody = condition(false, sql).expect("an owner");
        assert!(anybody.contains("WHERE CAST($1 AS TEXT) = '' AND"));
        assert!(condition(true, "SELECT * FROM orders").is_err());
    }
}
