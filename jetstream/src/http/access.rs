//! The id, the span and the log line of a request.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use events::UserId;

use crate::clock;
use crate::operating::metrics::Metrics;
use crate::saying::relay;
use crate::shell::Shell;
use crate::telemetry::Tracer;
use crate::telemetry::request::{self, Answered};

/// Names a request, in its answer and in the log.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Who asks, as soon as that is known: the token is read behind the log line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Who(Arc<OnceLock<UserId>>);

impl Who {
    pub(crate) fn is(&self, user: &UserId) {
        let _ = self.0.set(user.clone());
    }
}

/// Which service answers, as soon as that is known: routes are found behind the log line.
#[derive(Debug, Clone, Default)]
struct By(Arc<OnceLock<&'static str>>);

/// Notes that a service answers.
pub(crate) async fn by(State(shell): State<Shell>, request: Request, next: Next) -> Response {
    if let Some(by) = request.extensions().get::<By>() {
        let _ = by.0.set(shell.name());
    }
    request::served_by(shell.tracer());
    next.run(request).await
}

/// What requests are recorded with.
#[derive(Clone)]
pub(crate) struct Recorder {
    pub(crate) metrics: Metrics,
    /// Who answers what belongs to no service.
    pub(crate) process: &'static str,
    /// Where the spans go of what belongs to no service.
    pub(crate) tracer: Tracer,
}

/// Whether it is asked so often, by machines, that a line for each would hide the others.
pub(crate) fn is_quiet(path: &str) -> bool {
    path.starts_with("/health") || path == "/metrics"
}

/// Gives a request its id and its span, the root of the trace of what it sets off, and
/// logs how it ended. No bodies, no tokens, no queries: paths of routes only.
pub(crate) async fn record(
    State(recorder): State<Recorder>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = id(request.headers());
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let mut response = match is_quiet(request.uri().path()) {
        true => next.run(request).await,
        false => logged(&recorder, request, next, id.to_str().unwrap_or_default()).await,
    };
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

async fn logged(recorder: &Recorder, mut request: Request, next: Next, id: &str) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("none", MatchedPath::as_str);
    let path = request.uri().clone();
    let parent = request.headers().get(relay::TRACEPARENT);
    let parent = parent.and_then(|value| value.to_str().ok());
    let begun = request::Request::begin(&recorder.tracer, id, parent);
    let who = Who::default();
    let by = By::default();
    request.extensions_mut().insert(who.clone());
    request.extensions_mut().insert(by.clone());
    let response = begun.answer(next.run(request)).await;
    let service = by.0.get().copied().unwrap_or(recorder.process);
    let (status, took) = (response.status().as_u16(), started.elapsed());
    recorder
        .metrics
        .answered(service, &method, route, status, took);
    begun.end(&Answered {
        method: method.as_str(),
        route,
        path: path.path(),
        status,
    });
    tracing::info!(
        %method,
        route,
        status,
        duration_ms = took.as_micros() as f64 / 1000.0,
        user = who.0.get().map_or("", UserId::as_str),
        request_id = id,
        trace_id = begun.trace_id(),
        "answered"
    );
    response
}

/// The client's own id if it is sane, or else a new one.
fn id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID);
    let sane = given.filter(|id| visible(id.as_bytes(), 128));
    sane.cloned().unwrap_or_else(|| {
        let new = clock::new_id().to_string();
        HeaderValue::from_str(&new).unwrap_or_else(|_| HeaderValue::from_static("none"))
    })
}

/// Whether a value is 1 to `most` visible ASCII characters.
pub(crate) fn visible(value: &[u8], most: usize) -> bool {
    (1..=most).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_id_is_kept_and_another_replaced() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, value.parse().expect("a header"));
            id(&headers)
        };
        assert_eq!(of("abc-1"), "abc-1");
        for wrong in ["", "a b", "a\tb", &"x".repeat(129)] {
            assert_eq!(of(wrong).len(), 36, "{wrong}");
        }
        assert_eq!(id(&HeaderMap::new()).len(), 36);
    }
}
