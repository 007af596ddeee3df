//! Opening a service's database: where it is, its connections, and its tables brought up to
//! date.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::{
    ConnectOptions, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait, Statement,
    TransactionTrait,
};
use sea_orm_migration::{MigrationTrait, MigratorTraitSelf, seaql_migrations};

use crate::clock::{self, Clock};
use crate::database::{Database, migration};
use crate::fault::Fault;
use crate::operating::metrics::Meters;

/// Where a service's database is.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// A file, used by one process at a time.
    Sqlite(PathBuf),
    /// A PostgreSQL URL, which may hold a password: never logged.
    Postgres(String),
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
    /// There is none yet.
    #[error(
        "there is no database of {service} at {path}: give the --data-dir of a system that has \
         run, or its --database-url"
    )]
    Missing {
        /// Whose database.
        service: String,
        /// Where it was looked for.
        path: PathBuf,
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

impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Location({})", self.place())
    }
}

struct Migrations(fn() -> Vec<Box<dyn MigrationTrait>>);

#[async_trait::async_trait]
impl MigratorTraitSelf for Migrations {
    fn migrations(&self) -> Vec<Box<dyn MigrationTrait>> {
        let mut all = migration::runtime();
        all.extend((self.0)());
        all
    }

    /// Those of the next version are left out, which this one can work with: so an instance
    /// that is still to be upgraded may be started again, and an upgrade be taken back.
    async fn get_migration_models<C>(&self, db: &C) -> Result<Vec<seaql_migrations::Model>, DbErr>
    where
        C: ConnectionTrait,
    {
        self.install(db).await?;
        let known = self.migrations();
        let known: HashSet<&str> = known.iter().map(|migration| migration.name()).collect();
        let mut applied = seaql_migrations::Entity::find().all(db).await?;
        applied.retain(|one| known.contains(one.version.as_str()));
        Ok(applied)
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
            // Without the line of the server's source.
            sea_orm::SqlxError::Database(said) => said.message().to_owned(),
            sea_orm::SqlxError::Io(error) => match error.kind() {
                std::io::ErrorKind::NotFound => {
                    "a file that sslrootcert, sslcert or sslkey names is not there".to_owned()
                }
                // What the server sent is not believed.
                std::io::ErrorKind::InvalidData => {
                    format!("{error}: sslrootcert and the host must be those of its certificate")
                }
                _ => error.to_string(),
            },
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
            meters: Meters::default(),
            _lock: lock,
        };
        database.migrate(service, migrations).await?;
        database
            .read_clock()
            .await
            .map_err(|e| unreachable(e.to_string()))?;
        Ok(database)
    }

    /// Opens a database to read it, whoever else uses it: nothing in it is changed, not
    /// even its tables.
    ///
    /// # Errors
    /// When it is not there, or cannot be read.
    pub async fn open_to_read(service: &str, location: &Location) -> Result<Self, DatabaseError> {
        let unreachable = |error: sea_orm::DbErr| DatabaseError::Unreachable {
            service: service.to_owned(),
            place: location.place(),
            detail: why(&error),
        };
        let reader = match location {
            Location::Sqlite(file) if !file.is_file() => {
                return Err(DatabaseError::Missing {
                    service: service.to_owned(),
                    path: file.clone(),
                });
            }
            Location::Sqlite(file) => read_sqlite(file).await,
            Location::Postgres(url) => connect_postgres(service, url).await,
        };
        let reader = reader.map_err(unreachable)?;
        Ok(Self {
            writer: reader.clone(),
            reader,
            clock: Clock::at(clock::wall()),
            hints: None,
            meters: Meters::default(),
            _lock: None,
        })
    }

    /// Looks whether a PostgreSQL database answers.
    ///
    /// # Errors
    /// When it does not, or refuses.
    pub async fn reach(service: &str, location: &Location) -> Result<(), DatabaseError> {
        let Location::Postgres(url) = location else {
            return Ok(());
        };
        let connected = connect_postgres(service, url).await;
        let pool = connected.map_err(|error| DatabaseError::Unreachable {
            service: service.to_owned(),
            place: location.place(),
            detail: why(&error),
        })?;
        let _ = pool.close().await;
        Ok(())
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
            // Changing large tables, and waiting for who does, takes as long as it takes.
            let patient = "SET LOCAL statement_timeout = 0";
            tx.execute_unprepared(patient).await.map_err(failed)?;
            // Several instances may start at once: the second waits, and finds nothing to do.
            let lock = "SELECT pg_advisory_xact_lock(7249001)";
            tx.execute_unprepared(lock).await.map_err(failed)?;
        }
        Migrations(migrations).up(&tx, None).await.map_err(failed)?;
        tx.commit().await.map_err(failed)
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

async fn read_sqlite(file: &Path) -> Result<DatabaseConnection, sea_orm::DbErr> {
    let mut options = ConnectOptions::new(format!("sqlite://{}?mode=ro", file.display()));
    options.max_connections(2).sqlx_logging(false);
    options.map_sqlx_sqlite_opts(|sqlite| {
        sqlite
            .read_only(true)
            .busy_timeout(Duration::from_secs(3))
            .disable_statement_logging()
    });
    sea_orm::Database::connect(options).await
}

async fn connect_postgres(service: &str, url: &str) -> Result<DatabaseConnection, sea_orm::DbErr> {
    let name = format!("ensemble-{service}");
    let mut options = ConnectOptions::new(url);
    options
        // They are used in turn, and each has plans and caches of its own in the server: with
        // eight, an order costs 4 % more.
        .max_connections(4)
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
                    // That plan goes by the keys of the batch. A plan that was made while the
                    // tables were small would read all of them instead, for as long as the
                    // connection lives.
                    ("enable_seqscan", "off"),
                    ("enable_hashjoin", "off"),
                    ("enable_mergejoin", "off"),
                ])
                .disable_statement_logging()
        });
    sea_orm::Database::connect(options).await
}

#[cfg(all(test, feature = "fixtures"))]
mod tests {
    use crate::database::fixture::{IDLE, on_each_database};

    #[tokio::test]
    async fn tables_that_the_next_version_has_brought_up_to_date_are_worked_with() {
        on_each_database(&IDLE, async |database| {
            let next =
                "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_next', 0)";
            database.execute(next, vec![]).await.expect("noted");
            let again = database.migrate(IDLE.name, IDLE.migrations).await;
            again.expect("nothing is to be done");
        })
        .await;
    }
}
