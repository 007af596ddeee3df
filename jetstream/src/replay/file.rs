//! A captured tape as a file: JSON lines, so that it can be looked at, compared and kept in
//! a repository.
//!
//! ```text
//! {"ensemble_capture":1,"first":12,"last":20,"orders":["…"],"before":"selection"}
//! {"seq":3,"subject":"product.listed","event":"<base64 of the CloudEvents protobuf>"}
//! …
//! {"end":9,"sha256":"<of all lines before, each with its newline>"}
//! ```
//!
//! Events are kept as they were on the wire, so a file is read by every build that reads
//! the stream. A reader refuses a version that it does not know.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use events::{Envelope, OrderId};
use serde::{Deserialize, Serialize};

use super::tape::{Before, Tape};
use crate::stream::history::Recorded;

/// The version of the format.
pub const VERSION: u32 = 1;

/// A file cannot be read or written; each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refuses.
    #[error("cannot use {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is something else.
    #[error("{0} is no capture: name a file that `ensemble capture` wrote")]
    Strange(PathBuf),
    /// A newer build wrote it.
    #[error(
        "{path} has version {version} of the format, and this build reads version {VERSION}: use a newer build"
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// It is not what was written.
    #[error("{path} is damaged ({what}): capture it again, or take another copy")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    ensemble_capture: u32,
    first: u64,
    last: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    orders: Option<BTreeSet<OrderId>>,
    before: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    seq: u64,
    subject: String,
    event: String,
}

#[derive(Serialize, Deserialize)]
struct End {
    end: usize,
    sha256: String,
}

/// Writes a tape; what was there is replaced as a whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn write(tape: &Tape, path: &Path) -> Result<(), FileError> {
    let failed = |source| FileError::Io {
        path: path.to_owned(),
        source,
    };
    let unfinished = path.with_extension("unfinished");
    std::fs::write(&unfinished, encode(tape).map_err(|e| failed(e.into()))?).map_err(failed)?;
    std::fs::rename(&unfinished, path).map_err(failed)
}

/// Reads a tape.
///
/// # Errors
/// When the file is not there, is no capture, or is damaged.
pub fn read(path: &Path) -> Result<Tape, FileError> {
    let text = std::fs::read(path).map_err(|source| FileError::Io {
        path: path.to_owned(),
        source,
    })?;
    let text = String::from_utf8(text).map_err(|_| FileError::Strange(path.to_owned()))?;
    decode(&text, path)
}

fn encode(tape: &Tape) -> Result<String, serde_json::Error> {
    let header = Header {
        ensemble_capture: VERSION,
        first: tape.first,
        last: tape.last,
        orders: tape.orders.clone(),
        before: before_name(tape.before).to_owned(),
    };
    let mut text = serde_json::to_string(&header)? + "\n";
    for event in tape.events() {
        let line = Line {
            seq: event.stream_sequence,
            subject: event.envelope.entry.subject.to_owned(),
            event: STANDARD_NO_PAD.encode(event.envelope.encode()),
        };
        text += &serde_json::to_string(&line)?;
        text += "\n";
    }
    let end = End {
        end: tape.events().len(),
        sha256: sha256(&text),
    };
    text += &serde_json::to_string(&end)?;
    text += "\n";
    Ok(text)
}

fn decode(text: &str, path: &Path) -> Result<Tape, FileError> {
    let damaged = |what: String| FileError::Damaged {
        path: path.to_owned(),
        what,
    };
    let strange = || FileError::Strange(path.to_owned());
    let (first, _) = text.split_once('\n').ok_or_else(strange)?;
    let version: serde_json::Value = serde_json::from_str(first).map_err(|_| strange())?;
    match version["ensemble_capture"].as_u64() {
        Some(version) if version == u64::from(VERSION) => {}
        Some(version) => {
            return Err(FileError::Newer {
                path: path.to_owned(),
                version: u32::try_from(version).unwrap_or(u32::MAX),
            });
        }
        None => return Err(strange()),
    }
    let header: Header = serde_json::from_str(first).map_err(|e| damaged(e.to_string()))?;
    let last = text
        .trim_end_matches('\n')
        .rsplit_once('\n')
        .map_or("", |(_, last)| last);
    let end: End =
        serde_json::from_str(last).map_err(|_| damaged("its end is missing".to_owned()))?;
    let lines = &text[..text.len() - last.len() - 1];
    if sha256(lines) != end.sha256 {
        return Err(damaged("its checksum is another".to_owned()));
    }
    let mut events = Vec::with_capacity(end.end);
    for (number, line) in lines.lines().enumerate().skip(1) {
        let wrong = |what: &dyn std::fmt::Display| damaged(format!("line {}: {what}", number + 1));
        let line: Line = serde_json::from_str(line).map_err(|e| wrong(&e))?;
        let bytes = STANDARD_NO_PAD.decode(line.event).map_err(|e| wrong(&e))?;
        events.push(Recorded {
            envelope: Envelope::decode(&line.subject, bytes.into()).map_err(|e| wrong(&e))?,
            stream_sequence: line.seq,
        });
    }
    Ok(Tape {
        first: header.first,
        last: header.last,
        orders: header.orders,
        ..Tape::new(events, before(&header.before).ok_or_else(strange)?)
    })
}

fn before_name(before: Before) -> &'static str {
    match before {
        Before::Everything => "everything",
        Before::Selection => "selection",
        Before::Missing => "missing",
    }
}

fn before(name: &str) -> Option<Before> {
    let all = [Before::Everything, Before::Selection, Before::Missing];
    all.into_iter().find(|before| before_name(*before) == name)
}

fn sha256(text: &str) -> String {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    hash.as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::catalog;
    use events::sample;
    use uuid::Uuid;

    fn tape() -> Tape {
        let recorded = |n: u64, entry: &'static catalog::Entry| Recorded {
            envelope: sample::envelope(entry, sample::Form::Full),
            stream_sequence: n,
        };
        let events = catalog::all().zip(1..).map(|(entry, n)| recorded(n, entry));
        Tape {
            orders: Some([OrderId(Uuid::from_u128(7))].into()),
            ..Tape::new(events.collect(), Before::Selection)
        }
        .until(9)
    }

    fn read_text(text: &str) -> Result<Tape, String> {
        decode(text, Path::new("it")).map_err(|error| error.to_string())
    }

    #[test]
    fn every_event_reads_back() {
        let tape = tape();
        let read = read_text(&encode(&tape).expect("encoded")).expect("read");
        assert_eq!(
            (read.first, read.last, read.before),
            (1, 9, Before::Selection)
        );
        assert_eq!(read.orders, tape.orders);
        let pairs = |tape: &Tape| -> Vec<_> {
            let events = tape.events().iter();
            events
                .map(|e| (e.stream_sequence, e.envelope.clone()))
                .collect()
        };
        assert_eq!(pairs(&read), pairs(&tape));
    }

    #[test]
    fn what_is_no_capture_or_damaged_is_said_to_be_so() {
        let text = encode(&tape()).expect("encoded");
        let cut: String = text
            .lines()
            .take(4)
            .map(|line| format!("{line}\n"))
            .collect();
        let newer = text.replacen(":1,", ":2,", 1);
        let flipped = text.replacen("product.reserved", "product.released", 1);
        for (text, expected) in [
            ("", "no capture"),
            ("{\"a\": 1}\n", "no capture"),
            ("name,price\n1,2\n", "no capture"),
            (cut.as_str(), "its end is missing"),
            (newer.as_str(), "version 2"),
            (flipped.as_str(), "checksum"),
        ] {
            let error = read_text(text).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }
}
