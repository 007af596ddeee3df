//! Tickets: secrets that open one thing once, for those who cannot send a header.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A new ticket. Only its digest is kept, so that who reads the database has none.
#[derive(Debug)]
pub struct Ticket {
    /// What its owner presents: 256 random bits, in letters that a URL may have.
    pub secret: String,
    /// What is kept.
    pub digest: String,
}

impl Ticket {
    /// Makes a ticket that nobody can guess.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new() -> Result<Self, crate::Fault> {
        let mut bits = [0; 32];
        aws_lc_rs::rand::fill(&mut bits)
            .map_err(|_| crate::Fault::Unexpected("the system has no randomness".to_owned()))?;
        let secret = URL_SAFE_NO_PAD.encode(bits);
        Ok(Self {
            digest: digest_of(&secret),
            secret,
        })
    }
}

/// The digest of a ticket that is presented.
#[must_use]
pub fn digest_of(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, secret.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_known_by_its_digest_and_no_two_are_the_same() {
        let [one, two] = [(); 2].map(|()| Ticket::new().expect("randomness"));
        assert_eq!(one.digest, digest_of(&one.secret));
        assert_ne!(one.digest, one.secret);
        assert_ne!(one.secret, two.secret);
    }
}
