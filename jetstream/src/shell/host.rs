//! A process with services in it: one, or all five.

use std::net::SocketAddr;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::select_all;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::database::Database;
use crate::http::auth::Authenticator;
use crate::http::health::{self, Front};
use crate::operating::metrics::Metrics;
use crate::shell::config::ServeArgs;
use crate::shell::parse;
use crate::shell::service::{Running, Service, Surroundings};
use crate::stream::broker;
use crate::telemetry::Tracer;
use crate::{http, telemetry};

/// How long the services have to finish what they have begun.
const DRAIN: Duration = Duration::from_secs(10);

/// Running services and their HTTP server.
pub struct Host {
    services: Vec<Running>,
    address: SocketAddr,
    server: JoinHandle<()>,
    stop: CancellationToken,
}

impl Host {
    /// Starts services in this process. When one cannot start, those before it are
    /// stopped again, and what is wrong is said in one sentence.
    ///
    /// # Errors
    /// That sentence.
    pub async fn start(
        services: &[Service],
        args: &ServeArgs,
        broker: broker::Context,
        auth: Authenticator,
    ) -> Result<Self, String> {
        // The port first: it is what most often is taken, and nothing was begun yet.
        Self::start_on(listen(args.listen).await?, services, args, broker, auth).await
    }

    /// As [`Host::start`], on a port that is open.
    ///
    /// # Errors
    /// What is wrong, in one sentence.
    pub async fn start_on(
        listener: TcpListener,
        services: &[Service],
        args: &ServeArgs,
        broker: broker::Context,
        auth: Authenticator,
    ) -> Result<Self, String> {
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        // What is wrong with the endpoint is said before anything is begun.
        let traces = args.traces();
        let tracers = services.iter().map(|s| Tracer::start(s.name, &traces));
        let tracers = tracers.collect::<Result<Vec<_>, _>>()?;
        // Health is answered while the services start.
        let front = Front::new(services.iter().map(|service| service.name).collect());
        let stop = CancellationToken::new();
        let shutdown = stop.clone().cancelled_owned();
        let server = axum::serve(listener, front.router()).with_graceful_shutdown(shutdown);
        let server = tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the HTTP server ended");
            }
        });
        let metrics = Metrics::default();
        let mut running = Vec::with_capacity(services.len());
        for (service, tracer) in services.iter().zip(tracers) {
            let surroundings = Surroundings {
                settings: args.settings(),
                location: args.location(service.name),
                broker: broker.clone(),
                auth: auth.clone(),
                metrics: metrics.clone(),
                tracer,
            };
            let started = match create_database(args, service).await {
                Ok(()) => service.start(surroundings).await.map_err(|e| e.to_string()),
                Err(error) => Err(error),
            };
            match started {
                Ok(service) => running.push(service),
                Err(error) => {
                    server.abort();
                    for service in running {
                        service.drain(DRAIN).await;
                    }
                    return Err(error);
                }
            }
        }
        let routers = running
            .iter()
            .map(|s| (s.shell().clone(), s.router()))
            .collect();
        let document = http::document::of(services);
        front.hand_over(http::router(routers, &document, &args.settings(), &metrics));
        Ok(Self {
            services: running,
            address,
            server,
            stop,
        })
    }

    /// The address of the HTTP API.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The running services.
    #[must_use]
    pub fn services(&self) -> &[Running] {
        &self.services
    }

    /// Waits until a task of a service has died.
    pub async fn failed(&self) {
        select_all(
            self.services
                .iter()
                .map(|service| Box::pin(service.failed())),
        )
        .await;
    }

    /// Stops accepting requests, finishes what is in hand, publishes what has committed;
    /// whether all of it was done.
    pub async fn drain(self) -> bool {
        self.stop.cancel();
        // Requests that are running may still finish; those that wait or stream end now.
        self.services.iter().for_each(Running::close);
        let _ = tokio::time::timeout(Duration::from_secs(3), self.server).await;
        let drained = self
            .services
            .into_iter()
            .map(|service| service.drain(DRAIN));
        futures::future::join_all(drained)
            .await
            .into_iter()
            .all(|done| done)
    }
}

/// Opens a port.
///
/// # Errors
/// What is wrong with it, in one sentence.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address)
        .await
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!(
                    "{address} is in use: stop what listens there, or choose another with --listen"
                )
            }
            _ => format!("cannot listen on {address}: {error}; choose another with --listen"),
        })
}

/// Looks whether PostgreSQL answers, before anything else is begun.
///
/// # Errors
/// What is wrong, in one sentence.
pub async fn reach_databases(services: &[Service], args: &ServeArgs) -> Result<(), String> {
    // Those that are still to be created are on the same server.
    if !args.databases_are_given() {
        return Ok(());
    }
    for service in services {
        Database::reach(service.name, &args.location(service.name))
            .await
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

async fn create_database(args: &ServeArgs, service: &Service) -> Result<(), String> {
    match (&args.database_url, args.databases_are_given()) {
        (Some(_), false) => Database::create(service.name, &args.location(service.name))
            .await
            .map_err(|error| error.to_string()),
        _ => Ok(()),
    }
}

/// The whole `main` of a process with one service in it.
#[must_use]
pub fn main(service: Service) -> std::process::ExitCode {
    let args = match parse::parse::<Alone>() {
        Ok(args) => args,
        Err(code) => return code,
    };
    if args.health_check {
        return match health::check(args.serve.listen) {
            Ok(()) => std::process::ExitCode::SUCCESS,
            Err(error) => complain(service.name, &error),
        };
    }
    let run = async {
        telemetry::start(args.serve.log_format())?;
        alone(service, args).await
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return complain(service.name, &error.to_string()),
    };
    match runtime.block_on(run) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => complain(service.name, &error),
    }
}

/// What the program of a service takes, for those who list it.
#[must_use]
pub fn command() -> clap::Command {
    <Alone as clap::CommandFactory>::command()
}

#[derive(clap::Parser)]
#[command(version, about = "One service of Ensemble, alone in its process")]
struct Alone {
    /// The broker, like nats://127.0.0.1:4222
    #[arg(long, env = "ENSEMBLE_NATS_URL")]
    nats_url: String,
    /// Ask the process that listens on --listen whether it is ready, and end: for containers,
    /// which have no other program to ask with
    #[arg(long)]
    health_check: bool,
    #[command(flatten)]
    serve: ServeArgs,
}

async fn alone(service: Service, args: Alone) -> Result<(), String> {
    // What can be wrong is looked at before anything is written.
    let access = args.serve.access.access(&args.nats_url)?;
    let listener = listen(args.serve.listen).await?;
    reach_databases(&[service], &args.serve).await?;
    let broker = broker::connect(&access, service.name)
        .await
        .map_err(|e| e.to_string())?;
    let auth = args.serve.authenticator().await?;
    let interrupted = interrupted();
    let host = Host::start_on(listener, &[service], &args.serve, broker, auth).await?;
    tracing::info!(service = service.name, address = %host.address(), "serving");
    until_stopped(host, interrupted.map(Ok)).await
}

/// Serves until it is told to stop, or until a task dies; then drains.
///
/// # Errors
/// Why it was told to stop, when a task died, or when not all was done in time.
pub async fn until_stopped(
    host: Host,
    stop: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    let ended = tokio::select! {
        told = stop => told,
        () = host.failed() => Err("a task died; the log says which".to_owned()),
    };
    tracing::info!("draining");
    let done = host.drain().await;
    ended?;
    match done {
        true => Ok(()),
        false => Err("not all was done in time; the next start continues".to_owned()),
    }
}

/// Waits for Ctrl-C or SIGTERM, beginning with the call: one that comes before this is
/// awaited is not lost.
pub fn interrupted() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    async move {
        let signals = signals.into_iter().filter_map(Result::ok);
        let mut signals: Vec<_> = signals.collect();
        if signals.is_empty() {
            return std::future::pending().await;
        }
        select_all(signals.iter_mut().map(|signal| Box::pin(signal.recv()))).await;
    }
}

#[allow(clippy::print_stderr)] // the last word of a process
fn complain(name: &str, error: &str) -> std::process::ExitCode {
    eprintln!("{name}: {error}");
    std::process::ExitCode::FAILURE
}
