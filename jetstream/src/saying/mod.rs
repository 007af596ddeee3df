//! Saying: events wait in the outbox and are published after the commit; hints go past it.

pub mod hint;
pub(crate) mod outbox;
pub(crate) mod relay;
pub(crate) mod window;
