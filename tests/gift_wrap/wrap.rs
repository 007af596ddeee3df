//! A fifth participant: wraps what is ordered, as long as there is paper.
//!
//! This and its entry in the list of steps are all there is to it: no other service's
//! code knows of it.

use axum::Json;
use events::hold::Hold;
use events::{OrderContext, Refusal, Step};
use jetstream::database::migration;
use jetstream::hearing::participant::{self, HOLDS, Participant};
use jetstream::hearing::subscription::Subscription;
use jetstream::http::Routes;
use jetstream::http::auth::Caller;
use jetstream::replay::given;
use jetstream::{Fault, Problem, Service, Settings, Shell, Tx};
use sea_orm_migration::prelude::*;

pub(crate) const SERVICE: Service = Service {
    name: "wrap",
    migrations: || vec![Box::new(Tables)],
    subscriptions,
    routes,
    given: given::nothing,
};

struct Tables;

impl MigrationName for Tables {
    fn name(&self) -> &'static str {
        "m0001_wrap"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Tables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let paper = "CREATE TABLE paper (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            sheets BIGINT NOT NULL CHECK (sheets >= 0)
        )";
        let sheets = "INSERT INTO paper (one, sheets) VALUES (1, 100)";
        migration::run(manager, &[paper, sheets, HOLDS]).await
    }
}

fn subscriptions(settings: &Settings) -> Vec<Subscription> {
    vec![participant::subscription(Wrap, &settings.flows)]
}

pub(crate) struct Wrap;

impl Participant for Wrap {
    const STEP: Step = Step::GIFT_WRAP;
    /// Sheets of paper, one for each unit.
    type Held = i64;
    /// Sheets that are left.
    type Resources = i64;

    async fn load(&self, tx: &Tx, _: &[&OrderContext]) -> Result<i64, Fault> {
        let sql = format!("SELECT sheets FROM paper {}", tx.for_update());
        let rows = tx.query(&sql, vec![]).await?;
        Ok(rows[0].try_get("", "sheets")?)
    }

    fn hold(&self, sheets: &mut i64, order: &OrderContext, _: i64) -> Result<i64, Refusal> {
        let units = order.lines.iter().map(|line| line.quantity).sum();
        if *sheets < units {
            return Err(Refusal::new("OUT_OF_PAPER"));
        }
        *sheets -= units;
        Ok(units)
    }

    fn release(&self, sheets: &mut i64, _: &OrderContext, held: &i64, _: Hold) {
        *sheets += held;
    }

    fn settle(&self, _: &mut i64, _: &OrderContext, _: &i64) {}

    async fn save(&self, tx: &Tx, sheets: i64) -> Result<(), Fault> {
        let sql = "UPDATE paper SET sheets = $1";
        tx.execute(sql, vec![sheets.into()]).await?;
        Ok(())
    }
}

fn routes() -> Routes {
    Routes::about("wrap", "Gift wrap")
        .get("/wrap", sheets, "Say how much paper is left")
        .with(Shell::clone)
}

async fn sheets(caller: Caller) -> Result<Json<i64>, Problem> {
    let sql = "SELECT sheets FROM paper";
    let rows = caller.query_public(sql, vec![]).await?;
    let sheets = rows[0].try_get("", "sheets").map_err(Fault::from)?;
    Ok(Json(sheets))
}
