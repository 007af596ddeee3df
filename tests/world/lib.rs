//! The world of the integration tests: a nats-server, databases and services of one's
//! own, started the way production starts them.
//!
//! A test ends with [`World::end`], which waits until everything is quiet and checks that
//! nothing was left behind: no row of an outbox unpublished, no message unacked, no hold
//! without a living order, no sum that does not add up.

mod check;
mod client;
mod collector;
mod deployment;
mod following;
mod logins;
mod postgres;
mod process;
mod replaying;
mod shop;
mod spans;
mod story;
mod system;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser as _;
use jetstream::http::auth::DevelopmentKey;
use jetstream::shell::config::ServeArgs;
use jetstream::shell::host::Host;
use jetstream::stream::broker;
use jetstream::stream::guard::Guard;
use jetstream::stream::local_server::{self, LocalServer};
use jetstream::stream::topology::{self, Retention};
use jetstream::{Database, Service, Settings};
use tempfile::TempDir;

pub use client::{Answer, Client, Site};
pub use collector::{Collector, Span, hang_together};
pub use deployment::{Deployment, repository};
pub use following::{Change, Events, Socket};
pub use logins::{Certificates, Login};
pub use postgres::{database_url, forget_databases};
pub use process::{Finished, Process, Signal, nats_servers_on};
pub use replaying::{captures, replayed};
pub use shop::Shop;
pub use spans::span_tree;
pub use story::story;
pub use system::System;

/// Tests that run once on SQLite and once on PostgreSQL: `name: function(arguments);`,
/// where the function gets the backend as its first argument.
#[macro_export]
macro_rules! on_both_databases {
    ($($name:ident: $function:ident($($argument:expr),*);)*) => {
        mod on_sqlite {
            #[allow(unused_imports)] // for the arguments, where there are some
            use super::*;

            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$function($crate::Backend::Sqlite, $($argument),*).await;
            })*
        }
        mod on_postgres {
            #[allow(unused_imports)] // for the arguments, where there are some
            use super::*;

            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$function($crate::Backend::Postgres, $($argument),*).await;
            })*
        }
    };
}

/// Which databases the services use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Files in the world's folder.
    Sqlite,
    /// Databases of a name of their own, on the server that the set-up started.
    Postgres,
}

/// A nats-server, databases, and the services that run on them.
pub struct World {
    folder: TempDir,
    database_url: Option<String>,
    databases: Vec<String>,
    nats: Option<LocalServer>,
    program: PathBuf,
    key: DevelopmentKey,
    broker: broker::Context,
    hosts: BTreeMap<String, Host>,
    services: Vec<Service>,
    http: reqwest::Client,
    flags: Vec<String>,
}

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
}

/// Waits until something holds: a level, never an edge, and not for ever.
///
/// # Panics
/// When it does not hold in time, with the last answer.
pub async fn eventually<T: std::fmt::Debug>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        match look().await {
            Ok(value) => return value,
            Err(state) if tokio::time::Instant::now() > deadline => {
                panic!("{what} did not happen in time: {state}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

impl World {
    /// A broker with its stream and consumers, and no service running.
    ///
    /// # Panics
    /// When something cannot be started; the message says what.
    pub async fn empty(backend: Backend) -> Self {
        Self::with(backend, &ensemble::SERVICES, &[]).await
    }

    /// A world with other services, or with flags of `ensemble up`.
    ///
    /// # Panics
    /// When something cannot be started; the message says what.
    pub async fn with(backend: Backend, services: &[Service], flags: &[&str]) -> Self {
        let given = std::env::var_os("ENSEMBLE_NATS_SERVER").map(PathBuf::from);
        let program =
            local_server::find(given.as_deref()).unwrap_or_else(|error| panic!("{error}"));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let nats = LocalServer::start(&program, &folder.path().join("nats"))
            .unwrap_or_else(|error| panic!("{error}"));
        let broker = broker::connect(nats.url(), "test")
            .await
            .expect("the broker answers");
        let database_url = database_url(backend);
        let mut world = Self {
            key: DevelopmentKey::of(folder.path()).expect("a key"),
            folder,
            database_url,
            databases: vec![],
            nats: Some(nats),
            program,
            broker,
            hosts: BTreeMap::new(),
            services: services.to_vec(),
            http: reqwest::Client::builder()
                .timeout(Duration::from_secs(30))
                .build()
                .expect("a client"),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        };
        world.provision().await;
        world
    }

    /// A world with all services in one host.
    ///
    /// # Panics
    /// When something cannot be started; the message says what.
    pub async fn start(backend: Backend) -> Self {
        let mut world = Self::empty(backend).await;
        world.start_together("all").await;
        world
    }

    /// Creates the stream and the consumers, or brings them up to date.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn provision(&mut self) {
        let settings = self.settings();
        let consumers: Vec<_> = self
            .services
            .iter()
            .map(|s| s.consumer(&settings))
            .collect();
        topology::provision(&self.broker, Retention::default(), &consumers)
            .await
            .expect("provisioned");
    }

    /// Starts all services in one host; `host` is its name. On PostgreSQL several hosts
    /// can run at once: several instances of each service.
    ///
    /// # Panics
    /// When they do not start.
    pub async fn start_together(&mut self, host: &str) {
        let services = self.services.clone();
        self.start_host(host, &services).await;
    }

    /// Starts one service in a host of its own, named like the service.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_alone(&mut self, service: &str) {
        let found = self.services.iter().find(|s| s.name == service).copied();
        self.start_host(service, &[found.expect("a service of this world")])
            .await;
    }

    /// Starts every service in a host of its own, so that each can be stopped alone.
    ///
    /// # Panics
    /// When they do not start.
    pub async fn start_apart(&mut self) {
        for service in self.services.clone() {
            self.start_alone(service.name).await;
        }
    }

    /// As [`World::start_together`], on an address that is known before.
    ///
    /// # Panics
    /// When they do not start.
    pub async fn start_together_on(&mut self, host: &str, listen: SocketAddr) {
        let services = self.services.clone();
        let mut args = self.args();
        args.listen = listen;
        self.start_host_with(host, &services, args).await;
    }

    async fn start_host(&mut self, name: &str, services: &[Service]) {
        let args = self.args();
        self.start_host_with(name, services, args).await;
    }

    async fn start_host_with(&mut self, name: &str, services: &[Service], args: ServeArgs) {
        for service in services {
            if let jetstream::database::Location::Postgres(url) = args.location(service.name) {
                self.databases.push(url);
            }
        }
        let broker = broker::connect(self.nats_url(), name)
            .await
            .expect("the broker answers");
        let auth = self.key.authenticator();
        let host = Host::start(services, &args, broker, auth).await;
        let host = host.unwrap_or_else(|error| panic!("{error}"));
        self.hosts.insert(name.to_owned(), host);
    }

    /// Stops a host: it finishes what it has begun.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn stop(&mut self, host: &str) {
        let host = self.hosts.remove(host).expect("a running host");
        assert!(host.drain().await, "the host finishes what it has begun");
    }

    /// The flags that services are started with.
    ///
    /// # Panics
    /// When they are wrong.
    #[must_use]
    pub fn args(&self) -> ServeArgs {
        let program = std::iter::once("test".to_owned());
        Flags::parse_from(program.chain(self.flags())).serve
    }

    /// The same, as they are given to a process.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        let folder = self.folder.path().display().to_string();
        let mut flags = vec!["--listen", "127.0.0.1:0", "--data-dir", &folder];
        if let Some(url) = &self.database_url {
            flags.extend(["--database-url", url]);
        }
        // Tests ask as fast as they can, but for those of the limit.
        if !self.flags.iter().any(|flag| flag == "--rate-limit") {
            flags.extend(["--rate-limit", "0"]);
        }
        flags.extend(self.flags.iter().map(String::as_str));
        flags.into_iter().map(str::to_owned).collect()
    }

    /// What the services are configured with.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.args().settings()
    }

    /// The world's folder: databases, key, and the broker's store.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The broker's address.
    ///
    /// # Panics
    /// When the broker was ended.
    #[must_use]
    pub fn nats_url(&self) -> &str {
        self.nats.as_ref().expect("a running broker").url()
    }

    /// Where the broker tells how it is.
    ///
    /// # Panics
    /// When the broker was ended.
    #[must_use]
    pub fn monitor_url(&self) -> String {
        let nats = self.nats.as_ref().expect("a running broker");
        nats.monitor_url().expect("it tells").to_owned()
    }

    /// Ends the broker, lets something happen to its store, and starts it again.
    ///
    /// # Panics
    /// When it cannot be started again.
    pub fn restart_broker(&mut self, meanwhile: impl FnOnce(&Path)) {
        let nats = self.nats.as_mut().expect("a running broker");
        nats.stop();
        meanwhile(&nats.store());
        nats.restart().unwrap_or_else(|error| panic!("{error}"));
    }

    /// The broker, to be stopped and started again.
    ///
    /// # Panics
    /// When it was ended.
    pub fn nats(&mut self) -> &mut LocalServer {
        self.nats.as_mut().expect("a running broker")
    }

    /// Keeps stream and consumers as they are declared, as `ensemble up` does.
    pub fn guard(&self) {
        let settings = self.settings();
        let consumers = self
            .services
            .iter()
            .map(|s| s.consumer(&settings))
            .collect();
        let guard = Guard::new(self.broker.clone(), Retention::default(), consumers);
        tokio::spawn(guard.run());
    }

    /// The nats-server that the world uses.
    #[must_use]
    pub fn nats_program(&self) -> &Path {
        &self.program
    }

    /// A connection to the broker.
    #[must_use]
    pub fn broker(&self) -> &broker::Context {
        &self.broker
    }

    /// The running hosts.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values()
    }

    /// The database of a running service.
    ///
    /// # Panics
    /// When it is not running.
    #[must_use]
    pub fn database(&self, service: &str) -> Database {
        let mut running = self.hosts().flat_map(Host::services);
        let found = running.find(|running| running.shell().name() == service);
        found.expect("a running service").database().clone()
    }

    /// A client of the HTTP API that asks as a user.
    #[must_use]
    pub fn user(&self, name: &str) -> Client<'_> {
        Client::user(self, name)
    }

    /// A client of the HTTP API that asks as an operator.
    #[must_use]
    pub fn operator(&self) -> Client<'_> {
        Client::operator(self)
    }

    /// Waits until no event is unpublished, unheard or unacked, and no order is open.
    ///
    /// # Panics
    /// When that does not happen in time.
    pub async fn quiet(&self) {
        check::quiet(self).await;
    }

    /// Whether everything is quiet at this moment.
    ///
    /// # Errors
    /// What is not.
    pub async fn is_quiet(&self) -> Result<(), String> {
        check::look(self).await.map(|_| ())
    }

    /// What `ensemble check` says of the services that run.
    ///
    /// # Panics
    /// When a database or the broker is away.
    pub async fn check(&self) -> ensemble::check::Report {
        check::report(self).await
    }

    /// Whether everything is as it must be, and no dead letter was left behind.
    ///
    /// # Errors
    /// What was.
    pub async fn is_clean(&self) -> Result<(), String> {
        check::whole(self).await
    }

    /// Waits until everything is quiet, checks that nothing was left behind, and ends.
    /// Every service of the world must be running, or what it has to hear is missed.
    ///
    /// # Panics
    /// When something was left behind.
    pub async fn end(mut self) {
        self.quiet().await;
        if let Err(left_behind) = self.is_clean().await {
            panic!("{left_behind}");
        }
        let names: Vec<String> = self.hosts.keys().cloned().collect();
        for name in names {
            self.stop(&name).await;
        }
        self.drop_databases().await;
    }

    async fn drop_databases(&mut self) {
        postgres::drop(std::mem::take(&mut self.databases)).await;
    }
}
