//! Committed bytes of every event still decode to what they said.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::golden_files::{
    Golden, RETIRED, Retired, committed_bytes, committed_json, folder, from_hex, present, to_hex,
    write_missing,
};

#[test]
fn every_version_of_every_event_has_its_golden_files() {
    let missing = missing(&Golden::all(RETIRED), &present(&folder()));
    assert!(
        missing.is_empty(),
        "golden files are missing ({}): run `{}` and commit the new files; restore those of \
         a version that was recorded before",
        missing.join(", "),
        crate::RECORD
    );
}

#[test]
fn every_golden_file_is_claimed() {
    let unclaimed = unclaimed(&Golden::all(RETIRED), &present(&folder()));
    assert!(
        unclaimed.is_empty(),
        "no event claims these golden files ({}): give the row of the catalog its version \
         back, or say in RETIRED of events/tests/wire_contract/golden_files.rs how the \
         version is still read",
        unclaimed.join(", ")
    );
}

#[test]
fn golden_bytes_still_decode_to_what_they_said() {
    for golden in Golden::all(RETIRED) {
        let name = &golden.name;
        let (Some(bytes), Some(recorded)) = (committed_bytes(name), committed_json(name)) else {
            continue;
        };
        let said = golden.read(bytes).unwrap_or_else(|e| {
            panic!(
                "{name} cannot be read any more ({e}): keep reading it, or say a new version of \
                 the message beside the old one"
            )
        });
        let lost = lost(&recorded, &said);
        assert!(
            lost.is_empty(),
            "{name} is read as something else ({}): keep its meaning, or say a new version of \
             the message beside the old one",
            lost.join("; ")
        );
    }
}

#[test]
fn todays_writers_still_say_what_the_golden_files_say() {
    for golden in Golden::all(RETIRED) {
        let name = &golden.name;
        let (Some(sample), Some(recorded)) = (golden.sample(), committed_json(name)) else {
            continue;
        };
        let said = golden.read(sample.encode()).expect("today's events decode");
        let lost = lost(&recorded, &said);
        assert!(
            lost.is_empty(),
            "{name} is written as something else ({}): keep what writers say, and the values \
             of events/src/sample.rs",
            lost.join("; ")
        );
    }
}

fn missing(all: &[Golden], present: &BTreeSet<String>) -> Vec<String> {
    let files = all.iter().flat_map(Golden::files);
    files.filter(|file| !present.contains(file)).collect()
}

fn unclaimed(all: &[Golden], present: &BTreeSet<String>) -> Vec<String> {
    let claimed: BTreeSet<_> = all.iter().flat_map(Golden::files).collect();
    present.difference(&claimed).cloned().collect()
}

/// What a golden JSON says and today's does not. More may be said today: a field that
/// was added must not ask for the change of a golden file.
fn lost(golden: &Value, today: &Value) -> Vec<String> {
    let mut lost = Vec::new();
    compare("", golden, today, &mut lost);
    lost
}

fn compare(place: &str, golden: &Value, today: &Value, lost: &mut Vec<String>) {
    match (golden, today) {
        (Value::Object(then), Value::Object(now)) => {
            for (key, then) in then {
                let now = now.get(key).unwrap_or(&Value::Null);
                compare(&format!("{place}/{key}"), then, now, lost);
            }
        }
        (Value::Array(then), Value::Array(now)) if then.len() == now.len() => {
            for (index, (then, now)) in then.iter().zip(now).enumerate() {
                compare(&format!("{place}/{index}"), then, now, lost);
            }
        }
        _ if golden == today => {}
        _ => lost.push(format!("{place} was {golden} and is now {today}")),
    }
}

// ---- the checks see what they are for ---------------------------------------

#[test]
fn a_row_without_files_and_a_file_without_a_row_are_seen() {
    let all = Golden::all(&[]);
    let mut files: BTreeSet<_> = all.iter().flat_map(Golden::files).collect();
    assert!(missing(&all, &files).is_empty() && unclaimed(&all, &files).is_empty());

    files.remove("OrderCreated.v1.json");
    files.insert("OrderCreated.v0.hex".to_owned());
    assert_eq!(missing(&all, &files), ["OrderCreated.v1.json"]);
    assert_eq!(unclaimed(&all, &files), ["OrderCreated.v0.hex"]);
}

#[test]
fn a_retired_version_claims_its_files_and_is_read_by_its_own_code() {
    let retired = [Retired {
        message: "OrderCreated",
        version: 0,
        read: |bytes| Ok(json!({ "length": bytes.len() })),
    }];
    let all = Golden::all(&retired);
    let files = BTreeSet::from(["OrderCreated.v0.hex".to_owned()]);
    assert!(unclaimed(&all, &files).is_empty());
    let last = all.last().expect("retired versions come last");
    assert_eq!(last.name, "OrderCreated.v0.bare");
    let said = last.read(b"abc".as_slice().into());
    assert_eq!(said, Ok(json!({ "length": 3 })));
}

#[test]
fn recording_writes_what_is_missing_and_never_what_is_there() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("golden");
    fs::create_dir_all(&folder).expect("a folder of the test");
    for file in present(&folder) {
        fs::remove_file(folder.join(file)).expect("what an earlier run left");
    }
    let there = folder.join("OrderCreated.v1.json");
    fs::write(&there, "as it was").expect("a file of the test");

    let all = Golden::all(&[]);
    write_missing(&folder, &all);
    write_missing(&folder, &all);
    assert!(missing(&all, &present(&folder)).is_empty());
    let kept = fs::read_to_string(&there).expect("a file of the test");
    assert_eq!(kept, "as it was");
}

#[test]
fn a_changed_or_missing_value_is_lost_and_an_added_one_is_fine() {
    let golden = json!({ "a": 1, "b": [{ "c": "x" }], "d": null });
    assert!(lost(&golden, &golden).is_empty());
    let more = json!({ "a": 1, "b": [{ "c": "x", "new": 1 }], "d": null, "new": 1 });
    assert!(lost(&golden, &more).is_empty());

    let other = json!({ "a": 2, "b": [{}], "d": 0 });
    let places = [
        "/a was 1 and is now 2",
        "/b/0/c was \"x\" and is now null",
        "/d was null and is now 0",
    ];
    assert_eq!(lost(&golden, &other), places);
    let longer = json!({ "a": 1, "b": [{ "c": "x" }, {}], "d": null });
    assert_eq!(lost(&golden, &longer).len(), 1);
}

#[test]
fn hex_reads_back_and_nonsense_is_refused() {
    let bytes: Vec<u8> = (0..=255).collect();
    let text = to_hex(&bytes);
    assert_eq!(text.lines().count(), 8);
    assert_eq!(from_hex(&text), Some(bytes));
    assert_eq!(from_hex("0g"), None);
    assert_eq!(from_hex("012"), None);
}
