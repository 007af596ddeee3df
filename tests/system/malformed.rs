//! Ten thousand requests that are wrong in some way: each is refused, and nothing is
//! written. The cases follow from a seed, and the routes are those of the API document.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use futures::future::join_all;
use integration_tests::{Backend, World};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::spoiled::{Dice, Request, Target};

const CASES: usize = 10_000;
const CLIENTS: usize = 16;
const SEED: u64 = 20_261_125;

/// A body that each route takes. That there is one for every route is asserted.
fn bodies(product: &str) -> BTreeMap<&'static str, Value> {
    let reason = json!({ "reason": "seen" });
    BTreeMap::from([
        (
            "post /orders",
            json!({ "items": [{ "product_id": product, "quantity": 1 }] }),
        ),
        ("post /orders/{id}/cancel", json!({})),
        ("post /orders/{id}/stream-ticket", json!({})),
        (
            "post /orders/{id}/resolve",
            json!({ "action": "retry", "reason": "seen" }),
        ),
        (
            "post /products",
            json!({ "name": "mug", "price": 5, "stock": 5 }),
        ),
        ("patch /products/{id}", json!({ "price": 6 })),
        ("post /products/{id}/restock", json!({ "quantity": 5 })),
        ("post /points/{user}/charge", json!({ "amount": 5 })),
        (
            "post /coupons",
            json!({ "name": "sale", "discount": { "amount": 5 }, "quantity": 5 }),
        ),
        ("post /coupons/{campaign_id}/issue", json!({})),
        (
            "put /carts/{user}/items/{product_id}",
            json!({ "quantity": 5 }),
        ),
        ("post /dead-letters/{id}/redrive", reason.clone()),
        ("post /dead-letters/{id}/discard", reason),
        ("post /reconcile", json!({})),
        (
            "post /fence/lift",
            json!({ "service": "stock", "reason": "seen" }),
        ),
    ])
}

fn targets(document: &Value, ids: &[(&str, &str)], product: &str) -> Vec<Target> {
    let bodies = bodies(product);
    let mut targets = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let name = format!("{method} {path}");
            let body = bodies.get(name.as_str());
            let takes_body = operation["requestBody"].is_object();
            assert_eq!(
                takes_body,
                body.is_some(),
                "{name}: give it a body in this test"
            );
            let id = ids.iter().find(|(prefix, _)| path.starts_with(prefix));
            let id = id.map_or("01890000-0000-7000-8000-000000000000", |(_, id)| *id);
            let filled = path
                .replace("{user}", "alice")
                .replace("{id}", id)
                .replace("{product_id}", product)
                .replace("{campaign_id}", id)
                .replace("{file}", "index.html");
            let parameters = operation["parameters"].as_array().expect("parameters");
            let named = |name: &str| parameters.iter().any(|p| p["name"] == name);
            targets.push(Target {
                method: method.to_uppercase(),
                has_id: path.contains('}') && !path.contains("{file}"),
                path: filled,
                body: body.cloned(),
                keyed: named("Idempotency-Key"),
                paged: named("cursor"),
                guarded: operation["security"] != json!([]),
            });
        }
    }
    targets
}

/// How many rows each table of each service has.
async fn rows(world: &World) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for service in ensemble::SERVICES {
        let database = world.database(service.name);
        let tables = "SELECT name FROM sqlite_master WHERE type = 'table'";
        for row in database.query(tables, vec![]).await.expect("tables") {
            let table: String = row.try_get("", "name").expect("a name");
            let count = format!("SELECT count(*) AS n FROM {table}");
            let rows = database.query(&count, vec![]).await.expect("counted");
            let n: i64 = rows[0].try_get("", "n").expect("a number");
            counts.insert(format!("{}.{table}", service.name), n);
        }
    }
    counts
}

/// A connection that is made again when the server has closed it.
struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Connection {
    /// The status and the head of the answer.
    async fn ask(&mut self, request: &Request) -> Result<(u16, String), String> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => TcpStream::connect(self.address)
                .await
                .map_err(|e| e.to_string())?,
        };
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(&request.bytes).await;
        let (head, rest) = head(&mut stream).await?;
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| format!("no status: {head}"))?;
        let field = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            let mut found = lines.filter(|(field, _)| field.eq_ignore_ascii_case(name));
            found.next().map(|(_, value)| value.to_owned())
        };
        let length: usize = field("content-length").map_or(0, |n| n.parse().expect("a length"));
        let mut body = rest;
        while body.len() < length {
            let mut more = [0; 4096];
            match stream.read(&mut more).await {
                Ok(n) if n > 0 => body.extend_from_slice(&more[..n]),
                _ => return Err(format!("cut off: {head}")),
            }
        }
        if field("connection").as_deref() != Some("close") && !request.last {
            self.stream = Some(stream);
        }
        Ok((status, head))
    }
}

async fn head(stream: &mut TcpStream) -> Result<(String, Vec<u8>), String> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        let mut more = [0; 4096];
        match stream.read(&mut more).await {
            Ok(n) if n > 0 => bytes.extend_from_slice(&more[..n]),
            Ok(_) => return Err("the connection was closed without an answer".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

async fn client(
    address: SocketAddr,
    targets: &[Target],
    token: &str,
    seed: u64,
) -> Vec<(u16, String)> {
    let mut dice = Dice::new(seed);
    let mut connection = Connection {
        address,
        stream: None,
    };
    let mut answers = Vec::new();
    for case in 0..CASES / CLIENTS {
        let target = &targets[dice.below(targets.len())];
        let request = target.spoil(&mut dice, token);
        let shown =
            || String::from_utf8_lossy(&request.bytes[..request.bytes.len().min(600)]).into_owned();
        let (status, head) = match connection.ask(&request).await {
            Ok(answer) => answer,
            Err(error) => panic!("seed {seed}, case {case}: {error}\n{}", shown()),
        };
        assert!(
            (400..500).contains(&status),
            "seed {seed}, case {case}, {}: {status}\n{}",
            request.how,
            shown()
        );
        let problem = head.contains("application/problem+json");
        // What is no HTTP is refused before there is a route, with nothing but a status.
        let no_http = matches!(status, 400 | 414 | 431) && head.contains("content-length: 0");
        assert!(problem || no_http, "{}: {head}\n{}", request.how, shown());
        answers.push((status, request.how.to_owned()));
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_wrong_requests_are_refused_and_write_nothing() {
    let world = World::start(Backend::Sqlite).await;
    let (operator, alice) = (world.operator(), world.user("alice"));
    let product = operator.product(500, 100).await;
    let campaign = operator.campaign(json!({ "amount": 5 }), 10).await;
    operator.charge("alice", 10_000).await;
    let item = json!({ "product_id": product, "quantity": 1 });
    let order = alice.place(json!({ "items": [item] })).await;
    alice.until(order, "CONFIRMED").await;
    world.quiet().await;
    let document = operator.get("/openapi.json").await.ok();
    let order = order.to_string();
    let ids = [
        ("/orders", &*order),
        ("/products", &*product),
        ("/coupons", &*campaign),
    ];
    let targets = targets(&document, &ids, &product);
    let before = rows(&world).await;
    let host = world.hosts().next().expect("a host").address();
    let token = operator.token().to_owned();
    let clients = (0..CLIENTS as u64).map(|n| client(host, &targets, &token, SEED + n));
    let answers: Vec<_> = join_all(clients).await.concat();
    let mut seen: BTreeMap<(String, u16), usize> = BTreeMap::new();
    for (status, how) in answers {
        *seen.entry((how, status)).or_default() += 1;
    }
    println!("{seen:#?}");
    assert_eq!(seen.values().sum::<usize>(), CASES);
    for status in [400, 401, 404, 405, 406, 413, 415, 422] {
        assert!(
            seen.keys().any(|(_, s)| *s == status),
            "{status} is among them"
        );
    }
    assert_eq!(rows(&world).await, before, "nothing was written");
    world.end().await;
}
