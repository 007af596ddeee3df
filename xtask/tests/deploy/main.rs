//! What is deployed: compose.yaml is a valid Compose file, what it names exists, images and
//! versions are pinned, and nothing is left open. There is no container engine here: these
//! are the checks that need none.
//!
//! `compose-spec.json` is the schema of the Compose Specification (Apache-2.0, by its
//! contributors), unchanged.

mod dashboards;
mod pins;
mod schema;
mod yaml;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value};

fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent()
        .expect("xtask is in the repository")
        .to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml_of(path: &str) -> Value {
    yaml::read(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn compose() -> Value {
    yaml_of("compose.yaml")
}

fn services(compose: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let services = compose["services"].as_object().expect("services");
    services
        .iter()
        .map(|(name, service)| (name.as_str(), service))
}

fn texts(list: &Value) -> Vec<&str> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).collect()
}

fn wrong_with(compose: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(include_str!("compose-spec.json")).expect("JSON");
    schema::findings(&schema, compose)
}

#[test]
fn the_compose_file_is_valid_by_the_specification() {
    assert_eq!(wrong_with(&compose()), Vec::<String>::new());
    // The check can see.
    for (pointer, value) in [
        ("/services/order/restrat", "always".into()),
        ("/services/order/mem_limit", Value::Bool(true)),
        (
            "/services/order/depends_on/nats/condition",
            "service_ready".into(),
        ),
        ("/services/order/healthcheck/intervall", "1s".into()),
    ] {
        let mut broken = compose();
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        let parent = broken.pointer_mut(parent).and_then(Value::as_object_mut);
        parent.expect("an object").insert(key.to_owned(), value);
        assert_ne!(wrong_with(&broken), Vec::<String>::new(), "{pointer}");
    }
}

#[test]
fn every_file_that_is_named_exists_and_every_secret_is_made() {
    let compose = compose();
    let made = read("deploy/secrets.sh");
    for (name, service) in services(&compose) {
        for volume in texts(&service["volumes"]) {
            let source = volume.split(':').next().expect("a source");
            match source.strip_prefix("./") {
                Some(path) => {
                    assert!(root().join(path).exists(), "{name}: {source}");
                    assert!(volume.ends_with(":ro"), "{name}: {source} is read only");
                }
                None => assert!(compose["volumes"].get(source).is_some(), "{name}: {source}"),
            }
        }
        let secrets = service["secrets"].as_array().map(Vec::as_slice);
        for secret in secrets.unwrap_or_default() {
            let source = secret
                .as_str()
                .or(secret["source"].as_str())
                .expect("a source");
            assert!(compose["secrets"].get(source).is_some(), "{name}: {source}");
        }
        let build = &service["build"];
        if !build.is_null() {
            let target = build["target"].as_str().expect("a target");
            let stage = format!(" AS {target}\n");
            assert!(read("Dockerfile").contains(&stage), "{name}: {target}");
        }
    }
    for (name, secret) in compose["secrets"].as_object().expect("secrets") {
        let file = secret["file"].as_str().expect("a file");
        let file = file
            .strip_prefix("./deploy/secrets/")
            .expect("in its folder");
        let (kind, who) = file.split_once('_').expect("a name");
        let kept = made.contains(&format!("$folder/{kind}_$")) && made.contains(who);
        assert!(
            made.contains(file) || kept,
            "{name}: deploy/secrets.sh makes {file}"
        );
        let used =
            services(&compose).any(|(_, service)| service["secrets"].to_string().contains(name));
        assert!(used, "{name} is used");
    }
}

#[test]
fn every_variable_is_documented() {
    let text = read("docs/configuration.md");
    let compose = compose();
    let mut seen = BTreeSet::new();
    for (name, service) in services(&compose) {
        let Some(variables) = service["environment"].as_object() else {
            continue;
        };
        for (variable, value) in variables {
            assert!(
                text.contains(&format!("`{variable}`")),
                "{name}: {variable}"
            );
            assert!(
                value.is_string(),
                "{name}: {variable} is a text, so that it is not changed"
            );
            let secret = variable.contains("PASSWORD") && !variable.contains("FILE");
            assert!(!secret, "{name}: {variable} is read from a file");
            seen.insert(variable.clone());
        }
    }
    assert!(seen.len() > 15, "{seen:?}");
    let whole = read("compose.yaml");
    assert!(
        !whole.contains("${"),
        "a variable of the caller would have to be documented too"
    );
}

/// What every container has, whatever is in it.
#[test]
fn containers_are_held_in() {
    let compose = compose();
    for (name, service) in services(&compose) {
        assert_eq!(service["read_only"], true, "{name}: read_only");
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}: cap_drop");
        assert_eq!(
            texts(&service["security_opt"]),
            ["no-new-privileges:true"],
            "{name}"
        );
        assert!(service["mem_limit"].is_string(), "{name}: mem_limit");
        assert!(service["pids_limit"].is_number(), "{name}: pids_limit");
        assert!(
            service["privileged"].is_null() && service["network_mode"].is_null(),
            "{name}"
        );
        let once = matches!(name, "provision" | "ensemble");
        let restart = if once { "no" } else { "unless-stopped" };
        assert_eq!(service["restart"], restart, "{name}: restart");
        let checked = once || name == "jaeger" || service["healthcheck"].is_object();
        assert!(checked, "{name}: a health check");
        for port in texts(&service["ports"]) {
            assert!(
                port.starts_with("127.0.0.1:"),
                "{name}: {port} is for this machine alone"
            );
        }
        let ours = service["image"]
            .as_str()
            .is_some_and(|image| image.starts_with("ensemble/"));
        assert!(
            !ours || service["user"] == "65532:65532",
            "{name}: its user"
        );
        let outside = service["ports"].is_array();
        assert_eq!(
            texts(&service["networks"]).contains(&"outside"),
            outside,
            "{name}: networks"
        );
    }
    assert_eq!(compose["networks"]["inside"]["internal"], true);
    let program = |service: &str| format!("/{service}-svc");
    for service in ["order", "stock", "point", "coupon", "cart"] {
        let this = &compose["services"][service];
        let check = program(service);
        assert_eq!(
            texts(&this["healthcheck"]["test"]),
            ["CMD", &check, "--health-check"]
        );
        let started: Map<String, Value> = this["depends_on"].as_object().expect("an order").clone();
        assert_eq!(
            started["provision"]["condition"],
            "service_completed_successfully"
        );
        assert_eq!(started["nats"]["condition"], "service_healthy");
        assert_eq!(started["postgres"]["condition"], "service_healthy");
        let secrets = this["secrets"].to_string();
        for other in ["order", "stock", "point", "coupon", "cart"] {
            let has = secrets.contains(&format!("_{other}\""));
            assert_eq!(
                has,
                other == service,
                "{service} has its own secrets, and no others"
            );
        }
        let environment = &this["environment"];
        assert_eq!(environment["ENSEMBLE_NATS_USER"], service);
    }
}

/// The routes of the proxy are those of the services.
#[test]
fn the_proxy_reaches_every_service() {
    let proxy = read("deploy/proxy/Caddyfile");
    for service in ["order", "stock", "point", "coupon", "cart"] {
        assert!(
            proxy.contains(&format!("handle_path /services/{service}/*")),
            "{service}"
        );
        let canvas = read(&format!("{service}-svc/README.md"));
        let routes = canvas.lines().filter(|line| line.starts_with("| `"));
        let mut paths = routes.filter_map(|line| {
            let (_, rest) = line.split_once(" /")?;
            Some(rest.split(['/', '`', '?', '{', ' ']).next()?.to_owned())
        });
        let all: BTreeSet<String> = paths.by_ref().filter(|path| !path.is_empty()).collect();
        assert!(!all.is_empty(), "the canvas of {service} has routes");
        for path in all {
            let matcher = format!("\t@{service} path ");
            let handled = proxy.lines().filter(|line| line.starts_with(&matcher));
            let mut handled = handled.filter(|line| line.contains(&format!(" /{path}")));
            assert!(
                handled.next().is_some(),
                "{service}: /{path} is no route of the proxy"
            );
        }
    }
}

#[test]
fn prometheus_asks_every_service() {
    let prometheus = yaml_of("deploy/prometheus/prometheus.yml");
    let targets = texts(&prometheus["scrape_configs"][0]["static_configs"][0]["targets"]).join(" ");
    for service in ["order", "stock", "point", "coupon", "cart"] {
        assert!(targets.contains(&format!("{service}:8080")), "{service}");
    }
}
