//! One statement by itself. On PostgreSQL its values are encoded from where they are: the
//! library copies all of them before, and those of an array twice.

use sea_orm::sqlx::postgres::PgArguments;
use sea_orm::sqlx::{Arguments as _, AssertSqlSafe, Error, query_with};
use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, DbErr, QueryResult};
use sea_orm::{RuntimeErr, Statement, Value};
use uuid::Uuid;

/// Runs a statement and returns its rows.
pub(super) async fn ask(
    connection: &DatabaseConnection,
    statement: Statement,
) -> Result<Vec<QueryResult>, DbErr> {
    let arguments = match connection.get_database_backend() {
        DbBackend::Postgres => encoded(&statement),
        _ => None,
    };
    let Some(arguments) = arguments else {
        return connection.query_all_raw(statement).await;
    };
    // Who cannot connect waits, whatever the reason: it is no failure of the statement.
    let away = |error: Error| DbErr::Conn(RuntimeErr::SqlxError(error.into()));
    let failed = |error: Error| DbErr::Query(RuntimeErr::SqlxError(error.into()));
    let pool = connection.get_postgres_connection_pool();
    let mut connection = pool.acquire().await.map_err(away)?;
    let query = query_with(AssertSqlSafe(statement.sql), arguments);
    let rows = query.fetch_all(&mut *connection).await.map_err(failed)?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// The values of a statement; none when there is one of another kind than those that tables
/// of many rows have.
fn encoded(statement: &Statement) -> Option<PgArguments> {
    let mut arguments = PgArguments::default();
    for value in statement.values.iter().flat_map(|values| &values.0) {
        let added = match value {
            Value::BigInt(number) => arguments.add(number),
            Value::String(text) => arguments.add(text.as_deref()),
            Value::Uuid(id) => arguments.add(id),
            Value::Bytes(bytes) => arguments.add(bytes.as_deref()),
            Value::Array(_, Some(cells)) => match cells.first()? {
                Value::BigInt(_) => arguments.add(all(cells, number)?),
                Value::String(_) => arguments.add(all(cells, text)?),
                Value::Uuid(_) => arguments.add(all(cells, id)?),
                Value::Bytes(_) => arguments.add(all(cells, bytes)?),
                _ => return None,
            },
            _ => return None,
        };
        added.ok()?;
    }
    Some(arguments)
}

fn all<'a, T>(cells: &'a [Value], of: fn(&'a Value) -> Option<T>) -> Option<Vec<T>> {
    cells.iter().map(of).collect()
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::BigInt(number) => *number,
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => text.as_deref(),
        _ => None,
    }
}

fn id(value: &Value) -> Option<Uuid> {
    match value {
        Value::Uuid(id) => *id,
        _ => None,
    }
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Bytes(bytes) => bytes.as_deref(),
        _ => None,
    }
}

#[cfg(all(test, feature = "fixtures"))]
mod tests {
    use super::*;
    use crate::database::bulk::{Column, Rows};
    use crate::database::fixture::{IDLE, on_each_database, on_postgres};
    use crate::fault::Fault;

    #[tokio::test]
    async fn values_of_every_kind_arrive_as_they_are() {
        on_each_database(&IDLE, async |database| {
            let columns = &[
                ("number", Column::Int),
                ("words", Column::Text),
                ("id", Column::Id),
                ("body", Column::Bytes),
            ];
            let (id, body) = (Uuid::from_u128(7), vec![0_u8, 255]);
            let row = || [(-3_i64).into(), "é".into(), id.into(), body.clone().into()];
            // A 32-bit integer is of no column, and goes the way of the library.
            for limit in [Value::from(9_i64), Value::from(9_i32)] {
                let mut rows = Rows::of(columns);
                rows.push(row());
                let sql = "SELECT number, words, id, body FROM v WHERE number < $1";
                let read = database.fetch(rows, sql, vec![limit]).await.expect("read");
                let [read] = read.as_slice() else {
                    panic!("one row of one: {}", read.len());
                };
                assert_eq!(read.try_get::<i64>("", "number"), Ok(-3));
                assert_eq!(read.try_get::<String>("", "words").as_deref(), Ok("é"));
                assert_eq!(read.try_get::<Uuid>("", "id"), Ok(id));
                assert_eq!(read.try_get::<Vec<u8>>("", "body").as_ref(), Ok(&body));
            }
        })
        .await;
    }

    #[tokio::test]
    async fn a_database_that_lets_nobody_in_is_away() {
        on_postgres(&IDLE, async |database| {
            let shut =
                "UPDATE pg_database SET datallowconn = false WHERE datname = current_database()";
            database.execute(shut, vec![]).await.expect("shut");
            // At once, so they cannot all have the connections that are there.
            let asked = (1..=4_i64).map(|number| {
                let mut rows = Rows::of(&[("number", Column::Int)]);
                rows.push([number.into()]);
                database.fetch(rows, "SELECT pg_sleep(0.2) FROM v", vec![])
            });
            let answers = futures::future::join_all(asked).await;
            let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
            assert!(!refused.is_empty(), "a connection was to be made");
            let away = |fault: &Fault| matches!(fault, Fault::Away(_));
            assert!(refused.iter().all(away), "{refused:?}");
        })
        .await;
    }
}
