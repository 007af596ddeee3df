//! A follower: counts what was sold, in a table of its own.
//!
//! This is all there is to it. It uses nothing but what a newcomer has: the public API
//! of `jetstream` and `events`.

use std::collections::BTreeMap;

use axum::Json;
use events::{ProductId, body, catalog};
use futures::future::BoxFuture;
use jetstream::database::bulk::{Column, Rows};
use jetstream::database::migration;
use jetstream::hearing::subscription::{Handler, Proof, Subscription};
use jetstream::http::Routes;
use jetstream::http::auth::Caller;
use jetstream::replay::given;
use jetstream::{Delivery, Emission, Fault, Problem, Service, Settings, Shell, Tx};
use sea_orm_migration::prelude::*;

pub(crate) const SERVICE: Service = Service {
    name: "ranking",
    migrations: || vec![Box::new(Tables)],
    subscriptions,
    routes,
    given: given::nothing,
};

struct Tables;

impl MigrationName for Tables {
    fn name(&self) -> &'static str {
        "m0001_ranking"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Tables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let sold = "CREATE TABLE sold (
            product_id {id} PRIMARY KEY,
            units BIGINT NOT NULL
        )";
        migration::run(manager, &[sold]).await
    }
}

// order.confirmed ─► the units that were sold
fn subscriptions(_: &Settings) -> Vec<Subscription> {
    let confirmed = catalog::ORDER_CONFIRMED.subject;
    vec![Subscription::new([confirmed], Proof::Inbox, Count)]
}

struct Count;

impl Handler for Count {
    fn handle<'a>(
        &'a self,
        tx: &'a Tx,
        slice: &'a [Delivery],
    ) -> BoxFuture<'a, Result<Vec<Emission>, Fault>> {
        Box::pin(async move {
            let mut units: BTreeMap<ProductId, i64> = BTreeMap::new();
            for delivery in slice {
                let order = body::context(delivery.envelope.body.clone())?;
                for line in &order.lines {
                    *units.entry(line.product_id).or_default() += line.quantity;
                }
            }
            let mut rows = Rows::of(&[("product_id", Column::Id), ("units", Column::Int)]);
            for (product, units) in units {
                rows.push([product.0.into(), units.into()]);
            }
            let sql = "INSERT INTO sold (product_id, units)
                       SELECT product_id, units FROM v WHERE true
                       ON CONFLICT (product_id) DO UPDATE SET units = sold.units + excluded.units";
            tx.run(rows, sql, vec![]).await?;
            Ok(vec![])
        })
    }
}

fn routes() -> Routes {
    Routes::about("ranking", "What sells best")
        .get(
            "/ranking",
            show,
            "Say how many units of each product were sold",
        )
        .with(Shell::clone)
}

async fn show(caller: Caller) -> Result<Json<BTreeMap<String, i64>>, Problem> {
    let sql = "SELECT product_id, units FROM sold";
    let rows = caller.query_public(sql, vec![]).await?;
    let read = rows.iter().map(|row| {
        let product = ProductId(row.try_get("", "product_id")?);
        Ok((product.to_string(), row.try_get("", "units")?))
    });
    Ok(Json(read.collect::<Result<_, Fault>>()?))
}
