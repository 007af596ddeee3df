//! The log of the process, on its standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: text, with colours where it goes to a terminal.
    Text,
    /// For machines: one JSON object per line.
    Json,
}

// What libraries say in passing is of no use to who runs a shop, and what the client of the
// broker has to say, it says to the connection, which logs it.
const LEVELS: &str =
    "info,async_nats=off,sqlx=warn,sea_orm_migration=warn,opentelemetry=off,opentelemetry_sdk=off";

/// Starts logging. `RUST_LOG` chooses levels.
///
/// # Errors
/// When logging was started before in this process.
pub fn start(format: Format) -> Result<(), String> {
    let levels = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LEVELS));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(colours(
            std::io::stderr().is_terminal(),
            std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
        ))
        .with_target(false);
    let lines = match format {
        Format::Json => lines.json().boxed(),
        Format::Text => lines.boxed(),
    };
    // One filter for all, in front, and not one of the layer: that keeps what it has said in
    // the thread. A library that only asks whether a line would be written (sqlx does, for
    // each statement) leaves a no behind, and the next line of the thread is lost.
    tracing_subscriber::registry()
        .with(levels)
        .with(lines)
        .try_init()
        .map_err(|error| error.to_string())
}

/// Colours are for people, not for files, and not for people who said no
/// (<https://no-color.org>).
fn colours(terminal: bool, unwanted: bool) -> bool {
    terminal && !unwanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals() {
        assert!(colours(true, false));
        assert!(!colours(false, false), "a file");
        assert!(!colours(true, true), "NO_COLOR");
    }
}
