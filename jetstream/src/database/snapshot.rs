//! One look at a database: everything that is read through it was true at the same moment,
//! and nothing can be written.

use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseTransaction, DbBackend, IsolationLevel, QueryResult,
    Statement, TransactionOptions, TransactionTrait, Value,
};

use crate::database::Database;
use crate::fault::Fault;

/// A consistent view of one service's database; other transactions go on meanwhile.
pub struct Snapshot(DatabaseTransaction);

impl Database {
    /// Takes a snapshot. A long look is allowed: the limits on statements are for those who
    /// wait for an answer.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn snapshot(&self) -> Result<Snapshot, Fault> {
        if self.backend() != DbBackend::Postgres {
            let tx = self.reader().begin().await?;
            // A transaction sees the file as it was when it first read from it.
            tx.execute_unprepared("SELECT 1 FROM sqlite_schema LIMIT 1")
                .await?;
            return Ok(Snapshot(tx));
        }
        let options = TransactionOptions {
            isolation_level: Some(IsolationLevel::RepeatableRead),
            access_mode: Some(AccessMode::ReadOnly),
            ..TransactionOptions::default()
        };
        let tx = self.reader().begin_with_options(options).await?;
        for limit in ["statement_timeout", "idle_in_transaction_session_timeout"] {
            tx.execute_unprepared(&format!("SET LOCAL {limit} = 0"))
                .await?;
        }
        // Plans for one use: what is read here is large, and read once.
        for (setting, value) in [
            ("plan_cache_mode", "auto"),
            ("enable_seqscan", "on"),
            ("enable_hashjoin", "on"),
            ("enable_mergejoin", "on"),
        ] {
            tx.execute_unprepared(&format!("SET LOCAL {setting} = {value}"))
                .await?;
        }
        Ok(Snapshot(tx))
    }
}

impl Snapshot {
    /// Which database it is.
    #[must_use]
    pub fn backend(&self) -> DbBackend {
        self.0.get_database_backend()
    }

    /// Reads rows.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn query(&self, sql: &str, values: Vec<Value>) -> Result<Vec<QueryResult>, Fault> {
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        Ok(self.0.query_all_raw(statement).await?)
    }

    /// Reads what whole tables come to. PostgreSQL must not join them pair by pair, as it would
    /// with statistics of a time when there was little in them: that takes hours.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn query_whole_tables(&self, sql: &str) -> Result<Vec<QueryResult>, Fault> {
        self.join_pair_by_pair("off").await?;
        let rows = self.query(sql, vec![]).await?;
        self.join_pair_by_pair("on").await?;
        Ok(rows)
    }

    async fn join_pair_by_pair(&self, may: &str) -> Result<(), Fault> {
        if self.backend() == DbBackend::Postgres {
            let set = format!("SET LOCAL enable_nestloop = {may}");
            self.0.execute_unprepared(&set).await?;
        }
        Ok(())
    }

    /// Reads one number, called `n`.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn number(&self, sql: &str) -> Result<i64, Fault> {
        let rows = self.query(sql, vec![]).await?;
        match rows.first() {
            Some(row) => Ok(row.try_get("", "n")?),
            None => Ok(0),
        }
    }
}

#[cfg(all(test, feature = "fixtures"))]
mod tests {
    use super::*;
    use crate::database::fixture::{IDLE, on_postgres};

    #[tokio::test]
    async fn whole_tables_are_not_joined_pair_by_pair() {
        on_postgres(&IDLE, async |database| {
            // Nothing is there yet, so a planner that knows no better expects nothing.
            let analyze = "ANALYZE outbox, published";
            database.execute(analyze, vec![]).await.expect("analyzed");
            let snapshot = database.snapshot().await.expect("taken");
            let sql =
                "EXPLAIN SELECT 1 FROM outbox o JOIN published p ON p.published_at = o.decided_at
                       WHERE o.late = 1";
            let plan = |rows: Vec<QueryResult>| {
                let line = |row: &QueryResult| row.try_get_by_index::<String>(0).expect("a line");
                rows.iter().map(line).collect::<Vec<_>>().join("\n")
            };
            let as_planned = plan(snapshot.query(sql, vec![]).await.expect("planned"));
            assert!(as_planned.contains("Nested Loop"), "{as_planned}");
            let whole = plan(snapshot.query_whole_tables(sql).await.expect("planned"));
            assert!(!whole.contains("Nested Loop"), "{whole}");
        })
        .await;
    }
}
