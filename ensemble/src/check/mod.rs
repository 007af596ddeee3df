//! `ensemble check`: holds all databases and the stream to what must be true.
//!
//! It only reads. What one service writes in one transaction is held to its invariants in
//! one snapshot, however busy the system is. What takes several services, or the stream,
//! is true once everything that was said has been heard: so an order is judged when all
//! that it said is old enough to have been heard by everybody, which the consumers'
//! positions tell; what is on its way is counted, and is no violation.

mod orders;
mod report;
mod stream;

use std::path::PathBuf;

use clap::Parser as _;
use events::{OrderContext, Step};
use jetstream::database::snapshot::Snapshot;
use jetstream::operating::evidence;
use jetstream::operating::invariants::{self, Invariant};
use jetstream::shell::config::ServeArgs;
use jetstream::stream::broker::Context;
use jetstream::stream::position::{self, Position};
use jetstream::{Database, Fault, Service, Settings, clock};

pub use jetstream::operating::invariants::Violation;
pub use report::Report;

use crate::SERVICES;
use crate::failure::Failure;
use crate::reach::Broker;

pub(crate) const EXAMPLES: &str = "\
Examples:
  ensemble check                           the system that runs on ./data
  ensemble check --data-dir /tmp/data --json
  ensemble check --nats-url nats://127.0.0.1:4222 --database-url postgres://postgres@127.0.0.1/shop

It only reads, and can be run at any time. On a busy system it judges what has come to rest,
and counts what has not. It exits with 3 when something is not as it must be.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    broker: Broker,
    /// The services' --database-url; without it, the SQLite files in --data-dir
    #[arg(long, env = "ENSEMBLE_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let serve = serve_args(&args)?;
    let mut places = Vec::new();
    for service in SERVICES {
        let database = Database::open_to_read(service.name, &serve.location(service.name)).await;
        let database = database.map_err(|error| error.to_string())?;
        places.push(Place { service, database });
    }
    let broker = args.broker.connect("check").await?;
    let report = check(&broker, &serve.settings(), &places).await;
    let report = report.map_err(|fault| format!("the check could not be made: {fault}"))?;
    match args.json {
        true => println!(
            "{}",
            serde_json::to_string(&report).map_err(|e| e.to_string())?
        ),
        false => report.print(),
    }
    match report.count() {
        0 => Ok(()),
        1 => Err(Failure::Found("1 violation; see above".to_owned())),
        n => Err(Failure::Found(format!("{n} violations; see above"))),
    }
}

fn serve_args(args: &Args) -> Result<ServeArgs, String> {
    let folder: &PathBuf = &args.broker.data_dir;
    let mut flags = vec![
        "check".to_owned(),
        "--data-dir".to_owned(),
        folder.display().to_string(),
    ];
    if let Some(url) = &args.database_url {
        flags.extend(["--database-url".to_owned(), url.clone()]);
    }
    let flags = Flags::try_parse_from(flags).map_err(|error| error.to_string())?;
    Ok(flags.serve)
}

/// A service, and its database.
pub struct Place {
    /// The service.
    pub service: Service,
    /// Its database.
    pub database: Database,
}

/// What a service of the shop is held to beside what every service is.
struct Own {
    service: &'static str,
    invariants: &'static [Invariant],
    /// Whether what is held is what the order needs.
    is_exact: Option<fn(&OrderContext, &str) -> bool>,
}

const OWN: [Own; 5] = [
    Own {
        service: "order",
        invariants: order_svc::invariants::INVARIANTS,
        is_exact: None,
    },
    Own {
        service: "stock",
        invariants: stock_svc::invariants::INVARIANTS,
        is_exact: Some(stock_svc::invariants::is_exact),
    },
    Own {
        service: "point",
        invariants: point_svc::invariants::INVARIANTS,
        is_exact: Some(point_svc::invariants::is_exact),
    },
    Own {
        service: "coupon",
        invariants: coupon_svc::invariants::INVARIANTS,
        is_exact: Some(coupon_svc::invariants::is_exact),
    },
    Own {
        service: "cart",
        invariants: cart_svc::invariants::INVARIANTS,
        is_exact: Some(cart_svc::invariants::is_exact),
    },
];

/// Holds the databases and the stream to what must be true; see the module.
///
/// # Errors
/// When a database or the broker is away: nothing can be said then.
pub async fn check(
    broker: &Context,
    settings: &Settings,
    places: &[Place],
) -> Result<Report, Fault> {
    let begun = clock::wall();
    let mut report = Report::default();
    let standing = Standing::look(broker, places, begun).await?;
    let heard = stream::read(broker, settings, places, &standing, &mut report).await?;
    let horizon = standing.oldest_unpublished.min(heard.oldest_unheard);
    // Orders first: what the others say is not older than what the order says.
    let mut snapshots: Vec<(&Place, Snapshot)> = Vec::new();
    let order_first = |place: &&Place| place.service.name != "order";
    let mut sorted: Vec<&Place> = places.iter().collect();
    sorted.sort_by_key(order_first);
    for place in sorted {
        snapshots.push((place, place.database.snapshot().await?));
    }
    for (place, snapshot) in &snapshots {
        let name = place.service.name;
        let own = OWN.iter().find(|own| own.service == name);
        let of_step: &[Invariant] = match Step::named(name) {
            Ok(_) => invariants::OF_PARTICIPANTS,
            Err(_) => &[],
        };
        let own = own.map_or(&[][..], |own| own.invariants);
        for invariant in invariants::OF_EVERY_SERVICE
            .iter()
            .chain(of_step)
            .chain(own)
        {
            report.add(invariant.broken(name, snapshot).await?);
        }
        let letters = evidence::letters(snapshot).await?;
        stream::compare(name, snapshot, &heard, &letters, begun, &mut report).await?;
        report.letters(name, letters);
        if !of_step.is_empty() {
            report.overdue(name, evidence::overdue(snapshot, begun).await?);
        }
    }
    let suspects = orders::compare(&snapshots, horizon, &mut report).await?;
    drop(snapshots);
    let after = Standing::look(broker, places, begun).await?;
    report.quiet = standing.is_quiet && after.is_quiet && standing.last == after.last;
    report.restless = after.restless;
    orders::judge(suspects, places, &mut report).await?;
    report.finish();
    Ok(report)
}

/// How far everybody is.
struct Standing {
    is_quiet: bool,
    restless: Vec<String>,
    /// The last sequence of the stream.
    last: u64,
    first: u64,
    /// When the oldest event was decided that may not be in the stream yet.
    oldest_unpublished: i64,
    positions: Vec<(&'static str, Position)>,
}

impl Standing {
    async fn look(broker: &Context, places: &[Place], begun: i64) -> Result<Self, Fault> {
        let mut restless = Vec::new();
        let mut oldest_unpublished = begun;
        for place in places {
            let snapshot = place.database.snapshot().await?;
            if let Some(oldest) = evidence::oldest_unpublished(&snapshot).await? {
                restless.push(format!("{} has unpublished events", place.service.name));
                oldest_unpublished = oldest_unpublished.min(oldest);
            }
        }
        let mut positions = Vec::new();
        for place in places {
            let name = place.service.name;
            let position = position::of_consumer(broker, name).await?;
            if position.to_hear + position.to_ack > 0 {
                restless.push(format!(
                    "{name} has {} events to hear and {} to ack",
                    position.to_hear, position.to_ack
                ));
            }
            positions.push((name, position));
        }
        let (first, last) = position::of_stream(broker).await?;
        Ok(Self {
            is_quiet: restless.is_empty(),
            restless,
            last,
            first,
            oldest_unpublished,
            positions,
        })
    }

    /// Up to which sequence a service has acked everything.
    fn acked_until(&self, service: &str) -> u64 {
        let position = self.positions.iter().find(|(name, _)| *name == service);
        match position {
            Some((_, position)) if position.to_hear + position.to_ack > 0 => position.acked_until,
            _ => self.last,
        }
    }
}
