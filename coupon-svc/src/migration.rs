//! Coupon's tables.

use jetstream::hearing::participant::HOLDS;
use sea_orm_migration::prelude::*;

pub(crate) fn all() -> Vec<Box<dyn MigrationTrait>> {
    vec![
        Box::new(Tables),
        Box::new(FewerIndexes),
        Box::new(NoIndexOfWhatChanges),
    ]
}

struct Tables;

impl MigrationName for Tables {
    fn name(&self) -> &'static str {
        "m0001_coupon"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Tables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // `expires_at` is 0 for what never expires.
        let campaigns = "CREATE TABLE campaigns (
            campaign_id {id} PRIMARY KEY,
            name TEXT NOT NULL,
            discount TEXT NOT NULL,
            min_total BIGINT NOT NULL CHECK (min_total >= 0),
            quantity BIGINT NOT NULL,
            issued BIGINT NOT NULL,
            expires_at BIGINT NOT NULL,
            said_at BIGINT NOT NULL,
            created_at BIGINT NOT NULL,
            CHECK (0 <= issued AND issued <= quantity)
        )";
        // The terms are copied: a coupon keeps what it was given with. `order_id` is all
        // zeroes while the coupon is available.
        let coupons = "CREATE TABLE coupons (
            coupon_id {id} PRIMARY KEY,
            campaign_id {id} NOT NULL,
            user_id TEXT NOT NULL,
            discount TEXT NOT NULL,
            min_total BIGINT NOT NULL CHECK (min_total >= 0),
            expires_at BIGINT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('AVAILABLE', 'HELD', 'USED')),
            order_id {id} NOT NULL,
            said_at BIGINT NOT NULL,
            issued_at BIGINT NOT NULL,
            UNIQUE (campaign_id, user_id)
        ) {room}";
        let of_user = "CREATE INDEX coupons_user ON coupons (user_id, coupon_id)";
        let of_order = "CREATE UNIQUE INDEX coupons_order ON coupons (order_id)
                        WHERE state <> 'AVAILABLE'";
        let said = "CREATE INDEX coupons_said ON coupons (said_at) WHERE state <> 'USED'";
        let statements = [campaigns, coupons, of_user, of_order, said, HOLDS];
        jetstream::database::migration::run(manager, &statements).await
    }
}

struct FewerIndexes;

impl MigrationName for FewerIndexes {
    fn name(&self) -> &'static str {
        "m0002_fewer_indexes"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for FewerIndexes {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let statements = [
            // That an order has one coupon is said by its hold, of which there is one.
            "DROP INDEX coupons_order",
            "DROP INDEX coupons_said",
            // `state` is in no index, so that a coupon that is used touches none.
            "CREATE INDEX coupons_said ON coupons (said_at) WHERE order_id = {nil}",
        ];
        jetstream::database::migration::run(manager, &statements).await
    }
}

struct NoIndexOfWhatChanges;

impl MigrationName for NoIndexOfWhatChanges {
    fn name(&self) -> &'static str {
        "m0003_no_index_of_what_changes"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for NoIndexOfWhatChanges {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // A coupon that is held left this one, and so had all of its indexes written.
        let statements = ["DROP INDEX coupons_said"];
        jetstream::database::migration::run(manager, &statements).await
    }
}
