//! The routes of a process, whatever services are in it: health, and the API document.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::{Value, json};

use crate::http::body::{Id, Named};
use crate::http::described::doc;
use crate::http::health::Readiness;
use crate::http::problem::Problem;
use crate::http::routes::Routes;
use crate::http::{document, health};
use crate::operating::metrics::Metrics;
use crate::operating::sample::Measured;
use crate::shell::Shell;

#[derive(Clone)]
struct Process {
    shells: Vec<Shell>,
    measured: Measured,
    document: Arc<str>,
}

/// The routes; without services they only describe themselves.
pub(crate) fn routes(shells: Vec<Shell>, document: &Value, metrics: &Metrics) -> Routes {
    let process = Process {
        measured: Measured::new(&shells, metrics),
        document: document.to_string().into(),
        shells,
    };
    Routes::about("process", "Health, metrics, and this document")
        .get("/health/live", health::live, "Say whether the process runs")
        .get(
            "/health/ready",
            ready,
            doc("Say whether every service of the process can work")
                .answers::<Readiness>(200, "All can")
                .answers::<Readiness>(503, "Not all can: what is missing"),
        )
        .get(
            "/metrics",
            measured,
            doc("Measure every service of the process").answers_as::<document::Page>(
                200,
                "What is measured, for Prometheus",
                "application/openmetrics-text",
            ),
        )
        .get(
            "/openapi.json",
            openapi,
            doc("Get this document").answers::<document::OpenApi>(200, "It"),
        )
        .get(
            "/docs",
            to_docs,
            doc("Get pages to read and try the API").answers_empty(308, "They are at `/docs/`"),
        )
        .get(
            "/docs/",
            docs,
            doc("Get pages to read and try the API").answers_as::<document::Page>(
                200,
                "The page",
                "text/html",
            ),
        )
        .get(
            "/docs/{file}",
            docs_file,
            doc("Get a file of these pages").answers_as::<document::Page>(200, "The file", "*/*"),
        )
        .with_state(process)
}

async fn ready(State(process): State<Process>) -> Response {
    let missing = |shell: &Shell| (shell.name(), shell.missing());
    health::answer(process.shells.iter().map(missing))
}

async fn measured(State(process): State<Process>) -> Response {
    process.measured.answer().await
}

async fn openapi(State(process): State<Process>) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, process.document.to_string()).into_response()
}

async fn to_docs() -> Response {
    Redirect::permanent("/docs/").into_response()
}

async fn docs() -> Response {
    file("index.html")
}

/// The name of a file of the pages.
struct FileName(String);

impl Named for FileName {
    const WHAT: &'static str = "page";

    fn read(text: &str) -> Option<Self> {
        Some(Self(text.to_owned()))
    }

    fn schema() -> Value {
        json!({ "type": "string", "example": "index.html" })
    }
}

async fn docs_file(Id(FileName(name)): Id<FileName>) -> Response {
    file(&name)
}

/// A file of the pages.
fn file(path: &str) -> Response {
    match document::page(path) {
        Some((media, bytes)) => ([(header::CONTENT_TYPE, media)], bytes).into_response(),
        None => Problem::not_found("page").into_response(),
    }
}
