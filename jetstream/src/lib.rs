//! The choreography runtime: everything between the pure decisions of the services and
//! NATS, the database and HTTP.
//!
//! One batch, from the stream and back:
//!
//! ```text
//! pull a batch ─► one transaction { load · decide · save · outbox } ─► commit ─► ack
//!  (consumer)      (batch, handlers)                                      └► publish (relay)
//! ```

pub mod clock;
pub mod database;
pub mod event;
mod failpoint;
pub mod fault;
pub mod hearing;
pub mod http;
mod losses;
pub mod operating;
pub mod replay;
pub mod saying;
pub mod shell;
pub mod stream;
mod tasks;
pub mod telemetry;

// Small values are allocated by one thread and freed by another all the time, which is what
// the C library's allocator is slowest at: it took a quarter of the services' time. This one
// gives memory out again where it was freed, while it is still in the processor's cache.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

pub use database::{Database, Tx};
pub use event::{Delivery, Emission};
#[doc(hidden)] // for fault runs: always false without the feature `failpoints`
pub use failpoint::is_off;
pub use fault::Fault;
pub use http::{Body, Problem, Query};
pub use saying::relay::{TRACEPARENT, TURN};
pub use shell::Shell;
pub use shell::service::Service;
pub use shell::settings::Settings;
