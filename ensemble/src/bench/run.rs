//! One run: a system is filled, loaded, checked and ended.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jetstream::http::auth::DevelopmentKey;
use jetstream::shell::host;
use jetstream::stream::broker::{self, Context};
use jetstream::stream::reader;
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::client::{Connection, Place};
use super::load::{self, Buys, Customer, Market, Tally};
use super::meter::{Meter, Window};
use super::outcomes::Outcomes;
use super::processes::Watched;
use super::progress::Progress;
use super::report::{self, Bound};
use super::shop::{self, Shop, User};
use super::system::System;
use super::{Args, LearnsBy, backlog, postgres, verify};

// Orders up to which every one of them is checked at the end.
const CHECKED: u64 = 300_000;
const DRAW: Duration = Duration::from_millis(100);

/// A run on a system of its own.
pub(super) async fn here(args: &Args, run: u32) -> Result<Value, String> {
    let folder = args.data_dir.join(format!("run-{run}"));
    must_be_empty(&folder)?;
    let server = match &args.database_url {
        Some(url) => Some(postgres::Server::connect(url).await?),
        None => None,
    };
    let database = server.as_ref().map(|server| (server, run));
    let mut system = System::start(args, &folder, database).await?;
    let result = match args.backlog {
        Some(orders) => backlog::measure(args, orders, &folder, &mut system).await,
        None => measure_here(args, &folder, &mut system).await,
    };
    // The whole of what must hold; a result is none without it. It holds every order in
    // memory, so a run that is too large for it is held to its sums alone, and says so.
    let in_whole = args.orders() <= CHECKED;
    let result = match result {
        Ok(parts) if in_whole => system.check().map(|()| parts),
        result => result,
    };
    drop(system);
    let mut settings = Value::Null;
    let mut name = "SQLite".to_owned();
    if let Some(server) = &server {
        let all = server.settings().await?;
        name = format!("PostgreSQL {}", all[0].1);
        settings = all
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        server.drop_databases(run).await?;
    }
    let mut report = args.described("Ensemble", &name);
    report["database_settings"] = settings;
    report["checked"] = if in_whole { "every order" } else { "sums" }.into();
    for (name, value) in result? {
        report[name] = value;
    }
    Ok(report)
}

/// Parts of a report, by name.
pub(super) type Parts = Vec<(&'static str, Value)>;

async fn measure_here(args: &Args, folder: &Path, system: &mut System) -> Result<Parts, String> {
    let key = DevelopmentKey::of(folder)?;
    let places = system.places();
    let nats_url = system.nats_url().to_owned();
    let wait = args.outcome == LearnsBy::Wait;
    let plan = Plan::of(args);
    let windows = measure(&system.processes(), move |progress, bounds| async move {
        let broker = connect(&nats_url).await?;
        let outcomes = match wait {
            true => None,
            false => Some(Outcomes::listen(&broker).await?),
        };
        let shop = shop::fill(
            &places[0],
            &key,
            &plan.mix,
            plan.customers,
            plan.orders_each,
            &progress,
        )
        .await?;
        // Not before order has heard of every coupon.
        verify::quiet(&broker, None).await?;
        let Shop {
            products,
            users,
            operator,
        } = shop;
        let customers = customers(&places, users).await?;
        let names = customers
            .iter()
            .filter_map(Customer::name)
            .collect::<Vec<_>>();
        let market = plan.market(progress, bounds, Some(products.clone()), outcomes);
        let spent = plan.mix.refused_by("coupon") > 0.0;
        let customers = match spent {
            true => load::spend_a_coupon_each(&market, customers).await?,
            false => customers,
        };
        load::run(&market, customers, plan.pace).await?;
        verify::quiet(&broker, None).await?;
        let (windows, tally) = plan.results(market)?;
        verify::check(&places, &operator, &products, &names, tally).await?;
        Ok(windows)
    })
    .await?;
    let broker = connect(system.nats_url()).await?;
    let events = reader::bounds(&broker).await.map_err(|e| e.to_string())?;
    let mut parts = vec![("windows", windows), ("events", events.1.into())];
    if args.restart {
        let millis = system.restart()?.as_secs_f64() * 1000.0;
        parts.push(("restart_ms", millis.into()));
    }
    Ok(parts)
}

/// The load has a connection of its own to the broker, to hear what is decided.
pub(super) async fn connect(nats_url: &str) -> Result<Context, String> {
    let connected = broker::connect(nats_url, "bench").await;
    connected.map_err(|error| error.to_string())
}

/// The users, each on a connection, spread over the instances.
pub(super) async fn customers(places: &[Place], users: Vec<User>) -> Result<Vec<Customer>, String> {
    let mut customers = Vec::with_capacity(users.len());
    for (n, user) in users.into_iter().enumerate() {
        let connection = Connection::open(&places[n % places.len()]).await?;
        let buys = Buys::Here(Box::new(user));
        customers.push(Customer { connection, buys });
    }
    Ok(customers)
}

/// A run on another system, which is there already.
pub(super) async fn elsewhere(args: &Args, target: &str) -> Result<Value, String> {
    let (url, path) = split(target)?;
    let (shop_url, shop_path) = split(args.target_shop.as_deref().unwrap_or_default())?;
    let plan = Plan::of(args);
    let mut processes = args.watch.clone();
    processes.push(Watched::alone("load", std::process::id()));
    let windows = measure(&processes, move |progress, bounds| async move {
        let wanted = json!({ "users": plan.customers, "coupons": plan.orders_each });
        let mut connection = Connection::open(&Place::together(&shop_url)).await?;
        connection.call("POST", &shop_path, "", &wanted).await?;
        let place = Place::together(&url);
        let mut customers = Vec::new();
        for user in 0..plan.customers {
            let connection = Connection::open(&place).await?;
            let buys = Buys::Elsewhere {
                path: path.clone(),
                user,
                placed: 0,
            };
            customers.push(Customer { connection, buys });
        }
        let market = plan.market(progress, bounds, None, None);
        load::run(&market, customers, plan.pace).await?;
        plan.results(market).map(|(windows, _)| windows)
    })
    .await?;
    let mut report = args.described(target, "its own");
    report["windows"] = windows;
    Ok(report)
}

/// What the load needs to know of the command line.
pub(super) struct Plan {
    pub(super) mix: super::Mix,
    pub(super) pace: load::Pace,
    pub(super) customers: u32,
    pub(super) orders_each: u32,
    pub(super) warm_up: u64,
    pub(super) orders: u64,
    pub(super) windows: u32,
}

impl Plan {
    pub(super) fn of(args: &Args) -> Self {
        Self {
            mix: args.mix.clone(),
            pace: args.pace(),
            customers: args.customers(),
            orders_each: u32::try_from(args.orders_each()).unwrap_or(u32::MAX),
            warm_up: args.warm_up(),
            orders: args.orders(),
            windows: args.windows,
        }
    }

    pub(super) fn market(
        &self,
        progress: Arc<Progress>,
        bounds: UnboundedSender<Instant>,
        products: Option<Arc<shop::Products>>,
        outcomes: Option<Outcomes>,
    ) -> Rc<Market> {
        progress.begin("placing orders", self.warm_up + self.orders);
        let size = (self.orders / u64::from(self.windows)).max(1);
        let meter = Meter::new(self.warm_up, size, self.windows as usize, bounds);
        Rc::new(Market {
            mix: self.mix.clone(),
            products,
            outcomes,
            meter: RefCell::new(meter),
            progress,
            tally: RefCell::default(),
            placed: Cell::new(0),
        })
    }

    pub(super) fn results(&self, market: Rc<Market>) -> Result<(Vec<Window>, Tally), String> {
        let market = Rc::into_inner(market).ok_or("somebody still places orders")?;
        let tally = market.tally.into_inner();
        let windows = market.meter.into_inner().windows();
        let windows = windows.ok_or("the customers ran out of coupons: give more --orders")?;
        Ok((windows, tally))
    }
}

/// Runs a load, and looks what the processes cost at the bounds of its windows. The figures
/// of each window.
async fn measure<F, L>(processes: &[Watched], load: F) -> Result<Value, String>
where
    F: FnOnce(Arc<Progress>, UnboundedSender<Instant>) -> L + Send + 'static,
    L: Future<Output = Result<Vec<Window>, String>>,
{
    let (windows, bounds) = on_a_thread(processes, load).await?;
    let figures = windows
        .iter()
        .zip(bounds.windows(2))
        .map(|(window, bounds)| report::figures(window, &bounds[0], &bounds[1]));
    Ok(figures.collect())
}

/// Runs a load on a thread of its own, so that it costs little, and shows how far it is.
/// What it gives, and what the processes had cost at each bound of a window.
pub(super) async fn on_a_thread<T, F, L>(
    processes: &[Watched],
    load: F,
) -> Result<(T, Vec<Bound>), String>
where
    T: Send + 'static,
    F: FnOnce(Arc<Progress>, UnboundedSender<Instant>) -> L + Send + 'static,
    L: Future<Output = Result<T, String>>,
{
    let progress = Arc::new(Progress::new());
    let (bounds, mut told) = mpsc::unbounded_channel();
    let (ended, mut end) = oneshot::channel();
    let shown = progress.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let result = match runtime {
            Ok(runtime) => LocalSet::new().block_on(&runtime, load(shown, bounds)),
            Err(error) => Err(error.to_string()),
        };
        let _ = ended.send(result);
    });
    let mut interrupted = std::pin::pin!(host::interrupted());
    let mut draw = tokio::time::interval(DRAW);
    let mut bounds = Vec::new();
    let result = loop {
        tokio::select! {
            biased;
            () = &mut interrupted => break Err("interrupted".to_owned()),
            Some(_) = told.recv() => {
                let ends_a_window = !bounds.is_empty();
                bounds.push(Bound::now(processes, ends_a_window));
            }
            ended = &mut end => break ended.unwrap_or(Err("the load has died".to_owned())),
            _ = draw.tick() => progress.draw(),
        }
    };
    progress.end();
    Ok((result?, bounds))
}

fn must_be_empty(folder: &Path) -> Result<(), String> {
    let occupied = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    match occupied {
        true => Err(format!(
            "{} is not empty: remove it, or choose another directory with --data-dir",
            folder.display()
        )),
        false => Ok(()),
    }
}

/// Splits `http://HOST:PORT/PATH` into the server and the path.
fn split(url: &str) -> Result<(String, String), String> {
    let rest = url.strip_prefix("http://");
    let parts = rest.and_then(|rest| rest.split_once('/'));
    let (host, path) = parts.ok_or(format!("`{url}` is not like http://HOST:PORT/PATH"))?;
    Ok((format!("http://{host}"), format!("/{path}")))
}
