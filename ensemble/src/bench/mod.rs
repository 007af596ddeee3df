//! `ensemble bench`: orders over HTTP, from the request to the final state.
//!
//! It runs a system of its own in this process, on a broker and databases of its own, and
//! keeps a given number of orders in flight (closed loop). Every order needs all four
//! steps and has two lines. The end of an order is the moment at which its decision is
//! heard from the broker.

mod load;
mod report;
mod shop;

use std::path::PathBuf;

use clap::Parser as _;
use jetstream::http::auth::DevelopmentKey;
use jetstream::shell::config::ServeArgs;
use jetstream::shell::host::Host;
use jetstream::stream::broker;
use jetstream::stream::local_server::{self, LocalServer};
use jetstream::stream::topology::{self, Retention};

use crate::SERVICES;

pub(crate) const EXAMPLES: &str = "\
Examples:
  ensemble bench                                   one order at a time, on SQLite
  ensemble bench --in-flight 256 --orders 20000
  ensemble bench --in-flight 256 --database-url postgres://postgres@127.0.0.1/bench

Build it with --release: a debug build is several times slower.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Orders in flight at any time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    in_flight: u32,
    /// Orders to measure; a tenth of it is placed before, to warm up
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=10_000_000))]
    orders: u32,
    /// `parallel` or `sequential`
    #[arg(long, default_value = "parallel", value_parser = ["parallel", "sequential"])]
    flow: String,
    /// The nats-server to start
    #[arg(long, env = "ENSEMBLE_NATS_SERVER", value_name = "PATH")]
    nats_server: Option<PathBuf>,
    /// PostgreSQL server; databases are created there and stay. Without: SQLite
    #[arg(long, env = "ENSEMBLE_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// An empty directory for databases and the broker's store; it stays
    #[arg(long, default_value = "bench-data")]
    data_dir: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
}

pub(crate) async fn run(args: Args) -> Result<(), String> {
    let occupied = std::fs::read_dir(&args.data_dir).is_ok_and(|mut dir| dir.next().is_some());
    if occupied {
        let folder = args.data_dir.display();
        return Err(format!(
            "{folder} is not empty: remove it, or choose another with --data-dir"
        ));
    }
    let program = local_server::find(args.nats_server.as_deref()).map_err(|e| e.to_string())?;
    let server = LocalServer::start(&program, &args.data_dir.join("nats"));
    let server = server.map_err(|error| error.to_string())?;
    let serve = serve_args(&args)?;
    let key = DevelopmentKey::of(&args.data_dir)?;
    let connect = async |name| {
        broker::connect(server.url(), name)
            .await
            .map_err(|error| error.to_string())
    };
    let broker = connect("bench").await?;
    let settings = serve.settings();
    let consumers: Vec<_> = SERVICES.iter().map(|s| s.consumer(&settings)).collect();
    topology::provision(&broker, Retention::default(), &consumers)
        .await
        .map_err(|error| error.to_string())?;
    let host = Host::start(&SERVICES, &serve, broker, key.authenticator()).await?;
    let url = format!("http://{}", host.address());
    // The load has a connection of its own, as a client has.
    let measured = load::run(&args, &url, &key, &connect("bench load").await?).await;
    host.drain().await;
    report::print(&args, &measured?);
    Ok(())
}

/// The system under load is configured as `ensemble up` is, for one flow.
fn serve_args(args: &Args) -> Result<ServeArgs, String> {
    let folder = args.data_dir.display().to_string();
    let mut flags = vec!["bench", "--listen", "127.0.0.1:0", "--data-dir", &folder];
    flags.extend(["--flows", &args.flow, "--order-deadline", "600"]);
    // What is measured is the system, not its limits.
    flags.extend(["--rate-limit", "0", "--requests-in-flight", "1000000"]);
    if let Some(url) = &args.database_url {
        flags.extend(["--database-url", url]);
    }
    let flags = Flags::try_parse_from(flags).map_err(|error| error.to_string())?;
    Ok(flags.serve)
}
