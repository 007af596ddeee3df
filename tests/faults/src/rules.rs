//! Rules switched off in the real code, each where something breaks without it: a run that
//! was never seen to fail proves nothing.
//!
//! The rules of what is decided are switched off in the model too, which finds the shortest
//! way in which something breaks (`cargo test -p model --test rules_off`, which `cargo xtask
//! faults --rules` runs first). One that another rule covers is switched off together with it.

use std::time::Duration;

use futures::StreamExt as _;

use crate::again::Again;
use crate::figures::Figures;
use crate::scenario::{SCENARIO, Scenario};
use crate::shop::Mix;
use crate::stage::{Outcome, Stage, Wishes};

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

pub(crate) const RULES: [&str; 12] = [
    "R1", "R2", "R3", "R4", "R5", "R6", "R7", "R8", "R9", "R10", "R11", "R12",
];

pub(crate) const ALL: &[Switched] = &[
    Switched {
        rule: "R1",
        // The unique id of the answer covers it: what would be done twice cannot commit.
        off: "the row of a hold does not prove that the step was taken; events come twice",
        found: &["I1", "I2", "dead letter of stock", "I17"],
        scenario: Scenario {
            id: "R1",
            what: "stock takes whenever it is asked",
            run: |stage| Box::pin(twice(stage, &[("stock", "off R1")])),
            ..SCENARIO
        },
    },
    Switched {
        rule: "R2",
        off: "what was refused or given back is taken when it is asked for again",
        found: &["I1", "I2", "I5", "I7", "dead letter of stock", "I17"],
        scenario: Scenario {
            id: "R2",
            what: "an outcome of stock flips",
            run: |stage| Box::pin(twice(stage, &[("stock", "off R2")])),
            ..SCENARIO
        },
    },
    Switched {
        rule: "R3",
        off: "a decision does not look whether the order was decided meanwhile",
        found: &["I6", "I7", "I8", "I9", "I5", "F25"],
        scenario: Scenario {
            id: "R3",
            what: "users cancel at the last success",
            wishes: || Wishes {
                flags: vec!["--cancel-window", "0"],
                mix: Mix {
                    orders: Some(1000),
                    ..Mix::plain()
                },
                ..Wishes::default()
            },
            run: |stage| Box::pin(races(stage)),
            ..SCENARIO
        },
    },
    Switched {
        rule: "R4",
        off: "the join counts, and (R1) hears successes twice",
        found: &["I6", "I7", "I8", "I9", "I5", "dead letter of"],
        scenario: Scenario {
            id: "R4",
            what: "order counts successes",
            run: |stage| Box::pin(twice(stage, &[("order", "off R1 R4"), LATE])),
            ..SCENARIO
        },
    },
    Switched {
        rule: "R5",
        off: "a cancel that finds nothing leaves no tombstone, and (R6) nobody asks again",
        found: &["I7"],
        scenario: Scenario {
            id: "R5",
            what: "actions are late, and find no tombstone",
            run: |stage| {
                Box::pin(twice(
                    stage,
                    &[
                        ("stock", "off R5 R6\nlate order.created.pending 800 1200"),
                        ("order", "off R6"),
                    ],
                ))
            },
            ..SCENARIO
        },
    },
    Switched {
        rule: "R6",
        off: "nobody asks again for a compensation that was lost",
        found: &["I17", "I5"],
        scenario: Scenario {
            id: "R6",
            what: "stock never hears some cancels",
            run: |stage| {
                Box::pin(twice(
                    stage,
                    &[("stock", "lose order.canceled 20"), ("order", "off R6")],
                ))
            },
            reaches: &["lost"],
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
        rule: "R9",
        off: "a timer cancels, whatever was decided",
        found: &["I6", "I7", "I8", "I9", "I16"],
        scenario: Scenario {
            id: "R9",
            what: "the timer of order decides",
            run: |stage| Box::pin(twice(stage, &[("order", "off R9")])),
            ..SCENARIO
        },
    },
    Switched {
        rule: "R10",
        off: "two instances neither lock the rows that they count down, nor look whether they are as they were",
        found: &["I1", "I2"],
        scenario: Scenario {
            id: "R10",
            what: "two instances of stock lock nothing",
            run: |stage| Box::pin(unlocked(stage)),
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

// Orders wait for points, so that events that are said again come before the decision.
const LATE: (&str, &str) = ("point", "at deciding slow 400 1");

/// Services run without rules, while a third of all events come twice.
async fn twice(stage: &mut Stage, plans: &[(&str, &str)]) -> Outcome {
    for (service, plan) in plans {
        stage.tell(service, plan)?;
    }
    stage.fault("rules are off, and events come twice");
    let _again = Again::start(&stage.broker, stage.random.part(22), 30).await?;
    let _ = tokio::time::timeout(PATIENCE, stage.load()?.ended()).await;
    Ok(())
}

/// Cancels race with the last success.
async fn races(stage: &mut Stage) -> Outcome {
    stage.tell("order", "off R3")?;
    stage.fault("a decision is unconditional");
    let racing = crate::scenarios::races::cancel_races(stage);
    let _ = tokio::time::timeout(PATIENCE, racing).await;
    Ok(())
}

async fn unlocked(stage: &mut Stage) -> Outcome {
    stage.serve_in_turn()?;
    stage.add("stock-2", "stock")?;
    stage.start_with("stock-2", "off R10")?;
    stage.tell("stock", "off R10")?;
    stage.fault("nothing is locked");
    let _ = tokio::time::timeout(PATIENCE, stage.load()?.ended()).await;
    Ok(())
}

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
        let violation = violation.trim_start_matches("while it ran: ");
        found.any(|words| {
            let rest = violation.strip_prefix(words);
            // I1 is not I17.
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
        })
    };
    violations.filter(shows).map(String::clone).next()
}

/// What the run says about the rules: what each was seen to be broken by.
/// As Markdown, and the rules without which nothing broke in the services.
pub(crate) fn report(shown: &[(&Switched, Option<String>)]) -> (String, Vec<&'static str>) {
    let mut missing = Vec::new();
    let mut killed = 0;
    let mut lines = vec![
        "| Rule | Off in the services | Found there | In the model | Seen to matter in |"
            .to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    for rule in RULES {
        let real = shown.iter().find(|(switched, _)| switched.rule == rule);
        let found = real.and_then(|(_, found)| found.clone());
        let off = real.map_or("", |(switched, _)| switched.off);
        let ways = IN_THE_MODEL.iter().find(|(name, _)| *name == rule);
        let where_ = match (&found, ways) {
            (Some(_), Some(_)) => "both",
            (Some(_), None) => "the services",
            (None, Some(_)) => "the model",
            (None, None) => "NOTHING",
        };
        killed += u32::from(where_ != "NOTHING");
        if found.is_none() {
            missing.push(rule);
        }
        let found = found.unwrap_or_else(|| "nothing".to_owned());
        let found = found.replace('|', "/");
        let ways = match ways {
            Some((_, 1)) => "off in 1 way, found".to_owned(),
            Some((_, ways)) => format!("off in {ways} ways, each found"),
            None => String::new(),
        };
        lines.push(format!("| {rule} | {off} | {found} | {ways} | {where_} |"));
    }
    lines.push(String::new());
    lines.push(format!(
        "{killed} of {} rules were seen to matter.",
        RULES.len()
    ));
    (lines.join("\n"), missing)
}

/// Plays all of them, a few at a time.
pub(crate) async fn all<'a, F: Future<Output = Figures> + 'a>(
    jobs: usize,
    mut play: impl FnMut(&'static Switched) -> F,
) -> (String, Vec<&'static str>) {
    let plays = ALL.iter().map(|switched| {
        let playing = play(switched);
        async move {
            let figures = playing.await;
            (switched, is_killed(switched, &figures))
        }
    });
    let shown: Vec<_> = futures::stream::iter(plays)
        .buffer_unordered(jobs)
        .collect()
        .await;
    report(&shown)
}
