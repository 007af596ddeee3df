//! Health: whether a process lives, and whether its services can work.
//!
//! It is answered from the moment that the port is open: while databases are opened and
//! their tables brought up to date, a process is live and not ready.

use std::sync::{Arc, OnceLock};

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use tower::ServiceExt as _;

use crate::http::Problem;
use crate::shell::Shell;

/// What a service needs before it can work, as it is named when it is missing.
pub(crate) const NEEDS: [&str; 4] = ["nats", "database", "migrations", "lifting of the fence"];

/// The routes of running services.
pub(crate) fn routes(shells: Vec<Shell>) -> Router {
    let ready = move || async move {
        let missing = |shell: &Shell| (shell.name(), shell.missing());
        answer(shells.iter().map(missing))
    };
    Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
}

async fn live() -> Json<Value> {
    Json(json!({ "status": "live" }))
}

/// Ready, or what each service misses.
fn answer(services: impl Iterator<Item = (&'static str, Vec<&'static str>)>) -> Response {
    let mut ready = true;
    let mut all = Map::new();
    for (service, missing) in services {
        ready &= missing.is_empty();
        let needs = NEEDS.map(|need| (need.to_owned(), (!missing.contains(&need)).into()));
        let needs: Map<String, Value> = needs.into_iter().collect();
        let said = json!({ "missing": missing, "has": needs });
        all.insert(service.to_owned(), said);
    }
    let (status, word) = match ready {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    (status, Json(json!({ "status": word, "services": all }))).into_response()
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
        front.hand_over(routes(vec![]));
        assert_eq!(asked(&front, "/health/ready").await.0, 200);
        assert_eq!(asked(&front, "/orders").await.0, 404);
    }
}
