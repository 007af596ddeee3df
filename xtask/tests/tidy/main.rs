//! Tidiness: the rules of ARCHITECTURE.md that neither the compiler nor clippy holds.
//!
//! A rule is a function over paths and texts that returns what is wrong, each finding
//! with the file and what to do. It is shown to find a bad example beside its definition;
//! here it is held against the repository.

mod crates;
mod files;
mod links;
mod modules;
mod picture;

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the repository.
#[derive(Debug, Clone)]
struct Source {
    /// Relative to the root, with `/`.
    path: String,
    /// Empty for a file that is not text.
    text: String,
}

impl Source {
    fn ends_with(&self, ending: &str) -> bool {
        self.path.ends_with(ending)
    }

    #[cfg(test)]
    fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }
}

/// All files, sorted by path, but those that are hidden, and the folders at the top that
/// git ignores: what is built, fetched or run.
fn repository() -> Vec<Source> {
    // What the run says is worth more than what was true at the build: the repository may
    // have been moved since.
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = here.parent().expect("xtask is in the repository");
    let ignored = fs::read_to_string(root.join(".gitignore")).expect("the list of ignored files");
    let ignored: Vec<&str> = ignored
        .lines()
        .filter_map(|line| line.strip_prefix('/'))
        .collect();
    let mut sources = Vec::new();
    collect(root, "", &ignored, &mut sources);
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn collect(folder: &Path, prefix: &str, ignored: &[&str], sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let entry = entry.expect("an entry of the folder");
        let name = entry.file_name().to_string_lossy().into_owned();
        let made = prefix.is_empty() && ignored.contains(&name.as_str());
        if made || name.starts_with('.') {
            continue;
        }
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().expect("a type of file");
        if kind.is_dir() {
            collect(&entry.path(), &format!("{path}/"), ignored, sources);
        } else if kind.is_file() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            sources.push(Source { path, text });
        }
    }
}

/// The names of the service crates.
fn services(sources: &[Source]) -> Vec<&str> {
    let manifests = sources.iter().map(|source| source.path.as_str());
    manifests
        .filter_map(|path| path.strip_suffix("/Cargo.toml"))
        .filter(|name| name.ends_with("-svc"))
        .collect()
}

#[track_caller]
fn none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn crates_depend_only_on_what_they_may() {
    none(&crates::forbidden_edges(&repository()));
}

#[test]
fn domains_are_pure() {
    none(&modules::impure_domains(&repository()));
}

#[test]
fn the_language_names_no_infrastructure() {
    none(&modules::infrastructure_in_events(&repository()));
}

#[test]
fn links_in_documents_lead_somewhere() {
    none(&links::broken(&repository()));
}

#[test]
fn the_picture_in_the_readme_has_every_subject_of_the_catalog() {
    none(&picture::missing_subjects(&repository()));
}

#[test]
fn the_code_map_has_every_module_that_services_build_on() {
    none(&picture::missing_modules(&repository()));
}

#[test]
fn files_are_short() {
    none(&files::too_long(&repository()));
}

#[test]
fn files_and_modules_say_what_is_in_them() {
    none(&files::grab_bags(&repository()));
}

#[test]
fn nothing_is_left_for_later() {
    none(&files::left_for_later(&repository()));
}

#[test]
fn every_service_has_the_same_rooms() {
    none(&files::missing_rooms(&repository()));
}

#[test]
fn the_repository_is_seen() {
    let sources = repository();
    assert!(services(&sources).len() >= 5);
    assert!(sources.iter().any(|source| source.path == "README.md"));
    assert!(
        sources
            .iter()
            .all(|source| !source.path.starts_with("target/"))
    );
}
