//! Errors, as clients see them.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::fault::Fault;
use crate::telemetry;

/// The media type of a problem.
pub(crate) const MEDIA: &str = "application/problem+json";

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

    /// The sentence.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
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
        let (request_id, trace_id) = telemetry::request::names();
        tracing::warn!(%fault, request_id, trace_id, "a request failed");
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
        let problem = HeaderValue::from_static(MEDIA);
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

/// What the API document says of every problem.
pub(crate) fn schema() -> Value {
    json!({
        "type": "object",
        "description": "An error (RFC 9457). Facts about it are members of their own.",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": { "const": "about:blank" },
            "title": { "type": "string", "description": "The status in words" },
            "status": { "type": "integer" },
            "code": { "type": "string", "description": "What is wrong, for programs: it stays" },
            "detail": { "type": "string", "description": "What is wrong, and what to do" },
            "field": { "type": "string", "description": "Which field breaks a rule" },
        },
    })
}
