//! Health: whether a process lives, and whether its services can work.
//!
//! It is answered from the moment that the port is open: while databases are opened and
//! their tables brought up to date, a process is live and not ready.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde::Serialize;
use tower::ServiceExt as _;
use utoipa::ToSchema;

use crate::http::Problem;

/// What a service needs before it can work, as it is named when it is missing.
pub(crate) const NEEDS: [&str; 4] = ["nats", "database", "migrations", "lifting of the fence"];

/// How long a check waits for an answer.
const CHECK: Duration = Duration::from_secs(2);

/// Whether a process lives.
#[derive(Serialize, ToSchema)]
pub(crate) struct Live {
    #[schema(example = "live")]
    status: &'static str,
}

pub(crate) async fn live() -> Json<Live> {
    Json(Live { status: "live" })
}

/// Whether every service of a process can work.
#[derive(Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ready`, or `not ready`
    #[schema(example = "ready")]
    status: &'static str,
    /// By the name of the service
    services: BTreeMap<&'static str, Needs>,
}

/// What a service needs before it can work.
#[derive(Serialize, ToSchema)]
struct Needs {
    /// What is not there; empty when it can work
    missing: Vec<&'static str>,
    /// What it needs, and whether it is there
    has: BTreeMap<&'static str, bool>,
}

/// Ready, or what each service misses.
pub(crate) fn answer(
    services: impl Iterator<Item = (&'static str, Vec<&'static str>)>,
) -> Response {
    let needs = |(service, missing): (&'static str, Vec<&'static str>)| {
        let has = NEEDS.map(|need| (need, !missing.contains(&need)));
        let has = has.into_iter().collect();
        (service, Needs { missing, has })
    };
    let services: BTreeMap<_, _> = services.map(needs).collect();
    let (status, word) = match services.values().all(|needs| needs.missing.is_empty()) {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    let readiness = Readiness {
        status: word,
        services,
    };
    (status, Json(readiness)).into_response()
}

/// Asks the process that listens on an address of this machine whether it is ready.
///
/// # Errors
/// What it misses, or that it does not answer.
pub(crate) fn check(listen: SocketAddr) -> Result<(), String> {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let address = SocketAddr::new(ip, listen.port());
    let asked = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, CHECK)?;
        stream.set_read_timeout(Some(CHECK))?;
        stream.set_write_timeout(Some(CHECK))?;
        let request = "GET /health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = asked().map_err(|error| format!("{address} does not answer: {error}"))?;
    match answer.starts_with("HTTP/1.1 200 ") {
        true => Ok(()),
        false => Err(answer.lines().last().unwrap_or_default().to_owned()),
    }
}

/// What answers before the services run, and hands over to them.
#[derive(Clone)]
pub(crate) struct Front {
    starting: Vec<&'static str>,
    running: Arc<OnceLock<Router>>,
}

impl Front {
    pub(crate) fn new(starting: Vec<&'static str>) -> Self {
        Self {
            starting,
            running: Arc::default(),
        }
    }

    /// From now on, the services answer.
    pub(crate) fn hand_over(&self, running: Router) {
        let _ = self.running.set(running);
    }

    pub(crate) fn router(&self) -> Router {
        let front = self.clone();
        Router::new().fallback(move |request: Request| async move {
            match front.running.get() {
                // A router cannot fail.
                Some(running) => running
                    .clone()
                    .oneshot(request)
                    .await
                    .unwrap_or_else(|never| match never {}),
                None => front.starting(request.uri().path()).await,
            }
        })
    }

    async fn starting(&self, path: &str) -> Response {
        match path {
            "/health/live" => live().await.into_response(),
            "/health/ready" => {
                let missing = |service: &&'static str| (*service, vec!["migrations"]);
                answer(self.starting.iter().map(missing))
            }
            _ => {
                let detail = "the service is starting: come back in a moment";
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "STARTING", detail)
                    .retry_after(1)
                    .into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use serde_json::{Value, json};

    use crate::http::process;
    use crate::operating::metrics::Metrics;

    use super::*;

    async fn asked(front: &Front, path: &str) -> (u16, Value) {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = front.router().oneshot(request).await.expect("an answer");
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 10_000)
            .await
            .expect("a body");
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    #[tokio::test]
    async fn a_process_that_starts_is_live_and_not_ready_and_then_hands_over() {
        let front = Front::new(vec!["order"]);
        assert_eq!(asked(&front, "/health/live").await.0, 200);
        let (status, said) = asked(&front, "/health/ready").await;
        assert_eq!(status, 503);
        assert_eq!(said["services"]["order"]["missing"], json!(["migrations"]));
        assert_eq!(said["services"]["order"]["has"]["migrations"], false);
        let (status, said) = asked(&front, "/orders").await;
        assert_eq!((status, said["code"].as_str()), (503, Some("STARTING")));
        let routes = process::routes(vec![], &Value::Null, &Metrics::default());
        front.hand_over(routes.router());
        assert_eq!(asked(&front, "/health/ready").await.0, 200);
        assert_eq!(asked(&front, "/orders").await.0, 404);
    }
}
