//! What is drawn and listed by hand must not drift from the code: the picture of the
//! choreography, and the code map.

use crate::Source;

const CATALOG: &str = "events/src/catalog.rs";
const README: &str = "README.md";
const MAP: &str = "ARCHITECTURE.md";
/// The crates whose modules the code map lists one by one.
const MAPPED: &[&str] = &["events/src/", "jetstream/src/"];

/// Subjects of the catalog that the README's picture does not show.
pub(crate) fn missing_subjects(sources: &[Source]) -> Vec<String> {
    let picture = picture(text(sources, README));
    let shown: Vec<&str> = picture.split([' ', '"', '|', '<', '>', '\n']).collect();
    let subjects = subjects(text(sources, CATALOG));
    if subjects.is_empty() {
        return vec![format!(
            "{CATALOG}: no subject was found in it; mend this check"
        )];
    }
    let missing = subjects
        .into_iter()
        .filter(|subject| !shown.contains(subject));
    missing
        .map(|subject| {
            format!(
                "{README}: the picture does not show `{subject}`: draw who says and who hears it"
            )
        })
        .collect()
}

/// Modules that the code map does not link.
pub(crate) fn missing_modules(sources: &[Source]) -> Vec<String> {
    let map = text(sources, MAP);
    let mapped = |path: &str| {
        let inside = MAPPED.iter().find_map(|folder| path.strip_prefix(folder));
        let top = inside.is_some_and(|name| !name.contains('/') && name != "lib.rs");
        top && path.ends_with(".rs")
    };
    let modules = sources.iter().filter(|source| mapped(&source.path));
    modules
        .filter(|source| !map.contains(&format!("]({})", source.path)))
        .map(|source| {
            format!(
                "{MAP}: the code map does not link `{}`: say what belongs in there",
                source.path
            )
        })
        .collect()
}

fn text<'a>(sources: &'a [Source], path: &str) -> &'a str {
    let source = sources.iter().find(|source| source.path == path);
    source.map_or("", |source| source.text.as_str())
}

/// The first drawing of a document.
fn picture(readme: &str) -> &str {
    let rest = readme.split_once("```mermaid").map_or("", |(_, rest)| rest);
    rest.split("```").next().unwrap_or_default()
}

/// Subjects: texts like `order.confirmed`. The step of the test build is none of them.
fn subjects(catalog: &str) -> Vec<&str> {
    let code = catalog.split("#[cfg(test)]").next().unwrap_or_default();
    let texts = code.split('"').skip(1).step_by(2);
    let is_subject = |text: &&str| {
        let lower =
            |token: &str| !token.is_empty() && token.chars().all(|c| c.is_ascii_lowercase());
        text.contains('.') && text.split('.').all(lower) && !text.starts_with("wrap.")
    };
    texts.filter(is_subject).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_that_is_not_drawn_is_found() {
        let catalog = "order(\"order.confirmed\", \"OrderConfirmed\", 1)\n\
                       order(\"order.canceled\", \"OrderCanceled\", 1)\n\
                       const ALL: &str = \"*.*.failed\";";
        let readme = "order.canceled\n```mermaid\n a -->|\"order.confirmed<br>x.y\"| b\n```\n";
        let found = missing_subjects(&[Source::new(CATALOG, catalog), Source::new(README, readme)]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("`order.canceled`"));
        assert_eq!(missing_subjects(&[]).len(), 1);
    }
    #[test]
    fn a_module_that_is_not_on_the_map_is_found() {
        let found = missing_modules(&[
            Source::new(MAP, "[`id`](events/src/id.rs), and `events/src/money.rs`"),
            Source::new("events/src/id.rs", ""),
            Source::new("events/src/lib.rs", ""),
            Source::new("events/src/money.rs", ""),
            Source::new("stock-svc/src/domain.rs", ""),
        ]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("`events/src/money.rs`"));
    }
}
