//! Rules switched off in the real code, each where something breaks without it: a run that
//! was never seen to fail proves nothing.
//!
//! The rules of what is decided (R1 to R6, R9, R10) are switched off in the model, which
//! finds the shortest way in which something breaks (`cargo test -p model --test
//! rules_off`, which `cargo xtask faults --rules` runs first). Here are those that are about where in a transaction something happens.

use std::time::Duration;

use futures::StreamExt as _;

use crate::figures::Figures;
use crate::scenario::{SCENARIO, Scenario};
use crate::stage::{Outcome, Stage};

/// A rule, and what shows that it is off.
pub(crate) struct Switched {
    pub(crate) rule: &'static str,
    /// What does not hold any more.
    pub(crate) off: &'static str,
    /// With which words the violation begins that must be found.
    pub(crate) found: &'static [&'static str],
    pub(crate) scenario: Scenario,
}

/// How long a system may take to come to rest that will not.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The rules of the model, with the number of ways in which each is switched off there.
pub(crate) const IN_THE_MODEL: [(&str, u32); 8] = [
    ("R1", 2),
    ("R2", 3),
    ("R3", 1),
    ("R4", 1),
    ("R5", 1),
    ("R6", 3),
    ("R9", 1),
    ("R10", 1),
];

pub(crate) const ALL: &[Switched] = &[
    Switched {
        rule: "R1",
        off: "no row in the inbox proves that an event was processed",
        found: &["I11"],
        scenario: Scenario {
            id: "R1",
            what: "order keeps no inbox",
            run: |stage| Box::pin(without(stage, "order", "off R1\nat acking kill 3")),
            ..SCENARIO
        },
    },
    Switched {
        rule: "R7",
        off: "nobody publishes what a crash left unpublished",
        found: &["I17", "I5"],
        scenario: Scenario {
            id: "R7",
            what: "stock has no sweep",
            run: |stage| Box::pin(without(stage, "stock", "off R7\nat committed kill 3")),
            ..SCENARIO
        },
    },
    Switched {
        rule: "R8",
        off: "an event is acked before the commit",
        found: &["I11"],
        scenario: Scenario {
            id: "R8",
            what: "order acks first",
            run: |stage| Box::pin(without(stage, "order", "off R8\nat deciding kill 4")),
            ..SCENARIO
        },
    },
    Switched {
        rule: "R11",
        off: "an event is published inside the transaction, which then does not commit",
        found: &["I10"],
        scenario: Scenario {
            id: "R11",
            what: "order publishes before it commits",
            run: |stage| Box::pin(without(stage, "order", "off R11\nat early kill 4")),
            ..SCENARIO
        },
    },
    Switched {
        rule: "R12",
        off: "an event of an unknown version is dropped",
        found: &["R12"],
        scenario: Scenario {
            id: "R12",
            what: "order drops what it cannot read",
            run: |stage| Box::pin(unknown_version(stage)),
            ..SCENARIO
        },
    },
];

/// A service runs without a rule, dies where the rule would have mattered, and comes back.
async fn without(stage: &mut Stage, service: &str, plan: &str) -> Outcome {
    let load = stage.load()?;
    load.until_placed(10).await?;
    stage.tell(service, plan)?;
    stage.until_dead(service).await?;
    stage.fault(&format!("{service} died without a rule"));
    let off = plan.lines().next().unwrap_or_default().to_owned();
    stage.start_with(service, &off)?;
    // Whoever waits for what is lost waits in vain.
    let _ = tokio::time::timeout(PATIENCE, load.ended()).await;
    Ok(())
}

/// An event of a version that nobody knows must be kept for a person.
async fn unknown_version(stage: &mut Stage) -> Outcome {
    stage.tell("order", "off R12")?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let subject = events::catalog::STEPS[0].taken.subject;
    let sent = stage.broker.publish(subject, "a version to come".into());
    let stored = sent.await.map_err(|e| e.to_string())?.await;
    stored.map_err(|e| e.to_string())?;
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        let report = stage.look().await?;
        if report.open_letters.contains_key("order") {
            return Ok(());
        }
        if report.quiet {
            let dropped = "R12: an event that nobody could read was acked, and is nowhere";
            stage.figures.violations.push(dropped.to_owned());
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Whether what was found shows that the rule was off.
pub(crate) fn is_killed(switched: &Switched, figures: &Figures) -> Option<String> {
    let violations = figures.violations.iter();
    let shows = |violation: &&String| {
        let mut found = switched.found.iter();
        found.any(|words| {
            violation
                .trim_start_matches("while it ran: ")
                .starts_with(words)
        })
    };
    violations.filter(shows).map(String::clone).next()
}

/// What the run says about the rules.
pub(crate) fn report(shown: &[(&Switched, Option<String>)]) -> Result<(), String> {
    let mut missing = Vec::new();
    for (rule, ways) in IN_THE_MODEL {
        println!(
            "{rule:<4} off in the model, in {ways} way(s): each found there, as its test has just shown"
        );
    }
    for (switched, found) in shown {
        let (rule, off) = (switched.rule, switched.off);
        match found {
            Some(found) => println!("{rule:<4} off in the services ({off}): {found}"),
            None => {
                println!("{rule:<4} off in the services ({off}): NOTHING WAS FOUND");
                missing.push(rule);
            }
        }
    }
    let mut rules: Vec<&str> = IN_THE_MODEL.iter().map(|(rule, _)| *rule).collect();
    let killed = shown.iter().filter(|(_, found)| found.is_some());
    rules.extend(killed.map(|(switched, _)| switched.rule));
    rules.sort_unstable();
    rules.dedup();
    println!("{} of 12 rules were seen to matter", rules.len());
    match missing.is_empty() {
        true => Ok(()),
        false => Err(format!("nothing broke without {}", missing.join(", "))),
    }
}

/// Plays all of them, a few at a time.
pub(crate) async fn all<'a, F: Future<Output = Figures> + 'a>(
    jobs: usize,
    mut play: impl FnMut(&'static Switched) -> F,
) -> Result<(), String> {
    let plays = ALL.iter().map(|switched| {
        let playing = play(switched);
        async move {
            let figures = playing.await;
            (switched, is_killed(switched, &figures))
        }
    });
    let mut shown: Vec<_> = futures::stream::iter(plays)
        .buffer_unordered(jobs)
        .collect()
        .await;
    shown.sort_by_key(|(switched, _)| switched.rule);
    report(&shown)
}
