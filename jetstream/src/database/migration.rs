//! The tables that the runtime keeps in every service's database.

use sea_orm_migration::prelude::*;

/// The runtime's own migrations; they run before those of the service.
pub(crate) fn runtime() -> Vec<Box<dyn MigrationTrait>> {
    vec![
        Box::new(RuntimeTables),
        Box::new(IdempotencyKeys),
        Box::new(Published),
        Box::new(Late),
        Box::new(Compared),
        Box::new(ComparedAll),
        Box::new(Instances),
    ]
}

/// Runs the statements of a migration, one after another.
///
/// `{id}` is the type of a UUID and `{bytes}` that of bytes: the two types that the
/// databases name differently. `{nil}` is the UUID that means none. `{room}`, behind a table
/// whose rows change soon after they came, leaves room for that beside them: PostgreSQL
/// writes a changed row anew, and need not touch the indexes when the new one fits into the
/// same page.
///
/// # Errors
/// What the database says.
pub async fn run(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    let backend = manager.get_database_backend();
    let (id, bytes, room) = match backend {
        sea_orm::DbBackend::Postgres => ("UUID", "BYTEA", "WITH (fillfactor = 50)"),
        _ => ("BLOB", "BLOB", ""),
    };
    for statement in statements {
        let sql = statement.replace("{id}", id).replace("{bytes}", bytes);
        let sql = sql.replace("{room}", room).replace("{nil}", nil(backend));
        manager.get_connection().execute_unprepared(&sql).await?;
    }
    Ok(())
}

/// The UUID that means none, in the words of a database.
pub(crate) fn nil(backend: sea_orm::DbBackend) -> &'static str {
    match backend {
        sea_orm::DbBackend::Postgres => "'00000000-0000-0000-0000-000000000000'",
        _ => "x'00000000000000000000000000000000'",
    }
}

struct RuntimeTables;

impl MigrationName for RuntimeTables {
    fn name(&self) -> &'static str {
        "m0001_runtime"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for RuntimeTables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(
            manager,
            &[
                // Events that this service decided. Rows are kept after publishing, so that
                // what a broker lost can be said again. `causation` is all zeroes, and
                // `traceparent`, `turn` and `refused` are empty, where there is none;
                // `refused` says why the broker will never take the event.
                "CREATE TABLE outbox (
                    pseq BIGINT PRIMARY KEY,
                    event_id {id} NOT NULL UNIQUE,
                    subject TEXT NOT NULL,
                    aggregate TEXT NOT NULL,
                    correlation {id} NOT NULL,
                    causation {id} NOT NULL,
                    traceparent TEXT NOT NULL,
                    turn TEXT NOT NULL,
                    decided_at BIGINT NOT NULL,
                    body {bytes} NOT NULL,
                    published_at BIGINT,
                    refused TEXT NOT NULL DEFAULT ''
                )",
                "CREATE INDEX outbox_unpublished ON outbox (pseq)
                 WHERE published_at IS NULL AND refused = ''",
                "CREATE INDEX outbox_correlation ON outbox (correlation)",
                // The last number given to an event of this service; one row.
                "CREATE TABLE producer (
                    one INTEGER PRIMARY KEY CHECK (one = 1),
                    pseq BIGINT NOT NULL
                )",
                "INSERT INTO producer (one, pseq) VALUES (1, 0)",
                // Inbox: events that have had their effect, where no row of the service
                // itself proves it.
                "CREATE TABLE processed_events (
                    consumer TEXT NOT NULL,
                    event_id {id} NOT NULL,
                    processed_at BIGINT NOT NULL,
                    PRIMARY KEY (consumer, event_id)
                )",
                // Events that failed, and how often: the count must survive a restart, and the
                // broker's own falls back.
                "CREATE TABLE failures (
                    consumer TEXT NOT NULL,
                    event_id TEXT NOT NULL,
                    times BIGINT NOT NULL,
                    failed_at BIGINT NOT NULL,
                    PRIMARY KEY (consumer, event_id)
                )",
                // Events that could not be handled (origin CONSUMER) or published (OUTBOX),
                // with all that is needed to try again.
                "CREATE TABLE dead_letters (
                    id {id} PRIMARY KEY,
                    origin TEXT NOT NULL CHECK (origin IN ('CONSUMER', 'OUTBOX')),
                    event_id TEXT NOT NULL,
                    subject TEXT NOT NULL,
                    headers TEXT NOT NULL,
                    payload {bytes} NOT NULL,
                    stream_sequence BIGINT NOT NULL,
                    correlation TEXT NOT NULL,
                    kind TEXT NOT NULL,
                    reason TEXT NOT NULL,
                    attempts BIGINT NOT NULL,
                    state TEXT NOT NULL CHECK (state IN ('OPEN', 'REDRIVEN', 'DISCARDED')),
                    died_at BIGINT NOT NULL,
                    resolved_at BIGINT NOT NULL DEFAULT 0
                )",
                // Events of this service in the stream that its database does not know, and
                // that a person has accepted: the database had been set back.
                "CREATE TABLE accepted_events (
                    event_id {id} PRIMARY KEY,
                    pseq BIGINT NOT NULL,
                    accepted_at BIGINT NOT NULL
                )",
                // What people did by hand: rows are only added.
                "CREATE TABLE audit (
                    id {id} PRIMARY KEY,
                    done_at BIGINT NOT NULL,
                    who TEXT NOT NULL,
                    action TEXT NOT NULL,
                    target TEXT NOT NULL,
                    reason TEXT NOT NULL,
                    before TEXT NOT NULL,
                    after TEXT NOT NULL
                )",
            ],
        )
        .await
    }
}

// A step of its own: databases from before it are brought up to date.
struct IdempotencyKeys;

impl MigrationName for IdempotencyKeys {
    fn name(&self) -> &'static str {
        "m0002_idempotency_keys"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for IdempotencyKeys {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(
            manager,
            &[
                // Requests that had an effect, with what was answered; written with the effect.
                "CREATE TABLE idempotency_keys (
                    user_id TEXT NOT NULL,
                    route TEXT NOT NULL,
                    key TEXT NOT NULL,
                    request_hash {bytes} NOT NULL,
                    status BIGINT NOT NULL,
                    answer TEXT NOT NULL,
                    at BIGINT NOT NULL,
                    PRIMARY KEY (user_id, route, key)
                )",
                "CREATE INDEX idempotency_keys_at ON idempotency_keys (at)",
            ],
        )
        .await
    }
}

struct Published;

impl MigrationName for Published {
    fn name(&self) -> &'static str {
        "m0003_published"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Published {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(
            manager,
            &[
                // The rows of the outbox that the broker has acknowledged, and where it said
                // that they stand in the stream (0: not known). A table of its own, because a
                // new narrow row costs a fraction of a new version of a wide one.
                "CREATE TABLE published (
                    pseq BIGINT PRIMARY KEY,
                    published_at BIGINT NOT NULL,
                    stream_sequence BIGINT NOT NULL
                )",
                "INSERT INTO published (pseq, published_at, stream_sequence)
                 SELECT pseq, published_at, 0 FROM outbox WHERE published_at IS NOT NULL",
                "DROP INDEX outbox_unpublished",
                "ALTER TABLE outbox DROP COLUMN published_at",
                // Up to this number everything is published, or refused by the broker (or late,
                // see below); one row.
                "CREATE TABLE relayed (
                    one INTEGER PRIMARY KEY CHECK (one = 1),
                    up_to BIGINT NOT NULL
                )",
                "INSERT INTO relayed (one, up_to) VALUES (1, 0)",
            ],
        )
        .await
    }
}

struct Late;

impl MigrationName for Late {
    fn name(&self) -> &'static str {
        "m0004_late"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Late {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(
            manager,
            &[
                // 1: looked at by the sweep wherever it stands. A row that stays unpublished is
                // late, and so is one that the broker had refused and is to take after all.
                "ALTER TABLE outbox ADD COLUMN late BIGINT NOT NULL DEFAULT 0",
                "CREATE INDEX outbox_late ON outbox (pseq) WHERE late = 1",
            ],
        )
        .await
    }
}

struct Compared;

impl MigrationName for Compared {
    fn name(&self) -> &'static str {
        "m0005_compared"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Compared {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(
            manager,
            &[
                // Up to this number everything was compared with the stream, or was decided
                // before this column came.
                "ALTER TABLE relayed ADD COLUMN compared BIGINT NOT NULL DEFAULT 0",
                "UPDATE relayed SET compared = coalesce((SELECT max(pseq) FROM outbox), 0)",
            ],
        )
        .await
    }
}

struct ComparedAll;

impl MigrationName for ComparedAll {
    fn name(&self) -> &'static str {
        "m0006_compared_all"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for ComparedAll {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(
            manager,
            &[
                // When all that the stream still keeps was compared with it; 0: never.
                "ALTER TABLE relayed ADD COLUMN compared_all_at BIGINT NOT NULL DEFAULT 0",
            ],
        )
        .await
    }
}

struct Instances;

impl MigrationName for Instances {
    fn name(&self) -> &'static str {
        "m0007_instances"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Instances {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(
            manager,
            &[
                // Which instances of the service run, and when they last said so. PostgreSQL
                // only: an SQLite file is open in one process.
                "CREATE TABLE instances (
                    id {id} PRIMARY KEY,
                    seen_at BIGINT NOT NULL
                ) {room}",
            ],
        )
        .await
    }
}
