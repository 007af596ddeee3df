//! The picture of the choreography is drawn by hand: it must not drift from the catalog.

use crate::Source;

const CATALOG: &str = "events/src/catalog.rs";
const README: &str = "README.md";

/// Subjects of the catalog that the README's picture does not show.
pub(crate) fn missing_subjects(sources: &[Source]) -> Vec<String> {
    let text = |path: &str| {
        let source = sources.iter().find(|source| source.path == path);
        source.map_or("", |source| source.text.as_str())
    };
    let picture = picture(text(README));
    let shown: Vec<&str> = picture.split([' ', '"', '|', '<', '>', '\n']).collect();
    let subjects = subjects(text(CATALOG));
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
}
