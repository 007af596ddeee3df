//! Replay: what was said is said again by this build, or the difference is found.

use std::collections::BTreeSet;
use std::path::Path;

use events::hold::Hold;
use events::refusal::FailingLine;
use events::{OrderContext, OrderId, ProductId, Refusal, Step};
use integration_tests::{Backend, World, captures, replayed};
use jetstream::database::Location;
use jetstream::database::bulk::Rows;
use jetstream::hearing::participant::{self, Participant};
use jetstream::replay::{self, Before, Tape, file, select};
use jetstream::{Database, Fault, Service, Tx};
use serde_json::json;

fn captured(name: &str) -> Tape {
    let path = captures().join(format!("{name}.jsonl"));
    file::read(&path).unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_captured_story_is_told_again_by_this_build() {
    let mut stories = BTreeSet::new();
    for entry in std::fs::read_dir(captures()).expect("captures") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("a name");
        let report = replayed(&captured(name), &ensemble::SERVICES).await;
        assert!(report.differences.is_empty(), "{name}:\n{report}");
        assert!(report.not_comparable.is_empty(), "{name}:\n{report}");
        assert!(report.equal() >= 2, "{name}:\n{report}");
        stories.insert(name.to_owned());
    }
    for flow in ["parallel", "sequential"] {
        let mut told = vec![
            "confirmed".to_owned(),
            "canceled_in_time".to_owned(),
            "canceled_after_confirmation".to_owned(),
            "deadline_and_repeated_compensation".to_owned(),
        ];
        told.extend(Step::all().map(|step| format!("refused_by_{step}")));
        for story in told {
            let prefix = format!("{flow}_{story}");
            let found = stories.iter().any(|name| name.starts_with(&prefix));
            assert!(found, "no capture of {prefix}");
        }
    }
}

/// Stock as it is, but for its price: it takes each for one more than it is.
struct WrongPrice;

impl Participant for WrongPrice {
    const STEP: Step = Step::STOCK;
    type Held = ();
    type Resources = Vec<(ProductId, i64)>;

    async fn load(&self, tx: &Tx, orders: &[&OrderContext]) -> Result<Self::Resources, Fault> {
        let lines = orders.iter().flat_map(|order| &order.lines);
        let ids: BTreeSet<_> = lines.map(|line| line.product_id.0).collect();
        let sql = "SELECT product_id, price FROM products WHERE product_id IN (SELECT id FROM v)";
        let rows = tx.fetch(Rows::ids(ids), sql, vec![]).await?;
        let priced = rows.iter().map(|row| {
            let id = ProductId(row.try_get("", "product_id")?);
            Ok((id, row.try_get::<i64>("", "price")? + 1))
        });
        priced.collect()
    }

    fn hold(
        &self,
        priced: &mut Self::Resources,
        order: &OrderContext,
        _: i64,
    ) -> Result<(), Refusal> {
        let wrong = order.lines.iter().filter(|line| {
            let price = priced.iter().find(|(id, _)| *id == line.product_id);
            price.is_none_or(|(_, price)| *price != line.unit_price.0)
        });
        let failing = wrong.map(|line| FailingLine {
            product_id: line.product_id,
            code: "PRICE_CHANGED".to_owned(),
            requested: line.quantity,
            available: 0,
        });
        match failing.collect::<Vec<_>>() {
            none if none.is_empty() => Ok(()),
            failing => Err(Refusal::of_lines(failing)),
        }
    }

    fn release(&self, _: &mut Self::Resources, _: &OrderContext, (): &(), _: Hold) {}

    fn settle(&self, _: &mut Self::Resources, _: &OrderContext, (): &()) {}

    async fn save(&self, _: &Tx, _: Self::Resources) -> Result<(), Fault> {
        Ok(())
    }
}

fn with_a_wrong_price() -> Vec<Service> {
    let broken = |service: Service| match service.name {
        "stock" => Service {
            subscriptions: |settings| vec![participant::subscription(WrongPrice, &settings.flows)],
            ..service
        },
        _ => service,
    };
    ensemble::SERVICES.into_iter().map(broken).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_price_in_stocks_decision_is_found_and_the_first_difference_is_named() {
    let tape = captured("parallel_confirmed");
    let report = replayed(&tape, &with_a_wrong_price()).await;
    let first = report.differences.first().expect("a difference");
    let recorded = first.recorded.as_ref().expect("it was recorded");
    let now = first.replayed.as_ref().expect("something else is said");
    assert_eq!(first.service, "stock");
    assert_eq!(first.cause.subject, "order.created.pending");
    assert_eq!(recorded.subject, "product.reserved");
    assert_eq!(now.subject, "product.reserve.failed");
    let fields = ["subject", "body.refusal"].map(|path| {
        let field = first
            .fields
            .iter()
            .find(|field| field.field.starts_with(path));
        field
            .unwrap_or_else(|| panic!("{path} in {:#?}", first.fields))
            .clone()
    });
    assert_eq!(fields[0].replayed, "product.reserve.failed");
    assert!(
        fields[1].replayed.to_string().contains("PRICE_CHANGED"),
        "{:?}",
        fields[1]
    );
    // The others hear what was recorded: one difference does not make theirs.
    let services: BTreeSet<_> = report.differences.iter().map(|d| d.service).collect();
    assert_eq!(services, ["stock"].into());
    let text = report.to_string();
    for words in [
        "stock: recorded product.reserved, now product.reserve.failed",
        "because of  order.created.pending",
    ] {
        assert!(text.contains(words), "{words} in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_stops_where_it_is_told_to_and_shows_the_state_as_it_was() {
    let tape = captured("parallel_confirmed");
    let reserved = tape
        .events()
        .iter()
        .find(|event| event.envelope.entry.subject == "product.reserved");
    let reserved = reserved.expect("it was reserved").stream_sequence;
    for (at, state) in [
        (reserved - 1, vec![]),
        (reserved, vec!["HELD"]),
        (tape.last, vec!["SETTLED"]),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let into = folder.path().join("replay");
        let until = tape.clone().until(at);
        let report = replay::replay(&ensemble::SERVICES, &until, &into, None).await;
        let report = report.expect("replayed");
        assert!(report.differences.is_empty(), "{at}:\n{report}");
        assert_eq!(holds(&into).await, state, "at {at}");
    }
}

async fn holds(folder: &Path) -> Vec<String> {
    let stock = ensemble::SERVICES
        .into_iter()
        .find(|service| service.name == "stock");
    let migrations = stock.expect("stock").migrations;
    let location = Location::Sqlite(folder.join("stock.sqlite"));
    let database = Database::open("stock", &location, migrations)
        .await
        .expect("opened");
    let rows = database
        .query("SELECT state FROM holds", vec![])
        .await
        .expect("read");
    let states = rows
        .iter()
        .map(|row| row.try_get("", "state").expect("a state"));
    let states = states.collect();
    database.close().await;
    states
}

#[tokio::test(flavor = "multi_thread")]
async fn what_begins_in_the_middle_without_a_base_is_not_comparable_and_no_difference() {
    let tape = captured("parallel_confirmed");
    for skipped in 1..tape.events().len() {
        let rest = tape.events()[skipped..].to_vec();
        for before in [Before::Missing, Before::Everything] {
            let cut = Tape::new(rest.clone(), before);
            let report = replayed(&cut, &ensemble::SERVICES).await;
            assert!(report.differences.is_empty(), "from {skipped}:\n{report}");
        }
    }
    // From the order itself on: what was held is not comparable, what followed from it is.
    let placed = tape
        .events()
        .iter()
        .position(|event| event.envelope.entry.subject == "order.created.pending");
    let rest = tape.events()[placed.expect("it was placed")..].to_vec();
    let report = replayed(&Tape::new(rest, Before::Missing), &ensemble::SERVICES).await;
    let unknown: BTreeSet<_> = report.not_comparable.iter().map(|n| n.subject).collect();
    assert_eq!(
        unknown,
        [
            "cart.cleared",
            "coupon.used",
            "point.used",
            "product.reserved"
        ]
        .into()
    );
    assert_eq!(report.equal(), 1, "order.confirmed:\n{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_with_something_in_it_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("note"), "mine").expect("written");
    let tape = captured("parallel_confirmed");
    let refused = replay::replay(&ensemble::SERVICES, &tape, folder.path(), None).await;
    let refused = refused.expect_err("refused").to_string();
    assert!(refused.contains("is not empty"), "{refused}");
}

/// Alice buys mugs, and bob buys pens.
async fn two_users(world: &World) -> (OrderId, OrderId) {
    let operator = world.operator();
    let mug = operator.product(500, 10).await;
    let pen = operator.product(100, 10).await;
    for user in ["alice", "bob"] {
        operator.charge(user, 1_100).await;
    }
    let buy = async |user: &str, product: &str| {
        let items = json!([{ "product_id": product, "quantity": 1 }]);
        let order = world.user(user).place(json!({ "items": items })).await;
        world.user(user).until_final(order).await;
        order
    };
    buy("alice", &mug).await;
    let bobs = buy("bob", &pen).await;
    buy("alice", &mug).await;
    // She has 100 left: refused, with her balance in the body.
    let alices = buy("alice", &mug).await;
    world.quiet().await;
    (alices, bobs)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_order_has_what_it_depends_on_and_nothing_else() {
    let world = World::start(Backend::Sqlite).await;
    let (alices, bobs) = two_users(&world).await;
    let mut tape = world.tape().await;
    world.end().await;
    let all = tape.events().len();
    tape.orders = Some([alices].into());
    let needed = select::needed(tape.clone()).expect("readable");
    assert!(needed.events().len() < all, "{all}");
    let has = |order: OrderId| {
        needed
            .events()
            .iter()
            .any(|e| e.envelope.correlation == order.0)
    };
    assert!(has(alices) && !has(bobs));
    let report = replayed(&needed, &ensemble::SERVICES).await;
    assert!(report.differences.is_empty(), "{report}");
    assert!(report.not_comparable.is_empty(), "{report}");
    // point.use.failed, order.canceled, product.released, order.compensated, and
    // product.reserved where stock was faster than the refusal
    assert!([4, 5].contains(&report.equal()), "{report}");

    // Without what came before, this build would decide otherwise.
    let alone = tape
        .events()
        .iter()
        .filter(|e| e.envelope.correlation == alices.0);
    let alone = Tape::new(alone.cloned().collect(), Before::Selection);
    let report = replayed(&alone, &ensemble::SERVICES).await;
    assert!(
        !report.differences.is_empty(),
        "the base is what makes it comparable"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_databases_is_a_base() {
    let mut world = World::start(Backend::Sqlite).await;
    two_users(&world).await;
    let before = world.tape().await.last;
    world.stop("all").await;
    let base = tempfile::tempdir().expect("a folder");
    for service in ensemble::SERVICES {
        for suffix in ["", "-wal"] {
            let name = format!("{}.sqlite{suffix}", service.name);
            let from = world.folder().join(&name);
            if from.is_file() {
                std::fs::copy(from, base.path().join(name)).expect("copied");
            }
        }
    }
    world.start_together("all").await;
    two_users(&world).await;
    let tape = world.tape().await;
    world.end().await;
    let after = |event: &&jetstream::stream::history::Recorded| event.stream_sequence > before;
    let rest: Vec<_> = tape.events().iter().filter(after).cloned().collect();
    let tape = Tape::new(rest, Before::Everything);
    let folder = tempfile::tempdir().expect("a folder");
    let into = folder.path().join("with");
    let report = replay::replay(&ensemble::SERVICES, &tape, &into, Some(base.path())).await;
    let report = report.expect("replayed");
    assert!(
        report.differences.is_empty() && report.not_comparable.is_empty(),
        "{report}"
    );
    assert!(report.equal() > 10, "{report}");
    let without = replayed(&tape, &ensemble::SERVICES).await;
    assert!(without.differences.is_empty(), "{without}");
    assert!(!without.not_comparable.is_empty(), "{without}");
}
