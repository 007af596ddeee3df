//! Faults: technical errors, as opposed to refusals, which are business answers.
//!
//! The kind of a fault decides what the runtime does with the events at hand.

use events::Malformed;
use sea_orm::{DbErr, RuntimeErr};

/// Why a transaction did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A dependency is away: wait for it, with backoff; never a dead letter.
    #[error("the database does not answer: {0}")]
    Away(String),
    /// The service is fenced: a person has to look first.
    #[error("{0}")]
    Fenced(String),
    /// Another transaction was faster: try again at once.
    #[error("another transaction was faster: {0}")]
    Conflict(String),
    /// Trying again gives the same error: a dead letter.
    #[error("{0}")]
    Permanent(String),
    /// Anything else: a few tries, then a dead letter.
    #[error("{0}")]
    Unexpected(String),
}

impl Fault {
    /// A stable name for logs and dead letters.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Away(_) => "away",
            Self::Fenced(_) => "fenced",
            Self::Conflict(_) => "conflict",
            Self::Permanent(_) => "permanent",
            Self::Unexpected(_) => "unexpected",
        }
    }
}

impl From<Fault> for String {
    fn from(fault: Fault) -> Self {
        fault.to_string()
    }
}

impl From<Malformed> for Fault {
    fn from(error: Malformed) -> Self {
        Self::Permanent(error.to_string())
    }
}

impl From<events::money::Overflow> for Fault {
    fn from(error: events::money::Overflow) -> Self {
        Self::Permanent(error.to_string())
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Permanent(format!("a stored value cannot be read: {error}"))
    }
}

impl From<DbErr> for Fault {
    fn from(error: DbErr) -> Self {
        let text = error.to_string();
        match &error {
            DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Self::Away(text),
            DbErr::Exec(RuntimeErr::SqlxError(e)) | DbErr::Query(RuntimeErr::SqlxError(e)) => {
                classify(e, text)
            }
            _ => Self::Unexpected(text),
        }
    }
}

fn classify(error: &sea_orm::sqlx::Error, text: String) -> Fault {
    use sea_orm::sqlx::Error;
    match error {
        Error::Io(_)
        | Error::Tls(_)
        | Error::PoolTimedOut
        | Error::PoolClosed
        | Error::WorkerCrashed
        | Error::Protocol(_) => Fault::Away(text),
        Error::Database(e) => match e.code().as_deref() {
            // PostgreSQL: serialization failure, deadlock, unique violation or an
            // existing database (a race that was lost). SQLite: busy, locked, and their extended codes.
            Some(
                "40001" | "40P01" | "23505" | "42P04" | "5" | "6" | "261" | "517" | "1555" | "2067",
            ) => Fault::Conflict(text),
            // PostgreSQL: a division by zero, which is how the statement that writes the events
            // says that it did not find a row as it was.
            Some("22012") => Fault::Conflict("a row was changed meanwhile".to_owned()),
            Some(code) if is_away(code) => Fault::Away(text),
            _ => Fault::Unexpected(text),
        },
        _ => Fault::Unexpected(text),
    }
}

/// Whether a database says that it cannot work now, whatever it was asked.
fn is_away(code: &str) -> bool {
    match code.parse::<u32>() {
        // SQLite, whose codes are shorter: I/O error, disk full, cannot open; the lowest byte
        // of an extended code is the code itself.
        Ok(number) if code.len() < 5 => matches!(number & 0xff, 10 | 13 | 14),
        // PostgreSQL: connection exceptions, errors of its system, shutdown, too many
        // connections, disk full, statement timeout, read only.
        _ => {
            ["08", "58", "57P"]
                .iter()
                .any(|class| code.starts_with(class))
                || matches!(code, "53300" | "53100" | "57014" | "25006")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_away;

    #[test]
    fn a_disk_that_fails_is_no_failure_of_the_event() {
        // SQLite: disk full, and errors while writing and syncing. PostgreSQL: disk full, an
        // I/O error, shutdown.
        for code in ["13", "778", "1034", "53100", "58030", "57P01"] {
            assert!(is_away(code), "{code}");
        }
        // SQLite: a constraint, a wrong type. PostgreSQL: raised by a trigger, a check.
        for code in ["19", "275", "20", "P0001", "23514", ""] {
            assert!(!is_away(code), "{code}");
        }
    }
}
