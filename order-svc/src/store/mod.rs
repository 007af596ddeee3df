//! How orders, and what order knows from events, are kept.

pub(crate) mod known;
pub(crate) mod orders;
