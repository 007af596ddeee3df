//! What order decides: no clock, no IO.

pub mod order;
pub mod pricing;

pub use order::{Answer, Contradiction, Flag, Input, Order, Rules, Say, State};
