//! The choreography without IO, to look at every order in which its events can arrive.
//!
//! What decides is the real code: `events::hold::signal` and `decide`,
//! `events::outcome::make`, order's `Order::hear`, and the four domains. What is left to
//! the model is the rest of the world: who hears what and when, what is heard twice or
//! never, which timer rings, and when a user changes their mind.
//!
//! - [`world`]: the state, and all that can happen next.
//! - [`shop`]: what the steps take from.
//! - [`rules`]: the rules that can be switched off, to see that something breaks.
//! - [`invariants`]: what must hold, always and in the end.
//! - [`fingerprint`]: which states are the same.
//! - [`search`]: breadth first through every state.
//! - [`story`]: a path as something to read.

pub mod fingerprint;
pub mod invariants;
pub mod rules;
pub mod search;
pub mod shop;
pub mod story;
pub mod world;

pub use rules::{Off, Rule};
pub use shop::Shop;
pub use world::{Action, Bounds, World};
