//! The folder that is replayed into.

use std::path::{Path, PathBuf};

use crate::database::DatabaseError;
use crate::fault::Fault;

/// A replay cannot be made; each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The folder has something in it.
    #[error(
        "{0} is not empty: name a new directory, so that nothing that is in use is replayed into"
    )]
    NotEmpty(PathBuf),
    /// The folder cannot be used.
    #[error("cannot use {path}: {source}")]
    Folder {
        /// Which folder or file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The copy of the databases lacks one.
    #[error(
        "{0} is not there: --base needs a copy of the SQLite files of all services, made while \
         they were stopped"
    )]
    NoBase(PathBuf),
    /// A scratch database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A scratch database fails.
    #[error("the scratch database of {service}: {fault}")]
    Fault {
        /// Whose.
        service: &'static str,
        /// Why.
        fault: Fault,
    },
}

/// The scratch database of a service.
pub(super) fn file(folder: &Path, service: &str) -> PathBuf {
    folder.join(format!("{service}.sqlite"))
}

/// Makes a folder, or refuses one that has something in it.
///
/// # Errors
/// When it is not empty, or cannot be made.
pub fn empty(folder: &Path) -> Result<(), ReplayError> {
    let unusable = |source| ReplayError::Folder {
        path: folder.to_owned(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(unusable)?;
    match std::fs::read_dir(folder).map_err(unusable)?.next() {
        None => Ok(()),
        Some(_) => Err(ReplayError::NotEmpty(folder.to_owned())),
    }
}

/// Copies a database, with what SQLite has not yet moved into its file.
pub(super) fn copy(base: &Path, folder: &Path, service: &str) -> Result<(), ReplayError> {
    let from = file(base, service);
    if !from.is_file() {
        return Err(ReplayError::NoBase(from));
    }
    let name = format!("{service}.sqlite");
    for suffix in ["", "-wal"] {
        let from = base.join(format!("{name}{suffix}"));
        if from.is_file() {
            let to = folder.join(format!("{name}{suffix}"));
            std::fs::copy(&from, &to)
                .map_err(|source| ReplayError::Folder { path: from, source })?;
        }
    }
    Ok(())
}
