//! What a scenario plays on: a broker, databases, five services as processes of their own,
//! and clients that order from them. Everything of it ends when it is dropped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ensemble::check::{Place, Report, check};
use jetstream::http::auth::DevelopmentKey;
use jetstream::stream::broker::{self, Context};
use jetstream::stream::guard::Guard;
use jetstream::stream::local_server::{self, LocalServer};
use jetstream::stream::topology::{self, ConsumerSpec, Retention};
use jetstream::{Database, Settings};
use rustix::process::{Pid, Signal, kill_process};

use crate::disk::SmallDisk;
use crate::figures::Figures;
use crate::load::Load;
use crate::postgres::{Postgres, free_port};
use crate::process::{self, Launch, Process};
use crate::progress::Progress;
use crate::proxy::Proxy;
use crate::random::Random;
use crate::shop::{Mix, Shop};
use crate::soak::Soak;

/// Which databases the services use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// What is different from the usual stage.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wishes {
    /// The services reach the broker through a proxy.
    pub(crate) nats_proxy: bool,
    /// The services reach PostgreSQL through a proxy.
    pub(crate) database_proxy: bool,
    /// The broker's store is on a disk of so many megabytes.
    pub(crate) nats_disk: Option<u32>,
    /// PostgreSQL is the scenario's own, on a disk of so many megabytes if it is given.
    pub(crate) own_postgres: bool,
    pub(crate) database_disk: Option<u32>,
    /// More flags of the services.
    pub(crate) flags: Vec<&'static str>,
    /// Who orders, and what.
    pub(crate) mix: Mix,
}

/// What the stage is given.
pub(crate) struct Given {
    pub(crate) id: &'static str,
    pub(crate) backend: Backend,
    pub(crate) seed: u64,
    /// The server that scenarios share, without a database.
    pub(crate) postgres_url: String,
    pub(crate) folder: PathBuf,
    pub(crate) progress: Progress,
    /// How many orders there are, in percent of the usual.
    pub(crate) scale: u64,
    /// For a soak: how long, and how much.
    pub(crate) soak: Option<Soak>,
    /// How long it may take until all is at rest.
    pub(crate) patience: Duration,
}

/// See the module.
pub(crate) struct Stage {
    pub(crate) given: Given,
    pub(crate) random: Random,
    pub(crate) figures: Figures,
    pub(crate) settings: Settings,
    processes: BTreeMap<String, Process>,
    launches: BTreeMap<String, Launch>,
    pub(crate) nats: LocalServer,
    pub(crate) broker: Context,
    pub(crate) nats_proxy: Option<Proxy>,
    pub(crate) database_proxy: Option<Proxy>,
    pub(crate) postgres: Option<Postgres>,
    pub(crate) nats_disk: Option<SmallDisk>,
    pub(crate) database_disk: Option<SmallDisk>,
    database_url: Option<String>,
    // As the checker reaches it, past the proxy.
    direct_url: Option<String>,
    guard: tokio::task::JoinHandle<()>,
    consumers: Vec<ConsumerSpec>,
    flags: Vec<&'static str>,
    in_turn: bool,
    pub(crate) shop: Option<Arc<Shop>>,
}

pub(crate) type Outcome<T = ()> = Result<T, String>;

impl Stage {
    /// Starts broker, databases and services, and fills the shop.
    pub(crate) async fn open(given: Given, wishes: Wishes) -> Outcome<Self> {
        given.progress.phase("starting");
        let folder = given.folder.clone();
        let program = std::env::var_os("ENSEMBLE_NATS_SERVER").map(PathBuf::from);
        let program = local_server::find(program.as_deref()).map_err(|e| e.to_string())?;
        let nats_folder = folder.join("nats");
        let disk = |name: &Path, size: Option<u32>| match size {
            Some(megabytes) => SmallDisk::mount(name, megabytes).map(Some),
            None => Ok(None),
        };
        let nats_disk = disk(&nats_folder.join("store"), wishes.nats_disk)?;
        let database_disk = disk(&folder.join("postgres"), wishes.database_disk)?;
        let nats = LocalServer::start(&program, &nats_folder).map_err(|e| e.to_string())?;
        let broker = connect(nats.url()).await?;
        let nats_proxy = match wishes.nats_proxy {
            true => Some(Proxy::before(address(nats.url(), "nats://")?).await?),
            false => None,
        };
        // On a small disk its log must be small.
        let wal = if given.soak.is_some() { 1024 } else { 16 };
        let postgres = match (given.backend, wishes.own_postgres) {
            (Backend::Postgres, true) => {
                Some(Postgres::start(&folder.join("postgres"), wal).await?)
            }
            _ => None,
        };
        let server = match (given.backend, &postgres) {
            (Backend::Sqlite, _) => None,
            (Backend::Postgres, Some(own)) => Some(own.url()),
            (Backend::Postgres, None) => Some(given.postgres_url.clone()),
        };
        let database_proxy = match (&server, wishes.database_proxy) {
            (Some(url), true) => Some(Proxy::before(address(url, "postgres://postgres@")?).await?),
            _ => None,
        };
        let name = format!("{}_{}", given.id.to_lowercase(), given.seed);
        let direct_url = server.map(|server| format!("{server}/{name}"));
        let database_url = match &database_proxy {
            Some(proxy) => Some(format!("postgres://postgres@{}/{name}", proxy.address())),
            None => direct_url.clone(),
        };
        let settings = Settings::default();
        let consumers: Vec<_> = ensemble::SERVICES
            .iter()
            .map(|s| s.consumer(&settings))
            .collect();
        topology::provision(&broker, Retention::default(), &consumers)
            .await
            .map_err(|e| e.to_string())?;
        let mut stage = Self {
            random: Random::new(given.seed),
            figures: Figures::default(),
            settings,
            processes: BTreeMap::new(),
            launches: BTreeMap::new(),
            broker: broker.clone(),
            nats_proxy,
            database_proxy,
            postgres,
            nats_disk,
            database_disk,
            database_url,
            direct_url,
            guard: guard(&broker, &consumers),
            consumers,
            flags: wishes.flags,
            shop: None,
            nats,
            given,
            in_turn: false,
        };
        for service in ensemble::SERVICES {
            stage.add(service.name, service.name)?;
            stage.start(service.name)?;
        }
        stage.fill(wishes.mix).await?;
        Ok(stage)
    }

    /// Prepares an instance of a service, which is not started.
    pub(crate) fn add(&mut self, instance: &str, service: &'static str) -> Outcome {
        let nats_url = match &self.nats_proxy {
            Some(proxy) => format!("nats://{}", proxy.address()),
            None => self.nats.url().to_owned(),
        };
        let launch = Launch {
            service,
            listen: format!("127.0.0.1:{}", free_port()?),
            data_dir: self.given.folder.join("data"),
            nats_url,
            database_url: self.database_url.clone(),
            flags: self.flags.clone(),
            plan: self.given.folder.join(format!("{instance}.plan")),
            log: self.given.folder.join(format!("{instance}.log")),
            log_filter: match self.given.soak {
                // A line per request is too much.
                Some(_) => "warn",
                None => "info,async_nats=warn,sqlx=warn",
            },
        };
        self.launches.insert(instance.to_owned(), launch);
        Ok(())
    }

    fn launch(&self, instance: &str) -> Outcome<&Launch> {
        let launch = self.launches.get(instance);
        launch.ok_or_else(|| format!("there is no {instance} on this stage"))
    }

    /// From now on the instances of a service are served in turn, whatever their ranks: what
    /// happens to any of them then matters.
    pub(crate) fn serve_in_turn(&mut self) -> Outcome {
        self.in_turn = true;
        for instance in self.launches.keys() {
            self.tell(instance, "")?;
        }
        Ok(())
    }

    /// Starts an instance; what its failpoints were told before is forgotten.
    pub(crate) fn start(&mut self, instance: &str) -> Outcome {
        self.start_with(instance, "")
    }

    /// Starts an instance whose failpoints are told something.
    pub(crate) fn start_with(&mut self, instance: &str, plan: &str) -> Outcome {
        let launch = self.launch(instance)?.clone();
        self.tell(instance, plan)?;
        let process = Process::start(&launch)?;
        self.processes.insert(instance.to_owned(), process);
        Ok(())
    }

    /// Tells the failpoints of an instance something, while it runs.
    pub(crate) fn tell(&self, instance: &str, plan: &str) -> Outcome {
        let path = &self.launch(instance)?.plan;
        let ranks = if self.in_turn { "off ranks\n" } else { "" };
        std::fs::write(path, format!("{ranks}{plan}"))
            .map_err(|e| format!("cannot write {}: {e}", path.display()))
    }

    /// Kills an instance at once.
    pub(crate) fn kill(&mut self, instance: &str) {
        if let Some(mut process) = self.processes.remove(instance) {
            process.kill();
        }
    }

    /// Has an instance stop in order, and waits until it has.
    pub(crate) async fn terminate(&mut self, instance: &str) -> Outcome {
        self.signal(instance, Signal::TERM);
        self.until_dead(instance).await
    }

    pub(crate) fn signal(&self, instance: &str, signal: Signal) {
        if let Some(process) = self.processes.get(instance) {
            process.signal(signal);
        }
    }

    /// Waits until an instance has died of a failpoint, or has stopped.
    pub(crate) async fn until_dead(&mut self, instance: &str) -> Outcome {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            let process = self.processes.get_mut(instance);
            if process.is_none_or(Process::has_ended) {
                self.processes.remove(instance);
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(format!("{instance} did not end"))
    }

    /// Where an instance answers.
    pub(crate) fn url(&self, instance: &str) -> String {
        let launch = self.launches.get(instance);
        launch.map_or_else(String::new, |launch| format!("http://{}", launch.listen))
    }

    /// The process of an instance; 0: it does not run.
    pub(crate) fn pid(&self, instance: &str) -> i32 {
        self.processes.get(instance).map_or(0, Process::pid)
    }

    pub(crate) fn nats_pid(&self) -> i32 {
        self.nats.pid()
    }

    pub(crate) fn signal_nats(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.nats.pid()) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Ends the broker, in order or by a kill, lets something happen to its store, and
    /// starts it again.
    pub(crate) fn restart_nats(
        &mut self,
        kill: bool,
        meanwhile: impl FnOnce(&Path) -> Outcome,
    ) -> Outcome {
        if kill {
            self.signal_nats(Signal::KILL);
        }
        tokio::task::block_in_place(|| {
            self.nats.stop();
            meanwhile(&self.nats.store())?;
            self.nats.restart().map_err(|e| e.to_string())
        })
    }

    /// Nobody keeps the stream and the consumers as they are declared.
    pub(crate) fn stop_guard(&mut self) {
        self.guard.abort();
    }

    pub(crate) fn start_guard(&mut self) {
        self.guard = guard(&self.broker, &self.consumers);
    }

    async fn fill(&mut self, mix: Mix) -> Outcome {
        self.given.progress.phase("filling the shop");
        let urls = ensemble::SERVICES.map(|s| (s.name, self.url(s.name)));
        // The first service has made it; a file that is being written is read again.
        let key = self.until("a key", Duration::from_secs(60), async |stage| {
            DevelopmentKey::of(&stage.given.folder.join("data"))
        });
        let key = key.await?;
        let orders = mix.orders.unwrap_or(240 * self.given.scale / 100);
        let shop = Shop::open(&key, urls.into(), self.random.part(1), mix, orders).await?;
        self.shop = Some(Arc::new(shop));
        Ok(())
    }

    /// Waits until something holds, and not for ever.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        patience: Duration,
        mut look: impl AsyncFnMut(&Self) -> Result<T, String>,
    ) -> Outcome<T> {
        let begun = Instant::now();
        loop {
            match look(self).await {
                Ok(value) => return Ok(value),
                Err(state) if begun.elapsed() > patience => {
                    return Err(format!("{what} did not happen in time: {state}"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Clients begin to order.
    pub(crate) fn load(&mut self) -> Outcome<Load> {
        self.given.progress.phase("orders");
        Ok(Load::start(self.shop()?, self.given.progress.clone()))
    }

    pub(crate) fn shop(&self) -> Outcome<Arc<Shop>> {
        self.shop
            .clone()
            .ok_or_else(|| "the shop is not open".to_owned())
    }

    /// One more fault.
    pub(crate) fn fault(&mut self, what: &str) {
        self.figures.faults += 1;
        self.given.progress.phase(what);
    }

    /// The fault is over: how long it takes until an order is confirmed again.
    pub(crate) async fn recovered(&mut self) -> Outcome {
        let took = self.shop()?.probe().await?;
        self.figures.recovery.push(took);
        Ok(())
    }

    /// All databases, opened to read.
    pub(crate) async fn places(&self) -> Outcome<Vec<Place>> {
        let mut places = Vec::new();
        for service in ensemble::SERVICES {
            let location = self.location(service.name);
            let database = Database::open_to_read(service.name, &location).await;
            let database = database.map_err(|e| e.to_string())?;
            places.push(Place { service, database });
        }
        Ok(places)
    }

    /// Where the database of a service is.
    pub(crate) fn location(&self, service: &str) -> jetstream::database::Location {
        use jetstream::database::Location;
        match &self.direct_url {
            Some(url) => Location::Postgres(format!("{url}_{service}")),
            None => Location::Sqlite(self.given.folder.join(format!("data/{service}.sqlite"))),
        }
    }

    /// One look of the checker.
    pub(crate) async fn look(&self) -> Outcome<Report> {
        let places = self.places().await?;
        let report = check(&self.broker, &self.settings, &places).await;
        for place in places {
            place.database.close().await;
        }
        report.map_err(|fault| fault.to_string())
    }

    /// What the failpoints of all instances have noted.
    pub(crate) fn notes(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for launch in self.launches.values() {
            for (what, count) in process::notes(&launch.log) {
                *sums.entry(what).or_default() += count;
            }
        }
        sums
    }

    /// Ends the processes, and gives the folder for a look at what is in it.
    pub(crate) async fn close(mut self) -> Figures {
        self.guard.abort();
        for name in self.processes.keys().cloned().collect::<Vec<_>>() {
            self.kill(&name);
        }
        if let (Some(url), None) = (&self.direct_url, &self.postgres) {
            drop_databases(url).await;
        }
        std::mem::take(&mut self.figures)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.guard.abort();
    }
}

fn guard(broker: &Context, consumers: &[ConsumerSpec]) -> tokio::task::JoinHandle<()> {
    let guard = Guard::new(broker.clone(), Retention::default(), consumers.to_vec());
    tokio::spawn(guard.run())
}

async fn connect(url: &str) -> Outcome<Context> {
    broker::connect(url, "faults")
        .await
        .map_err(|e| e.to_string())
}

fn address(url: &str, scheme: &str) -> Outcome<std::net::SocketAddr> {
    let text = url.trim_start_matches(scheme);
    text.parse().map_err(|e| format!("{url}: {e}"))
}

async fn drop_databases(url: &str) {
    use sea_orm::ConnectionTrait as _;
    let Some((server, name)) = url.rsplit_once('/') else {
        return;
    };
    if let Ok(admin) = sea_orm::Database::connect(format!("{server}/postgres")).await {
        for service in ensemble::SERVICES {
            let drop = format!(
                "DROP DATABASE IF EXISTS \"{name}_{}\" WITH (FORCE)",
                service.name
            );
            let _ = admin.execute_unprepared(&drop).await;
        }
        let _ = admin.close().await;
    }
}
