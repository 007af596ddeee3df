//! The scenarios, by what breaks. How to add one is said in [`crate::scenario`].

mod broker;
mod connections;
mod database;
mod delivery;
mod operations;
pub(crate) mod races;
mod services;

use crate::scenario::Scenario;

/// All scenarios, in their order.
pub(crate) fn all() -> Vec<Scenario> {
    let mut all: Vec<Scenario> = [
        services::ALL,
        broker::ALL,
        database::ALL,
        connections::ALL,
        delivery::ALL,
        races::ALL,
        operations::ALL,
    ]
    .concat();
    all.sort_by_key(|scenario| scenario.id[1..].parse::<u32>().unwrap_or(u32::MAX));
    all
}
