//! The golden files: which must exist, how they are read, and how missing ones are
//! written.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Once;

use bytes::Bytes;
use events::catalog::{self, Entry};
use events::{Envelope, Malformed, render};
use serde_json::{Value, json};

use events::sample::{self as samples, Form};

/// A version that nobody says any more, but that streams and backups still hold.
pub(crate) struct Retired {
    pub(crate) message: &'static str,
    pub(crate) version: u32,
    /// Reads its envelope; the JSON is that of [`readable`].
    pub(crate) read: fn(Bytes) -> Result<Value, Malformed>,
}

/// When a row of the catalog goes to another version, its old one comes here.
pub(crate) const RETIRED: &[Retired] = &[];

/// One event of the contract: the files `<name>.hex` and `<name>.json`.
pub(crate) struct Golden {
    pub(crate) name: String,
    pub(crate) origin: Origin,
}

/// Where the event comes from.
pub(crate) enum Origin {
    Said(&'static Entry, Form),
    Retired(fn(Bytes) -> Result<Value, Malformed>),
}

impl Golden {
    /// All that must exist.
    pub(crate) fn all(retired: &[Retired]) -> Vec<Self> {
        let said = catalog::all()
            .flat_map(|entry| Form::ALL.map(|form| (entry, form)))
            .map(|(entry, form)| Self {
                name: name(entry.message, entry.version, form),
                origin: Origin::Said(entry, form),
            });
        let retired = retired
            .iter()
            .flat_map(|r| Form::ALL.map(|form| (r, form)))
            .map(|(r, form)| Self {
                name: name(r.message, r.version, form),
                origin: Origin::Retired(r.read),
            });
        said.chain(retired).collect()
    }

    /// The event as it is said today, unless nobody says it any more.
    pub(crate) fn sample(&self) -> Option<Envelope> {
        match self.origin {
            Origin::Said(entry, form) => Some(samples::envelope(entry, form)),
            Origin::Retired(_) => None,
        }
    }

    /// What bytes say, read with today's code.
    pub(crate) fn read(&self, bytes: Bytes) -> Result<Value, Malformed> {
        match &self.origin {
            Origin::Said(entry, _) => readable(entry, bytes),
            Origin::Retired(read) => read(bytes),
        }
    }

    pub(crate) fn files(&self) -> [String; 2] {
        [format!("{}.hex", self.name), format!("{}.json", self.name)]
    }
}

fn name(message: &str, version: u32, form: Form) -> String {
    format!("{message}.v{version}{}", form.suffix())
}

/// An event as JSON: its row of the catalog, its attributes, its body.
pub(crate) fn readable(entry: &Entry, bytes: Bytes) -> Result<Value, Malformed> {
    let envelope = Envelope::decode(entry.subject, bytes)?;
    Ok(json!({
        "nats_subject": envelope.entry.subject,
        "type": envelope.entry.event_type(),
        "writer": envelope.entry.writer,
        "id": envelope.id,
        "aggregate": envelope.aggregate,
        "correlation": envelope.correlation,
        "causation": envelope.causation,
        "time": envelope.time,
        "pseq": envelope.pseq,
        "traceparent": envelope.traceparent,
        "body": render::body(&envelope)?,
    }))
}

/// The folder of the golden files; additions are recorded before it is first read.
pub(crate) fn folder() -> PathBuf {
    static RECORDED: Once = Once::new();
    let folder = crate::committed("golden");
    RECORDED.call_once(|| {
        if crate::recording() {
            write_missing(&folder, &Golden::all(RETIRED));
        }
    });
    folder
}

/// The recorded bytes; a missing file is the finding of the one test that looks for it.
pub(crate) fn committed_bytes(name: &str) -> Option<Bytes> {
    let path = folder().join(format!("{name}.hex"));
    path.exists().then(|| from_hex_file(&path))
}

/// What the recorded bytes are to say; missing like [`committed_bytes`].
pub(crate) fn committed_json(name: &str) -> Option<Value> {
    let path = folder().join(format!("{name}.json"));
    let read = |text: String| {
        serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{name}.json is no JSON ({e}): restore it"))
    };
    path.exists().then(|| read(text(&path)))
}

/// The names of the files that there are.
pub(crate) fn present(folder: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(folder).unwrap_or_else(|e| {
        panic!(
            "{} must be readable ({e}): restore it, or run `{}`",
            folder.display(),
            crate::RECORD
        )
    });
    files
        .map(|file| file.expect("a folder can be listed").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// Writes the files that are missing, and nothing else.
pub(crate) fn write_missing(folder: &Path, all: &[Golden]) {
    fs::create_dir_all(folder).expect("the folder of golden files can be made");
    for golden in all {
        // Nobody says a retired version any more, so nobody can write it again.
        let Some(sample) = golden.sample() else {
            continue;
        };
        let [hex, json] = golden.files();
        create(&folder.join(&hex), || to_hex(&sample.encode()));
        create(&folder.join(json), || {
            let said = golden.read(from_hex_file(&folder.join(&hex)));
            let said = said.unwrap_or_else(|e| panic!("{}.hex must decode: {e}", golden.name));
            format!("{said:#}\n")
        });
    }
}

// `create_new`: a file that is there is never written, whoever made it.
fn create(path: &Path, content: impl FnOnce() -> String) {
    if path.exists() {
        return;
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(content().as_bytes()))
        .unwrap_or_else(|e| panic!("{} must be writable: {e}", path.display()));
}

fn from_hex_file(path: &Path) -> Bytes {
    from_hex(&text(path))
        .unwrap_or_else(|| panic!("{} is not pairs of hex digits: restore it", path.display()))
        .into()
}

fn text(path: &Path) -> String {
    fs::read_to_string(path)
        .unwrap_or_else(|e| panic!("{} cannot be read ({e}): restore it", path.display()))
}

// 32 bytes a line, so that a review shows what moved.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| -> String {
        let digits: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
        digits + "\n"
    };
    bytes.chunks(32).map(line).collect()
}

pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16))
        .collect();
    let (pairs, rest) = digits.as_ref()?.as_chunks::<2>();
    let byte = |[high, low]: &[u32; 2]| u8::try_from(high * 16 + low).ok();
    match rest.is_empty() {
        true => pairs.iter().map(byte).collect(),
        false => None,
    }
}
