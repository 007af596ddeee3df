//! The language of the choreography.
//!
//! Everything that the services say to each other is defined here, and nothing
//! about how it travels or is stored: no broker, no database, no HTTP, no clock.
//!
//! Start with [`catalog`]: one screen with every subject, its message and its one
//! writer. [`step`] holds the list of steps and the function that says whose turn
//! it is; [`hold`] is what every participant does with its turn.

pub mod body;
pub mod catalog;
pub mod context;
pub mod discount;
pub mod envelope;
pub mod fact;
pub mod hold;
pub mod id;
pub mod money;
pub mod outcome;
pub mod refusal;
pub mod render;
pub mod sample;
pub mod step;

/// The generated protobuf messages: the wire contract itself.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod wire {
    include!(concat!(env!("OUT_DIR"), "/ensemble.v1.rs"));
}

/// The encoded `FileDescriptorSet` of the protos, for tests and documentation.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub use context::{OrderContext, OrderLine};
pub use discount::{Coupon, Discount};
pub use envelope::Envelope;
pub use id::{CampaignId, CouponId, EventId, OrderId, ProductId, UserId};
pub use money::Money;
pub use refusal::Refusal;
pub use step::{Flow, Step, StepSet};

/// An event that cannot be understood. It is a permanent fault: reading it again
/// gives the same error, so it goes to the dead letters, never away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes are not a protobuf message of the expected shape.
    #[error("the bytes are not a valid {what}: {detail}")]
    Encoding {
        /// What was being read.
        what: &'static str,
        /// What the decoder said.
        detail: String,
    },
    /// A field is missing or its value breaks a rule.
    #[error("{what}: {rule}")]
    Field {
        /// Which message and field.
        what: &'static str,
        /// The rule that its value breaks.
        rule: String,
    },
    /// No code of this build knows the subject, type or version.
    #[error("unknown {what} `{name}`: a newer build wrote it, or a stranger")]
    Unknown {
        /// Subject, type, step or flow.
        what: &'static str,
        /// The name that was read.
        name: String,
    },
}

impl Malformed {
    pub(crate) fn encoding(what: &'static str, error: &prost::DecodeError) -> Self {
        Self::Encoding {
            what,
            detail: error.to_string(),
        }
    }

    pub(crate) fn field(what: &'static str, rule: impl Into<String>) -> Self {
        Self::Field {
            what,
            rule: rule.into(),
        }
    }

    pub(crate) fn unknown(what: &'static str, name: impl Into<String>) -> Self {
        Self::Unknown {
            what,
            name: name.into(),
        }
    }
}
