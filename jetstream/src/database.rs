//! One service's database: SQLite embedded, or PostgreSQL. Same SQL, same migrations.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::{
    ConnectOptions, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend,
    QueryResult, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait, Value,
};
use sea_orm_migration::{MigrationTrait, MigratorTraitSelf};

use crate::bulk::Rows;
use crate::clock::{self, Clock};
use crate::fault::Fault;
use crate::hint::{Hints, Intended};

/// Where a service's database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file, used by one process at a time.
    Sqlite(PathBuf),
    /// A PostgreSQL URL, which may hold a password: never logged.
    Postgres(String),
}

/// The connections to a service's database.
#[derive(Clone)]
pub struct Database {
    writer: DatabaseConnection,
    reader: DatabaseConnection,
    clock: Clock,
    hints: Option<Hints>,
    // Held as long as the file is in use.
    _lock: Option<Arc<File>>,
}

/// The database cannot be used; each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Another process has the SQLite file.
    #[error(
        "{0} is in use by another process: stop it, or choose another directory with --data-dir"
    )]
    InUse(PathBuf),
    /// The directory or file cannot be written.
    #[error("cannot write {path}: {source}; choose a directory you own with --data-dir")]
    Unwritable {
        /// What could not be written.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The server does not answer, or refuses.
    #[error("cannot use the database of {service} in {place}: {detail}; check --database-url")]
    Unreachable {
        /// Whose database.
        service: String,
        /// The server or the file.
        place: String,
        /// What the driver said.
        detail: String,
    },
    /// The tables could not be brought up to date.
    #[error("cannot bring the tables of {service} up to date: {detail}")]
    Migration {
        /// Whose database.
        service: String,
        /// What the driver said.
        detail: String,
    },
}

struct Migrations(fn() -> Vec<Box<dyn MigrationTrait>>);

#[async_trait::async_trait]
impl MigratorTraitSelf for Migrations {
    fn migrations(&self) -> Vec<Box<dyn MigrationTrait>> {
        let mut all = crate::migration::runtime();
        all.extend((self.0)());
        all
    }
}

impl Location {
    /// Where it is, without what nobody should read.
    fn place(&self) -> String {
        match self {
            Self::Sqlite(file) => file.display().to_string(),
            Self::Postgres(url) => match url::Url::parse(url) {
                Ok(url) => {
                    let host = url.host_str().unwrap_or_default();
                    format!("{host}:{}", url.port().unwrap_or(5432))
                }
                Err(_) => "an address that cannot be read".to_owned(),
            },
        }
    }
}

/// Why there is no connection. The pool tries again while a server refuses, and then
/// knows only that time has passed.
fn why(error: &sea_orm::DbErr) -> String {
    match error {
        sea_orm::DbErr::Conn(sea_orm::RuntimeErr::SqlxError(error)) => match error.as_ref() {
            sea_orm::SqlxError::PoolTimedOut => "the server does not answer".to_owned(),
            error => error.to_string(),
        },
        error => error.to_string(),
    }
}

impl Database {
    /// Opens the database and brings its tables up to date.
    ///
    /// # Errors
    /// A [`DatabaseError`] that says what to do.
    pub async fn open(
        service: &str,
        location: &Location,
        migrations: fn() -> Vec<Box<dyn MigrationTrait>>,
    ) -> Result<Self, DatabaseError> {
        let unreachable = |detail: String| DatabaseError::Unreachable {
            service: service.to_owned(),
            place: location.place(),
            detail,
        };
        let (writer, reader, lock) = match location {
            Location::Sqlite(file) => {
                let lock = lock(file)?;
                let writer = connect_sqlite(file, 1)
                    .await
                    .map_err(|e| unreachable(why(&e)))?;
                let reader = connect_sqlite(file, 4)
                    .await
                    .map_err(|e| unreachable(why(&e)))?;
                (writer, reader, Some(Arc::new(lock)))
            }
            Location::Postgres(url) => {
                let pool = connect_postgres(service, url)
                    .await
                    .map_err(|e| unreachable(why(&e)))?;
                (pool.clone(), pool, None)
            }
        };
        let database = Self {
            writer,
            reader,
            clock: Clock::at(clock::wall()),
            hints: None,
            _lock: lock,
        };
        database.migrate(service, migrations).await?;
        database
            .read_clock()
            .await
            .map_err(|e| unreachable(e.to_string()))?;
        Ok(database)
    }

    /// Has the hints of its transactions said.
    pub(crate) fn hinting(self, hints: Hints) -> Self {
        let hints = Some(hints);
        Self { hints, ..self }
    }

    /// Creates a PostgreSQL database if it is not there.
    ///
    /// # Errors
    /// When the server cannot be reached, or does not allow it.
    pub async fn create(service: &str, location: &Location) -> Result<(), DatabaseError> {
        let Location::Postgres(url) = location else {
            return Ok(());
        };
        let unreachable = |detail: String| DatabaseError::Unreachable {
            service: service.to_owned(),
            place: location.place(),
            detail,
        };
        let mut server = url::Url::parse(url).map_err(|e| unreachable(e.to_string()))?;
        let name = server.path().trim_start_matches('/').to_owned();
        server.set_path("/postgres");
        let mut options = ConnectOptions::new(server.to_string());
        options
            .max_connections(1)
            .connect_timeout(Duration::from_secs(3))
            .sqlx_logging(false);
        let connection = sea_orm::Database::connect(options)
            .await
            .map_err(|error| unreachable(why(&error)))?;
        let sql = "SELECT 1 AS one FROM pg_database WHERE datname = $1";
        let find = Statement::from_sql_and_values(DbBackend::Postgres, sql, [name.clone().into()]);
        let found = connection
            .query_one_raw(find)
            .await
            .map_err(|e| unreachable(e.to_string()))?;
        let result = match found {
            Some(_) => Ok(()),
            None => {
                let sql = format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""));
                let created = connection.execute_unprepared(&sql).await;
                // Another instance may have been faster.
                match created.map_err(Fault::from) {
                    Ok(_) | Err(Fault::Conflict(_)) => Ok(()),
                    Err(error) => Err(unreachable(error.to_string())),
                }
            }
        };
        let _ = connection.close().await;
        result
    }

    async fn migrate(
        &self,
        service: &str,
        migrations: fn() -> Vec<Box<dyn MigrationTrait>>,
    ) -> Result<(), DatabaseError> {
        let failed = |error: sea_orm::DbErr| DatabaseError::Migration {
            service: service.to_owned(),
            detail: error.to_string(),
        };
        let tx = self.writer.begin().await.map_err(failed)?;
        if tx.get_database_backend() == DbBackend::Postgres {
            // Several instances may start at once: the second waits, and finds nothing to do.
            let lock = "SELECT pg_advisory_xact_lock(7249001)";
            tx.execute_unprepared(lock).await.map_err(failed)?;
        }
        Migrations(migrations).up(&tx, None).await.map_err(failed)?;
        tx.commit().await.map_err(failed)
    }

    /// Begins a transaction that may write.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn begin(&self) -> Result<Tx, Fault> {
        let options = TransactionOptions {
            // A deferred transaction that reads first and writes later fails under load.
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        Ok(Tx {
            inner: self.writer.begin_with_options(options).await?,
            now: self.clock.now(),
            hints: Intended::new(self.hints.clone()),
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
        Ok(self.reader.query_all_raw(statement).await?)
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
    inner: DatabaseTransaction,
    now: i64,
    hints: Intended,
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

    /// The connection, for sea-orm's own queries.
    #[must_use]
    pub fn connection(&self) -> &DatabaseTransaction {
        &self.inner
    }

    /// `FOR UPDATE` where rows can be locked; SQLite has one writer anyway.
    #[must_use]
    pub fn for_update(&self) -> &'static str {
        match self.inner.get_database_backend() {
            DbBackend::Postgres => "FOR UPDATE",
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
        let statement = rows.statement(self.inner.get_database_backend(), sql, extra);
        Ok(self.inner.execute_raw(statement).await?.rows_affected())
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
        let statement = rows.statement(self.inner.get_database_backend(), sql, extra);
        Ok(self.inner.query_all_raw(statement).await?)
    }

    /// Runs one statement; how many rows it changed.
    ///
    /// # Errors
    /// A fault of the database.
    pub async fn execute(&self, sql: &str, values: Vec<Value>) -> Result<u64, Fault> {
        let backend = self.inner.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        Ok(self.inner.execute_raw(statement).await?.rows_affected())
    }

    /// Runs one statement and returns its rows.
    ///
    /// # Errors
    /// A fault of the database.
    pub async fn query(&self, sql: &str, values: Vec<Value>) -> Result<Vec<QueryResult>, Fault> {
        let backend = self.inner.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        Ok(self.inner.query_all_raw(statement).await?)
    }

    pub(crate) async fn commit(self) -> Result<(), Fault> {
        self.inner.commit().await?;
        self.hints.say();
        Ok(())
    }
}

fn lock(file: &Path) -> Result<File, DatabaseError> {
    let path = file.with_extension("lock");
    let unwritable = |source| DatabaseError::Unwritable {
        path: path.clone(),
        source,
    };
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(|source| DatabaseError::Unwritable {
            path: folder.to_owned(),
            source,
        })?;
    }
    let mut options = OpenOptions::new();
    let lock = options
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(unwritable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(DatabaseError::InUse(file.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(unwritable(source)),
    }
}

async fn connect_sqlite(file: &Path, size: u32) -> Result<DatabaseConnection, sea_orm::DbErr> {
    let mut options = ConnectOptions::new(format!("sqlite://{}?mode=rwc", file.display()));
    options.max_connections(size).sqlx_logging(false);
    options.test_before_acquire(false);
    options.map_sqlx_sqlite_opts(|sqlite| {
        use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
        sqlite
            .journal_mode(SqliteJournalMode::Wal)
            // FULL: a commit is on disk before it is acknowledged (R8 relies on it).
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(3))
            .foreign_keys(true)
            .statement_cache_capacity(512)
            .disable_statement_logging()
    });
    sea_orm::Database::connect(options).await
}

async fn connect_postgres(service: &str, url: &str) -> Result<DatabaseConnection, sea_orm::DbErr> {
    let name = format!("ensemble-{service}");
    let mut options = ConnectOptions::new(url);
    options
        // More than about eight connections per service only hurt.
        .max_connections(8)
        .connect_timeout(Duration::from_secs(3))
        .acquire_timeout(Duration::from_secs(3))
        .sqlx_logging(false)
        .test_before_acquire(false)
        .map_sqlx_postgres_opts(move |postgres| {
            postgres
                .application_name(&name)
                .options([
                    ("statement_timeout", "3000"),
                    ("idle_in_transaction_session_timeout", "10000"),
                    // Set-based statements have one good plan; planning again costs more.
                    ("plan_cache_mode", "force_generic_plan"),
                    ("jit", "off"),
                ])
                .disable_statement_logging()
        });
    sea_orm::Database::connect(options).await
}
