//! The picture in a document: a marked block that is written by this program.

pub(crate) const BEGIN: &str = "<!-- map:begin -->";
pub(crate) const END: &str = "<!-- map:end -->";

/// The document with the picture between its marks; none when it has no marks.
pub(crate) fn with_picture(document: &str, language: &str, picture: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!(
        "{before}{BEGIN}\n```{language}\n{picture}```\n{END}{after}"
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use events::Flow;

    use super::*;
    use crate::SERVICES;
    use crate::map::draw;
    use crate::map::model::Map;

    #[test]
    fn the_picture_in_the_readme_is_the_one_that_is_drawn() {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
        let text = std::fs::read_to_string(readme).expect("the README");
        let map = Map::of(&SERVICES, &Flow::ALL);
        let drawn = with_picture(&text, "mermaid", &draw::mermaid(&map));
        assert!(
            drawn.as_deref() == Some(&*text),
            "the picture in README.md is old; draw it again: \
             cargo run -p ensemble -- map --format mermaid --write README.md"
        );
    }

    #[test]
    fn what_is_between_the_marks_is_replaced_and_nothing_else() {
        let document = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let drawn = with_picture(&document, "dot", "new\n");
        let expected = format!("a\n{BEGIN}\n```dot\nnew\n```\n{END}\nb\n");
        assert_eq!(drawn.as_deref(), Some(&*expected));
        assert_eq!(with_picture(&expected, "dot", "new\n"), drawn);
        assert_eq!(with_picture("no marks", "dot", "new\n"), None);
    }
}
