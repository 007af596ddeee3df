//! The wire contract: what was said stays readable for builds of tomorrow, and what
//! is said today stays readable for builds of yesterday.
//!
//! - `golden`: committed bytes of every event still decode to what they said;
//! - `snapshot`: the protos change only in ways that bytes and readers survive, as
//!   judged by `compatible` over the `schema` of then and now;
//! - `shapes`: catalog, protos and hand-written shapes say the same;
//! - `cloudevents`: the envelope is the protobuf format of `CloudEvents`.
//!
//! `ENSEMBLE_UPDATE_GOLDEN=1 cargo test -p events` records what was added. It never
//! changes what is recorded already.

// The step of the test build has no protos: it is no part of the contract.
#![cfg(not(feature = "gift-wrap"))]

mod cloudevents;
mod compatible;
mod compatible_proof;
mod golden;
mod golden_files;
mod schema;
mod shapes;
mod snapshot;

use std::path::{Path, PathBuf};

/// How additions are recorded, for the texts of failures.
const RECORD: &str = "ENSEMBLE_UPDATE_GOLDEN=1 cargo test -p events";

/// Whether this run records additions.
fn recording() -> bool {
    std::env::var_os("ENSEMBLE_UPDATE_GOLDEN").is_some_and(|value| value == "1")
}

/// A file or folder of the contract.
fn committed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/wire_contract")
        .join(name)
}
