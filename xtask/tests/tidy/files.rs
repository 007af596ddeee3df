//! Files: how long, how called, how complete.

use crate::{Source, services};

/// Lines that a source file may have.
const LONGEST: usize = 500;
/// Files that may be longer, each with the reason. None today.
const MAY_BE_LONGER: &[(&str, &str)] = &[];

/// Names that say nothing about what is inside.
const GRAB_BAGS: &[&str] = &[
    "common", "utils", "util", "helpers", "helper", "types", "misc",
];

/// What every service has: a file or a folder of this name.
const ROOMS: &[&str] = &[
    "README.md",
    "src/main.rs",
    "src/lib.rs",
    "src/subscriptions.rs",
    "src/migration.rs",
    "src/domain",
    "src/store",
    "src/api",
];

/// Source files that are too long.
pub(crate) fn too_long(sources: &[Source]) -> Vec<String> {
    let code = sources
        .iter()
        .filter(|s| s.ends_with(".rs") || s.ends_with(".proto"));
    let excused = |path: &str| MAY_BE_LONGER.iter().any(|(name, _)| *name == path);
    code.filter(|source| !excused(&source.path))
        .map(|source| (source, source.text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(source, lines)| {
            format!(
                "{}: {lines} lines, and {LONGEST} are the most: split it by what its parts are about",
                source.path
            )
        })
        .collect()
}

/// Files, folders and modules with a name that says nothing.
pub(crate) fn grab_bags(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.ends_with(".rs")) {
        let path = source.path.trim_end_matches(".rs").split('/');
        let modules = source.text.lines().filter_map(module);
        for name in path.chain(modules) {
            if GRAB_BAGS.contains(&name) {
                findings.push(format!(
                    "{}: `{name}` is a name for anything: name it after what it is about",
                    source.path
                ));
            }
        }
    }
    findings
}

/// The name of the module that a line declares.
fn module(line: &str) -> Option<&str> {
    let words = line.trim().trim_end_matches(['{', ' ', ';']);
    let (before, name) = words.rsplit_once(' ')?;
    let declares = before == "mod" || (before.starts_with("pub") && before.ends_with(" mod"));
    declares.then_some(name)
}

/// Marks of what is not done, and tests that do not run.
pub(crate) fn left_for_later(sources: &[Source]) -> Vec<String> {
    // In two parts, so that this file does not find itself.
    let marks = [
        ("TO", "DO"),
        ("FIX", "ME"),
        ("to", "do!"),
        ("unimple", "mented!"),
        ("#[ig", "nore"),
    ];
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.ends_with(".rs")) {
        for (number, line) in source.text.lines().enumerate() {
            for mark in marks.map(|(a, b)| format!("{a}{b}")) {
                if line.contains(&mark) {
                    let at = format!("{}:{}", source.path, number + 1);
                    findings.push(format!("{at}: `{mark}`: do it, or leave it out"));
                }
            }
        }
    }
    findings
}

/// What a service should have and has not.
pub(crate) fn missing_rooms(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for service in services(sources) {
        for room in ROOMS {
            let path = format!("{service}/{room}");
            let (file, folder) = (format!("{path}.rs"), format!("{path}/"));
            let there =
                |s: &Source| s.path == path || s.path == file || s.path.starts_with(&folder);
            if !sources.iter().any(there) {
                findings.push(format!(
                    "{path} is not there: every service has it, so that who knows one knows all; see stock-svc"
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_long_is_found() {
        let file = |lines: usize| [Source::new("a/src/b.rs", &"x\n".repeat(lines))];
        assert!(too_long(&file(LONGEST)).is_empty());
        let found = too_long(&file(LONGEST + 1));
        assert!(found[0].starts_with("a/src/b.rs: 501 lines"));
    }

    #[test]
    fn names_for_anything_are_found() {
        for (path, text) in [
            ("a/src/utils.rs", ""),
            ("a/src/common/mod.rs", ""),
            ("a/src/lib.rs", "pub(crate) mod helpers;"),
            ("a/src/lib.rs", "mod types {"),
        ] {
            assert_eq!(grab_bags(&[Source::new(path, text)]).len(), 1, "{path}");
        }
        let fine = Source::new("a/src/lib.rs", "mod typesetting;\n// a mod types here\n");
        assert!(grab_bags(&[fine]).is_empty());
    }

    #[test]
    fn what_is_left_for_later_is_found() {
        for (a, b) in [
            ("// TO", "DO: more"),
            ("to", "do!()"),
            ("#[ig", "nore = \"slow\"]"),
        ] {
            let source = Source::new("a/src/lib.rs", &format!("\n{a}{b}\n"));
            let found = left_for_later(&[source]);
            assert_eq!(found.len(), 1);
            assert!(found[0].starts_with("a/src/lib.rs:2: "));
        }
    }

    #[test]
    fn a_service_without_a_room_is_found() {
        let mut paths: Vec<String> = ["Cargo.toml", "README.md"].map(str::to_owned).to_vec();
        for room in [
            "main",
            "lib",
            "subscriptions",
            "migration",
            "domain",
            "store",
        ] {
            paths.push(format!("src/{room}.rs"));
        }
        let file = |path: &String| Source::new(&format!("new-svc/{path}"), "");
        let mut sources: Vec<Source> = paths.iter().map(file).collect();
        let found = missing_rooms(&sources);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("new-svc/src/api is not there"));
        sources.push(Source::new("new-svc/src/api/mod.rs", ""));
        assert!(missing_rooms(&sources).is_empty());
    }
}
