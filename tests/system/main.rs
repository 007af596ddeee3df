//! The system, whole.

mod crash;
mod crowd;
mod instances;
mod no_coordinator;
mod processes;
mod smoke;
mod timeline;
mod up;
