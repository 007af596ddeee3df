//! The steps of an order as a durable execution: Restate calls this service and journals
//! what each step came to; each step is a transaction in PostgreSQL.
//!
//! What was held is given back in reverse when a step refuses. A step holds for good: with a
//! journal there is nothing to settle, which is in its favour, as is that there is no
//! authentication. The connections have no delay (TCP_NODELAY), which the server of the SDK
//! does not set.

// The macro of the SDK makes methods without docs.
#![allow(missing_docs)]

use std::net::SocketAddr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json as Body, Router};
use clap::Parser;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use restate_sdk::hyper::HyperEndpoint;
use restate_sdk::prelude::*;
use serde_json::{Value, json};
use shop::{Databases, Order, Size, Step};
use tokio::net::TcpListener;

// What the shop asks for: see `shop`.
const PRICE: i64 = 500;
const DISCOUNT: i64 = 100;

#[derive(Parser)]
struct Args {
    /// Address and port that Restate calls
    #[arg(long)]
    listen: SocketAddr,
    /// Address and port where the shop is filled
    #[arg(long)]
    shop: SocketAddr,
    /// PostgreSQL server; its databases `restate_*` are made anew
    #[arg(long)]
    database_url: String,
    /// Connections to each database
    #[arg(long, default_value_t = 16)]
    connections: u32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let databases = Databases::create(&args.database_url, "restate", args.connections).await?;
    let app = Router::new()
        .route("/shop", post(fill))
        .with_state(databases.clone());
    let shop = TcpListener::bind(args.shop).await?;
    tokio::spawn(async move { axum::serve(shop, app).await });
    let endpoint = HyperEndpoint::new(Endpoint::builder().bind(Orders(databases)).build());
    let listener = TcpListener::bind(args.listen).await?;
    println!("listening on http://{}", args.listen);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let served = http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), endpoint.clone());
        tokio::spawn(served);
    }
}

struct Orders(Databases);

#[restate_sdk::service]
impl Orders {
    /// Takes the steps of an order, one after another.
    #[handler]
    async fn place(
        &self,
        ctx: Context<'_>,
        order: Json<Order>,
    ) -> Result<Json<Value>, HandlerError> {
        let mut order = order.into_inner();
        let units: i64 = order.items.iter().map(|item| item.quantity).sum();
        order.total = units * PRICE - DISCOUNT;
        let order = &order;
        let mut held = Vec::new();
        for step in Step::ALL {
            let took = ctx
                .run(|| async move { Ok(self.hold(step, order).await?) })
                .name(step.name())
                .await?;
            if took {
                held.push(step);
                continue;
            }
            for step in held.into_iter().rev() {
                ctx.run(|| async move { Ok(self.release(step, order).await?) })
                    .name(format!("undo {}", step.name()))
                    .await?;
            }
            return Ok(Json(json!({ "state": "CANCELED" })));
        }
        Ok(Json(json!({ "state": "CONFIRMED" })))
    }
}

impl Orders {
    async fn hold(&self, step: Step, order: &Order) -> Result<bool, sqlx::Error> {
        let mut tx = self.0.of(step).begin().await?;
        // A step that is run again, because its journal entry was lost, has its row.
        let sql = "SELECT state FROM holds WHERE order_id = $1";
        if step.hold(&mut tx, order).await? {
            tx.commit().await?;
            return Ok(true);
        }
        tx.rollback().await?;
        let before: Option<String> = sqlx::query_scalar(sql)
            .bind(order.order_id)
            .fetch_optional(self.0.of(step))
            .await?;
        Ok(before.as_deref() == Some("HELD"))
    }

    async fn release(&self, step: Step, order: &Order) -> Result<(), sqlx::Error> {
        let mut tx = self.0.of(step).begin().await?;
        step.release(&mut tx, order).await?;
        tx.commit().await
    }
}

async fn fill(
    State(databases): State<Databases>,
    Body(size): Body<Size>,
) -> Result<Body<Value>, (StatusCode, String)> {
    let filled = databases.fill(size).await;
    filled.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(Body(json!({})))
}
