//! How a command ends when it does not end well.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::process::ExitStatus;

use crate::process::exit_code;

/// The result of anything that can stop a command.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why a command stopped, and the exit code that says so.
#[derive(Debug)]
pub(crate) struct Failure {
    /// One sentence that says what to do; none when a program that was run has
    /// already said it.
    pub(crate) message: Option<String>,
    /// What xtask exits with.
    pub(crate) code: u8,
}

impl Failure {
    /// A failure to tell of in a sentence.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Failure {
            message: Some(message.into()),
            code: 1,
        }
    }

    /// A command line that cannot be understood.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Failure {
            message: Some(message.into()),
            code: 2,
        }
    }

    /// A file operation that the system refused.
    pub(crate) fn file(doing: &str, path: &Path, error: &io::Error) -> Self {
        Failure::new(format!("cannot {doing} {}: {error}", path.display()))
    }

    /// A program that failed and has said why on the terminal.
    pub(crate) fn of(status: ExitStatus) -> Self {
        Failure {
            message: None,
            code: exit_code(status),
        }
    }

    /// The end that a signal from outside brought about.
    pub(crate) fn interrupted(signal: i32) -> Self {
        Failure {
            message: None,
            code: u8::try_from(128 + signal).unwrap_or(1),
        }
    }

    /// The same failure, with what a log has to say below it.
    pub(crate) fn followed_by(self, log: &str) -> Self {
        match self.message {
            Some(message) => Failure {
                message: Some(format!("{message}\n{log}")),
                ..self
            },
            None => self,
        }
    }

    /// The same failure with another sentence.
    pub(crate) fn with_message(self, message: impl Display) -> Self {
        Failure {
            message: Some(message.to_string()),
            ..self
        }
    }
}
