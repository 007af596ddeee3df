//! Typed identities.
//!
//! New ids are made by the runtime, which owns clock and randomness; here are only
//! the types, and the ids that follow from another id.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{Malformed, catalog};

macro_rules! uuid_id {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Reads the 16 bytes that it has on the wire.
            ///
            /// # Errors
            /// When there are not exactly 16 bytes.
            pub fn from_wire(bytes: &[u8]) -> Result<Self, Malformed> {
                Uuid::from_slice(bytes)
                    .map(Self)
                    .map_err(|_| Malformed::field(stringify!($name), "must be 16 bytes"))
            }

            /// The 16 bytes that it has on the wire.
            #[must_use]
            pub fn to_wire(self) -> bytes::Bytes {
                bytes::Bytes::copy_from_slice(self.0.as_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Uuid::from_str(s).map(Self)
            }
        }
    )*};
}

uuid_id! {
    /// An order; also the identity of its saga, and the correlation id of its events.
    OrderId,
    /// One sellable option of a product (size, colour).
    ProductId,
    /// A coupon that was given to a user.
    CouponId,
    /// A coupon campaign.
    CampaignId,
    /// An event. The same id is the broker's message id.
    EventId,
}

impl EventId {
    /// The id of the event that says that an order was placed. It follows from the order's
    /// id, so who knows an order knows the ids of what follows from it.
    #[must_use]
    pub fn created(order: OrderId) -> Self {
        let created = &catalog::ORDER_CREATED;
        Self::derived(Self(order.0), created.writer, created.subject, 1)
    }

    /// The id of an event that was caused by another event.
    ///
    /// It follows from its arguments, so deciding again gives the same id: a
    /// `UUIDv8` whose first 48 bits are the time bits of the cause and whose rest is
    /// a SHA-256 of cause, producer, subject and attempt.
    #[must_use]
    pub fn derived(cause: Self, producer: &str, subject: &str, attempt: u32) -> Self {
        let mut hash = Sha256::new();
        hash.update(cause.0.as_bytes());
        // Lengths keep ("ab", "c") apart from ("a", "bc").
        for text in [producer, subject] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        hash.update(attempt.to_be_bytes());
        let mut bytes = [0_u8; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        bytes[..6].copy_from_slice(&cause.0.as_bytes()[..6]);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

/// A user: 1 to 64 characters of `[A-Za-z0-9._@-]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UserId(String);

impl UserId {
    /// Checks and takes a user's name.
    ///
    /// # Errors
    /// When it is empty, too long, or has another character.
    pub fn new(name: impl Into<String>) -> Result<Self, Malformed> {
        let name = name.into();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '@' | '-');
        if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
            return Err(Malformed::field(
                "user id",
                "must be 1 to 64 characters of A-Z a-z 0-9 . _ @ -",
            ));
        }
        Ok(Self(name))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAUSE: EventId = EventId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));

    #[test]
    fn the_same_decision_gives_the_same_id() {
        let once = EventId::derived(CAUSE, "stock", "product.reserved", 1);
        assert_eq!(
            once,
            EventId::derived(CAUSE, "stock", "product.reserved", 1)
        );
        assert_eq!(once.0.get_version_num(), 8);
        assert_eq!(once.0.as_bytes()[..6], CAUSE.0.as_bytes()[..6]);
    }

    #[test]
    fn another_producer_subject_or_attempt_gives_another_id() {
        let base = EventId::derived(CAUSE, "stock", "product.reserved", 1);
        for other in [
            EventId::derived(CAUSE, "point", "product.reserved", 1),
            EventId::derived(CAUSE, "stock", "product.released", 1),
            EventId::derived(CAUSE, "stock", "product.reserved", 2),
            EventId::derived(CAUSE, "stockp", "roduct.reserved", 1),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn user_ids_are_checked() {
        for good in ["a", "alice@example.com", "A-1_b.c", &"x".repeat(64)] {
            assert!(UserId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "ä", "a/b", &"x".repeat(65)] {
            assert!(UserId::new(bad).is_err(), "{bad}");
        }
    }
}
