//! Databases for tests: SQLite always, PostgreSQL where one is given.

use sea_orm::ConnectionTrait as _;

use crate::clock;
use crate::database::{Database, Location};
use crate::shell::service::Service;

/// The PostgreSQL server for tests, as `postgres://user@host:port`.
pub const POSTGRES: &str = "ENSEMBLE_TEST_POSTGRES";

/// A service that does nothing: its database has what the runtime itself keeps.
#[cfg(test)]
pub(crate) const IDLE: Service = Service {
    name: "test",
    migrations: Vec::new,
    subscriptions: |_| vec![],
    routes: crate::http::Routes::none,
    given: crate::replay::given::nothing,
};

/// Runs a test on a new database of the service: on SQLite, and on PostgreSQL if
/// [`POSTGRES`] names a server.
///
/// # Panics
/// When a database cannot be made.
pub async fn on_each_database(service: &Service, test: impl AsyncFn(&Database)) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let location = Location::Sqlite(folder.path().join("test.db"));
    on(service, &location, &test).await;
    on_postgres(service, test).await;
}

/// Runs a test on a new database of the service on PostgreSQL, if [`POSTGRES`] names a server.
///
/// # Panics
/// When a database cannot be made.
pub async fn on_postgres(service: &Service, test: impl AsyncFn(&Database)) {
    if let Ok(server) = std::env::var(POSTGRES) {
        let server = server.trim_end_matches('/');
        let name = format!("test_{}", clock::new_id().simple());
        let any = format!("{server}/postgres");
        let admin = sea_orm::Database::connect(any)
            .await
            .expect("the PostgreSQL server for tests answers");
        let create = format!("CREATE DATABASE {name}");
        admin.execute_unprepared(&create).await.expect("created");
        let location = Location::Postgres(format!("{server}/{name}"));
        on(service, &location, &test).await;
        let drop = format!("DROP DATABASE {name} WITH (FORCE)");
        admin.execute_unprepared(&drop).await.expect("dropped");
    }
}

async fn on(service: &Service, location: &Location, test: &impl AsyncFn(&Database)) {
    let database = Database::open(service.name, location, service.migrations)
        .await
        .expect("the database opens");
    test(&database).await;
    database.close().await;
}
