//! The shop that both peers work on: a database for each step, and what a step does in one
//! transaction. What they do with it is theirs.

mod databases;
mod steps;

pub use databases::{Databases, Size};
pub use steps::{Order, Step};
