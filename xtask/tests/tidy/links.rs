//! Links in documents: to a file, a folder or a heading of the repository.

use std::collections::{HashMap, HashSet};

use crate::Source;

/// Links that lead nowhere.
pub(crate) fn broken(sources: &[Source]) -> Vec<String> {
    let there = places(sources);
    let headings: HashMap<&str, HashSet<String>> = documents(sources)
        .map(|document| (document.path.as_str(), anchors(&document.text)))
        .collect();
    let mut findings = Vec::new();
    for document in documents(sources) {
        for (line, target) in targets(&document.text) {
            if let Some(what) = wrong(&document.path, &target, &there, &headings) {
                findings.push(format!("{}:{line}: `{target}` {what}", document.path));
            }
        }
    }
    findings
}

fn documents(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources.iter().filter(|source| source.ends_with(".md"))
}

/// Every file and every folder.
fn places(sources: &[Source]) -> HashSet<String> {
    let mut there = HashSet::from([String::new()]);
    for Source { path, .. } in sources {
        let folders = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
        there.extend(folders);
        there.insert(path.clone());
    }
    there
}

fn wrong(
    from: &str,
    target: &str,
    there: &HashSet<String>,
    headings: &HashMap<&str, HashSet<String>>,
) -> Option<&'static str> {
    let outside = ["http://", "https://", "mailto:"];
    if outside.iter().any(|scheme| target.starts_with(scheme)) {
        return None;
    }
    let (path, anchor) = match target.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (target, None),
    };
    let path = match path.is_empty() {
        true => from.to_owned(),
        false => match resolve(from, path) {
            Some(path) => path,
            None => return Some("leaves the repository: use the address on the web"),
        },
    };
    if !there.contains(&path) {
        return Some("is not there: mend the link, or remove it with what it led to");
    }
    let anchor = anchor?;
    match headings.get(path.as_str()) {
        None => Some("points into a file that has no headings: link the file"),
        Some(headings) if headings.contains(anchor) => None,
        Some(_) => Some("names a heading that is not there: mend the part after `#`"),
    }
}

/// A path relative to the document's folder, from the root; none when it leads out.
fn resolve(from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The lines of a document that are text, with their numbers; blocks of code are not.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((number + 1, line))
    })
}

/// The targets of a document's links, with their lines.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        // Every second part is code.
        let parts = line.split('`').enumerate();
        let line: String = parts
            .map(|(i, part)| if i % 2 == 0 { part } else { "" })
            .collect();
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split([')', ' ']).next();
            found.extend(target.map(|target| (number, target.to_owned())));
        }
        // `[name]: target`
        if let Some((_, target)) = line
            .split_once("]: ")
            .filter(|(name, _)| name.starts_with('['))
        {
            found.push((number, target.trim().to_owned()));
        }
    }
    found
}

/// The anchors of a document's headings, as hosts of repositories make them.
fn anchors(text: &str) -> HashSet<String> {
    let mut times: HashMap<String, usize> = HashMap::new();
    let mut anchors = HashSet::new();
    for (_, line) in prose(text) {
        let title = line.trim_start_matches('#');
        let level = line.len() - title.len();
        if !(1..=6).contains(&level) || !title.starts_with(' ') {
            continue;
        }
        let slug = slug(title.trim());
        let seen = times.entry(slug.clone()).or_default();
        anchors.insert(match *seen {
            0 => slug,
            n => format!("{slug}-{n}"),
        });
        *seen += 1;
    }
    anchors
}

fn slug(title: &str) -> String {
    let kept = title
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase)
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        broken(&[
            Source::new("README.md", text),
            Source::new("stock-svc/README.md", "# stock-svc\n\n[up](../README.md)\n"),
            Source::new("stock-svc/src/domain.rs", ""),
        ])
    }

    #[test]
    fn links_to_nothing_are_found() {
        for bad in [
            "[a](stock-svc/src/gone.rs)",
            "[a](stock-svc/README.md#rules)",
            "[a](#nowhere)",
            "[a](../elsewhere.md)",
            "[a](stock-svc/src/domain.rs#L10)",
            "[`a`](gone.md) and [b](stock-svc/README.md)",
            "[a]: gone.md",
        ] {
            let found = findings(bad);
            assert_eq!(found.len(), 1, "{bad}: {found:?}");
            assert!(found[0].starts_with("README.md:1: "));
        }
    }

    #[test]
    fn links_to_files_folders_headings_and_the_web_are_fine() {
        let fine = "# Bird's-eye `view`\n## Twice\n## Twice\n\
                    [a](#birds-eye-view) [b](#twice-1) [c](stock-svc) [d](stock-svc/src/domain.rs)\n\
                    [e](stock-svc/README.md#stock-svc) [f](https://example.org/x#y)\n\
                    `[g](gone.md)`\n```sh\n[h](gone.md)\n# comment\n```\n";
        assert_eq!(findings(fine), Vec::<String>::new());
    }
}
