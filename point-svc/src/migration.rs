//! Point's tables.

use jetstream::hearing::participant::HOLDS;
use sea_orm_migration::prelude::*;

pub(crate) fn all() -> Vec<Box<dyn MigrationTrait>> {
    vec![Box::new(Tables)]
}

struct Tables;

impl MigrationName for Tables {
    fn name(&self) -> &'static str {
        "m0001_point"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Tables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let accounts = "CREATE TABLE accounts (
            user_id TEXT PRIMARY KEY,
            balance BIGINT NOT NULL CHECK (balance >= 0),
            held BIGINT NOT NULL CHECK (held >= 0),
            settled BIGINT NOT NULL CHECK (settled >= 0),
            charged_total BIGINT NOT NULL CHECK (charged_total >= 0),
            CHECK (charged_total = balance + held + settled)
        ) {room}";
        // The ledger of what came in; what went out is in the holds.
        let charges = "CREATE TABLE charges (
            charge_id {id} PRIMARY KEY,
            user_id TEXT NOT NULL,
            amount BIGINT NOT NULL CHECK (amount > 0),
            charged_at BIGINT NOT NULL
        )";
        let by_user = "CREATE INDEX charges_user ON charges (user_id)";
        jetstream::database::migration::run(manager, &[accounts, charges, by_user, HOLDS]).await
    }
}
