//! What operators look at and repair, and the record of it.

pub mod audit;
pub(crate) mod routes;
