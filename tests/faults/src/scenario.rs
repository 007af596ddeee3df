//! A scenario: something that breaks while clients order, and the proof that nothing was
//! lost and nothing done twice.
//!
//! To add one: write a function in one of the files in `scenarios/`, in this shape, and add
//! a line to that file's list.
//!
//! ```ignore
//! pub(super) const ALL: &[Scenario] = &[Scenario {
//!     id: "F1",
//!     what: "kill -9 of order, again and again",
//!     backend: Backend::Postgres,
//!     wishes: Wishes::default,
//!     run: |stage| Box::pin(order_is_killed(stage)),
//!     ..SCENARIO
//! }];
//!
//! async fn order_is_killed(stage: &mut Stage) -> Outcome {
//!     let load = stage.load()?;           // clients begin to order, in the background
//!     load.until_placed(20).await?;       // in the middle of the work …
//!     stage.fault("order is killed");     // … something breaks (it is counted)
//!     stage.kill("order");
//!     stage.start("order")?;              // … and is mended
//!     stage.recovered().await?;           // how long until an order is confirmed again
//!     load.ended().await                  // every order is decided
//! }
//! ```
//!
//! What comes after `run` is the same for all: everything must come to rest in time (I17),
//! and then the checker reads all databases and the stream, and finds nothing. While the
//! load runs, it looks too, at what must hold at every moment. A scenario that says `Err`
//! has failed: something did not happen that had to.

use std::time::{Duration, Instant};

use ensemble::check::Report;
use futures::future::LocalBoxFuture;

use crate::figures::Figures;
use crate::shop::Seen;
use crate::stage::{Backend, Given, Outcome, Stage, Wishes};

/// See the module.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    /// Its name: `F1`.
    pub(crate) id: &'static str,
    /// What breaks.
    pub(crate) what: &'static str,
    pub(crate) backend: Backend,
    /// What is different from the usual stage.
    pub(crate) wishes: fn() -> Wishes,
    pub(crate) run: for<'a> fn(&'a mut Stage) -> LocalBoxFuture<'a, Outcome>,
    /// How often the checker looks meanwhile.
    pub(crate) look_every: Duration,
    /// How many times the usual orders it needs to have work until its end.
    pub(crate) orders: u64,
    /// Whether it is part of the short run that is made before each change lands.
    pub(crate) ci: bool,
    /// Whether it needs a small disk, which only root can mount.
    pub(crate) needs_root: bool,
    /// Whether it leaves dead letters on purpose.
    pub(crate) dead_letters: bool,
    /// What must have been noted by the end, or the scenario was not what it says: see
    /// `failpoint::note` in the runtime.
    pub(crate) reaches: &'static [&'static str],
}

/// What a scenario is unless it says otherwise.
pub(crate) const SCENARIO: Scenario = Scenario {
    id: "",
    what: "",
    backend: Backend::Postgres,
    wishes: Wishes::default,
    run: |_| Box::pin(async { Err("there is nothing to run".to_owned()) }),
    look_every: LIVE_LOOK,
    orders: 1,
    ci: false,
    needs_root: false,
    dead_letters: false,
    reaches: &[],
};

/// How a scenario ended.
pub(crate) struct Ended {
    pub(crate) scenario: Scenario,
    pub(crate) figures: Figures,
    /// Why it could not be played to its end.
    pub(crate) failed: Option<String>,
    pub(crate) took: Duration,
}

// Order deadline, three times the consumers' `ack_wait`, the period of the reconciliation
// (I17), and as much again for a machine that is busy.
pub(crate) const REST: Duration = Duration::from_secs(2 * (20 + 3 * 5 + 60));
// A look that takes longer is told of.
const LONG_LOOK: Duration = Duration::from_secs(5);
const LIVE_LOOK: Duration = Duration::from_secs(2);

/// What holds at every moment, whatever is broken.
const ALWAYS: [&str; 6] = ["I1", "I2", "I3", "I4", "I8", "I19"];

/// Plays a scenario, waits until all is at rest, and checks.
pub(crate) async fn play(scenario: Scenario, given: Given) -> Ended {
    let begun = Instant::now();
    let progress = given.progress.clone();
    let mut ended = Ended {
        scenario,
        figures: Figures::default(),
        failed: None,
        took: Duration::ZERO,
    };
    match Stage::open(given, (scenario.wishes)()).await {
        Ok(mut stage) => {
            if let Err(why) = on_stage(scenario, &mut stage).await {
                ended.failed = Some(why);
            }
            let notes = stage.notes();
            stage.figures.noted(&notes);
            for path in scenario.reaches {
                if ended.failed.is_none() && !notes.contains_key(*path) {
                    ended.failed = Some(format!("a rare path was not reached: {path}"));
                }
            }
            ended.figures = stage.close().await;
        }
        Err(why) => ended.failed = Some(format!("the stage could not be opened: {why}")),
    }
    ended.took = begun.elapsed();
    progress.phase(&match (&ended.failed, ended.figures.violations.len()) {
        (Some(why), _) => format!("FAILED: {why}"),
        (None, 0) => "no violation".to_owned(),
        (None, n) => format!("{n} VIOLATIONS: {}", ended.figures.violations[0]),
    });
    ended
}

async fn on_stage(scenario: Scenario, stage: &mut Stage) -> Outcome {
    let stop = watch_meanwhile(stage, scenario.look_every).await?;
    let played = (scenario.run)(stage).await;
    let seen = stop.end().await;
    stage.figures.violations.extend(seen);
    let rest = rest(scenario, stage).await;
    if let Some(shop) = &stage.shop {
        stage.figures.violations.extend(shop.seen.take_wrong());
    }
    played.and(rest)
}

/// Waits until nothing moves and nothing is wrong, or it has taken too long.
async fn rest(scenario: Scenario, stage: &mut Stage) -> Outcome {
    stage.given.progress.phase("coming to rest");
    let begun = Instant::now();
    let (mut before, mut last) = (None, String::new());
    loop {
        let looked = Instant::now();
        let report = stage.look().await;
        if looked.elapsed() > LONG_LOOK
            && let Ok(report) = &report
        {
            stage.given.progress.phase(&format!(
                "looked for {:.0} s: {} open orders, {} violations; {}",
                looked.elapsed().as_secs_f64(),
                report.open_orders(),
                report.count(),
                match report.quiet {
                    true => "nothing moves".to_owned(),
                    false => report.restless.join(", "),
                }
            ));
        }
        match report {
            Ok(report) => {
                let quiet = report.quiet && report.open_orders() == 0;
                let right = report.count() == 0;
                let twice = before == Some(report.messages);
                before = (quiet && right).then_some(report.messages);
                if quiet && right && twice {
                    return end(scenario, stage, &report);
                }
                if begun.elapsed() > stage.given.patience {
                    let violations = report.violations.iter().map(ToString::to_string);
                    stage.figures.violations.extend(violations);
                    if !quiet {
                        let (open, restless) = (report.open_orders(), &report.restless);
                        let patience = stage.given.patience.as_secs();
                        stage.figures.violations.push(format!(
                            "I17: {open} open orders after {} s; {restless:?}",
                            patience
                        ));
                    }
                    return end(scenario, stage, &report);
                }
                last.clear();
            }
            Err(error) if begun.elapsed() > stage.given.patience => {
                return Err(format!("nothing could be checked: {error}"));
            }
            Err(error) => last = error,
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The figures that the last report gives, and what clients were promised.
fn end(scenario: Scenario, stage: &mut Stage, report: &Report) -> Outcome {
    let figures = &mut stage.figures;
    let of = |state: &str| report.orders.get(state).copied().unwrap_or(0);
    figures.orders = report.orders.values().sum();
    figures.confirmed = of("CONFIRMED");
    figures.canceled = of("CANCELED") + of("COMPENSATION_FAILED");
    figures.events = report.events;
    figures.voids = report.voids;
    figures.dead_letters = report.letters;
    if report.letters > 0 && !scenario.dead_letters {
        for (service, letters) in &report.open_letters {
            for letter in letters {
                let (subject, reason) = (&letter.subject, &letter.reason);
                figures
                    .violations
                    .push(format!("dead letter of {service}: {subject}: {reason}"));
            }
        }
    }
    let seen = stage.shop.as_ref().map(|shop| &shop.seen);
    let accepted = seen.map_or(0, Seen::count_accepted);
    let unanswered = seen.map_or(0, Seen::count_unanswered);
    if !(accepted..=accepted + unanswered).contains(&figures.orders) {
        let orders = figures.orders;
        figures.violations.push(format!(
            "I15: {accepted} orders were accepted, {unanswered} requests were never answered, and \
             there are {orders} orders"
        ));
    }
    Ok(())
}

/// A look now and then at what must hold at every moment.
struct Watching {
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Watching {
    async fn end(self) -> Vec<String> {
        let _ = self.stop.send(());
        self.task.await.unwrap_or_default()
    }
}

async fn watch_meanwhile(stage: &Stage, every: Duration) -> Outcome<Watching> {
    let places = stage.places().await?;
    let (broker, settings) = (stage.broker.clone(), stage.settings.clone());
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            tokio::select! {
                _ = &mut stopped => return seen,
                () = tokio::time::sleep(every) => {}
            }
            // Where something is away, nothing can be said.
            let look = ensemble::check::check(&broker, &settings, &places);
            if let Ok(Ok(report)) = tokio::time::timeout(10 * every, look).await {
                let broken = report.violations.iter();
                let broken = broken.filter(|v| ALWAYS.contains(&v.invariant));
                seen.extend(broken.map(|violation| format!("while it ran: {violation}")));
            }
        }
    });
    Ok(Watching { stop, task })
}
