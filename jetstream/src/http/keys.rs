//! The keys that tokens are checked with: those of a JWKS, of a PEM file, or the
//! development key.

use std::sync::Arc;

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use crate::http::jwks::Jwks;
use crate::http::problem::Problem;

// A clock may be off by this many seconds.
const LEEWAY: u64 = 60;

/// Who must have signed a token, and for whom.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    /// Its `iss`.
    pub(crate) issuer: String,
    /// Its `aud`.
    pub(crate) audience: String,
}

/// A key, with all that a token that is signed with it is checked against.
pub(crate) struct Key {
    pub(crate) id: Option<String>,
    pub(crate) decoding: DecodingKey,
    /// What the key is for says how it is used: a token cannot choose how it is checked.
    pub(crate) validation: Validation,
}

impl Key {
    pub(crate) fn new(
        id: Option<String>,
        decoding: DecodingKey,
        algorithms: &[Algorithm],
        expected: &Expected,
    ) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.algorithms = algorithms.to_vec();
        validation.set_issuer(&[&expected.issuer]);
        validation.set_audience(&[&expected.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY;
        Self {
            id,
            decoding,
            validation,
        }
    }
}

/// Where the key of a token is looked for.
pub(crate) enum Keys {
    /// There is one, whatever the token says.
    One(Arc<Key>),
    /// Those of an identity provider, by their `kid`.
    Remote(Box<Jwks>),
}

impl Keys {
    /// The key that a token names.
    ///
    /// # Errors
    /// 401 when there is none, 503 when nobody can tell.
    pub(crate) async fn find(&self, kid: Option<&str>) -> Result<Arc<Key>, Problem> {
        match self {
            Self::One(key) => Ok(key.clone()),
            Self::Remote(jwks) => jwks.find(kid).await,
        }
    }
}

/// The public key in a PEM file: RSA, P-256 or Ed25519.
pub(crate) fn of_pem(pem: &[u8], expected: &Expected) -> Option<Key> {
    if !pem.windows(PUBLIC.len()).any(|part| part == PUBLIC) {
        return None;
    }
    let (key, algorithms) = if let Ok(key) = DecodingKey::from_ed_pem(pem) {
        (key, ED25519)
    } else if let Ok(key) = DecodingKey::from_ec_pem(pem) {
        (key, P256)
    } else {
        (DecodingKey::from_rsa_pem(pem).ok()?, RSA)
    };
    Some(Key::new(None, key, algorithms, expected))
}

// A private key has no business here.
const PUBLIC: &[u8] = b"PUBLIC KEY-----";

// The list of algorithms, by the kind of key. Nothing symmetric: who checks tokens could
// make some.
const ED25519: &[Algorithm] = &[Algorithm::EdDSA];
const P256: &[Algorithm] = &[Algorithm::ES256];
const P384: &[Algorithm] = &[Algorithm::ES384];
const RSA: &[Algorithm] = &[Algorithm::RS256, Algorithm::PS256];

/// The keys of a set that are for signatures and of a kind that is accepted. The others
/// are left out: a set may have keys for other purposes.
pub(crate) fn of_set(set: &JwkSet, expected: &Expected) -> Vec<Arc<Key>> {
    let keys = set.keys.iter().filter_map(|jwk| of_jwk(jwk, expected));
    keys.map(Arc::new).collect()
}

fn of_jwk(jwk: &Jwk, expected: &Expected) -> Option<Key> {
    let signs = jwk.common.public_key_use.as_ref();
    if signs.is_some_and(|used| *used != PublicKeyUse::Signature) {
        return None;
    }
    let by_kind: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => RSA,
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => P256,
            EllipticCurve::P384 => P384,
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => ED25519,
        _ => return None,
    };
    // The set may say which one alone.
    let only = |algorithm: &Algorithm| match jwk.common.key_algorithm {
        None => true,
        Some(named) => key_algorithm(*algorithm) == Some(named),
    };
    let algorithms: Vec<_> = by_kind.iter().copied().filter(only).collect();
    if algorithms.is_empty() {
        return None;
    }
    let decoding = DecodingKey::from_jwk(jwk).ok()?;
    Some(Key::new(
        jwk.common.key_id.clone(),
        decoding,
        &algorithms,
        expected,
    ))
}

fn key_algorithm(algorithm: Algorithm) -> Option<KeyAlgorithm> {
    Some(match algorithm {
        Algorithm::EdDSA => KeyAlgorithm::EdDSA,
        Algorithm::ES256 => KeyAlgorithm::ES256,
        Algorithm::ES384 => KeyAlgorithm::ES384,
        Algorithm::RS256 => KeyAlgorithm::RS256,
        Algorithm::PS256 => KeyAlgorithm::PS256,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Expected {
        Expected {
            issuer: "https://id.example".to_owned(),
            audience: "shop".to_owned(),
        }
    }

    // RFC 8037, appendix A; RFC 7517, appendix A.1; and a key that is shared.
    const SET: &str = r#"{"keys": [
        {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig",
         "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        {"kty": "EC", "crv": "P-256", "kid": "ec",
         "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
         "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"},
        {"kty": "RSA", "kid": "rsa", "alg": "RS256", "e": "AQAB",
         "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"},
        {"kty": "EC", "crv": "P-256", "kid": "for encryption", "use": "enc",
         "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
         "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"},
        {"kty": "oct", "kid": "shared", "alg": "HS256", "k": "c2VjcmV0"}
    ]}"#;

    #[test]
    fn the_keys_of_a_set_that_sign_are_taken_each_for_its_algorithms() {
        let set: JwkSet = serde_json::from_str(SET).expect("a set");
        let keys = of_set(&set, &expected());
        let taken: Vec<_> = keys
            .iter()
            .map(|key| {
                (
                    key.id.as_deref().unwrap_or_default(),
                    &*key.validation.algorithms,
                )
            })
            .collect();
        let expected: [(&str, &[Algorithm]); 3] = [
            ("ed", &[Algorithm::EdDSA]),
            ("ec", &[Algorithm::ES256]),
            ("rsa", &[Algorithm::RS256]),
        ];
        assert_eq!(taken, expected);
    }

    #[test]
    fn a_pem_file_has_one_public_key() {
        let public = "-----BEGIN PUBLIC KEY-----\n\
            MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n\
            -----END PUBLIC KEY-----\n";
        let key = of_pem(public.as_bytes(), &expected()).expect("a key");
        assert_eq!(key.validation.algorithms, [Algorithm::EdDSA]);
        for wrong in ["", "hello", &public.replace("PUBLIC", "PRIVATE")] {
            assert!(of_pem(wrong.as_bytes(), &expected()).is_none(), "{wrong}");
        }
    }
}
