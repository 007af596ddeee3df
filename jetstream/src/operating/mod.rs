//! What operators look at and repair, the record of it, and what is measured.

pub mod audit;
pub mod metrics;
pub(crate) mod routes;
pub(crate) mod sample;
