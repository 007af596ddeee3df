//! The bodies of an order's events.
//!
//! The contract has one message per event, but those of one meaning have the same
//! fields, so the code has one shape per meaning: a participant that is added
//! tomorrow brings no decoding of its own. The order context is the first field of
//! them all and stays bytes here (an embedded message and a `bytes` field are the
//! same on the wire), so that answering an event copies it and encodes nothing again.
//! A test holds the shapes against the protos.

use bytes::Bytes;
use prost::Message;

use crate::{Malformed, OrderContext, Refusal, Step, wire};

/// Only the context, of any event of an order.
#[derive(Clone, PartialEq, Message)]
struct Scoped {
    #[prost(bytes = "bytes", tag = "1")]
    context: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct RefusedShape {
    #[prost(bytes = "bytes", tag = "1")]
    context: Bytes,
    #[prost(message, optional, tag = "2")]
    refusal: Option<wire::Refusal>,
}

#[derive(Clone, PartialEq, Message)]
struct UndoneShape {
    #[prost(bytes = "bytes", tag = "1")]
    context: Bytes,
    #[prost(bool, tag = "2")]
    nothing_to_undo: bool,
    #[prost(uint32, tag = "3")]
    attempt: u32,
}

#[derive(Clone, PartialEq, Message)]
struct CanceledShape {
    #[prost(bytes = "bytes", tag = "1")]
    context: Bytes,
    #[prost(string, tag = "2")]
    reason: String,
    #[prost(uint32, tag = "3")]
    attempt: u32,
}

#[derive(Clone, PartialEq, Message)]
struct CompensationFailedShape {
    #[prost(bytes = "bytes", tag = "1")]
    context: Bytes,
    #[prost(string, repeated, tag = "2")]
    unanswered: Vec<String>,
}

/// The context of any event of an order, whatever else the event says.
///
/// # Errors
/// When the body does not begin with a valid order context.
pub fn context(body: Bytes) -> Result<OrderContext, Malformed> {
    let scoped = Scoped::decode(body).map_err(|e| Malformed::encoding("event of an order", &e))?;
    OrderContext::decode(scoped.context)
}

/// The body that says no more than which order: created, confirmed, compensated,
/// and every step's success.
#[must_use]
pub fn plain(context: &OrderContext) -> Bytes {
    let context = context.encoded();
    Scoped { context }.encode_to_vec().into()
}

/// A step was refused.
#[must_use]
pub fn refused(context: &OrderContext, refusal: &Refusal) -> Bytes {
    let body = RefusedShape {
        context: context.encoded(),
        refusal: Some(refusal.to_wire()),
    };
    body.encode_to_vec().into()
}

/// Reads why a step was refused.
///
/// # Errors
/// When the body has no refusal, or a wrong one.
pub fn refusal(body: Bytes) -> Result<Refusal, Malformed> {
    let body = RefusedShape::decode(body).map_err(|e| Malformed::encoding("refusal", &e))?;
    let refusal = body
        .refusal
        .ok_or_else(|| Malformed::field("refusal", "is missing"))?;
    Refusal::from_wire(refusal)
}

/// What a participant answers when it compensates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undone {
    /// It held nothing.
    pub nothing_to_undo: bool,
    /// Which attempt it answers; at least 1.
    pub attempt: u32,
}

/// A step was compensated, or there was nothing to undo.
#[must_use]
pub fn undone(context: &OrderContext, undone: Undone) -> Bytes {
    let body = UndoneShape {
        context: context.encoded(),
        nothing_to_undo: undone.nothing_to_undo,
        attempt: undone.attempt,
    };
    body.encode_to_vec().into()
}

/// Reads how a step was compensated.
///
/// # Errors
/// When the bytes are no such message.
pub fn read_undone(body: Bytes) -> Result<Undone, Malformed> {
    let body = UndoneShape::decode(body).map_err(|e| Malformed::encoding("compensation", &e))?;
    Ok(Undone {
        nothing_to_undo: body.nothing_to_undo,
        attempt: body.attempt.max(1),
    })
}

/// Why an order was canceled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A step was refused; the refusals say which and why.
    Refused,
    /// Its user asked for it.
    CanceledByUser,
    /// It was not decided in time.
    DeadlinePassed,
}

impl Reason {
    const ALL: [Self; 3] = [Self::Refused, Self::CanceledByUser, Self::DeadlinePassed];

    /// Its stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Refused => "REFUSED",
            Self::CanceledByUser => "CANCELED_BY_USER",
            Self::DeadlinePassed => "DEADLINE_PASSED",
        }
    }

    /// The reason with this code.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_code(code: &str) -> Result<Self, Malformed> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.code() == code)
            .ok_or_else(|| Malformed::unknown("reason", code))
    }
}

/// What `order.canceled` says besides the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canceled {
    /// Why.
    pub reason: Reason,
    /// 1 for the decision, more when compensation is asked for again (R6).
    pub attempt: u32,
}

/// The order was canceled, or its compensation is asked for again.
#[must_use]
pub fn canceled(context: &OrderContext, canceled: Canceled) -> Bytes {
    let body = CanceledShape {
        context: context.encoded(),
        reason: canceled.reason.code().to_owned(),
        attempt: canceled.attempt,
    };
    body.encode_to_vec().into()
}

/// Reads why an order was canceled.
///
/// # Errors
/// When the bytes are no such message.
pub fn read_canceled(body: Bytes) -> Result<Canceled, Malformed> {
    let body = CanceledShape::decode(body).map_err(|e| Malformed::encoding("OrderCanceled", &e))?;
    Ok(Canceled {
        reason: Reason::from_code(&body.reason)?,
        attempt: body.attempt.max(1),
    })
}

/// Compensation was given up; these steps have not answered.
#[must_use]
pub fn compensation_failed(context: &OrderContext, unanswered: &[Step]) -> Bytes {
    let body = CompensationFailedShape {
        context: context.encoded(),
        unanswered: unanswered.iter().map(|s| s.name().to_owned()).collect(),
    };
    body.encode_to_vec().into()
}

/// The steps that had not answered when compensation was given up.
///
/// # Errors
/// When the bytes are no such message.
pub fn read_unanswered(body: Bytes) -> Result<Vec<String>, Malformed> {
    CompensationFailedShape::decode(body)
        .map(|body| body.unanswered)
        .map_err(|e| Malformed::encoding("OrderCompensationFailed", &e))
}
