//! The images of the programs. There is no container engine here: what the Dockerfile does is
//! done outside, as far as it goes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration_tests::{Process, repository};

fn dockerfile() -> String {
    fs::read_to_string(repository().join("Dockerfile")).expect("the Dockerfile")
}

/// What follows a word, wherever it stands.
fn after<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let found = text.split(word).skip(1);
    let words = found.filter_map(|rest| rest.split_whitespace().next());
    words.collect()
}

#[test]
fn what_is_built_is_what_is_put_into_images() {
    let text = dockerfile();
    let packages = after(&text, "--package ");
    assert_eq!(packages.len(), 6, "{packages:?}");
    for package in &packages {
        let manifest = repository().join(package).join("Cargo.toml");
        let manifest = fs::read_to_string(manifest).expect("a package");
        assert!(
            manifest.contains(&format!("name = \"{package}\"")),
            "{package}"
        );
        assert!(Process::path(package).is_file(), "its program has its name");
    }
    let (_, stripped) = text.split_once("for program in ").expect("a loop");
    let stripped = stripped.split(';').next().unwrap_or_default();
    let mut stripped: Vec<&str> = stripped.split_whitespace().collect();
    let mut copied = after(&text, "COPY --from=build /out/bin/");
    let mut stages = after(&text, "FROM base AS ");
    let mut packages = packages;
    for list in [&mut stripped, &mut copied, &mut stages, &mut packages] {
        list.sort_unstable();
    }
    assert_eq!(stripped, packages);
    assert_eq!(copied, packages);
    assert_eq!(stages, packages);
    // All of the workspace is there to be built.
    let ignored = fs::read_to_string(repository().join(".dockerignore")).expect("a file");
    let workspace = fs::read_to_string(repository().join("Cargo.toml")).expect("a manifest");
    let (_, members) = workspace.split_once("members = [").expect("members");
    let members = members.split(']').next().unwrap_or_default();
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.len() > 8, "{members:?}");
    for member in members {
        let folder = member.split('/').next().unwrap_or_default();
        assert!(!ignored.lines().any(|line| line == folder), "{member}");
    }
}

/// The command of the Dockerfile that gathers libraries, with another folder for `/out`.
fn gather(out: &Path) -> String {
    let text = dockerfile();
    let (_, rest) = text
        .split_once("RUN mkdir -p /out/root")
        .expect("the command");
    let command = rest.split("\n\n").next().unwrap_or_default();
    let command = format!("mkdir -p /out/root{command}");
    command.replace("/out/", &format!("{}/", out.display()))
}

#[cfg(target_os = "linux")]
#[test]
fn an_image_has_every_library_that_its_program_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().canonicalize().expect("a path");
    fs::create_dir(out.join("bin")).expect("a folder");
    let services = ensemble::SERVICES.iter();
    let services = services.map(|service| format!("{}-svc", service.name));
    let programs: Vec<_> = services.chain(["ensemble".to_owned()]).collect();
    for program in &programs {
        symlink(Process::path(program), out.join("bin").join(program)).expect("a link");
    }
    let gathered = Command::new("sh").args(["-euc", &gather(&out)]).output();
    let gathered = gathered.expect("sh");
    let said = String::from_utf8_lossy(&gathered.stderr);
    assert!(gathered.status.success(), "{said}");
    let root = out.join("root");
    assert!(root.join("etc/ssl/certs/ca-certificates.crt").is_file());
    let files = files_below(&root);
    let loader = files.iter().find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("ld-")
    });
    let loader = loader.expect("the loader is one of them");
    let folders: Vec<String> = files
        .iter()
        .filter_map(|path| Some(path.parent()?.display().to_string()))
        .collect();
    for program in &programs {
        let program = Process::path(program);
        let run = |more: &[&str]| {
            let mut command = Command::new(loader);
            command
                .args(more)
                .arg("--library-path")
                .arg(folders.join(":"));
            command.arg(&program);
            command
        };
        let listed = run(&["--list"]).output().expect("the loader runs");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let found = listed.lines().filter_map(|line| line.split_once(" => "));
        let mut libraries = 0;
        for (library, path) in found {
            libraries += 1;
            let inside = path.starts_with(&root.display().to_string());
            assert!(inside, "{}: {library} => {path}", program.display());
        }
        assert!(libraries > 1, "{listed}");
        let version = run(&[]).arg("--version").output().expect("it starts");
        assert!(version.status.success(), "{}", program.display());
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        match entry.path() {
            path if path.is_dir() => files.extend(files_below(&path)),
            path => files.push(path),
        }
    }
    files
}
