//! How commands speak: what was asked for to stdout, all else to stderr, and colours and
//! moving lines only to people.

use std::ffi::OsStr;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use tokio::time::Instant;

/// Prints to stdout. A reader that has read enough (`| head`) ends the program quietly.
pub(crate) fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let said = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    if said.is_err() {
        std::process::exit(0);
    }
}

/// A remark that is no part of the answer.
pub(crate) fn remark(text: &str) {
    eprintln!("{text}");
}

/// Colours, where there is somebody to see them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// For what is printed: on a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
    pub(crate) fn of_stdout() -> Self {
        let variable = |name: &str| std::env::var_os(name).unwrap_or_default();
        let terminal = std::io::stdout().is_terminal();
        Self::on(terminal, &variable("NO_COLOR"), &variable("TERM"))
    }

    fn on(terminal: bool, no_color: &OsStr, term: &OsStr) -> Self {
        let on = terminal && no_color.is_empty() && term != "dumb";
        Self { on }
    }

    #[cfg(test)]
    pub(crate) const OFF: Self = Self { on: false };

    fn with(self, code: &str, text: &str) -> String {
        match self.on {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }
}

/// A span of time in the largest unit that tells it well enough.
pub(crate) fn duration(millis: i64) -> String {
    let seconds = millis / 1000;
    match millis {
        ..0 => format!("-{}", duration(-millis)),
        0..=999 => format!("{millis} ms"),
        1000..=9_999 => format!("{}.{} s", seconds, millis % 1000 / 100),
        10_000..=119_999 => format!("{seconds} s"),
        120_000..=7_199_999 => format!("{} min", seconds / 60),
        7_200_000..=172_799_999 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

// Short work says nothing; a terminal is told often, a log now and then.
const FIRST: Duration = Duration::from_millis(500);
const ON_TERMINAL: Duration = Duration::from_millis(100);
const IN_LOG: Duration = Duration::from_secs(5);

/// How far something long has come, on stderr.
pub(crate) struct Progress {
    what: &'static str,
    terminal: bool,
    next: Instant,
    shown: bool,
}

impl Progress {
    pub(crate) fn new(what: &'static str) -> Self {
        Self {
            what,
            terminal: std::io::stderr().is_terminal(),
            next: Instant::now() + FIRST,
            shown: false,
        }
    }

    /// Says how much is done, if it is time to.
    pub(crate) fn at(&mut self, done: u64, all: u64) {
        if Instant::now() < self.next {
            return;
        }
        let percent = (done * 100).checked_div(all).unwrap_or(100);
        let line = format!("{}: {done} of {all} ({percent} %)", self.what);
        match self.terminal {
            true => eprint!("\r\x1b[K{line}"),
            false => eprintln!("{line}"),
        }
        self.shown = true;
        self.next = Instant::now() + if self.terminal { ON_TERMINAL } else { IN_LOG };
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown && self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_unit_that_suits_them() {
        let told = [7, 1_250, 45_000, 150_000, 9_000_000, 200_000_000, -3].map(duration);
        let expected = ["7 ms", "1.2 s", "45 s", "2 min", "2 h", "2 days", "-3 ms"];
        assert_eq!(told, expected);
    }

    #[test]
    fn colours_are_for_terminals_and_for_who_wants_them() {
        let on = |terminal, no_color: &str, term: &str| {
            Paint::on(terminal, no_color.as_ref(), term.as_ref()).on
        };
        assert!(on(true, "", "xterm-256color"));
        assert!(!on(false, "", "xterm-256color"));
        assert!(!on(true, "1", "xterm-256color"));
        assert!(!on(true, "", "dumb"));
    }

    #[test]
    fn colours_are_codes_around_the_text_or_nothing() {
        assert_eq!(Paint { on: true }.red("no"), "\x1b[31mno\x1b[0m");
        assert_eq!(Paint::OFF.red("no"), "no");
    }
}
