//! Who asks: bearer tokens (JWT, RFC 7519), signed with a key that only development has.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::extract::{FromRef, FromRequestParts};
use axum::http::header;
use axum::http::request::Parts;
use base64::Engine as _;
use events::UserId;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::http::Problem;
use crate::http::access::Who;
use crate::http::verified::Verified;
use crate::shell::Shell;

const ISSUER: &str = "ensemble";
const AUDIENCE: &str = "ensemble";
const KEY_FILE: &str = "development-key.pem";

/// Checks tokens.
#[derive(Clone)]
pub struct Authenticator(Arc<Verifier>);

struct Verifier {
    key: DecodingKey,
    validation: Validation,
    verified: Verified,
}

impl Verifier {
    /// Whose token it is.
    fn caller(&self, token: &str) -> Result<Caller, Problem> {
        if let Some(caller) = self.verified.caller(token) {
            return Ok(caller);
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation)
            .map_err(|error| Problem::unauthorized(&format!("the token is refused: {error}")))?
            .claims;
        let user = UserId::new(claims.sub)
            .map_err(|_| Problem::unauthorized("the token's `sub` is not a user id"))?;
        let caller = Caller {
            user,
            operator: claims.scope.split(' ').any(|scope| scope == "operator"),
        };
        let left = u64::try_from(claims.exp - clock::wall() / 1000).unwrap_or(0);
        self.verified
            .keep(token, &caller, Duration::from_secs(left));
        Ok(caller)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    #[serde(default)]
    scope: String,
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
        let pem = std::fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {shown}: {error}"))?;
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
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user.to_string(),
            iat: now,
            nbf: now,
            exp: now + clock::millis(valid) / 1000,
            scope: if operator { "operator" } else { "" }.to_owned(),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.signing)
            .map_err(|error| format!("the token cannot be signed: {error}"))
    }

    /// Accepts the tokens that this key signs.
    #[must_use]
    pub fn authenticator(&self) -> Authenticator {
        // A fixed list of algorithms: a token cannot choose how it is checked.
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = 60;
        Authenticator(Arc::new(Verifier {
            key: DecodingKey::from_ed_der(&self.public),
            validation,
            verified: Verified::default(),
        }))
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

/// Who asks: whatever is read or changed, is read or changed on their behalf.
#[derive(Debug, Clone)]
pub struct Caller {
    user: UserId,
    operator: bool,
}

impl Caller {
    /// Who asks without a token, on the word of something else that proves who it is.
    #[must_use]
    pub fn vouched_for(user: UserId, operator: bool) -> Self {
        Self { user, operator }
    }

    /// The user.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Whether it is an operator, who may read any user's resources.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.operator
    }

    /// Allows only operators.
    ///
    /// # Errors
    /// 403 for everybody else.
    pub fn require_operator(&self) -> Result<(), Problem> {
        match self.operator {
            true => Ok(()),
            false => Err(Problem::forbidden()),
        }
    }

    /// Whose resources a route with a user in its path is about. Another user's are 404,
    /// so that nobody learns which exist.
    ///
    /// # Errors
    /// 404 when they are not the caller's.
    pub fn owner(&self, user: &str) -> Result<UserId, Problem> {
        let user = UserId::new(user).map_err(|_| Problem::not_found("user"))?;
        match self.operator || user == self.user {
            true => Ok(user),
            false => Err(Problem::not_found("user")),
        }
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
        let token = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or_else(|| Problem::unauthorized("send `Authorization: Bearer <token>`"))?;
        let caller = verifier.caller(token)?;
        if let Some(who) = parts.extensions.get::<Who>() {
            who.is(&caller.user);
        }
        Ok(caller)
    }
}
