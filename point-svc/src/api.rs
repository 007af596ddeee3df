//! Point's HTTP routes.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use events::{Money, UserId, catalog, fact};
use jetstream::http::auth::Caller;
use jetstream::http::between;
use jetstream::http::idempotency::{self, Answered, Done, Once};
use jetstream::{Emission, Fault, Problem, Shell, clock};
use sea_orm::QueryResult;
use serde::{Deserialize, Serialize};

// Points that can be charged at once.
const MAX_CHARGE: i64 = 1_000_000_000_000;
// Points that a user can ever be given: below 2^53, so exact in every JSON reader.
const MAX_TOTAL: i64 = 9_000_000_000_000_000;

pub(crate) fn routes(shell: &Shell) -> Router {
    Router::new()
        .route("/points/{user}", get(show))
        .route("/points/{user}/charge", post(charge))
        .with_state(shell.clone())
}

#[derive(Serialize)]
struct AccountView {
    user_id: UserId,
    balance: i64,
    held: i64,
    settled: i64,
    charged_total: i64,
}

async fn show(
    State(shell): State<Shell>,
    caller: Caller,
    Path(user): Path<String>,
) -> Result<Json<AccountView>, Problem> {
    let user = caller.owner(&user)?;
    let sql = "SELECT balance, held, settled, charged_total FROM accounts WHERE user_id = $1";
    let values = vec![user.as_str().into()];
    let rows = shell.database().query(sql, values).await?;
    let view = match rows.first() {
        Some(row) => view(user, row)?,
        None => AccountView {
            user_id: user,
            balance: 0,
            held: 0,
            settled: 0,
            charged_total: 0,
        },
    };
    Ok(Json(view))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Charge {
    amount: i64,
}

async fn charge(
    State(shell): State<Shell>,
    caller: Caller,
    Path(user): Path<String>,
    Once { body, key }: Once<Charge>,
) -> Result<Answered, Problem> {
    caller.require_operator()?;
    let user = caller.owner(&user)?;
    between("amount", body.amount, 1, MAX_CHARGE)?;
    let request = key.map(|key| key.on(&caller, format!("POST /points/{user}/charge")));
    idempotency::once(&shell, request, add(&shell, &user, body.amount)).await
}

async fn add(shell: &Shell, user: &UserId, amount: i64) -> Result<Done, Problem> {
    let tx = shell.begin().await?;
    let sql = "INSERT INTO accounts (user_id, balance, held, settled, charged_total)
               VALUES ($1, $2, 0, 0, $2)
               ON CONFLICT (user_id) DO UPDATE SET balance = accounts.balance + $2,
                   charged_total = accounts.charged_total + $2
                   WHERE accounts.charged_total <= $3
               RETURNING balance, held, settled, charged_total";
    let room = MAX_TOTAL - amount;
    let values = vec![user.as_str().into(), amount.into(), room.into()];
    let rows = tx.query(sql, values).await?;
    let row = rows.first().ok_or_else(too_many)?;
    let answer = Answered::new(StatusCode::OK, &view(user.clone(), row)?)?;
    let sql = "INSERT INTO charges (charge_id, user_id, amount, charged_at)
               VALUES ($1, $2, $3, $4)";
    let values = vec![
        clock::new_id().into(),
        user.as_str().into(),
        amount.into(),
        tx.now().into(),
    ];
    tx.execute(sql, values).await?;
    let body = fact::point_charged(user, Money(amount));
    let said = vec![Emission::fact(&catalog::POINT_CHARGED, user, body)];
    Ok(Done { tx, said, answer })
}

fn too_many() -> Problem {
    let detail = format!("a user can be given {MAX_TOTAL} points at most: charge less");
    Problem::unprocessable("TOO_MANY_POINTS", detail)
}

fn view(user_id: UserId, row: &QueryResult) -> Result<AccountView, Fault> {
    Ok(AccountView {
        user_id,
        balance: row.try_get("", "balance")?,
        held: row.try_get("", "held")?,
        settled: row.try_get("", "settled")?,
        charged_total: row.try_get("", "charged_total")?,
    })
}
