//! Changes that go to PostgreSQL together with the events of a transaction, in one
//! statement: each statement is a round trip, and at few events a batch those are most of
//! what a transaction costs.
//!
//! ```sql
//! WITH w0 AS (UPDATE … RETURNING 1), w1 AS (INSERT … RETURNING 1)
//! SELECT 1 WHERE (SELECT count(*) FROM w0) = 12 AND (SELECT count(*) FROM w1) = 4
//! ```

use std::fmt::Write as _;

use sea_orm::{DbBackend, Statement, Value};

use crate::database::bulk::{Rows, renumbered};

/// Changes that wait for the last statement of their transaction.
#[derive(Default)]
pub(crate) struct Together {
    // The parts in front of the last statement, its values, and what must be true of them.
    parts: String,
    values: Vec<Value>,
    exact: String,
    count: usize,
}

impl Together {
    /// Adds a change, which must change every one of its rows.
    pub(crate) fn add(&mut self, rows: Rows, sql: &str, extra: Vec<Value>) {
        let expected = rows.len();
        let change = rows.statement(DbBackend::Postgres, sql, extra);
        let (n, before) = (self.count, self.values.len());
        let text = renumbered(&change.sql, '$', before);
        let _ = write!(self.parts, "w{n} AS ({text} RETURNING 1), ");
        self.values
            .extend(change.values.map_or(vec![], |all| all.0));
        self.values
            .push(i64::try_from(expected).unwrap_or(i64::MAX).into());
        let place = self.values.len();
        let _ = write!(self.exact, " AND (SELECT count(*) FROM w{n}) = ${place}");
        self.count += 1;
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Puts the changes in front of a statement that begins with `WITH`. In its text
    /// `{exact}` stands behind a condition, and goes on with: all of them found their rows.
    /// So the changes are made before what depends on that condition.
    pub(crate) fn before(self, last: Statement) -> Statement {
        let own = renumbered(&last.sql, '$', self.values.len());
        let own = own.strip_prefix("WITH ").unwrap_or(&own);
        let own = own.replace("{exact}", &self.exact);
        let text = format!("WITH {}{own}", self.parts);
        let mut values = self.values;
        values.extend(last.values.map_or(vec![], |all| all.0));
        Statement::from_sql_and_values(DbBackend::Postgres, text, values)
    }

    /// The changes alone. It divides by zero when not all of them found their rows, so that it
    /// fails, and takes them back, even by itself.
    pub(crate) fn alone(self) -> Statement {
        let last = "WITH all_found AS (SELECT 1 WHERE true{exact})
                    SELECT 1 / (SELECT count(*) FROM all_found) AS exact";
        self.before(Statement::from_string(DbBackend::Postgres, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::bulk::Column;

    #[test]
    fn changes_stand_in_front_and_keep_their_values() {
        let mut together = Together::default();
        let mut rows = Rows::of(&[("id", Column::Int)]);
        rows.push([7_i64.into()]);
        rows.push([8_i64.into()]);
        let sql = "UPDATE a SET n = $1 FROM v WHERE a.id = v.id";
        together.add(rows, sql, vec![1_i64.into()]);
        let last = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "WITH n AS (UPDATE b SET n = $1 WHERE true{exact} RETURNING n) SELECT n FROM n",
            vec![9_i64.into()],
        );
        let all = together.before(last);
        assert_eq!(
            all.sql,
            "WITH w0 AS (WITH v(id) AS (SELECT * FROM UNNEST($2::bigint[])) \
             UPDATE a SET n = $1 FROM v WHERE a.id = v.id RETURNING 1), \
             n AS (UPDATE b SET n = $4 WHERE true AND (SELECT count(*) FROM w0) = $3 \
             RETURNING n) SELECT n FROM n"
        );
        assert_eq!(all.values.map(|all| all.0.len()), Some(4));
    }
}
