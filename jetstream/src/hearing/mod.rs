//! Hearing: what a service declares to listen to, and how a batch of events is handled,
//! from the pull to the ack.

pub(crate) mod backlog;
pub(crate) mod batch;
pub(crate) mod consumer;
pub(crate) mod dead_letter;
pub(crate) mod inbox;
#[cfg(feature = "fixtures")]
pub mod laws;
pub mod participant;
pub(crate) mod pull;
pub(crate) mod rank;
pub mod reaction;
#[cfg(feature = "slow-steps")]
mod slow_steps;
pub mod subscription;
