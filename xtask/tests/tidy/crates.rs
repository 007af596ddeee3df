//! Which crates may name which.

use crate::{Source, services};

/// Crates that the language must not know. A name ends with `*` when all that begin with
/// it are meant.
const NOT_IN_EVENTS: &[&str] = &[
    "async-nats",
    "axum*",
    "jetstream",
    "opentelemetry*",
    "reqwest",
    "sea-orm*",
    "sqlx*",
    "tokio*",
    "tracing*",
];

/// Crates that only the runtime names.
const ONLY_IN_JETSTREAM: &[&str] = &["async-nats", "opentelemetry*"];

/// The packages that may name them: the runtime, the tests of the whole, and what is written
/// without the runtime to be compared with it.
const MAY_NAME_THEM: &[&str] = &[
    "jetstream",
    "tests",
    "tests/faults",
    "bench",
    "bench/handwritten",
];

/// Dependencies that are not allowed.
pub(crate) fn forbidden_edges(sources: &[Source]) -> Vec<String> {
    let services = services(sources);
    let mut findings = Vec::new();
    for manifest in sources.iter().filter(|s| s.ends_with("/Cargo.toml")) {
        let package = manifest.path.trim_end_matches("/Cargo.toml");
        for dependency in dependencies(&manifest.text) {
            let what = forbidden(package, &dependency, &services);
            findings.extend(what.map(|what| format!("{}: `{dependency}`: {what}", manifest.path)));
        }
    }
    findings
}

fn forbidden(package: &str, dependency: &str, services: &[&str]) -> Option<&'static str> {
    let among = |names: &[&str]| names.iter().any(|name| matches(name, dependency));
    if services.contains(&package) && services.contains(&dependency) {
        return Some("a service knows no other service; say or hear an event instead");
    }
    if package == "events" && among(NOT_IN_EVENTS) {
        return Some("the language names no infrastructure; it belongs into `jetstream`");
    }
    if !MAY_NAME_THEM.contains(&package) && among(ONLY_IN_JETSTREAM) {
        return Some("only `jetstream` names it; use or add what `jetstream` offers");
    }
    None
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

/// The packages that a manifest depends on, in whatever kind of section.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_end_matches(']');
            // `[dependencies]`, or `[dependencies.name]` with the rest in lines of its own.
            inside = header.ends_with("dependencies");
            if let Some((_, name)) = header.split_once("dependencies.") {
                found.push(unquoted(name));
                inside = false;
            }
        } else if let Some(renamed) = renamed(line) {
            found.push(renamed);
        } else if let Some((name, _)) = line.split_once('=').filter(|_| inside) {
            let name = name.split('.').next().unwrap_or_default();
            found.push(unquoted(name));
        }
    }
    found
}

/// What is behind another name: `nats = { package = "async-nats" }`.
fn renamed(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("package = \"")?;
    rest.split('"').next().map(str::to_owned)
}

fn unquoted(name: &str) -> String {
    name.trim().trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(package: &str, manifest: &str) -> Vec<String> {
        let manifests = [
            Source::new(&format!("{package}/Cargo.toml"), manifest),
            Source::new("stock-svc/Cargo.toml", ""),
        ];
        forbidden_edges(&manifests)
    }

    #[test]
    fn a_service_that_depends_on_another_is_found() {
        for manifest in [
            "[dependencies]\nstock-svc.workspace = true\n",
            "[dev-dependencies]\nstock-svc = { path = \"../stock-svc\" }\n",
            "[dependencies.stock-svc]\npath = \"../stock-svc\"\n",
            "[target.'cfg(unix)'.dependencies]\nstock = { package = \"stock-svc\" }\n",
        ] {
            let found = findings("order-svc", manifest);
            assert_eq!(found.len(), 1, "{manifest}");
            assert!(found[0].starts_with("order-svc/Cargo.toml: `stock-svc`"));
        }
        assert!(findings("ensemble", "[dependencies]\nstock-svc.workspace = true\n").is_empty());
    }

    #[test]
    fn infrastructure_in_the_language_is_found() {
        let manifest = "[dependencies]\nprost = \"1\"\n[dev-dependencies]\ntokio-util = \"1\"\n";
        assert_eq!(findings("events", manifest).len(), 1);
    }

    #[test]
    fn the_broker_outside_the_runtime_is_found() {
        let manifest = "[dependencies]\nasync-nats.workspace = true\nopentelemetry_sdk = \"0\"\n";
        assert_eq!(findings("point-svc", manifest).len(), 2);
        assert!(findings("jetstream", manifest).is_empty());
    }
}
