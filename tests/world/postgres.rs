//! Databases of a test's own, on the PostgreSQL server that the set-up started.

use sea_orm::ConnectionTrait as _;

use crate::Backend;

/// The `--database-url` of a test on this backend.
///
/// # Panics
/// When there is no PostgreSQL server for tests.
#[must_use]
pub fn database_url(backend: Backend) -> Option<String> {
    match backend {
        Backend::Sqlite => None,
        Backend::Postgres => Some(url()),
    }
}

/// Drops the databases of all services.
pub async fn forget_databases(url: Option<String>) {
    if let Some(url) = url {
        let of = |service: &jetstream::Service| format!("{url}_{}", service.name);
        drop(ensemble::SERVICES.iter().map(of).collect()).await;
    }
}

/// The `--database-url` of a test: nobody else has these names.
fn url() -> String {
    let server = std::env::var(jetstream::database::fixture::POSTGRES).unwrap_or_else(|_| {
        panic!(
            "{} names no PostgreSQL server: run the tests with `cargo xtask test`",
            jetstream::database::fixture::POSTGRES
        )
    });
    let name = jetstream::clock::new_id().simple().to_string();
    format!("{}/t{name}", server.trim_end_matches('/'))
}

/// Drops the databases of these URLs.
pub(crate) async fn drop(mut urls: Vec<String>) {
    urls.sort();
    urls.dedup();
    let Some((server, _)) = urls.first().and_then(|url| url.rsplit_once('/')) else {
        return;
    };
    let admin = sea_orm::Database::connect(format!("{server}/postgres"))
        .await
        .expect("PostgreSQL answers");
    for url in &urls {
        let name = url.rsplit('/').next().unwrap_or_default();
        let drop = format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)");
        admin.execute_unprepared(&drop).await.expect("dropped");
    }
}
