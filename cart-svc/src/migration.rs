//! Cart's tables.

use jetstream::hearing::participant::HOLDS;
use sea_orm_migration::prelude::*;

pub(crate) fn all() -> Vec<Box<dyn MigrationTrait>> {
    vec![Box::new(Tables)]
}

struct Tables;

impl MigrationName for Tables {
    fn name(&self) -> &'static str {
        "m0001_cart"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Tables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // What is not in a cart has no row, and a row that is not there cannot be locked:
        // whoever changes a cart locks its row here first. `version` counts the locks.
        let carts = "CREATE TABLE carts (
            user_id TEXT PRIMARY KEY,
            version BIGINT NOT NULL
        )";
        let items = "CREATE TABLE items (
            user_id TEXT NOT NULL,
            product_id {id} NOT NULL,
            quantity BIGINT NOT NULL CHECK (quantity > 0),
            PRIMARY KEY (user_id, product_id)
        )";
        jetstream::database::migration::run(manager, &[carts, items, HOLDS]).await
    }
}
