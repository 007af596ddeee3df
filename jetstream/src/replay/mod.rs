//! Replay: a range of the stream is handled again, by this build, in scratch databases, and
//! what it says is compared with what was recorded.
//!
//! Services hear what was *recorded*, never what this run says, so each is played by
//! itself and one difference does not make others. What was said from outside (no cause)
//! is [taken as given](given); what was caused is decided again and [compared](compare).

pub mod compare;
pub mod file;
mod folder;
pub mod given;
mod index;
mod player;
mod report;
pub mod select;
mod tape;

pub use folder::{ReplayError, empty};
pub use player::replay;
pub use report::{NotComparable, Played, Report};
pub use tape::{Before, Tape};
