//! Stock: holds units of the ordered products, and keeps the price list.
//!
//! It takes the step `stock`. `subscriptions` says what it listens to, `domain` what it
//! decides, `store` how it is kept.

mod api;
pub mod domain;
mod given;
pub mod invariants;
mod migration;
mod restate;
mod store;
mod subscriptions;

use jetstream::Service;

/// The service, to be started alone or beside others.
pub const SERVICE: Service = Service {
    name: "stock",
    migrations: migration::all,
    subscriptions: subscriptions::all,
    routes: api::routes,
    given: given::take,
};
