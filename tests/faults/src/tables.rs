//! The services' databases, as the runs look into them and spoil them.

use jetstream::Database;
use jetstream::database::Location;
use sea_orm::{ConnectionTrait as _, QueryResult};
use uuid::Uuid;

use crate::stage::{Outcome, Stage};

impl Stage {
    /// Runs statements in the database of a service, behind its back.
    pub(crate) async fn execute(&self, service: &str, sql: &str) -> Outcome {
        let Location::Postgres(url) = self.location(service) else {
            return Err("only PostgreSQL is changed behind a service's back".to_owned());
        };
        let database = sea_orm::Database::connect(url).await;
        let database = database.map_err(|e| e.to_string())?;
        let executed = database.execute_unprepared(sql).await;
        let _ = database.close().await;
        executed.map(drop).map_err(|e| format!("{service}: {e}"))
    }

    /// A number that a query returns as `n`.
    pub(crate) async fn number(&self, service: &str, sql: &str) -> Outcome<i64> {
        let rows = self.rows(service, sql).await?;
        let row = rows.first().ok_or("the query returns nothing")?;
        row.try_get("", "n").map_err(|e| e.to_string())
    }

    /// Ids that a query returns as `id`.
    pub(crate) async fn ids(&self, service: &str, sql: &str) -> Outcome<Vec<Uuid>> {
        let rows = self.rows(service, sql).await?;
        let id = |row: &QueryResult| row.try_get("", "id").map_err(|e| e.to_string());
        rows.iter().map(id).collect()
    }

    async fn rows(&self, service: &str, sql: &str) -> Outcome<Vec<QueryResult>> {
        let found = ensemble::SERVICES.iter().find(|s| s.name == service);
        let name = found.map_or("", |service| service.name);
        let database = Database::open_to_read(name, &self.location(service)).await;
        let database = database.map_err(|e| e.to_string())?;
        let rows = database.query(sql, vec![]).await;
        database.close().await;
        rows.map_err(|fault| fault.to_string())
    }
}
