//! `ensemble openapi`: the HTTP API as a document, read off the routes.

use jetstream::http::document;

use crate::SERVICES;

pub(crate) const EXAMPLES: &str = "\
Examples:
  ensemble openapi > openapi.json

A running system serves it at /openapi.json, and pages to read and try it at /docs.";

pub(crate) fn run() {
    println!("{:#}", document::of(&SERVICES));
}
