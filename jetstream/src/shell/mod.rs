//! The shell around a service: a service as a value, its configuration, and the process
//! that holds one or all of them.

pub mod config;
pub mod host;
pub mod parse;
pub mod service;
pub mod settings;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;

use async_nats::jetstream::consumer::pull;
use events::{EventId, catalog};
use futures::future::BoxFuture;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::database::{Database, Tx};
use crate::event::Emission;
use crate::failpoint::{self, Point};
use crate::fault::Fault;
use crate::hearing::batch::Work;
use crate::hearing::rank::Rank;
use crate::http::auth::Authenticator;
use crate::http::intake::{Commands, Intake};
use crate::losses::fence::Fence;
use crate::saying::hint::{self, Heard};
use crate::saying::outbox::{self, Committed};
use crate::saying::relay::Relay;
use crate::shell::settings::Settings;
use crate::stream::broker::Context;
use crate::tasks::Tasks;
use crate::telemetry::{SpanRef, Tracer};

/// What a running service works with; cheap to clone.
#[derive(Clone)]
pub struct Shell(Arc<Inner>);

struct Inner {
    name: &'static str,
    settings: Settings,
    database: Database,
    broker: Context,
    auth: Authenticator,
    relay: Relay,
    work: Arc<Work>,
    tasks: Tasks,
    closing: CancellationToken,
    failed: CancellationToken,
    database_up: AtomicBool,
    fence: Fence,
    // Told when the broker's numbers fall back.
    suspect: Arc<Notify>,
    rank: Rank,
    // The time of the last event that was handled.
    heard_until: Arc<AtomicI64>,
    // What is counted when somebody reads the metrics.
    overdue: Mutex<Vec<(&'static str, &'static str)>>,
}

/// What a consumer has still to do.
pub(crate) struct Lag {
    /// Events that it has not pulled.
    pub(crate) to_hear: u64,
    /// Events that it has pulled and not acked.
    pub(crate) to_ack: u64,
    /// Of those, events that were delivered before.
    pub(crate) redelivered: u64,
    /// How many it may have pulled and not acked.
    pub(crate) to_ack_most: i64,
    /// Everything up to this sequence is acked.
    pub(crate) acked_until: u64,
}

/// The database, for what nobody has asked for.
pub struct Backstage(Shell);

impl Backstage {
    /// The service's database.
    #[must_use]
    pub fn database(&self) -> &Database {
        self.0.database()
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// When the database is away, or the service is fenced.
    pub async fn begin(&self) -> Result<Tx, Fault> {
        self.0.begin().await
    }
}

impl Shell {
    /// The name of the service.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// What can be configured.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn database(&self) -> &Database {
        &self.0.database
    }

    /// The time of the database, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.database().clock().now()
    }

    /// What a service does without being asked: its timers, and telling those who wait.
    /// A request does not come here: it reads and changes on behalf of who asks, see
    /// [`owner`](crate::http::owner).
    #[must_use]
    pub fn backstage(&self) -> Backstage {
        Backstage(self.clone())
    }

    /// The connection to the broker, for reading the stream.
    #[must_use]
    pub fn broker(&self) -> &Context {
        &self.0.broker
    }

    /// Where the service's spans go.
    pub(crate) fn tracer(&self) -> &Tracer {
        &self.0.work.tracer
    }

    /// The trace of an order, by the `traceparent` of the request that placed it; nothing
    /// when it is not sampled, or no spans are recorded here.
    #[must_use]
    pub fn trace(&self, traceparent: &str) -> Option<SpanRef> {
        SpanRef::parse(traceparent).filter(|_| self.tracer().is_on())
    }

    /// Stops listening and writing: the database was set back.
    pub(crate) fn fence(&self, unknown: &[(EventId, i64)]) {
        self.0.fence.raise(unknown);
        if let Some(fenced) = self.0.fence.state() {
            tracing::error!("{}", fenced.message(self.name()));
        }
    }

    pub(crate) fn fence_state(&self) -> &Fence {
        &self.0.fence
    }

    pub(crate) fn suspect(&self) -> Arc<Notify> {
        self.0.suspect.clone()
    }

    pub(crate) fn work(&self) -> &Work {
        &self.0.work
    }

    pub(crate) fn publish(&self, committed: Vec<Committed>) {
        self.0.relay.publish(committed);
    }

    pub(crate) fn auth(&self) -> &Authenticator {
        &self.0.auth
    }

    pub(crate) async fn begin(&self) -> Result<Tx, Fault> {
        if let Some(fenced) = self.0.fence.state() {
            return Err(Fault::Fenced(fenced.message(self.name())));
        }
        self.0.database.begin().await
    }

    /// Commits a transaction with the events that it decided, and has them published.
    /// There is no other way to commit, and no way to publish without one.
    ///
    /// # Errors
    /// When the commit fails: then nothing has happened.
    pub async fn commit(&self, tx: Tx, emissions: Vec<Emission>) -> Result<(), Fault> {
        let committed = outbox::append(&tx, emissions).await?;
        if failpoint::is_off("R11") {
            self.0.relay.publish(committed.clone());
            failpoint::reach(Point::Early).await;
        }
        tx.commit().await?;
        failpoint::reach(Point::Committed).await;
        self.0.relay.publish(committed);
        Ok(())
    }

    /// Starts an intake for commands from outside.
    pub fn intake<C: Commands>(&self, commands: C) -> Intake<C> {
        Intake::start(self, commands)
    }

    /// Calls a function for each hint whose subject matches a pattern, while they are wanted.
    /// Hints may be lost.
    pub fn on_hint(
        &self,
        pattern: &str,
        wanted: watch::Receiver<bool>,
        heard: impl Fn(Heard<'_>) + Send + Sync + 'static,
    ) {
        let client = self.0.broker.client();
        let listen = hint::listen(client, pattern.to_owned(), self.stopping(), wanted, heard);
        self.spawn("hints", listen);
    }

    /// Canceled when requests are to come to an end, before the service is to stop: who
    /// waits, or streams, answers with what there is.
    #[must_use]
    pub fn closing(&self) -> CancellationToken {
        self.0.closing.clone()
    }

    /// A task that ends by itself once the service is closing, and is waited for then.
    pub fn tracked<F: Future>(&self, task: F) -> impl Future<Output = F::Output> + use<F> {
        self.0.tasks.tracked(task)
    }

    /// Canceled when the service is to stop.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.0.tasks.stopping()
    }

    /// Runs a task as long as the service; one that panics takes the service down, so
    /// that its death is not overlooked.
    pub fn spawn(&self, what: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn(what, task);
    }

    /// Does something again and again; a fault is logged and tried again next time.
    pub fn every(
        &self,
        what: &'static str,
        period: Duration,
        step: fn(Shell) -> BoxFuture<'static, Result<(), Fault>>,
    ) {
        let (shell, stop) = (self.clone(), self.stopping());
        self.spawn(what, async move {
            let mut interval = tokio::time::interval(period);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = interval.tick() => {}
                }
                if let Err(fault) = step(shell.clone()).await {
                    tracing::warn!(service = shell.name(), timer = what, %fault, "tried again");
                }
            }
        });
    }

    /// What the service's consumer has still to do; nothing when the broker is away.
    pub(crate) async fn lag(&self) -> Option<Lag> {
        let consumer = self
            .0
            .broker
            .get_consumer_from_stream::<pull::Config, _, _>(self.0.name, catalog::STREAM)
            .await
            .ok()?;
        let info = consumer.cached_info();
        Some(Lag {
            to_hear: info.num_pending,
            to_ack: info.num_ack_pending as u64,
            redelivered: info.num_redelivered as u64,
            to_ack_most: info.config.max_ack_pending,
            acked_until: info.ack_floor.stream_sequence,
        })
    }

    /// Counts rows that should be gone by now, whenever the metrics are read, as
    /// `ensemble_overdue`. The query gets the database's time as `$1`, and returns `n`.
    pub fn count_overdue(&self, what: &'static str, sql: &'static str) {
        let overdue = self.0.overdue.lock();
        let mut overdue = overdue.unwrap_or_else(PoisonError::into_inner);
        overdue.push((what, sql));
    }

    pub(crate) fn counted_overdue(&self) -> Vec<(&'static str, &'static str)> {
        let overdue = self.0.overdue.lock();
        overdue.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.0.fence.state().is_some()
    }

    /// Whether events wait to be heard that are older than `patience` milliseconds, or
    /// nobody can tell because the broker is away.
    pub async fn is_behind(&self, patience: i64) -> bool {
        let Some(lag) = self.lag().await else {
            return true;
        };
        let heard = self.0.heard_until.load(Ordering::Relaxed);
        // Events have times of databases' clocks (R9); the wall clock here may be wrong.
        lag.to_hear + lag.to_ack > 0 && self.now() - heard > patience
    }

    /// What is missing before the service can work; empty when it is ready.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if self.0.broker.client().connection_state() != State::Connected {
            missing.push("nats");
        }
        if !self.0.database_up.load(Ordering::Relaxed) {
            missing.push("database");
        }
        if self.0.fence.state().is_some() {
            missing.push("lifting of the fence");
        }
        missing
    }
}
