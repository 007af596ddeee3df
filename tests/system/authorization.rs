//! Who is let in: every route, with every kind of token. The routes are those of the API
//! document, so a new one cannot be forgotten.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use integration_tests::{Backend, World};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::Method;
use serde_json::{Value, json};

// A key that nobody trusts.
const OTHER_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
    -----END PRIVATE KEY-----\n";

/// Routes that any user may call, whoever they are: what they show is nobody's own, or
/// what they do is for the caller.
const FOR_ANY_USER: [&str; 5] = [
    "get /orders",
    "get /products",
    "get /products/{id}",
    "post /coupons/{campaign_id}/issue",
    "post /orders",
];

/// What alice has.
struct Shop {
    order: String,
    product: String,
    campaign: String,
}

async fn shop(world: &World) -> Shop {
    let (operator, alice) = (world.operator(), world.user("alice"));
    let product = operator.product(500, 100).await;
    let campaign = operator.campaign(json!({ "amount": 100 }), 10).await;
    operator.charge("alice", 10_000).await;
    let item = json!({ "product_id": product, "quantity": 1 });
    let order = alice.place(json!({ "items": [item] })).await;
    alice.until(order, "CONFIRMED").await;
    Shop {
        order: order.to_string(),
        product,
        campaign,
    }
}

impl Shop {
    /// A route with the ids of what there is.
    fn fill(&self, path: &str) -> String {
        let id = match path.split('/').nth(1) {
            Some("orders") => &self.order,
            Some("products") => &self.product,
            _ => "01890000-0000-7000-8000-000000000000",
        };
        path.replace("{user}", "alice")
            .replace("{id}", id)
            .replace("{product_id}", &self.product)
            .replace("{campaign_id}", &self.campaign)
            .replace("{file}", "index.html")
    }
}

/// A route, as the document has it.
struct Route {
    name: String,
    method: Method,
    path: String,
    entry: Entry,
    owned: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Anybody,
    Token,
    Operator,
}

fn routes(document: &Value) -> Vec<Route> {
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let security = operation["security"].as_array().expect("security");
            let scopes = security.first().map(|first| &first["token"]);
            let entry = match scopes.map(|scopes| scopes.as_array().map(Vec::len)) {
                None => Entry::Anybody,
                Some(Some(0)) => Entry::Token,
                Some(Some(1)) => Entry::Operator,
                Some(_) => panic!("{method} {path}: its first way in is no token"),
            };
            routes.push(Route {
                name: format!("{method} {path}"),
                method: method.to_uppercase().parse().expect("a method"),
                path: path.clone(),
                entry,
                owned: operation["x-owned"] == true,
            });
        }
    }
    routes
}

/// Tokens that are all wrong, and why.
fn wrong_tokens(world: &World) -> Vec<(&'static str, Option<String>)> {
    let pem = world.folder().join("development-key.pem");
    let pem = std::fs::read(pem).expect("the development key");
    let key = EncodingKey::from_ed_pem(&pem).expect("a key");
    let other = EncodingKey::from_ed_pem(OTHER_KEY.as_bytes()).expect("a key");
    let now = jetstream::clock::wall() / 1000;
    let good = json!({
        "iss": "ensemble", "aud": "ensemble", "sub": "alice", "scope": "operator",
        "iat": now, "nbf": now, "exp": now + 600,
    });
    let with = |field: &str, value: Value| {
        let mut claims = good.clone();
        claims[field] = value;
        claims
    };
    let without = |field: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().expect("claims").remove(field);
        claims
    };
    let signed = |claims: &Value| {
        let header = Header::new(Algorithm::EdDSA);
        Some(format!(
            "Bearer {}",
            encode(&header, claims, &key).expect("signed")
        ))
    };
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = |alg: &str| {
        let (header, claims) = (part(&json!({ "alg": alg, "typ": "JWT" })), part(&good));
        Some(format!("Bearer {header}.{claims}."))
    };
    let by_other = encode(&Header::new(Algorithm::EdDSA), &good, &other).expect("signed");
    // A public key is no secret: whoever takes it for one lets everybody in.
    let secret = EncodingKey::from_secret(&pem);
    let symmetric = encode(&Header::new(Algorithm::HS256), &good, &secret).expect("signed");
    let whole = signed(&good).expect("a token");
    let (head, _) = whole.rsplit_once('.').expect("a signature");
    vec![
        ("none", None),
        ("empty", Some("Bearer ".to_owned())),
        ("no token", Some("Bearer nonsense".to_owned())),
        ("another scheme", Some(whole.replace("Bearer", "Basic"))),
        ("expired", signed(&with("exp", json!(now - 120)))),
        ("not valid yet", signed(&with("nbf", json!(now + 120)))),
        ("wrong audience", signed(&with("aud", json!("other")))),
        ("wrong issuer", signed(&with("iss", json!("other")))),
        ("without exp", signed(&without("exp"))),
        ("without aud", signed(&without("aud"))),
        ("without iss", signed(&without("iss"))),
        ("without sub", signed(&without("sub"))),
        ("no user id", signed(&with("sub", json!("a b")))),
        ("wrong signature", Some(format!("Bearer {by_other}"))),
        ("cut off signature", Some(format!("{head}."))),
        ("alg none", unsigned("none")),
        ("alg None", unsigned("None")),
        ("unsigned", unsigned("EdDSA")),
        ("symmetric", Some(format!("Bearer {symmetric}"))),
    ]
}

struct Asked {
    status: u16,
    code: String,
    challenge: bool,
}

/// Asks the way a program does that follows no redirects.
struct Asking {
    client: reqwest::Client,
    site: String,
}

impl Asking {
    fn new(world: &World) -> Self {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10));
        let client = client.redirect(reqwest::redirect::Policy::none()).build();
        let host = world.hosts().next().expect("a host").address();
        Self {
            client: client.expect("a client"),
            site: format!("http://{host}"),
        }
    }
}

async fn ask(asking: &Asking, route: &Route, path: &str, token: Option<&str>) -> Asked {
    let url = format!("{}{path}", asking.site);
    let mut request = asking.client.request(route.method.clone(), url);
    if let Some(token) = token {
        request = request.header("authorization", token);
    }
    if route.path.ends_with("/ws") {
        request = request
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    }
    if route.method != Method::GET && route.method != Method::DELETE {
        request = request.json(&json!({}));
    }
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    let challenge = response.headers().get("www-authenticate").is_some();
    let body: Value = match status {
        400.. => response.json().await.expect("a problem"),
        _ => Value::Null,
    };
    Asked {
        code: body["code"].as_str().unwrap_or_default().to_owned(),
        status,
        challenge,
    }
}

fn bearer(world: &World, name: &str, operator: bool) -> String {
    let user = events::UserId::new(name).expect("a user");
    let key = jetstream::http::auth::DevelopmentKey::of(world.folder()).expect("the key");
    let token = key.token(&user, operator, Duration::from_secs(600));
    format!("Bearer {}", token.expect("a token"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_lets_in_whom_it_should_and_nobody_else() {
    let world = World::start(Backend::Sqlite).await;
    let shop = shop(&world).await;
    let document = world.user("alice").get("/openapi.json").await.ok();
    let routes = routes(&document);
    let wrong = wrong_tokens(&world);
    let alice = bearer(&world, "alice", false);
    let bob = bearer(&world, "bob", false);
    let operator = bearer(&world, "operator", true);
    let asking = Asking::new(&world);
    let mut checked = 0;
    let mut for_any_user = BTreeSet::new();
    for route in &routes {
        let (name, path) = (&route.name, shop.fill(&route.path));
        for (why, token) in &wrong {
            let asked = ask(&asking, route, &path, token.as_deref()).await;
            match route.entry {
                Entry::Anybody => assert!(asked.status < 400, "{name}, {why}: {}", asked.status),
                _ => {
                    let problem = (asked.status, asked.code.as_str());
                    assert_eq!(problem, (401, "UNAUTHORIZED"), "{name}, {why}");
                    assert!(asked.challenge, "{name}, {why}: WWW-Authenticate");
                }
            }
            checked += 1;
        }
        for (who, token) in [("bob", &bob), ("alice", &alice), ("operator", &operator)] {
            let asked = ask(&asking, route, &path, Some(token)).await;
            let problem = (asked.status, asked.code.as_str());
            let what = format!("{name}, {who}: {problem:?}");
            match (route.entry, who) {
                (Entry::Operator, "alice" | "bob") => {
                    assert_eq!(problem, (403, "FORBIDDEN"), "{what}");
                }
                (_, "bob") if route.owned => assert_eq!(problem, (404, "NOT_FOUND"), "{what}"),
                _ => {
                    assert!(![401, 403].contains(&asked.status), "{what}");
                    // What the operator repairs is not there in a shop without a fault.
                    let repairs = path.starts_with("/dead-letters/");
                    assert!(asked.status != 404 || repairs, "{what}");
                }
            }
            checked += 1;
        }
        if route.entry == Entry::Token && !route.owned {
            for_any_user.insert(name.as_str());
        }
    }
    assert_eq!(
        for_any_user,
        BTreeSet::from(FOR_ANY_USER),
        "say why, if there is a new one"
    );
    assert!(routes.len() > 30, "{} routes", routes.len());
    assert_eq!(checked, routes.len() * (wrong.len() + 3));
    world.end().await;
}

/// In words of the API's own: what a library calls it helps nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_told_why() {
    let world = World::start(Backend::Sqlite).await;
    let asking = Asking::new(&world);
    let url = format!("{}/orders", asking.site);
    let mut said = String::new();
    for (why, token) in wrong_tokens(&world) {
        let asked = asking.client.get(&url);
        let asked = match token {
            Some(token) => asked.header("authorization", token),
            None => asked,
        };
        let answer = asked.send().await.expect("an answer");
        let problem: Value = answer.json().await.expect("a problem");
        writeln!(said, "{why}: {}", problem["detail"]).expect("a String takes everything");
    }
    insta::assert_snapshot!("refused_tokens", said);
    world.end().await;
}
