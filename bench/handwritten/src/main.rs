//! The flow of an order as choreography is usually written by hand: one transaction for
//! each event, which is published, and awaited, before its cause is acked.
//!
//! Five services in one process, a database each, on one stream. It is meant to be good of
//! its kind: an inbox that keeps the reply (so a redelivery says the same again under the
//! same id), prepared statements, set-based lines, pooled connections, several handlers at
//! once in each service. It has no authentication and no traces, which is in its favour.

mod events;
mod orders;
mod participants;
mod services;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use clap::Parser;
use serde_json::{Value, json};
use shop::{Databases, Order, Size, Step};

use orders::Orders;
use participants::Participant;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
struct Args {
    /// Address and port of the HTTP API
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The broker
    #[arg(long)]
    nats_url: String,
    /// PostgreSQL server; its databases `handwritten_*` are made anew
    #[arg(long)]
    database_url: String,
    /// Events that each service handles at once
    #[arg(long, default_value_t = 16)]
    handlers: usize,
    /// Connections of each service to its database
    #[arg(long, default_value_t = 16)]
    connections: u32,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let args = Args::parse();
    let databases = Databases::create(&args.database_url, "handwritten", args.connections).await?;
    let broker = services::connect(&args.nats_url).await?;
    let orders = Arc::new(Orders::new(databases.order.clone(), broker.clone()));
    services::start(&broker, orders.clone(), args.handlers).await?;
    for step in Step::ALL {
        let participant = Participant::new(step, databases.of(step).clone());
        services::start(&broker, Arc::new(participant), args.handlers).await?;
    }
    tokio::spawn(orders.clone().sweep());
    let app = Router::new()
        .route("/orders", post(place))
        .route("/shop", post(fill))
        .with_state((orders, databases));
    let listener = tokio::net::TcpListener::bind(args.listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

type Shared = (Arc<Orders>, Databases);

async fn place(
    State((orders, _)): State<Shared>,
    Json(order): Json<Order>,
) -> Result<Json<Value>, (StatusCode, String)> {
    let state = orders.place(order).await.map_err(failed)?;
    Ok(Json(json!({ "state": state })))
}

async fn fill(
    State((_, databases)): State<Shared>,
    Json(size): Json<Size>,
) -> Result<Json<Value>, (StatusCode, String)> {
    databases
        .fill(size)
        .await
        .map_err(|error| failed(error.into()))?;
    Ok(Json(json!({})))
}

fn failed(error: Error) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
