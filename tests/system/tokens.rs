//! Tokens of an identity provider: by a JWKS, and by a public key in a file.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use integration_tests::{Backend, Process, Signal, System};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::Client;
use serde_json::{Value, json};

const ISSUER: &str = "https://id.example";
const AUDIENCE: &str = "shop";

// The example key of RFC 8037, appendix A.
const ED_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
    -----END PRIVATE KEY-----\n";
const ED_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n\
    -----END PUBLIC KEY-----\n";
const ED_JWK_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

fn token(kid: Option<&str>, claims: &Value) -> String {
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = kid.map(str::to_owned);
    let key = EncodingKey::from_ed_pem(ED_PRIVATE.as_bytes()).expect("a key");
    encode(&header, claims, &key).expect("signed")
}

fn claims(scope: &str) -> Value {
    let now = jetstream::clock::wall() / 1000;
    // What a provider sends: several audiences, and no `nbf`.
    json!({ "iss": ISSUER, "aud": ["other", AUDIENCE], "sub": "alice", "scope": scope,
            "iat": now, "exp": now + 600 })
}

fn jwk(kid: &str) -> Value {
    json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": kid, "x": ED_JWK_X })
}

/// A provider that serves what it is given.
async fn provider(keys: Vec<Value>) -> (Arc<Mutex<Vec<Value>>>, String) {
    let keys = Arc::new(Mutex::new(keys));
    let own = keys.clone();
    let answer = move || {
        let set = json!({ "keys": *own.lock().expect("the keys") });
        async move { axum::Json(set) }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!(
        "http://{}/jwks.json",
        listener.local_addr().expect("an address")
    );
    let router = Router::new().route("/jwks.json", get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (keys, url)
}

fn system(flag: &str, value: &str) -> System {
    System::new(Backend::Sqlite)
        .with(flag, value)
        .with("--jwt-issuer", ISSUER)
        .with("--jwt-audience", AUDIENCE)
}

async fn status(url: &str, path: &str, token: &str) -> u16 {
    let request = Client::new().get(format!("{url}{path}")).bearer_auth(token);
    request.send().await.expect("an answer").status().as_u16()
}

async fn end(process: Process) {
    process.signal(Signal::INT);
    let finished = process.ended().await;
    assert!(finished.status.success(), "{}", finished.stderr);
}

async fn lets_in_with_its_tokens_alone(url: &str, kid: Option<&str>) {
    let user = token(kid, &claims("openid"));
    let operator = token(kid, &claims("openid operator"));
    assert_eq!(status(url, "/points/alice", &user).await, 200);
    assert_eq!(status(url, "/points/bob", &user).await, 404);
    assert_eq!(status(url, "/points/bob", &operator).await, 200);
    assert_eq!(status(url, "/internals", &user).await, 403);
    assert_eq!(status(url, "/internals", &operator).await, 200);
    let now = jetstream::clock::wall() / 1000;
    for (field, value) in [
        ("iss", json!("https://other.example")),
        ("aud", json!("other")),
        ("exp", json!(now - 61)),
        ("nbf", json!(now + 65)),
    ] {
        let mut wrong = claims("");
        wrong[field] = value;
        assert_eq!(
            status(url, "/points/alice", &token(kid, &wrong)).await,
            401,
            "{field}"
        );
    }
    for (field, value) in [("exp", json!(now - 30)), ("nbf", json!(now + 30))] {
        let mut off = claims("");
        off[field] = value;
        let within = status(url, "/points/alice", &token(kid, &off)).await;
        assert_eq!(within, 200, "{field}: clocks may differ");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_jwks_sign_and_the_development_key_does_not() {
    let (_, jwks) = provider(vec![jwk("one"), jwk("other")]).await;
    let mut system = system("--jwks-url", &jwks);
    let (process, url) = system.serving().await;
    lets_in_with_its_tokens_alone(&url, Some("one")).await;
    for kid in [Some("unknown"), None] {
        assert_eq!(
            status(&url, "/points/alice", &token(kid, &claims(""))).await,
            401
        );
    }
    let key = jetstream::http::auth::DevelopmentKey::of(&system.data_dir()).expect("a key");
    let user = events::UserId::new("alice").expect("a user");
    let hour = std::time::Duration::from_secs(3600);
    let development = key.token(&user, true, hour).expect("a token");
    assert_eq!(status(&url, "/points/alice", &development).await, 401);
    end(process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_key_in_a_file_checks_tokens() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), ED_PUBLIC).expect("written");
    let mut system = system("--jwt-key", &file.path().display().to_string());
    let (process, url) = system.serving().await;
    lets_in_with_its_tokens_alone(&url, None).await;
    end(process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_while_the_keys_cannot_be_read() {
    // A port that nobody listens on.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let jwks = format!(
        "http://{}/jwks.json",
        taken.local_addr().expect("an address")
    );
    drop(taken);
    let mut system = system("--jwks-url", &jwks);
    let (process, url) = system.serving().await;
    assert_eq!(
        status(&url, "/points/alice", &token(Some("one"), &claims(""))).await,
        503
    );
    assert_eq!(status(&url, "/points/alice", "nonsense").await, 401);
    end(process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_check_tokens_is_said_at_the_start() {
    let (_, empty) = provider(vec![]).await;
    let secret = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(secret.path(), ED_PRIVATE).expect("written");
    let secret = secret.path().display().to_string();
    for (flag, value, words) in [
        (
            "--jwks-url",
            empty.as_str(),
            ["--jwks-url", "none of its keys"],
        ),
        (
            "--jwks-url",
            "http://id.example/jwks",
            ["--jwks-url", "https://"],
        ),
        (
            "--jwt-key",
            "/nonexistent.pem",
            ["--jwt-key", "/nonexistent.pem"],
        ),
        ("--jwt-key", secret.as_str(), ["--jwt-key", "no public key"]),
    ] {
        let finished = system(flag, value).launch(&[]).ended().await;
        assert!(!finished.status.success());
        for word in words {
            assert!(
                finished.stderr.contains(word),
                "{word}: {}",
                finished.stderr
            );
        }
    }
    let alone = System::new(Backend::Sqlite).with("--jwks-url", "https://id.example/jwks");
    let finished = { alone }.launch(&[]).ended().await;
    assert!(
        finished.stderr.contains("--jwt-issuer"),
        "{}",
        finished.stderr
    );
}
