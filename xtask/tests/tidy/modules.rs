//! Which modules may name what.

use crate::Source;

/// What a domain may import.
const DOMAIN: &[&str] = &["std", "serde", "thiserror", "events", "super", "self"];
/// What its tests may import besides.
const DOMAIN_TESTS: &[&str] = &["uuid", "proptest"];

/// Clock, files, network, threads, and the crates that are full of these.
const OUTSIDE: &[&str] = &[
    "std::env::",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "std::time",
    "async_nats",
    "axum",
    "jetstream::",
    "opentelemetry",
    "reqwest",
    "sea_orm",
    "sqlx",
    "tokio",
    "tracing",
];

/// What a domain imports or does although it should only decide.
pub(crate) fn impure_domains(sources: &[Source]) -> Vec<String> {
    let domains = sources.iter().filter(|source| is_domain(&source.path));
    domains.flat_map(impure).collect()
}

/// Infrastructure in the code of the language.
pub(crate) fn infrastructure_in_events(sources: &[Source]) -> Vec<String> {
    let ours = |source: &&Source| source.path.starts_with("events/src/") && source.ends_with(".rs");
    let lines = sources.iter().filter(ours).flat_map(|source| {
        let code = source.text.lines().map(code).enumerate();
        code.filter_map(|(number, line)| {
            let what = outside(line)?;
            Some(found(source, number, &format!(
                "`{what}` in the language of the choreography: what needs it belongs into `jetstream`"
            )))
        })
    });
    lines.collect()
}

/// `domain.rs`, and all below `domain/`, of a service.
fn is_domain(path: &str) -> bool {
    let Some((package, inside)) = path.split_once("/src/") else {
        return false;
    };
    let room = inside == "domain.rs" || inside.starts_with("domain/");
    package.ends_with("-svc") && room && path.ends_with(".rs")
}

fn impure(source: &Source) -> Vec<String> {
    let children = children(&source.text);
    let mut testing = source.ends_with("/tests.rs") || source.ends_with("_tests.rs");
    let mut findings = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        testing |= line.trim() == "#[cfg(test)]";
        let line = code(line);
        if let Some(root) = imported(line) {
            let known = DOMAIN.contains(&root)
                || children.contains(&root)
                || (testing && DOMAIN_TESTS.contains(&root))
                || (root == "crate" && line.contains("crate::domain"));
            if !known {
                let what = format!(
                    "a domain imports `{root}`: it decides over `events` alone; load and save in `store`"
                );
                findings.push(found(source, number, &what));
                continue;
            }
        }
        if testing {
            continue;
        }
        let does = [".await", "async fn", "async move"]
            .into_iter()
            .find(|w| line.contains(w));
        if let Some(what) = outside(line).or(does) {
            let what = format!(
                "a domain has `{what}`: no clock, no IO, no async; take what is needed as an argument"
            );
            findings.push(found(source, number, &what));
        }
    }
    findings
}

fn found(source: &Source, line: usize, what: &str) -> String {
    format!("{}:{}: {what}", source.path, line + 1)
}

/// The line without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// The first name of the path that a line imports.
fn imported(line: &str) -> Option<&str> {
    let line = line.trim();
    let line = match line.strip_prefix("pub") {
        Some(rest) => rest.split_once("use ").map(|(_, path)| path)?,
        None => line.strip_prefix("use ")?,
    };
    let path = line.trim_start_matches("::");
    path.split([':', ';', ' ']).next()
}

/// Modules that the file declares: `use` may begin with their names.
fn children(text: &str) -> Vec<&str> {
    let words = text.lines().map(code).filter_map(|line| {
        let (before, name) = line.split_once("mod ")?;
        let declared = before.trim().is_empty() || before.trim().starts_with("pub");
        declared.then(|| name.trim().trim_end_matches([';', '{', ' ']))
    });
    words.collect()
}

/// What of the outside world a line names; not what is only part of another name.
fn outside(line: &str) -> Option<&'static str> {
    OUTSIDE.iter().copied().find(|name| {
        line.match_indices(name).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + name.len()..].chars().next();
            let word = |c: char| c.is_alphanumeric() || c == '_' || c == '"';
            !before.is_some_and(word) && (name.ends_with("::") || !after.is_some_and(word))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Vec<String> {
        impure_domains(&[Source::new("stock-svc/src/domain.rs", text)])
    }

    #[test]
    fn imports_of_more_than_the_language_are_found() {
        for bad in [
            "use jetstream::Tx;",
            "use sea_orm::Value;",
            "pub(crate) use crate::store::Stock;",
            "use uuid::Uuid;",
        ] {
            let found = domain(bad);
            assert_eq!(found.len(), 1, "{bad}: {found:?}");
            assert!(found[0].starts_with("stock-svc/src/domain.rs:1: "));
        }
    }

    #[test]
    fn clock_io_and_async_are_found_wherever_they_stand() {
        for bad in [
            "use std::time::Instant;",
            "fn now() -> u64 { std::time::SystemTime::now() }",
            "pub async fn decide() {}",
            "let line = std::fs::read(path);",
            "tracing::info!(\"decided\");",
        ] {
            assert_eq!(domain(bad).len(), 1, "{bad}");
        }
    }

    #[test]
    fn what_a_domain_needs_is_fine() {
        let fine = "//! No tokio:: here.\npub mod order;\npub use order::Order;\n\
                    use std::collections::BTreeMap;\nuse events::{Money, Refusal};\n\
                    use crate::domain::Shelf;\nlet runtime = my_tokio;\n\
                    #[cfg(test)]\nmod tests {\n    use super::*;\n    use uuid::Uuid;\n}\n";
        assert_eq!(domain(fine), Vec::<String>::new());
        let elsewhere = Source::new("stock-svc/src/store.rs", "use sea_orm::Value;");
        assert!(impure_domains(&[elsewhere]).is_empty());
    }

    #[test]
    fn infrastructure_in_the_language_is_found() {
        let of = |text| infrastructure_in_events(&[Source::new("events/src/id.rs", text)]);
        assert_eq!(of("use std::time::Duration;").len(), 1);
        assert_eq!(of("fn f() { tokio::spawn(g()); }").len(), 1);
        assert!(of("use std::fmt; // no std::time\n").is_empty());
    }
}
