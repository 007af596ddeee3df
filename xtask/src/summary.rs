//! Showing what a test runner prints, and keeping its summary.

use std::io::{self, IsTerminal, PipeReader, Read, Write};
use std::process::{Command, ExitStatus};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::failure::{Failure, Outcome};
use crate::signals::Signals;

/// How long to wait for output after the runner has ended. Only a process that
/// a test left behind can still hold the pipe open by then.
const LATE_OUTPUT: Duration = Duration::from_secs(5);

/// Runs a test runner, shows what it prints, and gives the lines that sum it
/// up.
pub(crate) fn run_and_keep(
    signals: &Signals,
    command: Command,
) -> Outcome<(ExitStatus, Vec<String>)> {
    run_and_keep_lines(signals, command, is_summary)
}

/// Runs a program, shows what it prints, and gives the lines that are worth keeping.
pub(crate) fn run_and_keep_lines(
    signals: &Signals,
    mut command: Command,
    keep: fn(&str) -> bool,
) -> Outcome<(ExitStatus, Vec<String>)> {
    let cannot = |error: io::Error| Failure::new(format!("cannot read from a program: {error}"));
    // One pipe for both outputs keeps them in the order they were printed in.
    let (reader, writer) = io::pipe().map_err(cannot)?;
    command
        .stdout(writer.try_clone().map_err(cannot)?)
        .stderr(writer);
    if io::stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let (send, receive) = mpsc::channel();
    thread::spawn(move || copy(reader, &send, keep));
    let status = signals.run(command)?;
    let mut kept = Vec::new();
    // The copier hangs up at the end of the output.
    while let Ok(line) = receive.recv_timeout(LATE_OUTPUT) {
        kept.push(line);
    }
    Ok((status, kept))
}

fn copy(mut reader: PipeReader, summary: &mpsc::Sender<String>, keep: fn(&str) -> bool) {
    let mut terminal = io::stdout();
    let mut lines = Lines::default();
    let mut buffer = [0; 16 * 1024];
    loop {
        let size = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(size) => size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let piece = &buffer[..size];
        // Where nobody reads any more, the run itself still counts.
        let _unread = terminal.write_all(piece).and_then(|()| terminal.flush());
        for line in lines.take(piece) {
            let _nobody_waits = keep(&line).then(|| summary.send(line));
        }
    }
    let last = lines.rest();
    let _nobody_waits = keep(&last).then(|| summary.send(last));
}

/// Puts lines together from pieces of output.
#[derive(Default)]
struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    fn take(&mut self, piece: &[u8]) -> Vec<String> {
        self.begun.extend_from_slice(piece);
        let mut whole = Vec::new();
        while let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.begun.drain(..=end).collect();
            whole.push(plain(&line));
        }
        whole
    }

    fn rest(self) -> String {
        plain(&self.begun)
    }
}

/// A line without its colours and its end.
fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.trim_end().chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            // A colour: ESC, `[`, numbers, and a letter at the end.
            characters.find(char::is_ascii_alphabetic);
        } else {
            plain.push(character);
        }
    }
    plain
}

/// Whether a line is a summary of cargo-nextest or of cargo test.
fn is_summary(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("test result: ")
        || (line.starts_with("Summary [") && line.contains(" run: ") && line.contains(" passed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(pieces: &[&str]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut all: Vec<String> = pieces
            .iter()
            .flat_map(|piece| lines.take(piece.as_bytes()))
            .collect();
        all.push(lines.rest());
        all.retain(|line| is_summary(line));
        all
    }

    #[test]
    fn keeps_the_summary_of_nextest() {
        let output = [
            "        PASS [   0.005s] events names::tests::one\n------------\n     Summ",
            "ary [   0.012s] 2 tests run: 2 passed, 0 skipped\n",
        ];
        assert_eq!(
            kept(&output),
            ["     Summary [   0.012s] 2 tests run: 2 passed, 0 skipped"]
        );
    }

    #[test]
    fn keeps_it_without_its_colours() {
        let output = "\u{1b}[32;1m     Summary\u{1b}[0m [   0.012s] \u{1b}[1m1\u{1b}[0m test run: \
                      \u{1b}[1m1\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, 0 skipped";
        assert_eq!(
            kept(&[output]),
            ["     Summary [   0.012s] 1 test run: 1 passed, 0 skipped"]
        );
    }

    #[test]
    fn keeps_every_result_of_cargo_test() {
        let output = "running 1 test\ntest a ... ok\n\n\
                      test result: ok. 1 passed; 0 failed; 0 ignored; finished in 0.00s\r\n\n\
                      test result: ok. 2 passed; 0 failed; 0 ignored; finished in 0.00s\n";
        assert_eq!(
            kept(&[output]),
            [
                "test result: ok. 1 passed; 0 failed; 0 ignored; finished in 0.00s",
                "test result: ok. 2 passed; 0 failed; 0 ignored; finished in 0.00s",
            ]
        );
    }

    #[test]
    fn keeps_nothing_of_other_lines() {
        assert!(kept(&["Summary of changes\n", "a test result: ok\n", "\u{1b}[1m"]).is_empty());
    }
}
