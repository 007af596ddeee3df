//! An OTLP collector of one's own: it keeps the spans that are sent to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1 as wire;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::eventually;

/// A collector on a free port; it ends when it is dropped.
pub struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<Span>>>,
    server: JoinHandle<()>,
}

/// A span as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The service that it is of.
    pub service: String,
    /// The trace, in hexadecimal.
    pub trace: String,
    /// The span, in hexadecimal.
    pub id: String,
    /// Its parent; empty: it has none.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// `Server`, `Producer`, `Consumer` or `Internal`.
    pub kind: String,
    /// From when to when, in nanoseconds.
    pub time: (u64, u64),
    /// What it says.
    pub attributes: BTreeMap<String, String>,
    /// What happened in it.
    pub events: Vec<(String, BTreeMap<String, String>)>,
    /// Spans that it links to: trace, span, and what is said of the link.
    pub links: Vec<(String, String, BTreeMap<String, String>)>,
    /// Why it is an error, if it is one.
    pub error: Option<String>,
}

impl Span {
    /// An attribute; empty when it has none of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

impl Collector {
    /// Starts a collector.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let spans = Arc::default();
        let service = TraceServiceServer::new(Receiver(Arc::clone(&spans)));
        let serving = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(listener));
        let server = tokio::spawn(async move { serving.await.expect("it serves") });
        Self { url, spans, server }
    }

    /// The endpoint, for `--otlp`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What has come by now.
    ///
    /// # Panics
    /// Never: who holds the lock does not panic.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().expect("a lock").clone()
    }

    /// The spans of a trace.
    #[must_use]
    pub fn trace(&self, id: &str) -> Vec<Span> {
        let mut spans = self.spans();
        spans.retain(|span| span.trace == id);
        spans
    }

    /// Waits until a span has come.
    ///
    /// # Panics
    /// When none comes.
    pub async fn until(&self, what: &str, is: impl Fn(&Span) -> bool) -> Span {
        eventually(what, async || {
            let spans = self.spans();
            let found = spans.iter().find(|span| is(span)).cloned();
            found.ok_or_else(|| {
                let names: BTreeSet<_> = spans.iter().map(|span| &span.name).collect();
                format!("{names:?}")
            })
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Whether spans hang together: no id comes twice, every parent is there, and so is every
/// span that is linked to.
///
/// # Errors
/// The spans that do not.
pub fn hang_together(spans: &[Span]) -> Result<(), String> {
    let mut ids: HashMap<(&str, &str), usize> = HashMap::new();
    for span in spans {
        *ids.entry((&span.trace, &span.id)).or_default() += 1;
    }
    let mut wrong = Vec::new();
    for span in spans {
        let name = &span.name;
        if ids[&(span.trace.as_str(), span.id.as_str())] > 1 {
            wrong.push(format!("{name} came twice"));
        }
        if !span.parent.is_empty() && !ids.contains_key(&(&*span.trace, &*span.parent)) {
            wrong.push(format!("{name} of {} is an orphan", span.service));
        }
        for (trace, id, said) in &span.links {
            if !ids.contains_key(&(&**trace, &**id)) {
                wrong.push(format!(
                    "{name} links to a span that is not there: {said:?}"
                ));
            }
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n")),
    }
}

struct Receiver(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut come = Vec::new();
        for of_resource in request.into_inner().resource_spans {
            let resource = of_resource.resource.unwrap_or_default();
            let service = texts(resource.attributes).remove("service.name");
            let service = service.unwrap_or_default();
            let spans = of_resource.scope_spans.into_iter().flat_map(|s| s.spans);
            come.extend(spans.map(|span| read(&service, span)));
        }
        self.0.lock().expect("a lock").extend(come);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn read(service: &str, span: wire::Span) -> Span {
    let kind = span.kind();
    let status = span.status.clone().unwrap_or_default();
    let is_error = status.code() == wire::status::StatusCode::Error;
    let events = span.events.into_iter();
    let links = span.links.into_iter();
    Span {
        service: service.to_owned(),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        name: span.name,
        kind: format!("{kind:?}"),
        time: (span.start_time_unix_nano, span.end_time_unix_nano),
        attributes: texts(span.attributes),
        events: events.map(|e| (e.name, texts(e.attributes))).collect(),
        links: links
            .map(|l| (hex(&l.trace_id), hex(&l.span_id), texts(l.attributes)))
            .collect(),
        error: is_error.then_some(status.message),
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(n)) => n.to_string(),
        Some(any_value::Value::BoolValue(b)) => b.to_string(),
        other => format!("{other:?}"),
    };
    let attributes = attributes.into_iter();
    attributes.map(|a| (a.key, text(a.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
