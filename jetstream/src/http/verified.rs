//! Tokens that were checked a moment ago. A client sends the same token again and again,
//! and checking its signature costs more than anything else that is done to a request
//! before its handler.
//!
//! A token is known by a hash of all its bytes, never past its expiry, and for a minute at
//! most: so a key that is not trusted any more is noticed. What is not known is checked.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use crate::http::auth::Identity;

const KNOWN_FOR: Duration = Duration::from_secs(60);
// Tokens that are known at most.
const MOST: usize = 10_000;

type Hash = [u8; SHA256_OUTPUT_LEN];

/// Tokens that were checked, and whose they are.
#[derive(Default)]
pub(crate) struct Verified(Mutex<HashMap<Hash, Known>>);

struct Known {
    identity: Identity,
    until: Instant,
}

impl Verified {
    /// Whose token it is, if it was checked a moment ago.
    pub(crate) fn identity(&self, token: &str) -> Option<Identity> {
        let hash = hash(token)?;
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&hash)?;
        (Instant::now() < known.until).then(|| known.identity.clone())
    }

    /// Keeps a token that was checked and is still valid for a while.
    pub(crate) fn keep(&self, token: &str, identity: &Identity, valid: Duration) {
        let Some(hash) = hash(token) else { return };
        let now = Instant::now();
        let known = Known {
            identity: identity.clone(),
            until: now + valid.min(KNOWN_FOR),
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.retain(|_, known| now < known.until);
        }
        if all.len() >= MOST {
            // Checking is only slower.
            all.clear();
        }
        all.insert(hash, known);
    }
}

fn hash(token: &str) -> Option<Hash> {
    digest(&SHA256, token.as_bytes()).as_ref().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::UserId;

    fn alice() -> Identity {
        Identity {
            user: UserId::new("alice").expect("valid"),
            operator: false,
        }
    }

    #[test]
    fn a_token_is_known_until_it_expires_and_no_other_token_is() {
        let verified = Verified::default();
        verified.keep("a.b.c", &alice(), Duration::from_secs(5));
        verified.keep("d.e.f", &alice(), Duration::ZERO);
        let user = |token| Some(verified.identity(token)?.user.to_string());
        assert_eq!(user("a.b.c"), Some("alice".to_owned()));
        for unknown in ["", "a.b.d", "a.b.c ", "d.e.f"] {
            assert_eq!(user(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn not_more_are_kept_than_there_is_room_for() {
        let verified = Verified::default();
        for n in 0..=MOST {
            verified.keep(&n.to_string(), &alice(), KNOWN_FOR);
        }
        let known = verified.0.lock().expect("no panic").len();
        assert!(known <= MOST, "{known}");
    }
}
