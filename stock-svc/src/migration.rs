//! Stock's tables.

use jetstream::hearing::participant::HOLDS;
use sea_orm_migration::prelude::*;

pub(crate) fn all() -> Vec<Box<dyn MigrationTrait>> {
    vec![Box::new(Tables)]
}

struct Tables;

impl MigrationName for Tables {
    fn name(&self) -> &'static str {
        "m0001_stock"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Tables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let products = "CREATE TABLE products (
            product_id {id} PRIMARY KEY,
            name TEXT NOT NULL,
            option TEXT NOT NULL,
            price BIGINT NOT NULL CHECK (price >= 0),
            price_version BIGINT NOT NULL CHECK (price_version >= 1),
            previous_price BIGINT NOT NULL,
            replaced_at BIGINT NOT NULL,
            initial_stock BIGINT NOT NULL CHECK (initial_stock >= 0),
            restocked_total BIGINT NOT NULL CHECK (restocked_total >= 0),
            available BIGINT NOT NULL CHECK (available >= 0),
            held BIGINT NOT NULL CHECK (held >= 0),
            settled BIGINT NOT NULL CHECK (settled >= 0),
            said_at BIGINT NOT NULL,
            created_at BIGINT NOT NULL,
            CHECK (initial_stock + restocked_total = available + held + settled)
        ) {room}";
        jetstream::database::migration::run(manager, &[products, HOLDS]).await
    }
}
