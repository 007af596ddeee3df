//! The protos change only in ways that bytes and readers survive.

use std::fs;

use crate::compatible::findings;
use crate::schema::Schema;

const FILE: &str = "descriptors.snapshot.txt";

const HEADER: &str = "\
# The protos as they were recorded last. A test compares them with today's: what is
# here may not change, and what was added is recorded by
# ENSEMBLE_UPDATE_GOLDEN=1 cargo test -p events
";

#[test]
fn the_protos_changed_only_in_compatible_ways() {
    let path = crate::committed(FILE);
    let recorded = fs::read_to_string(&path).unwrap_or_default();
    match judge(&recorded, &Schema::today()) {
        Verdict::Same => {}
        Verdict::Added(text) if crate::recording() => {
            fs::write(&path, text).expect("the snapshot can be written");
        }
        Verdict::Added(_) => panic!(
            "the protos have compatible changes that {FILE} has not: run `{}` to record the \
             addition, and commit it",
            crate::RECORD
        ),
        Verdict::Wrong(findings) => panic!("the protos break the wire contract\n{findings}"),
    }
}

/// What is to be done about today's protos.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    /// This text can be recorded.
    Added(String),
    /// Nothing can be recorded.
    Wrong(String),
}

fn judge(recorded: &str, today: &Schema) -> Verdict {
    let recorded = match Schema::parse(recorded) {
        Ok(schema) => schema,
        Err(text) => return Verdict::Wrong(text),
    };
    let findings: Vec<_> = findings(&recorded, today)
        .iter()
        .map(|finding| format!("- {finding}"))
        .collect();
    match findings.is_empty() {
        false => Verdict::Wrong(findings.join("\n")),
        true if recorded == *today => Verdict::Same,
        true => Verdict::Added(format!("{HEADER}{today}")),
    }
}

#[test]
fn what_was_added_can_be_recorded_and_is_then_the_same() {
    let Verdict::Added(text) = judge("", &Schema::today()) else {
        panic!("everything is an addition to nothing");
    };
    assert_eq!(judge(&text, &Schema::today()), Verdict::Same);
}

#[test]
fn an_incompatible_change_can_not_be_recorded() {
    let today = Schema::today();
    let recorded = today.to_string().replace(
        "field ensemble.v1.OrderLine 2 quantity",
        "field ensemble.v1.OrderLine 20 quantity",
    );
    let Verdict::Wrong(text) = judge(&recorded, &today) else {
        panic!("a renumbered field is wrong");
    };
    assert!(text.starts_with("- OrderLine.quantity (20) now has the number 2: "));
    assert!(matches!(judge("nonsense", &today), Verdict::Wrong(_)));
}
