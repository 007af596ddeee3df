//! The API as an OpenAPI 3.1 document, put together from what the routes say of
//! themselves, and pages to read and try it.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_swagger_ui::{Config, serve};

use crate::http::described::{Answer, Entry, user_schema};
use crate::http::routes::{Route, Routes};
use crate::http::{problem, process};
use crate::operating;
use crate::operating::metrics::Metrics;
use crate::shell::service::Service;

const INTRODUCTION: &str = "\
Orders over a choreography of services: `POST /orders` accepts an order, and its outcome is known a moment later.

- Who asks is known by a token (JWT): `Authorization: Bearer ...`. The user is its `sub`; operators have the scope \
`operator`. Another user's resources are 404.
- Money and points are integers in minor units. Times are RFC 3339 in UTC. Fields that are not known are refused.
- Errors are problem documents (RFC 9457) with a stable `code`.
- Each answer has an `X-Request-Id`: the client's own if it sent one of 1 to 128 visible characters.";

/// The document of a process with these services in it.
#[must_use]
pub fn of(services: &[Service]) -> Value {
    let mut document = Document::default();
    for service in services {
        document.add(&(service.routes)());
    }
    document.add(&operating::routes::routes(vec![]));
    document.add(&process::routes(vec![], &Value::Null, &Metrics::default()));
    document.finish()
}

#[derive(Default)]
struct Document {
    tags: Vec<Value>,
    paths: Map<String, Value>,
    schemas: Map<String, Value>,
    problems: Map<String, Value>,
}

impl Document {
    fn add(&mut self, routes: &Routes) {
        let (name, sentence) = routes.tag;
        if !routes.described.is_empty() {
            self.tags
                .push(json!({ "name": name, "description": sentence }));
        }
        for route in &routes.described {
            let operation = self.operation(name, route);
            let path = self.paths.entry(route.path).or_insert_with(|| json!({}));
            path[route.method] = operation;
            for (name, schema) in &route.doc.schemas {
                self.schemas.insert(name.clone(), schema.clone());
            }
        }
    }

    fn operation(&mut self, tag: &str, route: &Route) -> Value {
        let doc = &route.doc;
        let mut parameters = path_parameters(route);
        parameters.extend(doc.parameters.iter().cloned());
        let mut responses = Map::new();
        for (status, answer) in &doc.answers {
            responses.insert(status.to_string(), success(answer));
        }
        for (status, codes) in &doc.refusals {
            let codes: Vec<&str> = codes.iter().copied().collect();
            responses.insert(status.to_string(), self.problem(*status, &codes));
        }
        let mut operation = json!({
            "tags": [tag],
            "operationId": operation_id(route),
            "summary": doc.summary,
            "parameters": parameters,
            "responses": responses,
            "security": security(doc.entry),
        });
        if !doc.description.is_empty() {
            operation["description"] = doc.description.into();
        }
        if doc.owned {
            // Another user's is 404; a test asks for it.
            operation["x-owned"] = true.into();
        }
        if let Some(body) = &doc.body {
            operation["requestBody"] = body.clone();
        }
        operation
    }

    /// A reference to a problem with one of these codes.
    fn problem(&mut self, status: u16, codes: &[&str]) -> Value {
        let name = format!("{status}-{}", codes.join("-"));
        let title = StatusCode::from_u16(status).ok();
        let title = title
            .and_then(|status| status.canonical_reason())
            .unwrap_or_default();
        let example = json!({
            "type": "about:blank", "title": title, "status": status,
            "code": codes.first(), "detail": "A sentence that says what is wrong.",
        });
        let schema = json!({ "allOf": [
            { "$ref": "#/components/schemas/Problem" },
            { "properties": {
                "status": { "const": status },
                "code": { "enum": codes },
            } },
        ] });
        let mut response = json!({
            "description": format!("{title}: {}", codes.join(", ")),
            "content": { problem::MEDIA: { "schema": schema, "example": example } },
        });
        let number = |says: &str| json!({ "description": says, "schema": { "type": "integer" } });
        let retry = number("Seconds until it is worth trying again");
        match status {
            401 => {
                let bearer = json!({ "schema": { "type": "string" }, "description": "`Bearer`" });
                response["headers"] = json!({ "WWW-Authenticate": bearer });
            }
            429 => {
                response["headers"] = json!({
                    "Retry-After": retry,
                    "RateLimit-Limit": number("Requests at once"),
                    "RateLimit-Remaining": number("Requests that are left: none"),
                    "RateLimit-Reset": number("Seconds until the next one is let in"),
                });
            }
            503 => response["headers"] = json!({ "Retry-After": retry }),
            _ => {}
        }
        self.problems.insert(name.clone(), response);
        json!({ "$ref": format!("#/components/responses/{name}") })
    }

    fn finish(mut self) -> Value {
        self.schemas.insert("Problem".to_owned(), problem::schema());
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Ensemble",
                "version": env!("CARGO_PKG_VERSION"),
                "description": INTRODUCTION,
                "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            },
            "tags": self.tags,
            "paths": self.paths,
            "components": {
                "schemas": self.schemas,
                "responses": self.problems,
                "securitySchemes": {
                    "token": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
                    "ticket": {
                        "type": "apiKey", "in": "query", "name": "ticket",
                        "description": "Opens one stream once, for those who cannot set a header",
                    },
                },
            },
        })
    }
}

/// The parameters of a path: a user by its name, and the last one by what it is about.
fn path_parameters(route: &Route) -> Vec<Value> {
    let pieces = route.path.split('{').skip(1);
    let names: Vec<&str> = pieces
        .filter_map(|piece| Some(piece.split_once('}')?.0))
        .collect();
    let last = names.len().saturating_sub(1);
    let named = names.iter().enumerate().map(|(index, name)| {
        let id = route.doc.id.clone().filter(|_| index == last);
        let schema = id.unwrap_or_else(user_schema);
        json!({ "name": name.trim_start_matches('*'), "in": "path", "required": true, "schema": schema })
    });
    named.collect()
}

fn success(answer: &Answer) -> Value {
    let mut response = json!({ "description": answer.says });
    if let Some((media, schema)) = &answer.content {
        response["content"] = json!({ *media: { "schema": schema } });
    }
    for (name, says) in &answer.headers {
        response["headers"][*name] = json!({ "description": says, "schema": { "type": "string" } });
    }
    response
}

fn security(entry: Entry) -> Value {
    match entry {
        Entry::Anybody => json!([]),
        Entry::Token => json!([{ "token": [] }]),
        Entry::TokenOrTicket => json!([{ "token": [] }, { "ticket": [] }]),
        Entry::OperatorToken => json!([{ "token": ["operator"] }]),
    }
}

/// `post_orders_id_cancel`: follows from the route, and from no name in the code.
fn operation_id(route: &Route) -> String {
    let words = route.path.split(|c: char| !c.is_ascii_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    let id = words.fold(route.method.to_owned(), |id, word| format!("{id}_{word}"));
    match route.path.ends_with('/') {
        true => format!("{id}_index"),
        false => id,
    }
}

/// An OpenAPI document.
#[derive(ToSchema)]
#[allow(dead_code)] // it stands for its schema
pub(crate) struct OpenApi {
    openapi: String,
    info: Value,
    paths: Value,
    components: Value,
    tags: Value,
}

/// A page, or a file that belongs to one.
#[derive(ToSchema)]
#[allow(dead_code)] // it stands for its schema
pub(crate) struct Page(String);

/// A file of the pages, with its media type. All of them are in the program: they need no
/// other server.
pub(crate) fn page(path: &str) -> Option<(String, Vec<u8>)> {
    // Relative, so that it also works behind a prefix.
    let config = Arc::new(Config::from("../openapi.json"));
    let file = serve(path, config).ok()??;
    Some((file.content_type, file.bytes.into_owned()))
}
