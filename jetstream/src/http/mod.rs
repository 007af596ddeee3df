//! HTTP: what every service's routes stand on, and the process's own.

pub(crate) mod access;
pub mod answers;
pub mod auth;
pub mod body;
pub mod bounded;
pub mod described;
pub mod document;
pub(crate) mod health;
pub mod idempotency;
pub mod intake;
pub(crate) mod jwks;
pub(crate) mod keys;
pub mod limits;
pub(crate) mod missing;
pub mod object;
pub mod owner;
pub mod page;
pub mod problem;
pub(crate) mod process;
pub mod routes;
pub mod ticket;
mod verified;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::from_fn_with_state;
use serde_json::Value;
use tower_http::cors::CorsLayer;

pub use answers::{Accepted, Created, NoContent};
pub use body::{Body, Id, Nothing, Query};
pub use bounded::{Number, Text};
pub use described::doc;
pub use object::{object, objects};
pub use owner::{Operator, Owner, Reader};
pub use problem::Problem;
pub use routes::Routes;

use crate::http::access::Recorder;
use crate::http::limits::Gate;
use crate::operating;
use crate::operating::metrics::Metrics;
use crate::shell::Shell;
use crate::shell::settings::Settings;

/// The largest body that is read.
pub const BODY_LIMIT: usize = 64 * 1024;

/// All services' routes on one port, with those of the process and what is the same for
/// all of them.
pub(crate) fn router(
    services: Vec<(Shell, Router)>,
    document: &Value,
    settings: &Settings,
    metrics: &Metrics,
) -> Router {
    let shells: Vec<Shell> = services.iter().map(|(shell, _)| shell.clone()).collect();
    let process = match shells.as_slice() {
        [alone] => alone.name(),
        _ => "all",
    };
    let tracer = shells.first().map(|shell| shell.tracer().clone());
    let mut router = process::routes(shells.clone(), document, metrics).router();
    if !shells.is_empty() {
        router = router.merge(operating::routes::routes(shells).router());
    }
    for (shell, routes) in services {
        let routes = routes.layer(from_fn_with_state(shell, access::by));
        router = router.merge(routes);
    }
    let recorder = Recorder {
        metrics: metrics.clone(),
        process,
        tracer: tracer.unwrap_or_default(),
    };
    let gate = Gate::new(&settings.limits);
    let router = router
        .fallback(|| async { Problem::not_found("route") })
        .method_not_allowed_fallback(|| async {
            let detail = "this route does not have this method";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", detail)
        })
        .layer(axum::extract::DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn_with_state(gate, limits::gate));
    let router = match cors(&settings.cors_origins) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    // The outermost: also what is refused has an id, and is in the log.
    router.layer(from_fn_with_state(recorder, access::record))
}

/// What pages of other origins may do. There are no cookies, so no credentials either.
fn cors(origins: &[HeaderValue]) -> Option<CorsLayer> {
    let headers = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::ACCEPT_LANGUAGE,
        idempotency::KEY,
        access::REQUEST_ID,
        HeaderName::from_static("prefer"),
        HeaderName::from_static("last-event-id"),
    ];
    let exposed = [
        header::LOCATION,
        header::RETRY_AFTER,
        idempotency::REPLAYED,
        access::REQUEST_ID,
        HeaderName::from_static("preference-applied"),
        HeaderName::from_static("ratelimit-limit"),
        HeaderName::from_static("ratelimit-remaining"),
        HeaderName::from_static("ratelimit-reset"),
    ];
    let methods = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ];
    (!origins.is_empty()).then(|| {
        CorsLayer::new()
            .allow_origin(origins.to_vec())
            .allow_methods(methods)
            .allow_headers(headers)
            .expose_headers(exposed)
    })
}
