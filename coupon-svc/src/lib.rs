//! Coupon: gives coupons out, first come, first served, and holds the one that an order
//! is priced with.
//!
//! It takes the step `coupon`. `subscriptions` says what it listens to, `domain` what it
//! decides, `store` how it is kept; `issuing` gives coupons out in groups.

mod api;
pub mod domain;
mod given;
pub mod invariants;
mod issuing;
mod migration;
mod restate;
mod store;
mod subscriptions;

use jetstream::Service;

/// The service, to be started alone or beside others.
pub const SERVICE: Service = Service {
    name: "coupon",
    migrations: migration::all,
    subscriptions: subscriptions::all,
    routes: api::routes,
    given: given::take,
};
