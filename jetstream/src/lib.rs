//! The choreography runtime: everything between the pure decisions of the services and
//! NATS, the database and HTTP.
//!
//! One batch, from the stream and back:
//!
//! ```text
//! pull a batch ─► one transaction { load · decide · save · outbox } ─► commit ─► ack
//!  (consumer)      (batch, handlers)                                      └► publish (relay)
//! ```

mod access;
pub mod audit;
pub mod auth;
mod batch;
pub mod broker;
pub mod bulk;
pub mod clock;
pub mod config;
mod consumer;
pub mod database;
mod dead_letter;
pub mod event;
pub mod fault;
mod fence;
#[cfg(feature = "fixtures")]
pub mod fixture;
pub mod guard;
mod hint;
pub mod history;
pub mod host;
pub mod http;
pub mod idempotency;
mod inbox;
pub mod intake;
#[cfg(feature = "fixtures")]
pub mod laws;
pub mod limits;
pub mod local_server;
pub mod migration;
mod missing;
mod operations;
mod outbox;
pub mod page;
pub mod participant;
pub mod reaction;
mod reconcile;
mod relay;
pub mod service;
pub mod subscription;
mod tasks;
pub mod telemetry;
pub mod ticket;
pub mod topology;

pub use database::{Database, Tx};
pub use event::{Delivery, Emission};
pub use fault::Fault;
pub use http::{Body, Problem, Query};
pub use relay::{TRACEPARENT, TURN};
pub use service::{Service, Settings, Shell};
