//! Losses: what the broker lost is said again, and a database that was set back is fenced.

pub(crate) mod fence;
pub(crate) mod reconcile;
pub(crate) mod said;
pub(crate) mod watch;
