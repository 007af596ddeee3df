//! The PostgreSQL server under a bench: which process it is, how it is set, and the
//! databases that a run makes and removes.

use std::fs;
use std::time::Duration;

use sea_orm::{ConnectOptions, ConnectionTrait as _, DatabaseConnection, DbBackend, Statement};

use crate::SERVICES;

const NAME: &str = "ensemble_bench";
const SETTINGS: [&str; 5] = [
    "server_version",
    "synchronous_commit",
    "fsync",
    "shared_buffers",
    "max_wal_size",
];

/// A connection to the server's own database.
pub(super) struct Server {
    connection: DatabaseConnection,
    // Without a database, and the options behind it.
    address: String,
    options: String,
    name: String,
}

impl Server {
    /// Connects to `postgres://USER@HOST/NAME`; the databases are called after NAME.
    pub(super) async fn connect(url: &str) -> Result<Self, String> {
        if url.contains("{service}") {
            let wrong = "a bench makes databases of its own: give --database-url a server";
            return Err(format!("{wrong}, like postgres://postgres@127.0.0.1/bench"));
        }
        let (whole, options) = match url.split_once('?') {
            Some((whole, options)) => (whole, format!("?{options}")),
            None => (url, String::new()),
        };
        let (scheme, rest) = whole.split_once("://").unwrap_or(("postgres", whole));
        let (host, name) = rest.split_once('/').unwrap_or((rest, ""));
        let address = format!("{scheme}://{host}");
        let mut connect = ConnectOptions::new(format!("{address}/postgres{options}"));
        connect
            .max_connections(1)
            .connect_timeout(Duration::from_secs(3))
            .sqlx_logging(false);
        let connection = sea_orm::Database::connect(connect).await;
        Ok(Self {
            connection: connection
                .map_err(|error| format!("PostgreSQL: {error}; check --database-url"))?,
            address,
            options,
            name: if name.is_empty() { NAME } else { name }.to_owned(),
        })
    }

    /// The URL for the services of a run, after a look that its databases are not there.
    pub(super) async fn url_for(&self, run: u32) -> Result<String, String> {
        for database in self.databases(run) {
            let sql = "SELECT datname AS text FROM pg_database WHERE datname = $1";
            if self
                .text(sql, vec![database.clone().into()])
                .await?
                .is_some()
            {
                return Err(format!(
                    "there is a database {database} already: drop it, or give --database-url \
                     another name"
                ));
            }
        }
        let Self {
            address,
            name,
            options,
            ..
        } = self;
        Ok(format!("{address}/{name}{run}{options}"))
    }

    /// Removes what a run has made.
    pub(super) async fn drop_databases(&self, run: u32) -> Result<(), String> {
        for database in self.databases(run) {
            let quoted = database.replace('"', "\"\"");
            let sql = format!("DROP DATABASE IF EXISTS \"{quoted}\" WITH (FORCE)");
            let dropped = self.connection.execute_unprepared(&sql).await;
            dropped.map_err(|error| format!("cannot drop {database}: {error}"))?;
        }
        Ok(())
    }

    fn databases(&self, run: u32) -> Vec<String> {
        let names = SERVICES.iter().map(|service| service.name);
        names
            .map(|service| format!("{}{run}_{service}", self.name))
            .collect()
    }

    /// The settings that a result depends on.
    pub(super) async fn settings(&self) -> Result<Vec<(&'static str, String)>, String> {
        let mut settings = Vec::new();
        for name in SETTINGS {
            let sql = "SELECT current_setting($1) AS text";
            let value = self.text(sql, vec![name.into()]).await?;
            settings.push((name, value.unwrap_or_default()));
        }
        Ok(settings)
    }

    /// The server's first process, when it runs on this machine.
    pub(super) async fn postmaster(&self) -> Result<Option<u32>, String> {
        let sql = "SELECT CAST(pg_backend_pid() AS TEXT) AS text";
        let backend = self.text(sql, vec![]).await?;
        Ok(backend.and_then(|pid| parent_of_postgres(&pid)))
    }

    async fn text(&self, sql: &str, values: Vec<sea_orm::Value>) -> Result<Option<String>, String> {
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        let failed = |error: sea_orm::DbErr| format!("PostgreSQL: {error}");
        let row = self
            .connection
            .query_one_raw(statement)
            .await
            .map_err(failed)?;
        row.map(|row| row.try_get("", "text"))
            .transpose()
            .map_err(failed)
    }
}

/// A process id of a server elsewhere may belong to any program here.
fn parent_of_postgres(pid: &str) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let is_postgres = field("Name:")?.trim().starts_with("postgres");
    let parent = field("PPid:")?.trim().parse().ok()?;
    is_postgres.then_some(parent)
}
