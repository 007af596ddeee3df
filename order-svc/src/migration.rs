//! Order's tables.

use jetstream::http::ticket;
use sea_orm_migration::prelude::*;

pub(crate) fn all() -> Vec<Box<dyn MigrationTrait>> {
    vec![
        Box::new(Tables),
        Box::new(StreamTickets),
        Box::new(GivenUp),
        Box::new(Sequences),
    ]
}

struct Tables;

impl MigrationName for Tables {
    fn name(&self) -> &'static str {
        "m0001_order"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Tables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tables = [
            // `open_slot`: which of the open orders that a user may have this one is; null
            // when it is not open. The unique index is what enforces the cap.
            "CREATE TABLE orders (
                order_id {id} PRIMARY KEY,
                user_id TEXT NOT NULL,
                state TEXT NOT NULL CHECK (state IN ('PENDING', 'CONFIRMED', 'COMPENSATING',
                    'CANCELED', 'COMPENSATION_FAILED')),
                reason TEXT NOT NULL,
                flags TEXT NOT NULL,
                refusals TEXT NOT NULL,
                context {bytes} NOT NULL,
                attempt BIGINT NOT NULL,
                overdue BIGINT NOT NULL,
                due_at BIGINT NOT NULL,
                open_slot BIGINT,
                traceparent TEXT NOT NULL,
                version BIGINT NOT NULL,
                placed_at BIGINT NOT NULL,
                confirmed_at BIGINT NOT NULL,
                updated_at BIGINT NOT NULL,
                CHECK ((state = 'PENDING') <= (open_slot IS NOT NULL)),
                CHECK ((open_slot IS NOT NULL) <= (state IN ('PENDING', 'COMPENSATING'))),
                CHECK ((state IN ('COMPENSATING', 'CANCELED', 'COMPENSATION_FAILED'))
                    = (reason <> ''))
            ) {room}",
            "CREATE UNIQUE INDEX orders_open ON orders (user_id, open_slot)
             WHERE open_slot IS NOT NULL",
            "CREATE INDEX orders_due ON orders (due_at) WHERE due_at > 0",
            "CREATE INDEX orders_of_user ON orders (user_id, order_id)",
            // What order knows from events, to price with.
            "CREATE TABLE price_list (
                product_id {id} PRIMARY KEY,
                price BIGINT NOT NULL CHECK (price >= 0),
                version BIGINT NOT NULL
            )",
            "CREATE TABLE coupons (
                coupon_id {id} PRIMARY KEY,
                user_id TEXT NOT NULL,
                discount TEXT NOT NULL,
                min_total BIGINT NOT NULL,
                expires_at BIGINT NOT NULL
            )",
        ];
        jetstream::database::migration::run(manager, &tables).await
    }
}

struct StreamTickets;

impl MigrationName for StreamTickets {
    fn name(&self) -> &'static str {
        "m0002_stream_tickets"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for StreamTickets {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        jetstream::database::migration::run(manager, &ticket::TABLES).await
    }
}

struct GivenUp;

impl MigrationName for GivenUp {
    fn name(&self) -> &'static str {
        "m0003_given_up"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for GivenUp {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tables = [
            // Few rows, if any: those that wait for a person, counted whenever the metrics
            // are read.
            "CREATE INDEX orders_given_up ON orders (order_id)
             WHERE state = 'COMPENSATION_FAILED'",
        ];
        jetstream::database::migration::run(manager, &tables).await
    }
}

struct Sequences;

impl MigrationName for Sequences {
    fn name(&self) -> &'static str {
        "m0004_heard_sequences"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Sequences {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let changes = [
            // Where the events that the order has heard stand in the stream, each followed by
            // a space: a hint for reading its timeline, never an identity. Added to by the
            // update that hearing makes anyway.
            "ALTER TABLE orders ADD COLUMN heard TEXT NOT NULL DEFAULT ''",
        ];
        jetstream::database::migration::run(manager, &changes).await
    }
}
