//! One service's database: SQLite embedded, or PostgreSQL. Same SQL, same migrations.

mod ask;
pub mod bulk;
#[cfg(feature = "fixtures")]
pub mod fixture;
pub mod migration;
mod open;
mod safety;
pub mod snapshot;
mod together;

pub use open::{DatabaseError, Location};

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, QueryResult,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait, Value,
};
use tokio::sync::OnceCell;

use crate::clock::{self, Clock};
use crate::database::bulk::Rows;
use crate::database::together::Together;
use crate::failpoint::is_off;
use crate::fault::Fault;
use crate::operating::metrics::{Ending, Meters, Tally};
use crate::saying::hint::{Hints, Intended};

/// The connections to a service's database.
#[derive(Clone)]
pub struct Database {
    writer: DatabaseConnection,
    reader: DatabaseConnection,
    clock: Clock,
    hints: Option<Hints>,
    meters: Meters,
    // Held as long as the file is in use.
    _lock: Option<Arc<File>>,
}

impl Database {
    /// Has the hints of its transactions said.
    pub(crate) fn hinting(self, hints: Hints) -> Self {
        let hints = Some(hints);
        Self { hints, ..self }
    }

    /// Has its transactions measured.
    pub(crate) fn measured(self, meters: Meters) -> Self {
        Self { meters, ..self }
    }

    /// What its service measures.
    pub(crate) fn meters(&self) -> &Meters {
        &self.meters
    }

    /// Begins a transaction that may write. On PostgreSQL it begins with its first statement,
    /// and one whose only statement is the last is that statement: two round trips less.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn begin(&self) -> Result<Tx, Fault> {
        self.begin_with(true).await
    }

    /// Begins a transaction that locks nothing on PostgreSQL: others may change what it has
    /// loaded, and then what it writes is a conflict; see [`Tx::load`]. With one statement that
    /// writes it needs no `BEGIN`, no `COMMIT` and no row locks, and nobody waits for it.
    /// Whoever had a conflict begins one that locks, so that it gets through.
    pub(crate) async fn begin_optimistic(&self) -> Result<Tx, Fault> {
        self.begin_with(false).await
    }

    async fn begin_with(&self, locks: bool) -> Result<Tx, Fault> {
        let mut tx = Tx {
            locks,
            began: Instant::now(),
            meters: self.meters.clone(),
            tally: Mutex::default(),
            writer: self.writer.clone(),
            begun: OnceCell::new(),
            ended: AtomicBool::new(false),
            now: self.clock.now(),
            hints: Intended::new(self.hints.clone()),
            together: Mutex::default(),
        };
        // SQLite has one writer, and a transaction waits for its turn here.
        if tx.backend() != DbBackend::Postgres || is_off("R11") {
            tx.locks = true;
            tx.inner().await?;
            tx.now = self.clock.now();
        }
        Ok(tx)
    }

    /// Begins a transaction at a time of the past: the clock of what is replayed.
    pub(crate) async fn begin_at(&self, now: i64) -> Result<Tx, Fault> {
        Ok(Tx {
            now,
            ..self.begin().await?
        })
    }

    /// For reads outside a transaction.
    #[must_use]
    pub fn reader(&self) -> &DatabaseConnection {
        &self.reader
    }

    /// The clock of this database.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Which database it is.
    #[must_use]
    pub fn backend(&self) -> DbBackend {
        self.reader.get_database_backend()
    }

    /// Reads rows outside a transaction.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn query(&self, sql: &str, values: Vec<Value>) -> Result<Vec<QueryResult>, Fault> {
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        Ok(self.reader.query_all_raw(statement).await?)
    }

    /// Reads what belongs to many rows, outside a transaction; see [`Rows`].
    ///
    /// # Errors
    /// When the database is away.
    pub async fn fetch(
        &self,
        rows: Rows,
        sql: &str,
        extra: Vec<Value>,
    ) -> Result<Vec<QueryResult>, Fault> {
        if rows.is_empty() {
            return Ok(vec![]);
        }
        let statement = rows.statement(self.backend(), sql, extra);
        Ok(ask::ask(&self.reader, statement).await?)
    }

    /// Runs one statement over many rows by itself; see [`Rows`].
    ///
    /// # Errors
    /// When the database is away.
    pub async fn run(&self, rows: Rows, sql: &str, extra: Vec<Value>) -> Result<u64, Fault> {
        let statement = rows.statement(self.backend(), sql, extra);
        Ok(self.writer.execute_raw(statement).await?.rows_affected())
    }

    /// Runs one statement by itself.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn execute(&self, sql: &str, values: Vec<Value>) -> Result<u64, Fault> {
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        Ok(self.writer.execute_raw(statement).await?.rows_affected())
    }

    /// Asks the database for the time, and sets the clock by it.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn read_clock(&self) -> Result<(), Fault> {
        let now = match self.backend() {
            DbBackend::Postgres => {
                let sql =
                    "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS now";
                let rows = self.query(sql, vec![]).await?;
                match rows.first() {
                    Some(row) => row.try_get("", "now")?,
                    None => clock::wall(),
                }
            }
            _ => clock::wall(),
        };
        self.clock.set(now);
        Ok(())
    }

    /// Closes the connections.
    pub async fn close(self) {
        let _ = self.reader.close().await;
        let _ = self.writer.close().await;
    }
}

/// An open transaction. Whoever has it can read and write this service's tables, and
/// nothing else: publishing is the runtime's, after the commit.
pub struct Tx {
    writer: DatabaseConnection,
    begun: OnceCell<DatabaseTransaction>,
    locks: bool,
    // It was one statement, which has committed.
    ended: AtomicBool,
    now: i64,
    hints: Intended,
    began: Instant,
    meters: Meters,
    tally: Mutex<Tally>,
    // What is still to be written, on PostgreSQL.
    together: Mutex<Together>,
}

impl Tx {
    /// Milliseconds since the Unix epoch when it began, on the database's clock.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.now
    }

    /// Hints on a subject once this has committed: "look again", to whoever listens. A
    /// hint may be lost, and never delays the commit.
    pub fn hint(&self, subject: String) {
        self.hints.add(subject);
    }

    /// Counts events that the inbox knew, once this has committed.
    pub(crate) fn count_duplicates(&self, duplicates: usize) {
        self.tally().duplicates += duplicates as u64;
    }

    /// Counts the end of an order, once this has committed.
    pub(crate) fn count_ending(&self, ending: Ending) {
        self.tally().ended.push((ending, self.now));
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The transaction, begun.
    async fn inner(&self) -> Result<&DatabaseTransaction, Fault> {
        if self.ended.load(Ordering::Relaxed) {
            let wrong = "a statement after the last one of its transaction";
            return Err(Fault::Permanent(wrong.to_owned()));
        }
        let options = TransactionOptions {
            // A deferred transaction that reads first and writes later fails under load.
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let begin = || self.writer.begin_with_options(options);
        Ok(self.begun.get_or_try_init(begin).await?)
    }

    /// Whether it locks what it loads.
    pub(crate) fn locks(&self) -> bool {
        self.locks
    }

    /// Which database it is in.
    pub(crate) fn backend(&self) -> DbBackend {
        self.writer.get_database_backend()
    }

    /// The UUID that means none, as a literal: a partial index that goes by it is used.
    #[must_use]
    pub fn nil(&self) -> &'static str {
        migration::nil(self.backend())
    }

    /// `FOR UPDATE` where rows can be locked; SQLite has one writer anyway.
    #[must_use]
    pub fn for_update(&self) -> &'static str {
        match self.backend() {
            DbBackend::Postgres if !is_off("R10") && !is_off("R3") => "FOR UPDATE",
            _ => "",
        }
    }

    /// Runs a statement over many rows; see [`Rows`].
    ///
    /// # Errors
    /// A fault of the database.
    pub async fn run(&self, rows: Rows, sql: &str, extra: Vec<Value>) -> Result<u64, Fault> {
        if rows.is_empty() {
            return Ok(0);
        }
        self.write_now().await?;
        let statement = rows.statement(self.backend(), sql, extra);
        let done = self.inner().await?.execute_raw(statement).await?;
        Ok(done.rows_affected())
    }

    /// As [`Tx::run`], and returns rows.
    ///
    /// # Errors
    /// A fault of the database.
    pub async fn fetch(
        &self,
        rows: Rows,
        sql: &str,
        extra: Vec<Value>,
    ) -> Result<Vec<QueryResult>, Fault> {
        if rows.is_empty() {
            return Ok(vec![]);
        }
        self.write_now().await?;
        let statement = rows.statement(self.backend(), sql, extra);
        Ok(self.inner().await?.query_all_raw(statement).await?)
    }

    /// Loads what is to be changed, in sorted key order (R10): `sql` ends with its `ORDER BY`.
    /// The rows are locked, or else may be changed by others, so whoever writes them adds to
    /// the condition that they are as they were loaded; see [`Tx::as_loaded`]. What this
    /// transaction has still to write need not be seen.
    ///
    /// # Errors
    /// A fault of the database.
    pub async fn load(
        &self,
        rows: Rows,
        sql: &str,
        extra: Vec<Value>,
    ) -> Result<Vec<QueryResult>, Fault> {
        if self.locks {
            let sql = format!("{sql} {}", self.for_update());
            return self.fetch(rows, &sql, extra).await;
        }
        if rows.is_empty() {
            return Ok(vec![]);
        }
        self.ask(rows.statement(self.backend(), sql, extra)).await
    }

    /// Goes on with the condition of an [`Tx::write`]: its rows are as they were loaded. So a
    /// conflict is found, and nothing is overwritten that was not seen (R10).
    #[must_use]
    pub fn as_loaded(&self, sql: &str, unchanged: &str) -> String {
        match is_off("R10") {
            true => sql.to_owned(),
            false => format!("{sql} AND {unchanged}"),
        }
    }

    /// Asks in the transaction if it has begun, and else by itself.
    async fn ask(&self, statement: Statement) -> Result<Vec<QueryResult>, Fault> {
        Ok(match self.begun.get() {
            Some(begun) => begun.query_all_raw(statement).await?,
            None => ask::ask(&self.writer, statement).await?,
        })
    }

    /// Changes many rows, all of them; see [`Rows`]. On PostgreSQL it is done with the next
    /// statement, or with the events of the transaction, which saves a round trip.
    ///
    /// # Errors
    /// A fault of the database, and a conflict when not every row was changed: now, or when
    /// it is done.
    pub async fn write(&self, rows: Rows, sql: &str, extra: Vec<Value>) -> Result<(), Fault> {
        if rows.is_empty() {
            return Ok(());
        }
        if self.backend() == DbBackend::Postgres {
            self.together().add(rows, sql, extra);
            return Ok(());
        }
        let expected = rows.len() as u64;
        match self.run(rows, sql, extra).await? == expected {
            true => Ok(()),
            false => Err(Fault::Conflict("a row was changed meanwhile".to_owned())),
        }
    }

    /// Writes what is still to be written.
    async fn write_now(&self) -> Result<(), Fault> {
        let together = std::mem::take(&mut *self.together());
        if together.is_empty() {
            return Ok(());
        }
        self.inner().await?.query_all_raw(together.alone()).await?;
        Ok(())
    }

    /// Runs the last statement on PostgreSQL, and with it what is still to be written. `sql`
    /// begins with the table `v`; see [`Together::before`] for `{exact}`. It must fail when not
    /// every row was changed: where it is the only statement, nothing else takes back what was.
    pub(crate) async fn write_last(
        &self,
        rows: Rows,
        sql: &str,
        extra: Vec<Value>,
    ) -> Result<Vec<QueryResult>, Fault> {
        let together = std::mem::take(&mut *self.together());
        let statement = together.before(rows.statement(DbBackend::Postgres, sql, extra));
        let written = self.ask(statement).await?;
        self.ended
            .store(self.begun.get().is_none(), Ordering::Relaxed);
        Ok(written)
    }

    fn together(&self) -> MutexGuard<'_, Together> {
        self.together.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one statement; how many rows it changed.
    ///
    /// # Errors
    /// A fault of the database.
    pub async fn execute(&self, sql: &str, values: Vec<Value>) -> Result<u64, Fault> {
        self.write_now().await?;
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        let done = self.inner().await?.execute_raw(statement).await?;
        Ok(done.rows_affected())
    }

    /// Runs one statement and returns its rows.
    ///
    /// # Errors
    /// A fault of the database.
    pub async fn query(&self, sql: &str, values: Vec<Value>) -> Result<Vec<QueryResult>, Fault> {
        self.write_now().await?;
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        Ok(self.inner().await?.query_all_raw(statement).await?)
    }

    pub(crate) async fn commit(self) -> Result<(), Fault> {
        let together = std::mem::take(&mut *self.together());
        if !together.is_empty() {
            self.ask(together.alone()).await?;
        }
        if let Some(begun) = self.begun.into_inner() {
            begun.commit().await?;
        }
        self.hints.say();
        let tally = self.tally.into_inner();
        let tally = tally.unwrap_or_else(PoisonError::into_inner);
        self.meters.committed(self.began.elapsed(), tally);
        Ok(())
    }
}
