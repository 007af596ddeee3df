//! How a command ends when it does not end well, and the exit code that says so.

use std::process::ExitCode;

/// What the exit codes mean, the same for every command; the help texts show it.
pub(crate) const EXIT_CODES: &str = "\
Exit codes of every command:
  0  done, and nothing is wrong
  1  it could not be done; stderr says in a sentence what to do
  2  the command line is wrong
  3  done, and what was looked at needs a person";

/// Why a command does not end with 0.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It could not be done.
    Undone(String),
    /// It was done, and what it looked at needs a person.
    Found(String),
}

impl From<String> for Failure {
    fn from(sentence: String) -> Self {
        Self::Undone(sentence)
    }
}

impl Failure {
    /// The sentence for stderr; empty when all has been said.
    pub(crate) fn sentence(&self) -> &str {
        match self {
            Self::Undone(sentence) | Self::Found(sentence) => sentence,
        }
    }

    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Self::Undone(_) => ExitCode::from(1),
            Self::Found(_) => ExitCode::from(3),
        }
    }
}
