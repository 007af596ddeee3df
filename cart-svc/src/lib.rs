//! Cart: keeps every user's cart, and takes ordered quantities out of it.
//!
//! It takes the step `cart`. `subscriptions` says what it listens to, `domain` what it
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
    name: "cart",
    migrations: migration::all,
    subscriptions: subscriptions::all,
    routes: api::routes,
    given: given::take,
};
