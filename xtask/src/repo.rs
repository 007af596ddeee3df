//! Where things are in the repository.

use std::path::{Path, PathBuf};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    // What `cargo run` says now is worth more than what was true at the build:
    // the repository may have been moved since.
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent().map(Path::to_path_buf).unwrap_or(here)
}

/// Where fetched programs are kept; git ignores it.
pub(crate) fn tools() -> PathBuf {
    root().join(".tools")
}
