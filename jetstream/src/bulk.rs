//! Many rows in one statement, the same SQL on both databases.
//!
//! A batch is a small table `v` in front of the statement:
//!
//! ```sql
//! WITH v(id, quantity) AS (…) UPDATE products SET available = available - v.quantity
//! FROM v WHERE products.id = v.id
//! ```
//!
//! On PostgreSQL its columns are arrays, so the statement's text does not depend on the
//! number of rows and its plan is prepared once; on SQLite they are a list of values.
//! Values are never null here: columns that may be absent have a value that means so.

use std::fmt::Write as _;

use sea_orm::sea_query::ArrayType;
use sea_orm::{DbBackend, Statement, Value};
use uuid::Uuid;

/// The type of a column of the small table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// 64-bit integer.
    Int,
    /// Text.
    Text,
    /// UUID.
    Id,
    /// Bytes.
    Bytes,
}

impl Column {
    fn postgres(self) -> (&'static str, ArrayType) {
        match self {
            Self::Int => ("bigint", ArrayType::BigInt),
            Self::Text => ("text", ArrayType::String),
            Self::Id => ("uuid", ArrayType::Uuid),
            Self::Bytes => ("bytea", ArrayType::Bytes),
        }
    }
}

/// The rows of one statement.
#[derive(Debug, Clone)]
pub struct Rows {
    columns: &'static [(&'static str, Column)],
    values: Vec<Vec<Value>>,
}

impl Rows {
    /// No rows yet, of these columns.
    #[must_use]
    pub fn of(columns: &'static [(&'static str, Column)]) -> Self {
        Self {
            columns,
            values: columns.iter().map(|_| Vec::new()).collect(),
        }
    }

    /// One column of ids, named `id`.
    #[must_use]
    pub fn ids(ids: impl IntoIterator<Item = Uuid>) -> Self {
        let mut rows = Self::of(&[("id", Column::Id)]);
        for id in ids {
            rows.push([id.into()]);
        }
        rows
    }

    /// One column of texts, named `id`.
    #[must_use]
    pub fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut rows = Self::of(&[("id", Column::Text)]);
        for text in texts {
            rows.push([text.into()]);
        }
        rows
    }

    /// Adds a row: a value per column, in the order of the columns.
    pub fn push<const N: usize>(&mut self, row: [Value; N]) {
        debug_assert_eq!(N, self.columns.len(), "a value per column");
        for (column, value) in self.values.iter_mut().zip(row) {
            column.push(value);
        }
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.first().map_or(0, Vec::len)
    }

    /// Whether there are none: then the statement need not run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The statement with the table `v` in front of it. `sql` may use `$1`… for `extra`.
    #[must_use]
    pub fn statement(self, backend: DbBackend, sql: &str, extra: Vec<Value>) -> Statement {
        let mut values = extra;
        let first = values.len() + 1;
        let names: Vec<_> = self.columns.iter().map(|(name, _)| *name).collect();
        let mut text = format!("WITH v({}) AS (", names.join(", "));
        match backend {
            DbBackend::Postgres => {
                let arrays =
                    self.columns.iter().enumerate().map(|(i, (_, column))| {
                        format!("${}::{}[]", first + i, column.postgres().0)
                    });
                let arrays: Vec<_> = arrays.collect();
                let _ = write!(text, "SELECT * FROM UNNEST({})", arrays.join(", "));
                for ((_, column), cells) in self.columns.iter().zip(self.values) {
                    values.push(Value::Array(column.postgres().1, Some(Box::new(cells))));
                }
            }
            _ => {
                text.push_str("VALUES ");
                let mut number = first;
                let mut cells: Vec<_> = self.values.into_iter().map(Vec::into_iter).collect();
                let width = cells.len();
                let mut row = 0;
                while let Some(value) = cells.first_mut().and_then(Iterator::next) {
                    text.push_str(if row == 0 { "(" } else { ", (" });
                    values.push(value);
                    let _ = write!(text, "${number}");
                    for cell in cells.iter_mut().skip(1) {
                        values.extend(cell.next());
                    }
                    for column in 1..width {
                        let _ = write!(text, ", ${}", number + column);
                    }
                    text.push(')');
                    number += width;
                    row += 1;
                }
            }
        }
        let _ = write!(text, ") {sql}");
        Statement::from_sql_and_values(backend, text, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Rows {
        let mut rows = Rows::of(&[("k", Column::Text), ("n", Column::Int)]);
        rows.push(["a".into(), 1_i64.into()]);
        rows.push(["b".into(), 2_i64.into()]);
        rows
    }

    #[test]
    fn on_postgres_the_text_does_not_depend_on_the_number_of_rows() {
        let s = rows().statement(
            DbBackend::Postgres,
            "SELECT * FROM v WHERE n > $1",
            vec![0_i64.into()],
        );
        assert_eq!(
            s.sql,
            "WITH v(k, n) AS (SELECT * FROM UNNEST($2::text[], $3::bigint[])) SELECT * FROM v WHERE n > $1"
        );
        assert_eq!(s.values.map(|v| v.0.len()), Some(3));
    }

    #[test]
    fn on_sqlite_it_is_a_list_of_values() {
        let s = rows().statement(
            DbBackend::Sqlite,
            "SELECT * FROM v WHERE n > $1",
            vec![0_i64.into()],
        );
        assert_eq!(
            s.sql,
            "WITH v(k, n) AS (VALUES ($2, $3), ($4, $5)) SELECT * FROM v WHERE n > $1"
        );
        assert_eq!(s.values.map(|v| v.0.len()), Some(5));
    }
}
