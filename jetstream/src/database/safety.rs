//! What a database says of how safe its commits are, and of the time.

use sea_orm::DbBackend;
use serde_json::{Map, Value, json};

use crate::clock;
use crate::database::Database;
use crate::fault::Fault;

impl Database {
    /// What it is, and the settings that what is committed rests on.
    ///
    /// # Errors
    /// When the database is away.
    pub(crate) async fn safety(&self) -> Result<Value, Fault> {
        let (kind, settings) = match self.backend() {
            DbBackend::Postgres => ("postgres", self.postgres_settings().await?),
            _ => ("sqlite", self.sqlite_settings().await?),
        };
        Ok(json!({
            "kind": kind,
            "settings": settings,
            // The clock that deadlines are times of.
            "time": clock::rfc3339(self.clock().now()),
        }))
    }

    async fn postgres_settings(&self) -> Result<Map<String, Value>, Fault> {
        let sql = "SELECT name, setting FROM pg_settings
                   WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')";
        let mut settings = Map::new();
        for row in self.query(sql, vec![]).await? {
            let (name, setting): (String, String) =
                (row.try_get("", "name")?, row.try_get("", "setting")?);
            settings.insert(name, setting.into());
        }
        Ok(settings)
    }

    async fn sqlite_settings(&self) -> Result<Map<String, Value>, Fault> {
        let mut settings = Map::new();
        for row in self.query("PRAGMA synchronous", vec![]).await? {
            let level: i64 = row.try_get("", "synchronous")?;
            settings.insert("synchronous".to_owned(), level.to_string().into());
        }
        for row in self.query("PRAGMA journal_mode", vec![]).await? {
            let mode: String = row.try_get("", "journal_mode")?;
            settings.insert("journal_mode".to_owned(), mode.into());
        }
        Ok(settings)
    }
}
