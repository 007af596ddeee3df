//! Getting PostgreSQL's programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::geteuid;

use crate::apt;
use crate::failure::{Failure, Outcome};
use crate::process::{find_on_path, is_executable, output_of, variable, version_text};
use crate::signals::Signals;
use crate::version::{Version, find_version};

/// The variable that names a PostgreSQL server, for xtask and for the tests.
pub(crate) const VARIABLE: &str = "ENSEMBLE_TEST_POSTGRES";

const CREATE_CLUSTER: &str = "/etc/postgresql-common/createcluster.conf";

/// What the tests' PostgreSQL comes from.
pub(crate) enum Source {
    /// A server that runs already, by its URL.
    Server(String),
    /// Programs to start a server with.
    Programs(Programs),
}

/// The programs of one PostgreSQL installation.
pub(crate) struct Programs {
    /// Makes a cluster's files.
    pub(crate) initdb: PathBuf,
    /// The server.
    pub(crate) postgres: PathBuf,
    /// Who runs them; none when it is the user who runs xtask.
    pub(crate) owner: Option<Owner>,
}

/// The user that PostgreSQL runs as where root runs xtask: it refuses root.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    /// The user's id.
    pub(crate) user: u32,
    /// The user's group.
    pub(crate) group: u32,
}

/// Finds PostgreSQL, or installs it where that can be done.
pub(crate) fn source(signals: &Signals) -> Outcome<Source> {
    if let Some(url) = variable(VARIABLE) {
        eprintln!("postgresql: the server that {VARIABLE} names");
        return Ok(Source::Server(url));
    }
    programs(signals).map(Source::Programs)
}

/// Finds PostgreSQL's programs, or installs them where that can be done.
pub(crate) fn programs(signals: &Signals) -> Outcome<Programs> {
    let (initdb, postgres) = match find() {
        Some(found) => found,
        None => {
            install(signals)?;
            find().ok_or_else(missing)?
        }
    };
    let version = version_text(&mut Command::new(&postgres)).and_then(|text| find_version(&text));
    match version {
        Some(Version { major, minor, .. }) => {
            eprintln!("postgresql: {major}.{minor} at {}", postgres.display());
        }
        None => return Err(missing()),
    }
    Ok(Programs {
        initdb,
        postgres,
        owner: owner()?,
    })
}

impl Programs {
    /// As the fault runs are told: the folder, and who runs them.
    pub(crate) fn to_environment(&self) -> String {
        let folder = self.postgres.parent().unwrap_or(Path::new("")).display();
        match self.owner {
            Some(Owner { user, group }) => format!("{folder} {user} {group}"),
            None => folder.to_string(),
        }
    }
}

/// initdb and postgres, from PATH or from where Debian puts them.
fn find() -> Option<(PathBuf, PathBuf)> {
    if let (Some(initdb), Some(postgres)) = (find_on_path("initdb"), find_on_path("postgres")) {
        return Some((initdb, postgres));
    }
    newest_installed(Path::new("/usr/lib/postgresql"))
}

/// Debian puts each major version in a folder named by its number.
fn newest_installed(versions: &Path) -> Option<(PathBuf, PathBuf)> {
    fs::read_dir(versions)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let major: u32 = entry.file_name().to_str()?.parse().ok()?;
            let programs = entry.path().join("bin");
            let (initdb, postgres) = (programs.join("initdb"), programs.join("postgres"));
            (is_executable(&initdb) && is_executable(&postgres))
                .then_some((major, (initdb, postgres)))
        })
        .max_by_key(|(major, _)| *major)
        .map(|(_, programs)| programs)
}

/// Installs PostgreSQL where this user can.
fn install(signals: &Signals) -> Outcome {
    if !apt::can_install() {
        return Err(missing());
    }
    keep_from_starting_a_cluster()?;
    let otherwise = format!("set {VARIABLE} to the URL of a PostgreSQL server");
    apt::install(signals, "postgresql", &otherwise)
}

/// Debian's package makes a cluster and starts it, unless told not to before
/// it comes.
fn keep_from_starting_a_cluster() -> Outcome {
    let file = Path::new(CREATE_CLUSTER);
    if file.exists() {
        return Ok(());
    }
    file.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(file, "create_main_cluster = false\n"))
        .map_err(|error| Failure::file("write", file, &error))
}

fn missing() -> Failure {
    Failure::new(format!(
        "PostgreSQL was not found; install it (Debian: `apt-get install postgresql`) so that \
         initdb and postgres are on PATH, or set {VARIABLE} to the URL of a server"
    ))
}

fn owner() -> Outcome<Option<Owner>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let id = |option: &str| -> Outcome<u32> {
        output_of(Command::new("id").args([option, "postgres"]))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| {
                Failure::new(
                    "PostgreSQL does not run as root and there is no user `postgres`; make one \
                     (`useradd --system postgres`), or run this as another user",
                )
            })
    };
    Ok(Some(Owner {
        user: id("-u")?,
        group: id("-g")?,
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn takes_the_newest_whole_installation() {
        let versions = std::env::temp_dir().join(format!("xtask-pg-{}", std::process::id()));
        for (version, programs) in [
            ("9", &["initdb", "postgres"][..]),
            ("15", &["initdb", "postgres"]),
            ("17", &["initdb"]),
            ("common", &["initdb", "postgres"]),
        ] {
            let folder = versions.join(version).join("bin");
            fs::create_dir_all(&folder).unwrap();
            for name in programs {
                let program = folder.join(name);
                fs::write(&program, "").unwrap();
                fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        let found = newest_installed(&versions).unwrap();
        assert_eq!(found.1, versions.join("15/bin/postgres"));
        assert!(newest_installed(&versions.join("none")).is_none());
        fs::remove_dir_all(versions).unwrap();
    }
}
