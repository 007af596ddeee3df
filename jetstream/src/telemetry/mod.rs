//! Logs and traces: the only room that names OpenTelemetry.
//!
//! A trace follows an order over every hop. The context of the span in which an event is
//! published is kept with its outbox row, travels with the event, and is the parent of
//! what its consumers do. Spans are written down after the fact, when the transaction
//! that they tell of has committed: what was rolled back is in no trace, and what is not
//! sampled costs a look at an `Option`.
//!
//! Nothing here is global to the process but the log: each service has a [`Tracer`] of
//! its own.

mod export;
mod jaeger;
mod log;
mod rebuild;
mod recording;
pub(crate) mod request;
mod span;
mod traceparent;
mod tracer;

pub use log::{Format, start};
pub use rebuild::{Rebuilt, rebuild};
pub use request::{Along, along, concerns, current};
pub use traceparent::{SpanRef, trace_id};
pub use tracer::{Options, Tracer};

pub(crate) use recording::{Decision, Heard, Trace};
