//! The document: each kind of run writes its own part, between two marks.

use std::path::Path;
use std::process::Command;

use crate::{Args, Outcome};

/// Puts text into a part of the document; what is around the parts stays.
pub(crate) fn write(document: &Path, part: &str, text: &str) -> Outcome {
    let failed = |error: std::io::Error| format!("{}: {error}", document.display());
    let old = std::fs::read_to_string(document).map_err(failed)?;
    let new = with_part(&old, part, text)
        .ok_or_else(|| format!("{} has no part `{part}`", document.display()))?;
    std::fs::write(document, new).map_err(failed)
}

fn with_part(document: &str, part: &str, text: &str) -> Option<String> {
    let (begin, end) = (
        format!("<!-- {part}:begin -->"),
        format!("<!-- {part}:end -->"),
    );
    let (before, rest) = document.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!(
        "{before}{begin}\n{}\n{end}{after}",
        text.trim_end()
    ))
}

/// On what it was measured: a line for the part.
pub(crate) fn machine(args: &Args, more: &[String]) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?.to_owned();
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cpu = field(&read("/proc/cpuinfo"), "model name").unwrap_or("unknown processor".into());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = field(&read("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok())
        .map_or("unknown".to_owned(), |kb| {
            format!("{} GB", (kb + 524_288) / 1_048_576)
        });
    let kernel = read("/proc/sys/kernel/osrelease");
    let commit = said(Command::new("git").args(["rev-parse", "--short", "HEAD"]));
    let date = said(Command::new("date").args(["-u", "+%Y-%m-%d"]));
    let nats = said(Command::new(&args.nats_server).arg("--version"));
    let rustc = said(Command::new("rustc").arg("--version"));
    let mut parts = vec![
        format!("{date}, commit {commit}"),
        format!(
            "{cores} cores of {cpu}, {memory} of memory, Linux {}",
            kernel.trim()
        ),
        nats,
        rustc,
    ];
    parts.extend_from_slice(more);
    if args.quick {
        parts.push(
            "**a quick run: few orders, nothing repeated; for a look, not for a claim**".into(),
        );
    }
    format!("Measured {}.\n", parts.join("; "))
}

fn said(command: &mut Command) -> String {
    let output = command
        .output()
        .map(|output| output.stdout)
        .unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}

/// The version of PostgreSQL and its settings, from a report.
pub(crate) fn database(report: &serde_json::Value) -> String {
    let name = report["database"].as_str().unwrap_or_default();
    let settings = report["database_settings"].as_object();
    let settings: Vec<String> = settings
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != "server_version")
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    format!("{name} ({})", settings.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_replaced_and_nothing_else() {
        let document = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n";
        let new = with_part(document, "x", "new\n").expect("the part is there");
        assert_eq!(new, "a\n<!-- x:begin -->\nnew\n<!-- x:end -->\nb\n");
        assert_eq!(with_part(&new, "x", "new").as_deref(), Some(&*new));
        assert_eq!(with_part(document, "y", "new"), None);
    }
}
