//! HTTP: problems (RFC 9457), bodies, health.

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::fault::Fault;
use crate::missing;
use crate::service::Shell;

/// The largest body that is read.
pub const BODY_LIMIT: usize = 64 * 1024;

/// An answer that is an error: RFC 9457, with a stable code and no internals.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    facts: Map<String, Value>,
    retry_after: Option<u32>,
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
            retry_after: None,
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
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        // The one place where a fault meets a client: it is logged here, and only here.
        tracing::warn!(%fault, "a request failed");
        match fault {
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
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
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
        let bytes =
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
                })?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let body = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            let inner = error.into_inner();
            match inner.classify() {
                serde_json::error::Category::Data => {
                    if let Some(field) = missing::field::<T>(&bytes) {
                        return Problem::invalid(&field, "is missing");
                    }
                    let field = if path == "." { "the body" } else { &path };
                    Problem::invalid(field, &format!("is not valid: {inner}"))
                }
                _ => Problem::new(
                    StatusCode::BAD_REQUEST,
                    "BAD_JSON",
                    format!("the body is not valid JSON: {inner}"),
                ),
            }
        })?;
        json.end().map_err(|error| {
            let detail = format!("the body is not valid JSON: {error}");
            Problem::new(StatusCode::BAD_REQUEST, "BAD_JSON", detail)
        })?;
        Ok(Self(body))
    }
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
pub fn router(services: Vec<(Shell, Router)>) -> Router {
    let shells: Vec<Shell> = services.iter().map(|(shell, _)| shell.clone()).collect();
    let mut router = crate::operations::routes(shells.clone())
        .route(
            "/health/live",
            get(|| async { Json(json!({ "status": "live" })) }),
        )
        .route("/health/ready", get(move || ready(shells.clone())));
    for (_, routes) in services {
        router = router.merge(routes);
    }
    router
        .fallback(|| async { Problem::not_found("route") })
        .method_not_allowed_fallback(|| async {
            let detail = "this route does not have this method";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", detail)
        })
        .layer(axum::extract::DefaultBodyLimit::max(BODY_LIMIT))
        .layer(axum::middleware::from_fn(traced))
}

async fn ready(shells: Vec<Shell>) -> Response {
    let services: Map<String, Value> = shells
        .iter()
        .map(|shell| {
            (
                shell.name().to_owned(),
                json!({ "missing": shell.missing() }),
            )
        })
        .collect();
    let ready = shells.iter().all(|shell| shell.missing().is_empty());
    let (status, word) = match ready {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    (
        status,
        Json(json!({ "status": word, "services": services })),
    )
        .into_response()
}

/// The span of a request: the root of the trace of what it sets off.
async fn traced(request: Request, next: axum::middleware::Next) -> Response {
    use tracing::Instrument as _;
    if request.uri().path().starts_with("/health") {
        return next.run(request).await;
    }
    let span = tracing::info_span!(
        "request",
        otel.name = format!("{} {}", request.method(), request.uri().path()),
        otel.kind = "server",
        http.request.method = %request.method(),
        url.path = request.uri().path(),
    );
    let parent = request.headers().get(crate::relay::TRACEPARENT);
    if let Some(parent) = parent.and_then(|value| value.to_str().ok()) {
        crate::telemetry::follow(&span, parent);
    }
    next.run(request).instrument(span).await
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
