//! Point's HTTP routes.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use events::{Money, UserId, catalog, fact};
use jetstream::http::idempotency::{self, Answered, Done, Once};
use jetstream::http::{Id, Number, Operator, Owner, Routes, doc};
use jetstream::{Emission, Fault, Problem, Shell, clock};
use sea_orm::QueryResult;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

// Points that can be charged at once.
const MAX_CHARGE: i64 = 1_000_000_000_000;
// Points that a user can ever be given: below 2^53, so exact in every JSON reader.
const MAX_TOTAL: i64 = 9_000_000_000_000_000;

type Amount = Number<1, MAX_CHARGE>;

pub(crate) fn routes() -> Routes {
    Routes::about("points", "What users pay with")
        .get("/points/{user}", show, "Show how many points a user has")
        .post(
            "/points/{user}/charge",
            charge,
            doc("Give points to a user")
                .answers::<Account>(200, "They are there")
                .refuses(422, &["TOO_MANY_POINTS"]),
        )
        .with(Shell::clone)
}

#[derive(Serialize, ToSchema)]
struct Account {
    #[schema(value_type = String, example = "alice")]
    user_id: UserId,
    balance: i64,
    held: i64,
    settled: i64,
    charged_total: i64,
}

async fn show(owner: Owner) -> Result<Json<Account>, Problem> {
    let sql = "SELECT balance, held, settled, charged_total FROM accounts WHERE {mine}";
    let rows = owner.query(sql, vec![]).await?;
    let user_id = owner.user().clone();
    let account = match rows.first() {
        Some(row) => account(user_id, row)?,
        None => Account {
            user_id,
            balance: 0,
            held: 0,
            settled: 0,
            charged_total: 0,
        },
    };
    Ok(Json(account))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "amount": 10_000 }))]
struct Charge {
    #[schema(inline)]
    amount: Amount,
}

async fn charge(
    operator: Operator,
    State(shell): State<Shell>,
    Id(user): Id<UserId>,
    Once { body, key }: Once<Charge>,
) -> Result<Answered, Problem> {
    let request = key.map(|key| key.on(&operator, format!("POST /points/{user}/charge")));
    let add = add(&operator, &user, body.amount.get());
    idempotency::once(&shell, request, add).await
}

async fn add(operator: &Operator, user: &UserId, amount: i64) -> Result<Done, Problem> {
    let tx = operator.begin().await?;
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
    let answer = Answered::new(StatusCode::OK, &account(user.clone(), row)?)?;
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

fn account(user_id: UserId, row: &QueryResult) -> Result<Account, Fault> {
    Ok(Account {
        user_id,
        balance: row.try_get("", "balance")?,
        held: row.try_get("", "held")?,
        settled: row.try_get("", "settled")?,
        charged_total: row.try_get("", "charged_total")?,
    })
}
