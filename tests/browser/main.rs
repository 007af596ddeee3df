//! A page in a real browser places orders and learns their outcomes: by asking again, by
//! server-sent events and by a WebSocket. Run by `cargo xtask browser`.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Html;
use axum::routing::{get, post};
use axum::{Json, Router};
use integration_tests::{Backend, World};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const PAGE: &str = include_str!("page.html");
// A browser that starts on a busy machine takes its time; the page itself ends sooner.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the page is told, and where what it saw goes.
struct Told {
    what_to_do: Value,
    seen: mpsc::Sender<Value>,
}

/// Serves the page; what it has seen comes out of the channel.
async fn serve(listener: TcpListener, what_to_do: Value) -> mpsc::Receiver<Value> {
    let (seen, was_seen) = mpsc::channel(1);
    let router = Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route(
            "/what-to-do",
            get(|State(told): State<Arc<Told>>| async move { Json(told.what_to_do.clone()) }),
        )
        .route(
            "/seen",
            post(|State(told): State<Arc<Told>>, body: String| async move {
                let seen = serde_json::from_str(&body).expect("the page sends JSON");
                let _ = told.seen.send(seen).await;
            }),
        )
        .with_state(Arc::new(Told { what_to_do, seen }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    was_seen
}

/// Opens the page in a headless browser, until it has said what it saw.
async fn open(url: &str, mut seen: mpsc::Receiver<Value>) -> Value {
    let program = std::env::var_os("ENSEMBLE_BROWSER")
        .expect("ENSEMBLE_BROWSER names no browser: run this with `cargo xtask browser`");
    let profile = tempfile::tempdir().expect("a temporary folder");
    let log = std::fs::File::create(profile.path().join("log")).expect("a log");
    let mut browser = tokio::process::Command::new(program)
        .args(["--headless=new", "--disable-gpu", "--disable-dev-shm-usage"])
        // Root has no sandbox; the only page that it opens is the one of this test.
        .args(["--no-sandbox", "--no-first-run", "--disable-extensions"])
        .args(["--enable-logging=stderr", "--disable-background-networking"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .expect("the browser starts");
    let seen = tokio::time::timeout(PATIENCE, seen.recv()).await;
    let _ = browser.kill().await;
    match seen {
        Ok(Some(seen)) => seen,
        _ => {
            let log = std::fs::read(profile.path().join("log")).unwrap_or_default();
            panic!(
                "the page said nothing; the browser's log:\n{}",
                String::from_utf8_lossy(&log)
            )
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_learns_the_outcome_in_three_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let origin = format!("http://{}", listener.local_addr().expect("an address"));
    let flags = ["--cors-origin", origin.as_str()];
    let mut world = World::with(Backend::Sqlite, &ensemble::SERVICES, &flags).await;
    world.start_together("all").await;
    let product = world.operator().product(500, 10).await;
    world.operator().charge("rich", 1_000).await;
    world.operator().charge("poor", 499).await;
    world.quiet().await;

    let host = world.hosts().next().expect("a running host");
    let users: Vec<_> = ["rich", "poor"]
        .map(|user| {
            json!({
                "token": world.user(user).token(),
                "order": { "items": [{ "product_id": product, "quantity": 1 }] },
            })
        })
        .into();
    let what_to_do = json!({ "api": format!("http://{}", host.address()), "users": users });
    let seen = serve(listener, what_to_do).await;
    let seen = open(&origin, seen).await;
    assert_eq!(seen["error"], Value::Null);

    for (n, status, state, steps) in [
        (0, "CONFIRMED", "CONFIRMED", json!("succeeded")),
        (1, "FAILED", "CANCELED", json!("refused")),
    ] {
        let outcome = &seen["outcomes"][n];
        assert_eq!(outcome["placed"]["state"], "PENDING", "{outcome}");
        assert_eq!(outcome["polled"]["status"], status, "{outcome}");
        for way in ["events", "socket"] {
            let states = outcome[way]["states"].as_array().expect("states");
            assert_eq!(states.last(), Some(&json!(state)), "{way}: {outcome}");
            assert_eq!(outcome[way]["last"]["steps"]["point"], steps, "{way}");
        }
        assert_eq!(outcome["socket"]["code"], 1000, "the socket ends in order");
    }
    let [confirmed, refused] = [&seen["outcomes"][0], &seen["outcomes"][1]];
    assert_eq!(confirmed["english"], "Your order is confirmed.");
    assert_eq!(confirmed["korean"], "주문이 확정되었습니다.");
    assert_eq!(
        refused["english"],
        "Your order could not be completed: there are not enough points."
    );
    assert_eq!(
        refused["korean"],
        "주문을 완료할 수 없습니다: 포인트가 부족합니다."
    );
    world.end().await;
}
