//! `ensemble doctor`: what is wrong with a system, or about to be.

mod broker;
mod consumers;
mod services;

use std::time::Duration;

use futures::future::OptionFuture;
use jetstream::clock;
use jetstream::stream::inspect::{self, Account, Monitored, Stream, Unseen};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::reach::Reach;
use crate::system::System;
use crate::terminal::{Paint, say};
use crate::up::Running;

pub(crate) const EXAMPLES: &str = "\
Examples:
  ensemble doctor
  ensemble doctor --json | jq '.findings[] | select(.severity == \"critical\")'
  ensemble doctor --url http://127.0.0.1:8081,http://127.0.0.1:8082 --nats-url nats://127.0.0.1:4222
  ensemble doctor --monitor http://127.0.0.1:8222      also how the broker writes to disk

It looks and changes nothing. With something critical or a warning it exits with 3; notes are
what one should know. What it cannot see with its credentials it says.";

// A monitoring port that does not answer is no reason to wait.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Monitoring address of the broker, which alone says how it writes to disk
    #[arg(long, env = "ENSEMBLE_MONITOR", value_name = "URL")]
    monitor: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Something stands still, or is lost if something else goes wrong.
    Critical,
    /// It will be critical if it goes on.
    Warning,
    /// As it was set up, and good to know.
    Note,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// A risk, what shows it, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    pub(crate) code: &'static str,
    /// What it is about: the broker, the stream, a service.
    pub(crate) subject: String,
    pub(crate) evidence: String,
    pub(crate) remedy: String,
}

impl Finding {
    pub(crate) fn new(
        severity: Severity,
        code: &'static str,
        subject: &str,
        evidence: String,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            code,
            subject: subject.to_owned(),
            evidence,
            remedy: remedy.into(),
        }
    }
}

/// What is looked at beside the services and their consumers.
pub(crate) struct Examined {
    pub(crate) now: i64,
    /// When it was asked.
    pub(crate) asked_from: i64,
    pub(crate) version: Option<String>,
    pub(crate) stream: Option<Result<Stream, Unseen>>,
    pub(crate) account: Option<Result<Account, Unseen>>,
    pub(crate) monitored: Option<Monitored>,
    pub(crate) unseen: Vec<String>,
}

pub(crate) async fn run(args: &Args) -> Result<(), Failure> {
    let system = System::look(&args.reach, "doctor").await;
    let nothing = system.services.values().all(|seen| seen.is_unseen());
    if system.broker.is_none() && nothing {
        return Err(Failure::Undone(system.unseen.join("; ")));
    }
    let examined = examine(args, &system).await;
    let mut findings = broker::findings(&examined, &system.flags);
    findings.extend(consumers::findings(&examined, &system));
    findings.extend(services::findings(&system));
    findings.sort_by_key(|finding| finding.severity);
    let unseen: Vec<String> = system
        .unseen
        .iter()
        .chain(&examined.unseen)
        .cloned()
        .collect();
    match args.json {
        true => say(&as_json(&findings, &unseen).to_string()),
        false => say(&printed(&findings, &unseen, Paint::of_stdout())),
    }
    let bad = findings.iter().filter(|f| f.severity < Severity::Note);
    match bad.count() {
        0 => Ok(()),
        1 => Err(Failure::Found("1 finding".to_owned())),
        n => Err(Failure::Found(format!("{n} findings"))),
    }
}

async fn examine(args: &Args, system: &System) -> Examined {
    let asked_from = clock::wall();
    let broker = system.broker.as_ref();
    let stream: OptionFuture<_> = broker.map(inspect::stream).into();
    let account: OptionFuture<_> = broker.map(inspect::account).into();
    let (stream, account, monitored) = futures::join!(stream, account, monitored(args));
    let mut unseen = Vec::new();
    if let Some(Err(Unseen::Silent(why))) = &stream {
        unseen.push(format!("how the stream is cannot be seen: {why}"));
    }
    if let Some(Err(Unseen::Silent(why))) = &account {
        unseen.push(format!("how much may be stored cannot be seen: {why}"));
    }
    Examined {
        now: clock::wall(),
        asked_from,
        version: broker.map(inspect::version),
        stream,
        account,
        monitored: monitored.map_err(|why| unseen.push(why)).ok(),
        unseen,
    }
}

async fn monitored(args: &Args) -> Result<Monitored, String> {
    let url = args.monitor.clone().or_else(|| {
        let running = Running::read(args.reach.data_dir()).ok()?;
        // A running system's monitoring port says nothing about another broker.
        let same = args
            .reach
            .nats_url()
            .is_none_or(|url| *url == running.nats_url);
        running.monitor_url.filter(|_| same)
    });
    let cannot = |why: &str| format!("how the broker writes to disk cannot be seen: {why}");
    let url = url.ok_or_else(|| cannot("give its monitoring address with --monitor"))?;
    let away = |_| cannot(&format!("{url} does not answer"));
    let client = reqwest::Client::builder().timeout(PATIENCE).build();
    let client = client.map_err(|error| cannot(&error.to_string()))?;
    let path = format!("{}/jsz?config=true", url.trim_end_matches('/'));
    let answer = client.get(path).send().await.map_err(away)?;
    let answer: Value = answer.json().await.map_err(away)?;
    Ok(Monitored::read(&answer))
}

fn as_json(findings: &[Finding], unseen: &[String]) -> Value {
    let finding = |f: &Finding| {
        json!({
            "severity": f.severity.name(),
            "code": f.code,
            "subject": f.subject,
            "evidence": f.evidence,
            "remedy": f.remedy,
        })
    };
    json!({
        "findings": findings.iter().map(finding).collect::<Vec<_>>(),
        "unseen": unseen,
    })
}

fn printed(findings: &[Finding], unseen: &[String], paint: Paint) -> String {
    let mut text = String::new();
    for finding in findings {
        let severity = format!("{:<8}", finding.severity.name());
        let severity = match finding.severity {
            Severity::Critical => paint.red(&severity),
            Severity::Warning => paint.yellow(&severity),
            Severity::Note => paint.dim(&severity),
        };
        text += &format!(
            "{severity}  {}: {}\n          {}\n",
            paint.bold(&finding.subject),
            finding.evidence,
            finding.remedy
        );
    }
    if findings.iter().all(|f| f.severity == Severity::Note) {
        text += &paint.green("nothing is wrong with what can be seen\n");
    }
    for what in unseen {
        text += &paint.dim(&format!("not seen: {what}\n"));
    }
    text.trim_end().to_owned()
}
