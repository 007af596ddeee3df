//! What services say to each other.

use serde::{Deserialize, Serialize};
use shop::Order;
use uuid::Uuid;

/// An event: what happened to an order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) subject: String,
    pub(crate) order: Order,
}

impl Event {
    pub(crate) fn new(subject: impl Into<String>, order: Order) -> Self {
        let subject = subject.into();
        Self { subject, order }
    }

    /// Its id follows from what it says, as nothing is said twice about an order: saying it
    /// again is a duplicate.
    pub(crate) fn id(&self) -> Uuid {
        let mut bytes = *self.order.order_id.as_bytes();
        for (n, byte) in self.subject.bytes().enumerate() {
            let at = n % bytes.len();
            bytes[at] = bytes[at].rotate_left(3) ^ byte;
        }
        Uuid::new_v8(bytes)
    }
}
