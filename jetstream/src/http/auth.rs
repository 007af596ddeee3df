//! Who asks: bearer tokens (JWT, RFC 7519), signed by an identity provider, or in
//! development with a key of the data directory.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use events::UserId;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::clock;
use crate::fault::Fault;
use crate::http::Problem;
use crate::http::access::Who;
use crate::http::jwks::{Jwks, Pace, Unread};
use crate::http::keys::{self, Expected, Key, Keys};
use crate::http::verified::Verified;
use crate::shell::Shell;

const ISSUER: &str = "ensemble";
const AUDIENCE: &str = "ensemble";
const KEY_FILE: &str = "development-key.pem";

/// Checks tokens.
#[derive(Clone)]
pub struct Authenticator(Arc<Verifier>);

struct Verifier {
    keys: Keys,
    verified: Verified,
}

/// What is read of a token that was checked.
#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    // Some write it with a fraction.
    exp: f64,
    #[serde(default)]
    scope: String,
}

/// What is written into a development token.
#[derive(Debug, Serialize)]
struct Signed<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    iat: i64,
    nbf: i64,
    exp: i64,
    scope: &'a str,
}

/// Who somebody is, by a token that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: UserId,
    pub(crate) operator: bool,
}

impl Authenticator {
    fn with(keys: Keys) -> Self {
        Self(Arc::new(Verifier {
            keys,
            verified: Verified::default(),
        }))
    }

    /// Accepts tokens that are signed with the private half of a key in a PEM file.
    ///
    /// # Errors
    /// When the file cannot be read, or has no public key of a kind that is accepted.
    pub fn of_pem(path: &Path, issuer: &str, audience: &str) -> Result<Self, String> {
        let shown = path.display();
        let pem = std::fs::read(path)
            .map_err(|error| format!("--jwt-key: cannot read {shown}: {error}"))?;
        let expected = expected(issuer, audience);
        let key = keys::of_pem(&pem, &expected).ok_or_else(|| {
            format!(
                "--jwt-key: {shown} is no public key in PEM: RSA, P-256 and Ed25519 are accepted"
            )
        })?;
        Ok(Self::with(Keys::One(Arc::new(key))))
    }

    /// Accepts tokens that are signed with a key of a JWKS. When it cannot be reached, it
    /// is tried again with the first token.
    ///
    /// # Errors
    /// When what is there is no JWKS.
    pub async fn of_jwks(url: &Url, issuer: &str, audience: &str) -> Result<Self, String> {
        let jwks = Jwks::new(url.clone(), expected(issuer, audience), Pace::default())?;
        match jwks.read().await {
            Ok(()) => {}
            Err(Unread::Wrong(reason)) => {
                return Err(format!("--jwks-url: {url} is no JWKS: {reason}"));
            }
            Err(Unread::Away(reason)) => {
                tracing::warn!(%url, reason, "the keys for tokens cannot be read yet: nobody is let in before");
            }
        }
        Ok(Self::with(Keys::Remote(Box::new(jwks))))
    }
}

fn expected(issuer: &str, audience: &str) -> Expected {
    Expected {
        issuer: issuer.to_owned(),
        audience: audience.to_owned(),
    }
}

/// What is wrong with a token, without what the library calls it.
fn why(kind: &ErrorKind) -> String {
    let why = match kind {
        ErrorKind::ExpiredSignature => "it has expired",
        ErrorKind::ImmatureSignature => "it is not valid yet",
        ErrorKind::InvalidAudience => "its `aud` is not this API",
        ErrorKind::InvalidIssuer => "its `iss` is not who is trusted here",
        ErrorKind::InvalidSignature => "its signature is wrong",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
            "it is signed by an algorithm that is not taken"
        }
        ErrorKind::MissingRequiredClaim(claim) => return format!("it has no `{claim}`"),
        _ => "it is no JWT with `exp` and `sub`",
    };
    why.to_owned()
}

impl Verifier {
    /// Whose token it is.
    async fn identity(&self, token: &str) -> Result<Identity, Problem> {
        if let Some(identity) = self.verified.identity(token) {
            return Ok(identity);
        }
        let refused = |error: jsonwebtoken::errors::Error| {
            Problem::unauthorized(&format!("the token is refused: {}", why(error.kind())))
        };
        let header = jsonwebtoken::decode_header(token).map_err(refused)?;
        let key = self.keys.find(header.kid.as_deref()).await?;
        let claims = jsonwebtoken::decode::<Claims>(token, &key.decoding, &key.validation)
            .map_err(refused)?
            .claims;
        let user = UserId::new(claims.sub)
            .map_err(|_| Problem::unauthorized("the token's `sub` is not a user id"))?;
        let operator = claims.scope.split(' ').any(|scope| scope == "operator");
        let identity = Identity { user, operator };
        let left = claims.exp - clock::wall() as f64 / 1000.0;
        let left = Duration::try_from_secs_f64(left).unwrap_or(Duration::ZERO);
        self.verified.keep(token, &identity, left);
        Ok(identity)
    }
}

/// The key that signs development tokens. It never leaves its data directory.
pub struct DevelopmentKey {
    signing: EncodingKey,
    public: Vec<u8>,
}

impl std::fmt::Debug for DevelopmentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DevelopmentKey(…)")
    }
}

impl DevelopmentKey {
    /// The key of a data directory; made the first time, readable by its owner only.
    ///
    /// # Errors
    /// When the file cannot be read or written, or is no Ed25519 key.
    pub fn of(data_dir: &Path) -> Result<Self, String> {
        let path = data_dir.join(KEY_FILE);
        let shown = path.display().to_string();
        if !path.exists() {
            let key = Ed25519KeyPair::generate().map_err(|e| e.to_string())?;
            let der = key.to_pkcs8v1().map_err(|e| e.to_string())?;
            write_private(data_dir, &path, &to_pem(der.as_ref())).map_err(|error| {
                format!("cannot write {shown}: {error}; choose a directory you own with --data-dir")
            })?;
        }
        Self::there(data_dir)
    }

    /// The key of a data directory where it has been made; nothing is written.
    ///
    /// # Errors
    /// When there is none, it cannot be read, or is no Ed25519 key.
    pub fn there(data_dir: &Path) -> Result<Self, String> {
        let path = data_dir.join(KEY_FILE);
        let shown = path.display().to_string();
        let pem = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => format!(
                "there is no development key at {shown}: give the data directory of the system \
                 with --data-dir, or an operator's token with --token-file"
            ),
            _ => format!("cannot read {shown}: {error}"),
        })?;
        Self::from_pem(&pem).ok_or_else(|| {
            format!("{shown} is not an Ed25519 key in PKCS#8 PEM: remove it to have a new one")
        })
    }

    fn from_pem(pem: &str) -> Option<Self> {
        let body: String = pem
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .collect();
        let der = base64::engine::general_purpose::STANDARD
            .decode(body.trim())
            .ok()?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok()?;
        Some(Self {
            signing: EncodingKey::from_ed_der(&der),
            public: pair.public_key().as_ref().to_vec(),
        })
    }

    /// A token for a user, valid for a while.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn token(&self, user: &UserId, operator: bool, valid: Duration) -> Result<String, String> {
        let now = clock::wall() / 1000;
        let claims = Signed {
            iss: ISSUER,
            aud: AUDIENCE,
            sub: user.as_str(),
            iat: now,
            nbf: now,
            exp: now + clock::millis(valid) / 1000,
            scope: if operator { "operator" } else { "" },
        };
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.signing)
            .map_err(|error| format!("the token cannot be signed: {error}"))
    }

    /// Accepts the tokens that this key signs.
    #[must_use]
    pub fn authenticator(&self) -> Authenticator {
        let expected = expected(ISSUER, AUDIENCE);
        let public = DecodingKey::from_ed_der(&self.public);
        let key = Key::new(None, public, &[Algorithm::EdDSA], &expected);
        Authenticator::with(Keys::One(Arc::new(key)))
    }
}

fn to_pem(der: &[u8]) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
}

/// Writes a file that is there as a whole or not at all. Of several processes that start
/// at once on a new directory one is the first, and the others use its file.
fn write_private(folder: &Path, path: &Path, text: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let draft = folder.join(format!(".{KEY_FILE}.{}", clock::new_id()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&draft)?.write_all(text.as_bytes())?;
    let linked = std::fs::hard_link(&draft, path);
    std::fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Who asks. What a user has is read and changed through
/// [`Owner`](crate::http::owner::Owner) and [`Reader`](crate::http::owner::Reader).
#[derive(Clone)]
pub struct Caller {
    shell: Shell,
    identity: Identity,
}

impl Caller {
    /// Who asks without a token, on the word of something else that proves who it is.
    pub(crate) fn vouched_for(shell: &Shell, user: UserId, operator: bool) -> Self {
        Self {
            shell: shell.clone(),
            identity: Identity { user, operator },
        }
    }

    /// The user.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.identity.user
    }

    /// Whether it is an operator, who may read any user's resources.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.identity.operator
    }

    /// What the service works with.
    pub(crate) fn shell(&self) -> &Shell {
        &self.shell
    }

    /// Queries what is nobody's own, and so anybody's to read: products.
    ///
    /// # Errors
    /// A fault of the database.
    pub async fn query_public(
        &self,
        sql: &str,
        values: Vec<sea_orm::Value>,
    ) -> Result<Vec<sea_orm::QueryResult>, Fault> {
        self.shell.database().query(sql, values).await
    }
}

impl<S> FromRequestParts<S> for Caller
where
    Shell: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let shell = Shell::from_ref(state);
        let Authenticator(verifier) = shell.auth();
        let token = bearer(&parts.headers)
            .ok_or_else(|| Problem::unauthorized("send `Authorization: Bearer <token>`"))?;
        let identity = verifier.identity(token).await?;
        if let Some(who) = parts.extensions.get::<Who>() {
            who.is(&identity.user);
        }
        Ok(Self { shell, identity })
    }
}

/// The token of a request (RFC 6750, 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim())
}
