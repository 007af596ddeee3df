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
//! number of rows and its plan is prepared once; on SQLite they are a list of values, of
//! one of a few lengths. Values are never null here: columns that may be absent have a
//! value that means so.

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
        let names: Vec<_> = self.columns.iter().map(|(name, _)| *name).collect();
        let names = names.join(", ");
        match backend {
            DbBackend::Postgres => {
                let (source, values) = self.arrays(extra);
                let text = format!("WITH v({names}) AS ({source}) {sql}");
                Statement::from_sql_and_values(backend, text, values)
            }
            _ => {
                let (source, mut values) = self.list();
                let sql = renumbered(sql, '?', values.len());
                values.extend(extra);
                let text = format!("WITH v({names}) AS ({source}) {sql}");
                Statement::from_sql_and_values(backend, text, values)
            }
        }
    }

    /// The columns as arrays, after the values that are there already.
    fn arrays(self, mut values: Vec<Value>) -> (String, Vec<Value>) {
        let mut arrays = Vec::with_capacity(self.columns.len());
        for ((_, column), cells) in self.columns.iter().zip(self.values) {
            let (name, array) = column.postgres();
            values.push(Value::Array(array, Some(Box::new(cells))));
            arrays.push(format!("${}::{name}[]", values.len()));
        }
        (
            format!("SELECT * FROM UNNEST({})", arrays.join(", ")),
            values,
        )
    }

    /// The rows as a list. Its parameters have no names: SQLite would look each name up
    /// among all others. Rows of nulls fill it up to one of a few lengths, and are left out
    /// again, so that there are few texts and each of them is prepared once.
    fn list(self) -> (String, Vec<Value>) {
        let (rows, width) = (self.len(), self.columns.len());
        let length = match filled(rows) {
            length if length * width <= MOST_PARAMETERS => length,
            _ => rows,
        };
        let row = format!("({})", vec!["?"; width].join(", "));
        let list = vec![row; length].join(", ");
        let source = format!("SELECT * FROM (VALUES {list}) WHERE column1 IS NOT NULL");
        let mut values = Vec::with_capacity(length * width);
        let mut columns: Vec<_> = self.values.into_iter().map(Vec::into_iter).collect();
        for _ in 0..rows {
            values.extend(columns.iter_mut().filter_map(Iterator::next));
        }
        values.resize(length * width, Value::BigInt(None));
        (source, values)
    }
}

// SQLite takes no more than 32766.
const MOST_PARAMETERS: usize = 32_000;

/// The next length that lists have: 1, 2, 3, 4, 6, 8, 12, 16, …
fn filled(rows: usize) -> usize {
    let power = rows.next_power_of_two();
    match power / 4 * 3 {
        between if between >= rows => between,
        _ => power,
    }
}

/// `$1`… as numbered parameters with a sign, that come after so many others.
pub(crate) fn renumbered(sql: &str, sign: char, after: usize) -> String {
    let mut text = String::with_capacity(sql.len() + 16);
    let mut parts = sql.split('$');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let number: usize = part[..digits].parse().unwrap_or(0);
        let _ = write!(text, "{sign}{}{}", number + after, &part[digits..]);
    }
    text
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
            "WITH v(k, n) AS (SELECT * FROM (VALUES (?, ?), (?, ?)) WHERE column1 IS NOT NULL) \
             SELECT * FROM v WHERE n > ?5"
        );
        assert_eq!(s.values.map(|v| v.0.len()), Some(5));
    }

    #[test]
    fn lists_have_few_lengths_and_little_in_vain() {
        let lengths: std::collections::BTreeSet<_> = (1..=256).map(filled).collect();
        assert_eq!(lengths.len(), 16, "{lengths:?}");
        for rows in 1..=10_000 {
            let length = filled(rows);
            assert!(length >= rows && length * 2 <= rows * 3, "{rows}: {length}");
        }
        assert_eq!(
            [1, 2, 3, 4, 5, 7, 9, 13].map(filled),
            [1, 2, 3, 4, 6, 8, 12, 16]
        );
    }
}
