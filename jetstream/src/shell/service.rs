//! A service as a value: it is built, then run, so that one process can hold all five
//! and a test holds them the way production does.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use futures::FutureExt as _;
use sea_orm_migration::MigrationTrait;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::database::{Database, DatabaseError, Location};
use crate::hearing::batch::Work;
use crate::hearing::consumer::Consumer;
use crate::hearing::rank::{self, Rank};
use crate::hearing::subscription::Subscription;
use crate::http::auth::Authenticator;
use crate::http::idempotency;
use crate::http::routes::Routes;
use crate::losses::fence::Fence;
use crate::losses::watch::Watch;
use crate::operating::metrics::Metrics;
use crate::operating::pruning;
use crate::replay::given::Given;
use crate::saying::hint::Hints;
use crate::saying::relay::Relay;
use crate::shell::settings::Settings;
use crate::shell::{Inner, Shell};
use crate::stream::broker::Context;
use crate::stream::topology::ConsumerSpec;
use crate::tasks::Tasks;
use crate::telemetry::Tracer;

/// A service, not yet running: all that makes it what it is.
#[derive(Clone, Copy)]
pub struct Service {
    /// Its name, the name of its consumer and of its database.
    pub name: &'static str,
    /// Its tables.
    pub migrations: fn() -> Vec<Box<dyn MigrationTrait>>,
    /// What it listens to.
    pub subscriptions: fn(&Settings) -> Vec<Subscription>,
    /// Its HTTP routes; it may start timers where it says what they work with.
    pub routes: fn() -> Routes,
    /// How it takes as given, in a replay, what it once said from outside.
    pub given: Given,
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
    pub broker: Context,
    /// Who may do what.
    pub auth: Authenticator,
    /// What the process measures.
    pub metrics: Metrics,
    /// Where its spans go.
    pub tracer: Tracer,
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
            metrics,
            tracer,
        } = surroundings;
        let database = Database::open(self.name, &location, self.migrations).await?;
        let failed = CancellationToken::new();
        let relay_tasks = Tasks::new(self.name, failed.clone());
        let database = database.measured(metrics.of(self.name));
        let database = database.hinting(Hints::start(broker.client(), &relay_tasks));
        let suspect = Arc::new(Notify::new());
        let rank = Rank::last(self.name);
        let relay = Relay::start(
            broker.clone(),
            database.clone(),
            rank.clone(),
            suspect.clone(),
            tracer.clone(),
            &relay_tasks,
        );
        let work = Arc::new(Work {
            consumer: self.name.to_owned(),
            database: database.clone(),
            subscriptions: (self.subscriptions)(&settings),
            tracer,
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
            rank: rank.clone(),
            heard_until: heard_until.clone(),
            overdue: Mutex::default(),
            settings,
        }));
        let compared = CancellationToken::new();
        let watch = Watch::new(shell.clone(), compared.clone());
        shell.spawn("reconciliation", watch.run());
        if !work.subscriptions.is_empty() {
            let consumer = Consumer {
                broker: broker.clone(),
                work,
                relay,
                rank,
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
        shell.every("rank", rank::SIGN_EVERY, |shell| {
            async move { shell.0.rank.clone().sign(shell.database()).await }.boxed()
        });
        shell.every("idempotency keys", idempotency::PRUNE_EVERY, |shell| {
            idempotency::prune(shell).boxed()
        });
        shell.every("pruning", pruning::EVERY, |shell| {
            pruning::prune(shell).boxed()
        });
        let router = (self.routes)().start(&shell);
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

impl Running {
    /// What the service works with.
    #[must_use]
    pub fn shell(&self) -> &Shell {
        &self.shell
    }

    /// The service's database.
    #[must_use]
    pub fn database(&self) -> &Database {
        self.shell.database()
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
        shell.tracer().stop().await;
        finished
    }
}
