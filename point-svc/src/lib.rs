//! Point: holds the points that pay an order, and keeps every user's account.
//!
//! It takes the step `point`. `subscriptions` says what it listens to, `domain` what it
//! decides, `store` how it is kept.

mod api;
pub mod domain;
mod given;
pub mod invariants;
mod migration;
mod store;
mod subscriptions;

use jetstream::Service;

/// The service, to be started alone or beside others.
pub const SERVICE: Service = Service {
    name: "point",
    migrations: migration::all,
    subscriptions: subscriptions::all,
    routes: api::routes,
    given: given::take,
};
