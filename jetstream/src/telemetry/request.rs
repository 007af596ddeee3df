//! The request that is being answered: its id, its span, and what it is about.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use events::{EventId, Flow, OrderId};
use opentelemetry::trace::{SpanKind, Status};

use super::span;
use super::traceparent::SpanRef;
use super::tracer::Tracer;
use crate::clock;

tokio::task_local! {
    static REQUEST: Request;
}

/// A request that is being answered, known to all that is done for it in its task.
#[derive(Debug, Clone)]
pub(crate) struct Request(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: String,
    // None: it is not sampled.
    span: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    here: SpanRef,
    parent: Option<SpanRef>,
    from: SystemTime,
    // The tracer of the service that answers, as soon as that is known.
    tracer: OnceLock<Tracer>,
    fallback: Tracer,
    about: Mutex<About>,
}

#[derive(Debug, Default)]
struct About {
    order: Option<(OrderId, &'static str)>,
    event: Option<EventId>,
    continues: Vec<SpanRef>,
}

/// How a request was answered.
pub(crate) struct Answered<'a> {
    pub(crate) method: &'a str,
    pub(crate) route: &'a str,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
}

impl Request {
    /// Begins one, in the trace of its client or in a new one.
    pub(crate) fn begin(tracer: &Tracer, id: &str, traceparent: Option<&str>) -> Self {
        let span = tracer.begin(traceparent).map(|(here, parent)| Begun {
            here,
            parent,
            from: clock::moment(),
            tracer: OnceLock::new(),
            fallback: tracer.clone(),
            about: Mutex::default(),
        });
        let id = id.to_owned();
        Self(Arc::new(Inner { id, span }))
    }

    /// Runs what answers it.
    pub(crate) async fn answer<F: Future>(&self, answering: F) -> F::Output {
        REQUEST.scope(self.clone(), answering).await
    }

    /// The trace id, where it is sampled.
    pub(crate) fn trace_id(&self) -> Option<String> {
        let begun = self.0.span.as_ref()?;
        Some(format!("{:032x}", begun.here.trace))
    }

    /// Records the span of a request that was answered.
    pub(crate) fn end(&self, answered: &Answered<'_>) {
        let Some(begun) = &self.0.span else { return };
        let name = format!("{} {}", answered.method, answered.route);
        let when = (begun.from, clock::moment());
        let mut span = span::span(begun.here, begun.parent, SpanKind::Server, name, when);
        span::set(&mut span, "http.request.method", answered.method.to_owned());
        span::set(&mut span, "http.route", answered.route.to_owned());
        // A path that names a user is not for traces.
        if !answered.route.contains("{user}") {
            span::set(&mut span, "url.path", answered.path.to_owned());
        }
        let status = answered.status;
        span::set(&mut span, "http.response.status_code", i64::from(status));
        span::set(&mut span, "request_id", self.0.id.clone());
        if status >= 500 {
            span::set(&mut span, "error.type", status.to_string());
            span.status = Status::error("");
        }
        let about = begun.about.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((order, flow)) = &about.order {
            span::set(&mut span, "order.id", order.to_string());
            span::set(&mut span, "flow", *flow);
        }
        if let Some(event) = &about.event {
            span::set(&mut span, "event.id", event.to_string());
        }
        for order in &about.continues {
            span::link(&mut span, *order, vec![]);
        }
        begun.tracer.get().unwrap_or(&begun.fallback).record(span);
    }
}

fn with<T>(look: impl FnOnce(&Inner) -> Option<T>) -> Option<T> {
    REQUEST.try_with(|request| look(&request.0)).ok().flatten()
}

/// The span of the request that is being answered; nothing when it is not sampled.
pub(crate) fn here() -> Option<SpanRef> {
    with(|request| request.span.as_ref().map(|begun| begun.here))
}

/// The trace context of the request that is being answered, as a `traceparent`; nothing
/// when it is not sampled.
#[must_use]
pub fn current() -> Option<String> {
    here().map(SpanRef::traceparent)
}

/// A request that is decided elsewhere, together with others.
#[derive(Debug, Clone)]
pub struct Along(Option<Request>);

/// Takes the request that is being answered along.
#[must_use]
pub fn along() -> Along {
    Along(REQUEST.try_with(Clone::clone).ok())
}

impl Along {
    /// Does something as part of answering it.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(request) => REQUEST.sync_scope(request.clone(), work),
            None => work(),
        }
    }
}

/// The id and the trace of the request that is being answered, for the log.
pub(crate) fn names() -> (Option<String>, Option<String>) {
    let trace = here().map(|here| format!("{:032x}", here.trace));
    (with(|request| Some(request.id.clone())), trace)
}

/// The service whose route it is.
pub(crate) fn served_by(tracer: &Tracer) {
    with(|request| request.span.as_ref()?.tracer.set(tracer.clone()).ok());
}

/// The order that the request is about, and the event that it leads to.
pub fn concerns(order: OrderId, flow: Flow, event: Option<EventId>) {
    about(|about| {
        about.order = Some((order, flow.name()));
        about.event = event;
    });
}

/// The request goes on with an order whose trace began before.
pub(crate) fn continues(order: SpanRef) {
    about(|about| about.continues.push(order));
}

fn about(change: impl FnOnce(&mut About)) {
    with(|request| {
        let begun = request.span.as_ref()?;
        change(&mut begun.about.lock().unwrap_or_else(PoisonError::into_inner));
        Some(())
    });
}
