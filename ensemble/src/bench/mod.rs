//! `ensemble bench`: orders over HTTP, from the request to the final state.
//!
//! The system under load runs as `ensemble up` runs it, in a process of its own, on a
//! broker and databases of its own; this process is the load. It can also load another
//! system, to compare.

mod backlog;
mod client;
mod load;
mod meter;
mod mix;
mod outcomes;
mod postgres;
mod processes;
mod progress;
mod report;
mod run;
mod shop;
mod sink;
mod system;
mod verify;

use std::path::PathBuf;

use serde_json::{Value, json};

use load::Pace;
use mix::Mix;
use processes::Watched;

pub(crate) const EXAMPLES: &str = "\
Examples:
  ensemble bench                                   one order at a time, on SQLite
  ensemble bench --in-flight 256 --repeat 3        medians of three runs
  ensemble bench --in-flight 256 --database-url postgres://postgres@127.0.0.1/bench
  ensemble bench --rate 1000 --orders 20000        open loop: 1000 orders per second
  ensemble bench --in-flight 64 --refuse stock=5,point=2,coupon=1,cart=1 --cancel 3
  ensemble bench --in-flight 256 --orders 1000000 --windows 10 --restart
  ensemble bench --backlog 100000                  coupon comes back, and 100 orders/s go on

Latencies begin when an order was due: in the open loop, what it waits for a system that
does not keep up counts. Every order needs all four steps and has two lines, unless the
mix says otherwise. Build with --release: a debug build is several times slower.

Exit codes: 0 a result; 1 none, as something failed or an invariant was broken; 2 the
command line is wrong.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Closed loop: orders in flight at any time; open loop: at most
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    in_flight: Option<u32>,
    /// Open loop: orders per second, whatever becomes of them
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// Orders to measure; without it, some seconds' worth
    #[arg(long, value_parser = clap::value_parser!(u64).range(10..=10_000_000))]
    orders: Option<u64>,
    /// Orders before that, to warm up; without it, a tenth
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    warm_up: Option<u64>,
    /// Report the orders in so many parts, to see what changes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    windows: u32,
    /// Runs, each on an empty system; medians are reported
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    repeat: u32,
    /// How the load learns what became of an order: it hears the decision on the broker, or
    /// lets the answer wait for it (then nothing is known of the 202)
    #[arg(long, value_enum, default_value = "heard")]
    outcome: LearnsBy,
    /// Instances of every service, all five in a process; needs --database-url
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    instances: u32,
    /// Each service in a process of its own, as they are deployed; reported one by one
    #[arg(long, conflicts_with_all = ["backlog", "target"])]
    apart: bool,
    /// At the end, start the services again with all the data, and say how long it takes
    #[arg(long)]
    restart: bool,
    /// Instead: place so many orders while coupon is away, then have it come back and work
    /// that off while others order without a coupon, at --rate (100 per second without it)
    #[arg(long, value_name = "ORDERS", conflicts_with_all = ["windows", "restart", "instances", "target"], value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    backlog: Option<u64>,
    /// Milliseconds that each step takes more; needs a build with the feature `slow-steps`
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=2000))]
    slow_steps: u64,
    #[command(flatten, next_help_heading = "Mix of orders")]
    mix: Mix,
    /// The nats-server to start
    #[arg(long, env = "ENSEMBLE_NATS_SERVER", value_name = "PATH")]
    nats_server: Option<PathBuf>,
    /// PostgreSQL server; databases are made there and removed at the end. Without: SQLite
    #[arg(long, env = "ENSEMBLE_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// An empty directory for databases, the broker's store and logs; it stays
    #[arg(long, default_value = "bench-data")]
    data_dir: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// POST the orders here instead, where the answer waits for the end; {id} is the order's
    #[arg(
        long,
        value_name = "URL",
        requires = "target_shop",
        help_heading = "Another system"
    )]
    target: Option<String>,
    /// POST here how many users and coupons the shop of that system is to have
    #[arg(
        long,
        value_name = "URL",
        requires = "target",
        help_heading = "Another system"
    )]
    target_shop: Option<String>,
    /// A process of that system whose cost counts, with what it starts; several
    #[arg(long, value_name = "NAME=PID", requires = "target", value_parser = Watched::parse, help_heading = "Another system")]
    watch: Vec<Watched>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LearnsBy {
    /// From the broker
    Heard,
    /// With `Prefer: wait`
    Wait,
}

pub(crate) async fn run(args: Args) -> Result<(), String> {
    args.check()?;
    let mut runs = Vec::new();
    for run in 1..=args.repeat {
        if args.repeat > 1 {
            eprintln!("run {run} of {}", args.repeat);
        }
        runs.push(match &args.target {
            Some(target) => run::elsewhere(&args, target).await?,
            None => run::here(&args, run).await?,
        });
    }
    let rate = |run: &Value| run["windows"][0]["orders_per_second"].clone();
    let mut report = report::median(&runs);
    if args.backlog.is_none() {
        report["runs_orders_per_second"] = runs.iter().map(rate).collect();
    }
    match args.json {
        true => println!("{report}"),
        false => print!("{}", report::table(&report)),
    }
    Ok(())
}

impl Args {
    fn check(&self) -> Result<(), String> {
        self.mix.check()?;
        if self.instances > 1 && self.database_url.is_none() {
            return Err("an SQLite file belongs to one process: give --database-url".to_owned());
        }
        if self.mix.cancel > 0.0 && self.outcome == LearnsBy::Wait {
            return Err("who waits for the answer cannot cancel: leave --outcome out".to_owned());
        }
        if self.slow_steps > 0 && !cfg!(feature = "slow-steps") {
            return Err(
                "this build has no steps that can be slowed down: build it with --features \
                 ensemble/slow-steps"
                    .to_owned(),
            );
        }
        if self.backlog.unwrap_or(0) > 900 * u64::from(self.customers()) {
            return Err("a user may have 1000 open orders here: more --in-flight".to_owned());
        }
        let orders_each = self.orders_each();
        if orders_each > shop::CART {
            return Err(format!(
                "a user's cart has room for {} orders, and each is to place {orders_each}: more \
                 --in-flight, or fewer --orders",
                shop::CART
            ));
        }
        Ok(())
    }

    fn pace(&self) -> Pace {
        self.rate().map_or(Pace::Closed, Pace::Open)
    }

    /// Orders per second, in an open loop.
    fn rate(&self) -> Option<f64> {
        let usual = self.backlog.map(|_| backlog::USUAL_RATE);
        self.rate.or(usual)
    }

    /// So many customers there are.
    fn customers(&self) -> u32 {
        let many = self.rate().is_some();
        self.in_flight.unwrap_or(if many { 1024 } else { 1 })
    }

    /// About ten seconds' worth on a small machine.
    fn orders(&self) -> u64 {
        let customers = u64::from(self.customers());
        let usual = match self.rate() {
            Some(rate) => (rate * 10.0) as u64,
            None => (700 + customers * 150).min(30_000),
        };
        self.orders.unwrap_or(usual.max(10))
    }

    fn warm_up(&self) -> u64 {
        let customers = u64::from(self.customers());
        self.warm_up
            .unwrap_or((self.orders() / 10).max(2 * customers))
    }

    /// So many orders a customer may come to place: not all are equally fast.
    fn orders_each(&self) -> u64 {
        let customers = u64::from(self.customers());
        let all = self.orders() + self.warm_up() + customers;
        match customers {
            1 => all,
            _ => all.div_ceil(customers) * 5 / 4 + 10,
        }
    }

    /// What is reported beside the figures.
    fn described(&self, system: &str, database: &str) -> Value {
        let load = match self.rate() {
            Some(rate) => format!("open loop at {rate} orders/s"),
            None => format!("closed loop, {} in flight", self.customers()),
        };
        let mix = &self.mix;
        let refuse = mix
            .refuse
            .iter()
            .map(|(step, share)| (step.name().to_owned(), json!(share)));
        json!({
            "system": system,
            "database": database,
            "load": load,
            "in_flight": self.customers(),
            "rate": self.rate(),
            "outcome": match self.outcome {
                LearnsBy::Heard => "heard",
                LearnsBy::Wait => "wait",
            },
            "instances": self.instances,
            "apart": self.apart,
            "slow_steps_ms": self.slow_steps,
            "mix": {
                "refuse": Value::Object(refuse.collect()),
                "cancel": mix.cancel,
                "coupon": mix.coupon,
                "cart": mix.cart,
                "hot": mix.hot,
                "sequential": mix.sequential,
            },
        })
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=1_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("must be a number of orders per second, from 0.1".to_owned()),
    }
}
