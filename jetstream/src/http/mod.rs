//! HTTP: problems (RFC 9457), bodies, health.

pub(crate) mod access;
pub mod auth;
pub(crate) mod health;
pub mod idempotency;
pub mod intake;
pub mod limits;
pub(crate) mod missing;
pub mod page;
pub mod ticket;
mod verified;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tower_http::cors::CorsLayer;

use crate::fault::Fault;
use crate::http::access::Recorder;
use crate::http::limits::Gate;
use crate::operating::metrics::Metrics;
use crate::shell::Shell;
use crate::shell::settings::Settings;

/// The largest body that is read.
pub const BODY_LIMIT: usize = 64 * 1024;

/// An answer that is an error: RFC 9457, with a stable code and no internals.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    facts: Map<String, Value>,
    headers: Vec<(&'static str, u32)>,
}

impl Problem {
    /// A problem with a stable code, and a sentence that says what to do.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            facts: Map::new(),
            headers: Vec::new(),
        }
    }

    /// 422: a field breaks a rule.
    #[must_use]
    pub fn invalid(field: &str, rule: &str) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "INVALID",
            format!("{field} {rule}"),
        )
        .with("field", field)
    }

    /// 422: well-formed, but known to be wrong.
    #[must_use]
    pub fn unprocessable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    /// 409: not in the state that it is in.
    #[must_use]
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 404.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "NOT_FOUND",
            format!("there is no such {what}"),
        )
    }

    /// 403.
    #[must_use]
    pub fn forbidden() -> Self {
        let detail = "this needs a token with the scope `operator`";
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", detail)
    }

    /// 401.
    #[must_use]
    pub fn unauthorized(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", detail)
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }

    /// Says when to come back, in seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        self.header("retry-after", seconds)
    }

    /// Adds a header, named in lower case.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: u32) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        // The one place where a fault meets a client: it is logged here, and only here.
        tracing::warn!(%fault, "a request failed");
        match fault {
            Fault::Fenced(_) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "FENCED",
                "the service is fenced until an operator has repaired its database",
            ),
            Fault::Away(_) | Fault::Conflict(_) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "UNAVAILABLE",
                "the service cannot do this now; try again",
            )
            .retry_after(1),
            Fault::Permanent(_) | Fault::Unexpected(_) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "INTERNAL",
                "this should not have happened; the log of the service says more",
            ),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = self.facts;
        body.insert("type".to_owned(), "about:blank".into());
        body.insert(
            "title".to_owned(),
            self.status.canonical_reason().unwrap_or("").into(),
        );
        body.insert("status".to_owned(), self.status.as_u16().into());
        body.insert("code".to_owned(), self.code.into());
        body.insert("detail".to_owned(), self.detail.into());
        let mut response = (self.status, Json(Value::Object(body))).into_response();
        let headers = response.headers_mut();
        let problem = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, problem);
        for (name, value) in self.headers {
            headers.insert(HeaderName::from_static(name), value.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A JSON body; what is wrong with it is named by its path.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        Ok(Self(parse(&read(request, state).await?)?))
    }
}

/// The bytes of a body, if they are not too many.
pub(crate) async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state)
        .await
        .map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "TOO_LARGE",
                format!("a body may have at most {BODY_LIMIT} bytes"),
            ),
            _ => Problem::new(
                StatusCode::BAD_REQUEST,
                "BAD_REQUEST",
                "the body is cut off",
            ),
        })
}

/// Reads JSON; what is wrong with it is named by its path.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let body = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        match inner.classify() {
            serde_json::error::Category::Data => {
                if let Some(field) = missing::field::<T>(bytes) {
                    return Problem::invalid(&field, "is missing");
                }
                let field = if path == "." { "the body" } else { &path };
                Problem::invalid(field, &format!("is not valid: {inner}"))
            }
            _ => bad_json(&inner),
        }
    })?;
    json.end().map_err(|error| bad_json(&error))?;
    Ok(body)
}

fn bad_json(error: &serde_json::Error) -> Problem {
    let detail = format!("the body is not valid JSON: {error}");
    Problem::new(StatusCode::BAD_REQUEST, "BAD_JSON", detail)
}

/// The query parameters; what is wrong with them is said as a problem.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> axum::extract::FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        state: &S,
    ) -> Result<Self, Problem> {
        axum::extract::Query::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|rejection| {
                Problem::new(StatusCode::BAD_REQUEST, "BAD_QUERY", rejection.body_text())
            })
    }
}

/// All services' routes on one port, with health and what is the same for all of them.
pub fn router(services: Vec<(Shell, Router)>, settings: &Settings, metrics: &Metrics) -> Router {
    let shells: Vec<Shell> = services.iter().map(|(shell, _)| shell.clone()).collect();
    let process = match shells.as_slice() {
        [alone] => alone.name(),
        _ => "all",
    };
    let mut router = crate::operating::routes::routes(shells.clone())
        .route(
            "/metrics",
            crate::operating::sample::route(&shells, metrics),
        )
        .merge(health::routes(shells));
    for (shell, routes) in services {
        let routes = routes.layer(from_fn_with_state(shell.name(), access::by));
        router = router.merge(routes);
    }
    let recorder = Recorder {
        metrics: metrics.clone(),
        process,
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
    ];
    let exposed = [
        header::LOCATION,
        header::RETRY_AFTER,
        idempotency::REPLAYED,
        access::REQUEST_ID,
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

/// Checks that a number lies within its limits.
///
/// # Errors
/// 422 that names the field and the limits.
pub fn between(field: &str, value: i64, least: i64, most: i64) -> Result<(), Problem> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(Problem::invalid(
            field,
            &format!("must be {least} to {most}"),
        )),
    }
}

/// Checks the length of a text.
///
/// # Errors
/// 422 that names the field and the limits.
pub fn text(field: &str, value: &str, least: usize) -> Result<(), Problem> {
    const MOST: usize = 200;
    let length = value.chars().count();
    match (least..=MOST).contains(&length) && !value.chars().any(char::is_control) {
        true => Ok(()),
        false => {
            let rule = format!("must be {least} to {MOST} characters, none of them control");
            Err(Problem::invalid(field, &rule))
        }
    }
}
