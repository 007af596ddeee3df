//! Order: accepts orders, joins the answers of the steps, and decides.
//!
//! It calls nobody and is called by nobody: it says that an order was created, and
//! listens. `subscriptions` says what it listens to, `domain` what it decides, `store`
//! how it is kept.

mod api;
mod canceling;
pub mod domain;
mod given;
pub mod invariants;
mod migration;
mod placing;
mod store;
mod subscriptions;
mod timers;

use jetstream::Service;

/// The subjects, outside the stream, on which it hints that an order has changed.
pub const HINTS: &str = "notify.order.>";

/// The service, to be started alone or beside others.
pub const SERVICE: Service = Service {
    name: "order",
    migrations: migration::all,
    subscriptions: subscriptions::all,
    routes: api::routes,
    given: given::take,
};
