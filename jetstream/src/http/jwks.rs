//! The keys of an identity provider (JWKS, RFC 7517), by their `kid`.
//!
//! They are kept, and read again when they are old or when a token names one that is not
//! known; not more often than a rate allows, so that nobody can use made-up tokens to have
//! the provider asked. It fails closed: keys that could not be read again for too long are
//! trusted no more.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use crate::http::keys::{self, Expected, Key};
use crate::http::problem::Problem;

const TIMEOUT: Duration = Duration::from_secs(3);
const LARGEST: usize = 256 * 1024;

/// How often the set is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Not more often than this.
    pub(crate) between: Duration,
    /// Again when it is this old.
    pub(crate) fresh: Duration,
    /// When it is this old and could not be read again, it is trusted no more.
    pub(crate) trusted: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            between: Duration::from_secs(10),
            fresh: Duration::from_secs(300),
            trusted: Duration::from_secs(3600),
        }
    }
}

/// A set of keys that is somewhere else.
pub(crate) struct Jwks {
    url: Url,
    client: reqwest::Client,
    expected: Expected,
    pace: Pace,
    kept: RwLock<Kept>,
    // When it was asked last; held while it is asked, so that one request asks for all.
    asked: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Kept {
    keys: Vec<Arc<Key>>,
    read_at: Option<Instant>,
}

impl Kept {
    fn find(&self, kid: Option<&str>) -> Option<Arc<Key>> {
        let found = match kid {
            Some(kid) => self.keys.iter().find(|key| key.id.as_deref() == Some(kid)),
            // A token that names none can only mean the only one.
            None => self.keys.first().filter(|_| self.keys.len() == 1),
        };
        found.cloned()
    }
}

/// Why the set could not be read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It may be there later.
    Away(String),
    /// What is there is no set of keys.
    Wrong(String),
}

impl Jwks {
    /// A set that was not read yet.
    ///
    /// # Errors
    /// When there is no client for it.
    pub(crate) fn new(url: Url, expected: Expected, pace: Pace) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // What is configured is what is trusted, not where it leads.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| format!("no HTTP client for {url}: {error}"))?;
        Ok(Self {
            url,
            client,
            expected,
            pace,
            kept: RwLock::default(),
            asked: Mutex::new(None),
        })
    }

    /// The key with a `kid`.
    ///
    /// # Errors
    /// 401 when the provider has no such key, 503 when it cannot be asked.
    pub(crate) async fn find(&self, kid: Option<&str>) -> Result<Arc<Key>, Problem> {
        let (found, age) = self.look(kid);
        if found.is_some() && age.is_some_and(|age| age < self.pace.fresh) {
            return found.ok_or_else(unknown);
        }
        self.refresh(kid).await;
        match self.look(kid) {
            (_, None) => Err(away()),
            (_, Some(age)) if age >= self.pace.trusted => Err(away()),
            (found, Some(_)) => found.ok_or_else(unknown),
        }
    }

    fn look(&self, kid: Option<&str>) -> (Option<Arc<Key>>, Option<Duration>) {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        (kept.find(kid), kept.read_at.map(|at| at.elapsed()))
    }

    /// Reads the set again, unless that was tried a moment ago, or another request did it
    /// meanwhile.
    async fn refresh(&self, kid: Option<&str>) {
        let mut asked = self.asked.lock().await;
        let (found, age) = self.look(kid);
        let done = found.is_some() && age.is_some_and(|age| age < self.pace.fresh);
        if done || asked.is_some_and(|at| at.elapsed() < self.pace.between) {
            return;
        }
        *asked = Some(Instant::now());
        if let Err(unread) = self.read().await {
            let (Unread::Away(reason) | Unread::Wrong(reason)) = unread;
            tracing::warn!(url = %self.url, reason, "the keys for tokens cannot be read");
        }
    }

    /// Reads the set.
    pub(crate) async fn read(&self) -> Result<(), Unread> {
        let away = |error: reqwest::Error| Unread::Away(error.without_url().to_string());
        let mut response = self
            .client
            .get(self.url.clone())
            .send()
            .await
            .map_err(away)?;
        let status = response.status();
        if !status.is_success() {
            let reason = format!("it answers {status}");
            return Err(match status.is_server_error() {
                true => Unread::Away(reason),
                false => Unread::Wrong(reason),
            });
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(away)? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST {
                return Err(Unread::Wrong(format!("it has more than {LARGEST} bytes")));
            }
        }
        let set: JwkSet = serde_json::from_slice(&body)
            .map_err(|error| Unread::Wrong(format!("it is no set of keys: {error}")))?;
        let keys = keys::of_set(&set, &self.expected);
        if keys.is_empty() {
            let reason =
                "none of its keys is for signatures with EdDSA, ES256, ES384, RS256 or PS256";
            return Err(Unread::Wrong(reason.to_owned()));
        }
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        *kept = Kept {
            keys,
            read_at: Some(Instant::now()),
        };
        Ok(())
    }
}

fn unknown() -> Problem {
    Problem::unauthorized("the token is signed with a key that is not known")
}

fn away() -> Problem {
    let detail = "the keys for tokens cannot be read: nobody can be let in before that";
    Problem::new(
        axum::http::StatusCode::SERVICE_UNAVAILABLE,
        "NO_KEYS",
        detail,
    )
    .retry_after(5)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::get;
    use serde_json::json;

    use super::*;

    /// A provider that counts how often it is asked, and answers what it is told to.
    struct Provider {
        asked: AtomicUsize,
        answer: RwLock<(StatusCode, String)>,
    }

    impl Provider {
        async fn start() -> (Arc<Self>, Url) {
            let provider = Arc::new(Self {
                asked: AtomicUsize::new(0),
                answer: RwLock::new((StatusCode::OK, String::new())),
            });
            let own = provider.clone();
            let answer = move || {
                own.asked.fetch_add(1, Ordering::Relaxed);
                let answer = own.answer.read().expect("an answer").clone();
                async move { answer }
            };
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
            let listener = listener.expect("a port");
            let url = format!("http://{}/jwks", listener.local_addr().expect("an address"));
            let router = Router::new().route("/jwks", get(answer));
            tokio::spawn(async move { axum::serve(listener, router).await });
            (provider, url.parse().expect("a URL"))
        }

        fn has(&self, kids: &[&str]) {
            let keys: Vec<_> = kids
                .iter()
                .map(|kid| {
                    json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid,
                            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" })
                })
                .collect();
            let set = json!({ "keys": keys }).to_string();
            *self.answer.write().expect("an answer") = (StatusCode::OK, set);
        }

        fn is_away(&self) {
            let away = (StatusCode::BAD_GATEWAY, String::new());
            *self.answer.write().expect("an answer") = away;
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }
    }

    fn jwks(url: Url, pace: Pace) -> Jwks {
        let expected = Expected {
            issuer: "https://id.example".to_owned(),
            audience: "shop".to_owned(),
        };
        Jwks::new(url, expected, pace).expect("a client")
    }

    async fn status(jwks: &Jwks, kid: &str) -> u16 {
        match jwks.find(Some(kid)).await {
            Ok(key) => {
                assert_eq!(key.id.as_deref(), Some(kid));
                200
            }
            Err(problem) => axum::response::IntoResponse::into_response(problem)
                .status()
                .as_u16(),
        }
    }

    #[tokio::test]
    async fn made_up_keys_do_not_have_the_provider_asked_again() {
        let (provider, url) = Provider::start().await;
        provider.has(&["one"]);
        let jwks = jwks(url, Pace::default());
        for _ in 0..10 {
            assert_eq!(status(&jwks, "one").await, 200);
        }
        assert_eq!(provider.asked(), 1, "it is kept");
        let made_up: Vec<String> = (0..50).map(|n| format!("made up {n}")).collect();
        let made_up = made_up.iter().map(|kid| status(&jwks, kid));
        let answers = futures::future::join_all(made_up).await;
        assert_eq!(answers, [401; 50]);
        assert_eq!(provider.asked(), 1, "it was asked a moment ago");
    }

    #[tokio::test]
    async fn a_new_key_is_read_once_when_a_token_names_it_and_an_old_one_goes() {
        let (provider, url) = Provider::start().await;
        provider.has(&["one"]);
        let pace = Pace {
            between: Duration::ZERO,
            ..Pace::default()
        };
        let jwks = jwks(url, pace);
        assert_eq!(status(&jwks, "one").await, 200);
        provider.has(&["two"]);
        let wanted = (0..20).map(|_| status(&jwks, "two"));
        assert_eq!(futures::future::join_all(wanted).await, [200; 20]);
        assert_eq!(provider.asked(), 2, "one asked for all");
        assert_eq!(status(&jwks, "one").await, 401);
    }

    #[tokio::test]
    async fn without_the_provider_keys_are_trusted_for_a_while_and_nobody_is_let_in_after_it() {
        let (provider, url) = Provider::start().await;
        provider.is_away();
        let pace = Pace {
            between: Duration::ZERO,
            fresh: Duration::ZERO,
            ..Pace::default()
        };
        let jwks_of = |pace| jwks(url.clone(), pace);
        let jwks = jwks_of(pace);
        assert_eq!(status(&jwks, "one").await, 503, "it was never read");
        provider.has(&["one"]);
        assert_eq!(status(&jwks, "one").await, 200);
        provider.is_away();
        assert_eq!(status(&jwks, "one").await, 200, "it is trusted for a while");
        let short = jwks_of(Pace {
            trusted: Duration::ZERO,
            ..pace
        });
        provider.has(&["one"]);
        assert_eq!(status(&short, "one").await, 503, "and no longer");
    }

    #[tokio::test]
    async fn what_is_no_set_of_keys_is_said() {
        let (provider, url) = Provider::start().await;
        let jwks = jwks(url, Pace::default());
        for (answer, words) in [
            ("<html>", "no set of keys"),
            (r#"{"keys": []}"#, "none of its keys"),
        ] {
            *provider.answer.write().expect("an answer") = (StatusCode::OK, answer.to_owned());
            match jwks.read().await {
                Err(Unread::Wrong(reason)) => assert!(reason.contains(words), "{reason}"),
                other => panic!("{answer}: {other:?}"),
            }
        }
    }
}
