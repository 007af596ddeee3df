//! Having `ensemble bench` place orders, and reading what it measured.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::process::end_with_parent;
use crate::table::number;
use crate::{Args, Outcome};

/// One run of `ensemble bench` with these flags: its report.
pub(crate) fn bench(args: &Args, folder: &Path, flags: &[String]) -> Outcome<Value> {
    let _ = std::fs::remove_dir_all(folder);
    let mut command = Command::new(&args.ensemble);
    command
        .args(["bench", "--json", "--data-dir"])
        .arg(folder)
        .args(flags)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    end_with_parent(&mut command);
    let output = command
        .output()
        .map_err(|error| format!("cannot run {}: {error}", args.ensemble.display()))?;
    let said = flags.join(" ");
    if !output.status.success() {
        return Err(format!(
            "`ensemble bench {said}` has no result; it says why above"
        ));
    }
    let _ = std::fs::remove_dir_all(folder);
    serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("the report of `ensemble bench {said}`: {error}"))
}

/// A run of Ensemble itself, on PostgreSQL or on SQLite.
pub(crate) fn ours(args: &Args, folder: &Path, postgres: bool, flags: &[String]) -> Outcome<Value> {
    let mut all = vec![
        "--nats-server".to_owned(),
        args.nats_server.display().to_string(),
    ];
    if postgres {
        all.extend(["--database-url".to_owned(), named(&args.database_url)]);
    }
    all.extend_from_slice(flags);
    bench(args, folder, &all)
}

/// The server's URL with the name that databases are to begin with.
fn named(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
    let (host, behind) = rest.split_once('/').unwrap_or((rest, ""));
    let options = behind
        .split_once('?')
        .map_or(String::new(), |(_, options)| format!("?{options}"));
    format!("{scheme}://{host}/compare{options}")
}

/// Flags from text.
pub(crate) fn flags(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A figure of a report's window, like `complete_ms/p50`.
pub(crate) fn figure(report: &Value, window: usize, path: &str) -> Option<f64> {
    report["windows"][window]
        .pointer(&format!("/{path}"))?
        .as_f64()
}

/// The median of a figure over reports.
pub(crate) fn median(reports: &[Value], path: &str) -> Option<f64> {
    let all = ordered(reports, path);
    let (low, high) = (
        all.get(all.len().checked_sub(1)? / 2)?,
        all.get(all.len() / 2)?,
    );
    Some(f64::midpoint(*low, *high))
}

/// A figure of each of the reports, from the lowest on.
pub(crate) fn of_runs(reports: &[Value], path: &str) -> String {
    let all = ordered(reports, path).into_iter();
    let all: Vec<String> = all.map(|figure| number(Some(figure))).collect();
    all.join(" · ")
}

fn ordered(reports: &[Value], path: &str) -> Vec<f64> {
    let mut all: Vec<f64> = reports.iter().filter_map(|r| figure(r, 0, path)).collect();
    all.sort_by(f64::total_cmp);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_have_a_name_of_their_own() {
        for url in [
            "postgres://u@h:5",
            "postgres://u@h:5/",
            "postgres://u@h:5/shop",
        ] {
            assert_eq!(named(url), "postgres://u@h:5/compare");
        }
        assert_eq!(named("postgres://h/?a=b"), "postgres://h/compare?a=b");
    }
}
