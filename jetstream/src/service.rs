//! A service as a value: it is built, then run, so that one process can hold all five
//! and a test holds them the way production does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream;
use async_nats::jetstream::consumer::pull;
use axum::Router;
use axum::http::HeaderValue;
use events::{EventId, Flow, catalog};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use sea_orm_migration::MigrationTrait;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::auth::Authenticator;
use crate::batch::Work;
use crate::clock;
use crate::consumer::Consumer;
use crate::database::{Database, DatabaseError, Location, Tx};
use crate::event::Emission;
use crate::fault::Fault;
use crate::fence::Fence;
use crate::hint::{self, Hints};
use crate::idempotency;
use crate::intake::{Commands, Intake};
use crate::limits::Limits;
use crate::outbox::{self, Committed};
use crate::reconcile;
use crate::relay::Relay;
use crate::subscription::Subscription;
use crate::tasks::Tasks;
use crate::topology::ConsumerSpec;

/// What can be configured for every service; the defaults are those of production.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The flows that orders may ask for; the first is the default.
    pub flows: Vec<Flow>,
    /// An order that is not decided by then is canceled.
    pub order_deadline: Duration,
    /// Compensation is asked for again after these times, then given up.
    pub compensation_deadlines: Vec<Duration>,
    /// How long a confirmed order can be canceled.
    pub cancel_window: Duration,
    /// PENDING or COMPENSATING orders that a user may have at once.
    pub open_orders_per_user: u32,
    /// Facts that outlive an order are said again when they are this old: well before
    /// they age out of the stream.
    pub facts_again_after: Duration,
    /// How long the stream keeps events.
    pub stream_max_age: Duration,
    /// The address of Jaeger's user interface, for links.
    pub jaeger_url: Option<String>,
    /// What a process takes on.
    pub limits: Limits,
    /// Origins whose pages may use the API from a browser.
    pub cors_origins: Vec<HeaderValue>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            flows: Flow::ALL.to_vec(),
            order_deadline: Duration::from_secs(20),
            compensation_deadlines: [5, 15, 45].map(Duration::from_secs).to_vec(),
            cancel_window: Duration::from_secs(600),
            open_orders_per_user: 1,
            facts_again_after: Duration::from_secs(7 * 24 * 60 * 60),
            stream_max_age: Duration::from_secs(14 * 24 * 60 * 60),
            jaeger_url: None,
            limits: Limits::default(),
            cors_origins: Vec::new(),
        }
    }
}

/// A service, not yet running: all that makes it what it is.
#[derive(Clone, Copy)]
pub struct Service {
    /// Its name, the name of its consumer and of its database.
    pub name: &'static str,
    /// Its tables.
    pub migrations: fn() -> Vec<Box<dyn MigrationTrait>>,
    /// What it listens to.
    pub subscriptions: fn(&Settings) -> Vec<Subscription>,
    /// Its HTTP routes; it may start timers here.
    pub routes: fn(&Shell) -> Router,
}

/// What a running service works with; cheap to clone.
#[derive(Clone)]
pub struct Shell(Arc<Inner>);

struct Inner {
    name: &'static str,
    settings: Settings,
    database: Database,
    broker: jetstream::Context,
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
    // The time of the last event that was handled.
    heard_until: Arc<AtomicI64>,
}

/// What a consumer has still to do.
pub(crate) struct Lag {
    /// Events that it has not pulled.
    pub(crate) to_hear: u64,
    /// Events that it has pulled and not acked.
    pub(crate) to_ack: u64,
    /// Of those, events that were delivered before.
    pub(crate) redelivered: u64,
}

/// A running service.
pub struct Running {
    shell: Shell,
    router: Router,
    relay_tasks: Tasks,
}

/// What a service needs from outside.
pub struct Surroundings {
    /// What can be configured.
    pub settings: Settings,
    /// Where its database is.
    pub location: Location,
    /// The connection to the broker.
    pub broker: jetstream::Context,
    /// Who may do what.
    pub auth: Authenticator,
}

impl Service {
    /// Its durable consumer.
    #[must_use]
    pub fn consumer(&self, settings: &Settings) -> ConsumerSpec {
        let subscriptions = (self.subscriptions)(settings);
        let filters = subscriptions.iter().flat_map(|s| s.filters().to_vec());
        ConsumerSpec::new(self.name, filters)
    }

    /// Opens the database, brings its tables up to date, and begins to listen.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn start(&self, surroundings: Surroundings) -> Result<Running, DatabaseError> {
        let Surroundings {
            settings,
            location,
            broker,
            auth,
        } = surroundings;
        let database = Database::open(self.name, &location, self.migrations).await?;
        let failed = CancellationToken::new();
        let relay_tasks = Tasks::new(self.name, failed.clone());
        let database = database.hinting(Hints::start(broker.client(), &relay_tasks));
        let suspect = Arc::new(Notify::new());
        let relay = Relay::start(
            broker.clone(),
            database.clone(),
            suspect.clone(),
            &relay_tasks,
        );
        let work = Arc::new(Work {
            consumer: self.name.to_owned(),
            database: database.clone(),
            subscriptions: (self.subscriptions)(&settings),
        });
        let heard_until = Arc::new(AtomicI64::new(0));
        let shell = Shell(Arc::new(Inner {
            name: self.name,
            database,
            work: work.clone(),
            broker: broker.clone(),
            auth,
            relay: relay.clone(),
            tasks: Tasks::new(self.name, failed.clone()),
            closing: CancellationToken::new(),
            failed,
            database_up: AtomicBool::new(true),
            fence: Fence::default(),
            suspect,
            heard_until: heard_until.clone(),
            settings,
        }));
        let compared = CancellationToken::new();
        let watch = reconcile::Watch::new(shell.clone(), compared.clone());
        shell.spawn("reconciliation", watch.run());
        if !work.subscriptions.is_empty() {
            let consumer = Consumer {
                broker,
                work,
                relay,
                heard_until,
                stop: shell.stopping(),
            };
            shell.spawn("consumer", listen(shell.clone(), consumer, compared));
        }
        shell.every("database clock", Duration::from_secs(5), |shell| {
            async move {
                let read = shell.database().read_clock().await;
                shell.0.database_up.store(read.is_ok(), Ordering::Relaxed);
                read
            }
            .boxed()
        });
        shell.every("idempotency keys", idempotency::PRUNE_EVERY, |shell| {
            idempotency::prune(shell).boxed()
        });
        let router = (self.routes)(&shell);
        Ok(Running {
            shell,
            router,
            relay_tasks,
        })
    }
}

/// Listens as long as the service is not fenced, once it has compared with the stream.
async fn listen(shell: Shell, consumer: Consumer, compared: CancellationToken) {
    let stop = shell.stopping();
    loop {
        let may_listen = async {
            compared.cancelled().await;
            shell.0.fence.lifted().await;
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = may_listen => {}
        }
        let this_time = stop.child_token();
        let consumer = Consumer {
            stop: this_time.clone(),
            ..consumer.clone()
        };
        let listening = consumer.run();
        tokio::pin!(listening);
        tokio::select! {
            () = &mut listening => {}
            () = shell.0.fence.raised() => {
                this_time.cancel();
                listening.await;
            }
        }
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

    /// The service's database.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.0.database
    }

    /// The connection to the broker, for reading the stream.
    #[must_use]
    pub fn broker(&self) -> &jetstream::Context {
        &self.0.broker
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

    /// Begins a transaction.
    ///
    /// # Errors
    /// When the database is away, or the service is fenced.
    pub async fn begin(&self) -> Result<Tx, Fault> {
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
        tx.commit().await?;
        self.0.relay.publish(committed);
        Ok(())
    }

    /// Starts an intake for commands from outside.
    pub fn intake<C: Commands>(&self, commands: C) -> Intake<C> {
        Intake::start(self, commands)
    }

    /// Calls a function for each hint whose subject matches a pattern. Hints may be lost.
    pub fn on_hint(&self, pattern: &str, heard: impl Fn(&str) + Send + Sync + 'static) {
        let client = self.0.broker.client();
        let listen = hint::listen(client, pattern.to_owned(), self.stopping(), heard);
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
        })
    }

    /// Whether events wait to be heard that are older than `patience` milliseconds, or
    /// nobody can tell because the broker is away.
    pub async fn is_behind(&self, patience: i64) -> bool {
        let Some(lag) = self.lag().await else {
            return true;
        };
        let heard = self.0.heard_until.load(Ordering::Relaxed);
        lag.to_hear + lag.to_ack > 0 && clock::wall() - heard > patience
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

impl Running {
    /// What the service works with.
    #[must_use]
    pub fn shell(&self) -> &Shell {
        &self.shell
    }

    /// Its HTTP routes.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Ends what waits for something to happen, so that requests come to an end.
    pub(crate) fn close(&self) {
        self.shell.0.closing.cancel();
    }

    /// Waits until a task of the service has died.
    pub async fn failed(&self) {
        self.shell.0.failed.cancelled().await;
    }

    /// Stops pulling, finishes what is in hand, publishes what has committed, and closes
    /// the database. What is not done by the deadline is left to the next start; whether
    /// all was done.
    pub async fn drain(self, deadline: Duration) -> bool {
        let Self {
            shell,
            router,
            relay_tasks,
        } = self;
        drop(router);
        let finish = async {
            shell.0.tasks.finish().await;
            // Only now: what the last batches have committed is still to be published.
            relay_tasks.finish().await;
        };
        let finished = tokio::time::timeout(deadline, finish).await.is_ok();
        if !finished {
            tracing::warn!(
                service = shell.name(),
                "not all was done before the deadline"
            );
        }
        let _ = shell.0.broker.client().flush().await;
        shell.0.database.clone().close().await;
        finished
    }
}
