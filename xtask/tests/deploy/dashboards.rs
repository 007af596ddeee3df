//! Alerts and dashboard: whatever they ask for is measured, and each alert says what to do.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{read, yaml_of};

/// The names of metrics in a text, without what a histogram or a counter appends.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text
        .split(|c| !word(c))
        .filter(|w| w.starts_with("ensemble_"));
    let endings = ["_bucket", "_sum", "_count", "_total"];
    let bare = words.map(|w| {
        let ending = endings.iter().find_map(|ending| w.strip_suffix(ending));
        ending
            .unwrap_or(w)
            .trim_start_matches("ensemble_")
            .to_owned()
    });
    bare.collect()
}

/// Where the metrics are declared.
fn declared() -> String {
    read("jetstream/src/operating/metrics.rs")
}

fn dashboard() -> Value {
    let text = read("deploy/grafana/dashboards/ensemble.json");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn whatever_is_asked_for_is_measured() {
    let declared = declared();
    let alerts = yaml_of("deploy/prometheus/alerts.yml").to_string();
    let panels = dashboard()["panels"].to_string();
    for (what, text) in [("alerts", alerts), ("dashboard", panels)] {
        let asked = metrics_in(&text);
        assert!(asked.len() >= 8, "{what}: {asked:?}");
        for metric in asked {
            assert!(
                declared.contains(&format!("\"{metric}\"")),
                "{what}: ensemble_{metric}"
            );
        }
    }
}

#[test]
fn every_alert_says_what_to_do() {
    let guide = read("docs/operations.md");
    let sections = guide.lines().filter_map(|line| line.strip_prefix("### "));
    let sections: BTreeSet<String> = sections
        .map(|title| title.to_lowercase().replace(' ', "-"))
        .collect();
    let alerts = yaml_of("deploy/prometheus/alerts.yml");
    let rules = alerts["groups"][0]["rules"].as_array().expect("rules");
    let mut described = BTreeSet::new();
    for rule in rules {
        let name = rule["alert"].as_str().expect("a name");
        let runbook = rule["annotations"]["runbook"].as_str().expect("a section");
        let section = runbook
            .strip_prefix("docs/operations.md#")
            .expect("of the guide");
        assert!(sections.contains(section), "{name}: {runbook}");
        let (_, text) = guide
            .split_once(&format!("\n### {}", title_of(section, &guide)))
            .expect("the section");
        let text = text.split("\n### ").next().expect("its text");
        for step in ["\n1. ", "\n2. ", "\n3. "] {
            assert!(
                text.contains(step),
                "{section}: the first three things to do"
            );
        }
        described.insert(section.to_owned());
    }
    assert_eq!(described, sections, "each section is that of an alert");
}

fn title_of<'a>(section: &str, guide: &'a str) -> &'a str {
    let mut titles = guide.lines().filter_map(|line| line.strip_prefix("### "));
    let title = titles.find(|title| title.to_lowercase().replace(' ', "-") == section);
    title.expect("a title")
}

#[test]
fn what_must_be_seen_has_a_panel() {
    let panels = dashboard();
    let panels = panels["panels"].as_array().expect("panels");
    let all = panels.iter().map(|panel| panel["targets"].to_string());
    let all = all.collect::<String>();
    for metric in [
        "ensemble_orders_total",
        "ensemble_order_duration_seconds_bucket",
        "ensemble_consumer_behind_seconds",
        "ensemble_consumer_pending",
        "ensemble_outbox_oldest_seconds",
        "ensemble_dead_letters_open",
    ] {
        assert!(all.contains(metric), "{metric}");
    }
    let mut places = BTreeSet::new();
    for panel in panels {
        let at = &panel["gridPos"];
        assert!(
            places.insert((at["x"].as_i64(), at["y"].as_i64())),
            "two panels at {at}"
        );
        let right = at["x"].as_i64().zip(at["w"].as_i64()).map(|(x, w)| x + w);
        assert!(right.is_some_and(|right| right <= 24), "{}", panel["title"]);
    }
}
