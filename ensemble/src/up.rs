//! `ensemble up`: the whole system in one process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use events::UserId;
use jetstream::http::auth::DevelopmentKey;
use jetstream::shell::config::ServeArgs;
use jetstream::shell::host::{self, Host};
use jetstream::stream::broker;
use jetstream::stream::guard::Guard;
use jetstream::stream::local_server::{self, LocalServer};
use jetstream::stream::topology::{self, Retention};
use jetstream::{Service, telemetry};
use serde::{Deserialize, Serialize};

use crate::{SERVICES, demo};

pub(crate) const EXAMPLES: &str = "\
Examples:
  ensemble up --demo                      all five services on SQLite, with a sample order
  ensemble up --database-url postgres://postgres@127.0.0.1/shop
  ensemble up --nats-url nats://127.0.0.1:4222 --services stock,point --listen 127.0.0.1:8081";

// How often it is looked whether the broker still runs; longer after each failure to
// start it again, and then given up.
const WATCH: Duration = Duration::from_millis(100);
const RESTARTS: u32 = 6;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Use this broker instead of starting one
    #[arg(long, env = "ENSEMBLE_NATS_URL")]
    nats_url: Option<String>,
    /// The nats-server to start
    #[arg(long, env = "ENSEMBLE_NATS_SERVER", value_name = "PATH")]
    nats_server: Option<PathBuf>,
    /// Run only these services; needs --nats-url
    #[arg(
        long,
        env = "ENSEMBLE_SERVICES",
        value_delimiter = ',',
        requires = "nats_url"
    )]
    services: Vec<String>,
    /// Begin with sample products, users with points and a coupon, and place an order
    #[arg(long)]
    demo: bool,
    #[command(flatten)]
    serve: ServeArgs,
}

pub(crate) async fn run(args: Args) -> Result<(), String> {
    let services = chosen(&args.services)?;
    telemetry::start(args.serve.log_format())?;
    serve(args, &services).await
}

async fn serve(args: Args, services: &[Service]) -> Result<(), String> {
    // What can be wrong is looked at before anything is written.
    let listener = host::listen(args.serve.listen).await?;
    host::reach_databases(services, &args.serve).await?;
    let (given, program) = match &args.nats_url {
        Some(url) => (Some(connect(&args, url).await?), None),
        None => (None, Some(find_server(&args)?)),
    };
    let auth = args.serve.authenticator().await?;
    let key = match args.serve.takes_development_tokens() {
        true => Some(DevelopmentKey::of(&args.serve.data_dir)?),
        false if args.demo => {
            let sentence = "--demo orders with development tokens, which --jwks-url and --jwt-key \
                            rule out: leave it out";
            return Err(sentence.to_owned());
        }
        false => None,
    };
    let mut server = match &program {
        Some(program) => Some(start_server(&args, program)?),
        None => None,
    };
    let nats_url = match (&args.nats_url, &server) {
        (Some(url), _) => url.clone(),
        (None, Some(server)) => server.url().to_owned(),
        (None, None) => return Err("there is no broker".to_owned()),
    };
    let broker = match given {
        Some(broker) => broker,
        None => connect(&args, &nats_url).await?,
    };
    // A subset runs beside others, whose consumers are not ours to provision.
    if args.services.is_empty() {
        let settings = args.serve.settings();
        let consumers: Vec<_> = services.iter().map(|s| s.consumer(&settings)).collect();
        topology::provision(&broker, Retention::default(), &consumers)
            .await
            .map_err(|e| e.to_string())?;
        // Who provisions also keeps what was provisioned.
        tokio::spawn(Guard::new(broker.clone(), Retention::default(), consumers).run());
    }
    let mut interrupted = std::pin::pin!(host::interrupted());
    let host = Host::start_on(listener, services, &args.serve, broker.clone(), auth).await?;
    let running = Running {
        nats_url,
        http_url: format!("http://{}", host.address()),
        monitor_url: server
            .as_ref()
            .and_then(|s| s.monitor_url().map(str::to_owned)),
    };
    running.write(&args.serve.data_dir)?;
    announce(&args, services, &running, key.as_ref())?;
    let stop = async {
        if let Some(key) = key.as_ref().filter(|_| args.demo) {
            tokio::select! {
                () = &mut interrupted => return Ok(()),
                played = demo::play(&running.http_url, key, &broker) => played?,
            }
        }
        println!("\nServing. Ctrl-C drains and stops; the next start continues from the data.");
        tokio::select! {
            () = &mut interrupted => Ok(()),
            error = keep_running(server.as_mut()) => Err(error),
        }
    };
    host::until_stopped(host, stop).await
}

/// Starts the broker again when it ends; returns when it cannot.
async fn keep_running(server: Option<&mut LocalServer>) -> String {
    let Some(server) = server else {
        return std::future::pending().await;
    };
    let mut failures: u32 = 0;
    loop {
        tokio::time::sleep(WATCH * 2_u32.pow(failures)).await;
        if !server.has_ended() {
            continue;
        }
        tracing::error!(
            url = server.url(),
            "nats-server has ended: starting it again; what was said meanwhile is in the outboxes"
        );
        match tokio::task::block_in_place(|| server.restart()) {
            Ok(()) => {
                failures = 0;
                tracing::info!(url = server.url(), "nats-server runs again");
            }
            Err(error) if failures >= RESTARTS => {
                return format!("nats-server has ended, and cannot be started again: {error}");
            }
            Err(error) => {
                failures += 1;
                tracing::error!(%error, "nats-server cannot be started");
            }
        }
    }
}

async fn connect(args: &Args, url: &str) -> Result<broker::Context, String> {
    let access = args.serve.access.access(url)?;
    let broker = broker::connect(&access, "up").await;
    broker.map_err(|e| e.to_string())
}

fn find_server(args: &Args) -> Result<PathBuf, String> {
    local_server::find(args.nats_server.as_deref()).map_err(|e| e.to_string())
}

fn start_server(args: &Args, program: &Path) -> Result<LocalServer, String> {
    LocalServer::start(program, &args.serve.data_dir.join("nats")).map_err(|e| e.to_string())
}

fn chosen(names: &[String]) -> Result<Vec<Service>, String> {
    if names.is_empty() {
        return Ok(SERVICES.to_vec());
    }
    names
        .iter()
        .map(|name| {
            SERVICES
                .iter()
                .find(|service| service.name == name)
                .copied()
                .ok_or_else(|| {
                    let known: Vec<_> = SERVICES.iter().map(|service| service.name).collect();
                    format!(
                        "there is no service `{name}`: choose from {}",
                        known.join(", ")
                    )
                })
        })
        .collect()
}

fn announce(
    args: &Args,
    services: &[Service],
    running: &Running,
    key: Option<&DevelopmentKey>,
) -> Result<(), String> {
    let names: Vec<_> = services.iter().map(|service| service.name).collect();
    let databases = match &args.serve.database_url {
        Some(_) => "PostgreSQL, a database per service".to_owned(),
        None => format!("SQLite in {}", args.serve.data_dir.display()),
    };
    let broker = match &args.nats_url {
        Some(_) => running.nats_url.clone(),
        None => format!("{}  (ends with this process)", running.nats_url),
    };
    println!("services   {}", names.join(", "));
    println!("http       {}", running.http_url);
    println!("nats       {broker}");
    println!("databases  {databases}");
    if let Some(jaeger) = &args.serve.jaeger_url {
        println!("jaeger     {jaeger}");
    }
    println!("api        {}/docs", running.http_url);
    let Some(key) = key else {
        return Ok(());
    };
    let token = |name: &str, operator| {
        let user = UserId::new(name).map_err(|e| e.to_string())?;
        key.token(&user, operator, Duration::from_secs(24 * 60 * 60))
    };
    println!("\nTokens for 24 hours (more: `ensemble token --help`)");
    println!("alice      {}", token("alice", false)?);
    println!("operator   {}", token("operator", true)?);
    Ok(())
}

/// Where a running system is, so that other commands find it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) nats_url: String,
    pub(crate) http_url: String,
    /// The monitoring address of a broker of its own.
    #[serde(default)]
    pub(crate) monitor_url: Option<String>,
}

const RUNNING: &str = "running.json";

impl Running {
    pub(crate) fn read(data_dir: &Path) -> Result<Self, String> {
        let path = data_dir.join(RUNNING);
        let missing = |_| {
            format!(
                "no system has run on {}: give --nats-url, or the --data-dir of `ensemble up`",
                data_dir.display()
            )
        };
        let text = std::fs::read_to_string(&path).map_err(missing)?;
        serde_json::from_str(&text).map_err(|e| format!("cannot read {}: {e}", path.display()))
    }

    fn write(&self, data_dir: &Path) -> Result<(), String> {
        let path = data_dir.join(RUNNING);
        let text = serde_json::to_string_pretty(self).map_err(|e| e.to_string())?;
        std::fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
    }
}
