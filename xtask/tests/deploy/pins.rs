//! Versions: what is deployed is what is tested, and named exactly.

use crate::{compose, read, services};

/// The version of the project.
fn version() -> String {
    let manifest = read("Cargo.toml");
    let (_, rest) = manifest
        .split_once("[workspace.package]")
        .expect("the package");
    let (_, rest) = rest.split_once("version = \"").expect("a version");
    rest.split('"').next().expect("a version").to_owned()
}

/// A tag that names one version: three numbers at least, and not `latest`.
fn is_pinned(image: &str) -> bool {
    let Some((_, tag)) = image.rsplit_once(':') else {
        return false;
    };
    let numbers = tag
        .trim_start_matches('v')
        .split('-')
        .next()
        .unwrap_or_default();
    let numbers: Vec<&str> = numbers.split('.').collect();
    let numeric = numbers
        .iter()
        .all(|n| n.chars().all(|c| c.is_ascii_digit()) && !n.is_empty());
    numbers.len() >= 2 && numeric
}

#[test]
fn every_image_is_pinned() {
    assert!(is_pinned("nats:2.15.1-alpine") && is_pinned("prom/prometheus:v3.5.0"));
    for loose in ["nats", "nats:latest", "nats:2", "nats:alpine"] {
        assert!(!is_pinned(loose), "{loose}");
    }
    let compose = compose();
    for (name, service) in services(&compose) {
        let image = service["image"].as_str().expect("an image");
        assert!(is_pinned(image), "{name}: {image}");
        if let Some(ours) = image.strip_prefix("ensemble/") {
            let tag = ours.split(':').nth(1).expect("a tag");
            assert_eq!(tag, version(), "{name}: the version of the project");
        }
    }
    let dockerfile = read("Dockerfile");
    for line in dockerfile.lines().filter(|line| line.starts_with("FROM ")) {
        let image = line.split_whitespace().nth(1).expect("an image");
        let own = ["scratch", "base"].contains(&image);
        assert!(own || is_pinned(image), "Dockerfile: {line}");
    }
}

#[test]
fn what_is_deployed_is_what_is_tested() {
    let toolchain = read("rust-toolchain.toml");
    let (_, rest) = toolchain.split_once("channel = \"").expect("a channel");
    let channel = rest.split('"').next().expect("a channel");
    assert!(
        read("Dockerfile").contains(&format!("FROM rust:{channel}-")),
        "{channel}"
    );
    let compose = compose();
    let image = compose["services"]["nats"]["image"]
        .as_str()
        .expect("an image");
    let deployed = image
        .trim_start_matches("nats:")
        .split('-')
        .next()
        .expect("a version");
    // Images come some time after programs: the last number may differ.
    let (line, _) = deployed.rsplit_once('.').expect("three numbers");
    let fetched = read("xtask/src/nats.rs");
    assert!(
        fetched.contains(&format!("const PINNED: &str = \"{line}.")),
        "xtask fetches a nats-server {line}"
    );
}

#[test]
fn a_container_runs_no_shell_and_is_nobody() {
    let dockerfile = read("Dockerfile");
    let (_, last) = dockerfile
        .split_once("FROM scratch AS base")
        .expect("the base");
    assert!(last.contains("USER 65532:65532"));
    assert!(
        !last.contains("\nRUN "),
        "what is in an image was built before"
    );
    for program in [
        "order-svc",
        "stock-svc",
        "point-svc",
        "coupon-svc",
        "cart-svc",
        "ensemble",
    ] {
        let entry = format!("ENTRYPOINT [\"/{program}\"]");
        assert!(last.contains(&entry), "{program}");
    }
    assert!(
        read(".dockerignore")
            .lines()
            .any(|line| line == "deploy/secrets")
    );
    assert!(
        read(".gitignore")
            .lines()
            .any(|line| line == "/deploy/secrets")
    );
}
