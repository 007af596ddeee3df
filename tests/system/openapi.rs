//! The API document: complete, served by whoever has the routes, and readable offline.

use std::collections::BTreeSet;

use integration_tests::{Backend, World};
use serde_json::Value;

/// A change of the contract shows here, and is reviewed.
#[test]
fn the_contract_changes_in_sight() {
    let document = jetstream::http::document::of(&ensemble::SERVICES);
    insta::assert_json_snapshot!(document);
}

fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let of = |(path, methods): (&String, &'_ Value)| (path.clone(), methods.clone());
    let mut all = Vec::new();
    for (path, _) in paths.iter().map(of) {
        for (method, operation) in paths[&path].as_object().expect("methods") {
            all.push((format!("{method} {path}"), operation));
        }
    }
    all
}

#[test]
fn every_route_says_what_it_does_takes_and_answers() {
    let document = jetstream::http::document::of(&ensemble::SERVICES);
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        let text = |field: &str| operation[field].as_str().unwrap_or_default();
        assert!(!text("summary").is_empty(), "{name}: a summary");
        assert!(
            ids.insert(text("operationId").to_owned()),
            "{name}: an id of its own"
        );
        let responses = operation["responses"].as_object().expect("responses");
        let success = |status: &String| status.as_str() < "400";
        assert!(responses.keys().any(success), "{name}: it can succeed");
        for (status, response) in responses.iter().filter(|(status, _)| success(status)) {
            let described = response["description"]
                .as_str()
                .is_some_and(|d| !d.is_empty());
            assert!(described, "{name}: what {status} means");
        }
        let parameters = operation["parameters"].as_array().expect("parameters");
        for parameter in parameters {
            let said = parameter["in"] == "path" || parameter["description"].is_string();
            assert!(said, "{name}: what {} is for", parameter["name"]);
            assert!(
                parameter["schema"].is_object(),
                "{name}: {}",
                parameter["name"]
            );
        }
        let in_path = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "path");
        assert_eq!(
            in_path.count(),
            name.matches('{').count(),
            "{name}: its path"
        );
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = jetstream::http::document::of(&ensemble::SERVICES);
    let mut seen = 0;
    walk(&document, &mut |reference| {
        let pointer = reference.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{reference}");
        seen += 1;
    });
    assert!(seen > 100, "{seen} references");
}

fn walk(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::Object(fields) => {
            if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                found(reference);
            }
            fields.values().for_each(|value| walk(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| walk(value, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_alone_serves_the_document_of_its_own_routes() {
    let mut world = World::empty(Backend::Sqlite).await;
    world.start_apart().await;
    for host in world.hosts() {
        let url = format!("http://{}/openapi.json", host.address());
        let document: Value = reqwest::get(url)
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        let names: Vec<_> = host.services().iter().map(|s| s.shell().name()).collect();
        let services = ensemble::SERVICES
            .iter()
            .filter(|s| names.contains(&s.name));
        let services: Vec<_> = services.copied().collect();
        assert_eq!(
            document,
            jetstream::http::document::of(&services),
            "{names:?}"
        );
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_come_from_the_program_alone() {
    let world = World::start(Backend::Sqlite).await;
    let host = world.hosts().next().expect("a host").address();
    let get = async |path: &str| {
        let response = reqwest::get(format!("http://{host}{path}"))
            .await
            .expect("an answer");
        (
            response.status().as_u16(),
            response.text().await.expect("text"),
        )
    };
    // It leads to `/docs/`.
    let (status, page) = get("/docs").await;
    assert_eq!(status, 200);
    let outside = |text: &str| text.contains("src=\"http") || text.contains("href=\"http");
    assert!(page.contains("swagger-ui") && !outside(&page), "{page}");
    for file in page.split(['"']).filter(|part| part.starts_with("./")) {
        let (status, text) = get(&format!("/docs/{}", file.trim_start_matches("./"))).await;
        assert_eq!(status, 200, "{file}");
        assert!(!text.is_empty(), "{file}");
    }
    let (_, script) = get("/docs/swagger-initializer.js").await;
    assert!(script.contains("../openapi.json"), "{script}");
    assert_eq!(get("/docs/nothing.js").await.0, 404);
    assert_eq!(get("/docs/..%2fCargo.toml").await.0, 404);
    world.end().await;
}
