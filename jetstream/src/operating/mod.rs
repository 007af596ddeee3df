//! What operators look at and repair, the record of it, what is measured, and what must hold.

pub mod audit;
pub mod evidence;
pub mod invariants;
pub mod metrics;
pub(crate) mod pruning;
pub(crate) mod routes;
pub(crate) mod sample;
mod views;
