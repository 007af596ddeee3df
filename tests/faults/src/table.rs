//! The table of a run.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::figures::{Figures, seconds};
use crate::scenario::{Ended, Scenario};

/// What stands before and after a table in a document.
pub(crate) type Marks = [&'static str; 2];

pub(crate) const SCENARIOS: Marks = ["<!-- faults:begin -->", "<!-- faults:end -->"];
pub(crate) const RULES: Marks = ["<!-- rules:begin -->", "<!-- rules:end -->"];
pub(crate) const SOAK: Marks = ["<!-- soak:begin -->", "<!-- soak:end -->"];

/// What the run was given, and how long it took.
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) scale: u64,
    pub(crate) took: Duration,
}

/// The table, as Markdown.
pub(crate) fn of(ended: &[Ended], left_out: &[Scenario], run: &Run) -> String {
    let mut lines = vec![
        "| | What breaks | Database | Faults | Orders | confirmed | canceled | Events | \
         Redelivered | Duplicates filtered | Voids | Said again | Dead letters | Violations | \
         Recovery p50 / p99 / max, s |"
            .to_owned(),
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|".to_owned(),
    ];
    let mut sum = Figures::default();
    for one in ended {
        sum.add(&one.figures);
        let scenario = &one.scenario;
        let figures = row(&one.figures, one.failed.is_some());
        let (id, what, database) = (scenario.id, scenario.what, scenario.backend.name());
        lines.push(format!("| {id} | {what} | {database} | {figures} |"));
    }
    for scenario in left_out {
        let (id, what) = (scenario.id, scenario.what);
        lines.push(format!(
            "| {id} | {what} | not run: it takes root | | | | | | | | | | | | |"
        ));
    }
    let failed = ended.iter().any(|one| one.failed.is_some());
    lines.push(format!("| | all | | {} |", row(&sum, failed)));
    lines.push(String::new());
    for remark in &sum.remarks {
        lines.push(format!("- {remark}"));
    }
    if !sum.remarks.is_empty() {
        lines.push(String::new());
    }
    let passed = ended
        .iter()
        .filter(|one| one.failed.is_none() && one.figures.violations.is_empty());
    lines.push(format!(
        "{} of {} scenarios without a violation, in {:.0} s. Seed {}, {} % of the usual orders. {}.",
        passed.count(),
        ended.len() + left_out.len(),
        run.took.as_secs_f64(),
        run.seed,
        run.scale,
        versions()
    ));
    lines.join("\n")
}

fn row(figures: &Figures, failed: bool) -> String {
    let recovery = figures
        .recovery_times()
        .map_or_else(String::new, |times| times.map(seconds).join(" / "));
    let violations = match failed {
        true => format!("{} (failed)", figures.violations.len()),
        false => figures.violations.len().to_string(),
    };
    [
        figures.faults.to_string(),
        figures.orders.to_string(),
        figures.confirmed.to_string(),
        figures.canceled.to_string(),
        figures.events.to_string(),
        figures.redelivered.to_string(),
        figures.duplicates.to_string(),
        figures.voids.to_string(),
        figures.republished.to_string(),
        figures.dead_letters.to_string(),
        violations,
        recovery,
    ]
    .join(" | ")
}

/// What the run was made with.
fn versions() -> String {
    let said = |program: &str| {
        let output = Command::new(program).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        (!text.is_empty()).then_some(text)
    };
    let nats = std::env::var("ENSEMBLE_NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned());
    let folder = std::env::var("ENSEMBLE_FAULTS_POSTGRES").unwrap_or_default();
    let postgres = format!("{}/postgres", folder.split(' ').next().unwrap_or_default());
    let found = [said(&nats), said(&postgres)];
    let mut found: Vec<String> = found.into_iter().flatten().collect();
    found.push(format!("Ensemble {}", env!("CARGO_PKG_VERSION")));
    found.join(", ")
}

/// Whether there is a document with the marks.
pub(crate) fn can_record(file: &Path, marks: Marks) -> Result<(), String> {
    around(file, marks).map(drop)
}

/// What is before the marks of a document, and after them.
fn around(file: &Path, marks: Marks) -> Result<(String, String), String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let [begin, end] = marks;
    let missing = || format!("{} has no {begin} and {end}", file.display());
    let (before, rest) = text.split_once(begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(end).ok_or_else(missing)?;
    Ok((before.to_owned(), after.to_owned()))
}

/// Puts the table into a document, between its marks.
pub(crate) fn record(file: &Path, table: &str, marks: Marks) -> Result<(), String> {
    let [begin, end] = marks;
    let (before, after) = around(file, marks)?;
    let text = format!("{before}{begin}\n{table}\n{end}{after}");
    std::fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))
}
