//! The system as it is deployed: its broker's users and its databases' roles may do what
//! they need, and nothing else.

use std::sync::{Arc, Mutex};

use async_nats::Event;
use events::catalog;
use integration_tests::{Client, Deployment, eventually, repository};
use jetstream::stream::permissions::render;
use jetstream::stream::{broker, topology};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

#[test]
fn the_permissions_of_the_deployment_are_those_of_the_code() {
    let file = repository().join("deploy/nats/permissions.conf");
    let written = std::fs::read_to_string(&file).expect("the permissions");
    let wanted = render(&ensemble::grants());
    assert!(
        written == wanted,
        "write it again: ensemble provision --print-permissions > deploy/nats/permissions.conf"
    );
}

/// The flow of an order that needs every step, confirmed and refused, and all that reads.
#[tokio::test(flavor = "multi_thread")]
async fn the_whole_flow_works_with_the_least_permissions() {
    let deployment = Deployment::start().await;
    let operator = Client::operator(&deployment);
    let product = operator.product(500, 10).await;
    let campaign = operator.campaign(json!({ "percent": 10 }), 2).await;
    operator.charge("alice", 5_000).await;
    operator.charge("bob", 10).await;
    let mut orders = Vec::new();
    for (name, state) in [("alice", "CONFIRMED"), ("bob", "CANCELED")] {
        let user = Client::user(&deployment, name);
        user.put_in_cart(&product, 2).await;
        let items = json!([{ "product_id": product, "quantity": 2 }]);
        let coupon = user.issue(&campaign).await;
        let new = json!({ "items": items, "coupon_id": coupon, "from_cart": true });
        let order = user.place(new).await;
        let end = user.until(order, state).await;
        assert_eq!(
            end["steps"].as_object().map(serde_json::Map::len),
            Some(4),
            "{end}"
        );
        // The timeline reads the stream.
        let timeline = user.get(&format!("/orders/{order}/timeline")).await.ok();
        assert!(
            timeline.to_string().contains("order.created.pending"),
            "{timeline}"
        );
        orders.push(order.to_string());
    }
    // What order hints at on core NATS, it hears.
    let alice = Client::user(&deployment, "alice");
    let cancel = format!("/orders/{}/cancel", orders[0]);
    alice.post(&cancel, Value::Null).await.ok();
    alice
        .until(orders[0].parse().expect("an id"), "CANCELED")
        .await;
    // Comparing with the stream needs nothing more.
    for service in ensemble::SERVICES {
        let address = deployment.address(service.name);
        let answer = operator
            .post_once_at(address, "once", "/reconcile", json!({}))
            .await;
        let report = answer.ok();
        assert!(
            report["services"][0]["in_stream"].as_i64() > Some(0),
            "{report}"
        );
        assert_eq!(report["services"][0]["republished"], 0, "{report}");
    }
    // The command line looks with rights of its own.
    for arguments in [&["map", "--check", "--live"][..], &["timeline", &orders[1]]] {
        let finished = deployment.command("look", arguments).await;
        assert!(
            finished.status.success(),
            "{arguments:?}: {}",
            finished.stderr
        );
    }
    // Provisioning again changes nothing.
    let again = deployment
        .command("provision", &["provision", "--dry-run"])
        .await;
    assert!(again.stdout.contains("nothing to change"), "{again:?}");
    for (service, log) in deployment.end().await {
        assert!(
            !log.to_lowercase().contains("permissions violation"),
            "{service}: {log}"
        );
    }
}

/// A long range is read by a consumer where one may be created, and otherwise by direct gets.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_create_no_consumer_reads_a_long_range_too() {
    const MANY: usize = 25_000;
    let deployment = Deployment::start().await;
    let cart = Trespasser::connect(&deployment, "cart").await.client;
    for _ in 0..MANY {
        let sent = cart.publish("cart.changed", "filler".into()).await;
        sent.expect("sent");
    }
    cart.flush().await.expect("taken");
    eventually("all are stored", async || {
        let look = ["replay", "--json", "--subject", "cart.changed"];
        let finished = deployment.command("look", &look).await;
        let read = finished.stdout.lines().count();
        match read == MANY && finished.status.success() {
            true => Ok(()),
            false => Err(format!("{read} of them; {}", finished.stderr)),
        }
    })
    .await;
}

/// A connection, and what the broker said no to.
struct Trespasser {
    client: async_nats::Client,
    refused: Arc<Mutex<Vec<String>>>,
}

impl Trespasser {
    async fn connect(deployment: &Deployment, user: &str) -> Self {
        let password = std::fs::read_to_string(deployment.secrets().join(format!("nats_{user}")));
        let refused = Arc::new(Mutex::new(Vec::new()));
        let noted = refused.clone();
        let options = async_nats::ConnectOptions::with_user_and_password(
            user.to_owned(),
            password.expect("a password"),
        );
        let options = options
            .custom_inbox_prefix(broker::inbox(user))
            .event_callback(move |event| {
                if let Event::ServerError(error) = event {
                    noted.lock().expect("a lock").push(error.to_string());
                }
                async {}
            });
        let client = options.connect(deployment.nats_url()).await;
        Self {
            client: client.expect("the user may connect"),
            refused,
        }
    }

    async fn may_not_publish(&self, subject: &str) {
        let payload = b"{}".to_vec();
        let sent = self
            .client
            .publish(subject.to_owned(), payload.into())
            .await;
        sent.expect("sent");
        self.is_refused("Publish", subject).await;
    }

    async fn may_not_subscribe(&self, subject: &str) {
        let subscriber = self
            .client
            .subscribe(subject.to_owned())
            .await
            .expect("sent");
        self.is_refused("Subscription", subject).await;
        drop(subscriber);
    }

    async fn is_refused(&self, what: &str, subject: &str) {
        self.client.flush().await.expect("flushed");
        let words = format!("permissions violation for {what} to \"{subject}\"").to_lowercase();
        eventually(&words, async || {
            let refused = self.refused.lock().expect("a lock");
            match refused
                .iter()
                .any(|said| said.to_lowercase().contains(&words))
            {
                true => Ok(()),
                false => Err(format!("{:?}", refused.last())),
            }
        })
        .await;
    }
}

/// What nobody but the provisioner may ask of the broker, whatever the consumer.
fn administration(consumer: &str) -> Vec<String> {
    let stream = catalog::STREAM;
    let of_stream = ["CREATE", "UPDATE", "DELETE", "PURGE", "SNAPSHOT", "RESTORE"];
    let of_stream = of_stream.map(|verb| format!("$JS.API.STREAM.{verb}.{stream}"));
    let of_messages = ["DELETE", "GET"].map(|verb| format!("$JS.API.STREAM.MSG.{verb}.{stream}"));
    let of_consumer = ["DELETE", "PAUSE", "RESET", "UNPIN"];
    let of_consumer =
        of_consumer.map(|verb| format!("$JS.API.CONSUMER.{verb}.{stream}.{consumer}"));
    let others = [
        format!("$JS.API.CONSUMER.CREATE.{stream}"),
        format!("$JS.API.CONSUMER.CREATE.{stream}.{consumer}"),
        format!("$JS.API.CONSUMER.CREATE.{stream}.{consumer}.order.confirmed"),
        format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{consumer}"),
        format!("$JS.API.CONSUMER.LEADER.STEPDOWN.{stream}.{consumer}"),
        "$JS.API.STREAM.CREATE.OTHER".to_owned(),
        "$JS.API.ACCOUNT.PURGE.$G".to_owned(),
        "$SYS.REQ.SERVER.PING".to_owned(),
    ];
    let all = of_stream.into_iter().chain(of_messages);
    all.chain(of_consumer).chain(others).collect()
}

/// What is another's: asking for its events, and acking them.
fn of_consumer(consumer: &str) -> Vec<String> {
    let stream = catalog::STREAM;
    vec![
        format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"),
        format!("$JS.ACK.{stream}.{consumer}.1.1.1.1700000000000000000.0"),
        format!("$JS.ACK._.hash.{stream}.{consumer}.1.1.1.1700000000000000000.0.x"),
        format!("_INBOX_{consumer}.forged"),
    ]
}

/// What nobody may listen to: events by core subscription, requests of others.
const EARS: [&str; 9] = [
    ">",
    "*.>",
    "order.>",
    "product.reserved",
    "*.*.failed",
    "$JS.>",
    "$JS.ACK.>",
    "_INBOX.>",
    "$SYS.>",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_of_the_broker_does_not_need_is_refused() {
    let deployment = Deployment::start().await;
    let provisioner = broker::connect(&deployment.access("provision"), "test").await;
    let provisioner = provisioner.expect("the provisioner may connect");
    let before = state(&provisioner).await;
    let services = ensemble::SERVICES.map(|service| service.name);
    for name in services {
        let user = Trespasser::connect(&deployment, name).await;
        for entry in catalog::all().filter(|entry| entry.writer != name) {
            user.may_not_publish(entry.subject).await;
        }
        for other in services.iter().filter(|other| **other != name) {
            for subject in of_consumer(other) {
                user.may_not_publish(&subject).await;
            }
            // Those that some orders do not need look how far the others are.
            if ["order", "stock"].contains(&name) {
                let info = format!("$JS.API.CONSUMER.INFO.{}.{other}", catalog::STREAM);
                user.may_not_publish(&info).await;
            }
            user.may_not_subscribe(&format!("_INBOX_{other}.>")).await;
        }
        for subject in administration(name) {
            user.may_not_publish(&subject).await;
        }
        let info = format!("$JS.API.STREAM.INFO.{}", catalog::STREAM);
        user.may_not_publish(&info).await;
        for subject in EARS {
            user.may_not_subscribe(subject).await;
        }
        if name != "order" {
            user.may_not_publish("notify.order.x").await;
            user.may_not_subscribe("notify.order.>").await;
        }
        // The check can see: what it needs is not refused.
        let refused = user.refused.lock().expect("a lock").len();
        let own = broker::connect(&deployment.access(name), name)
            .await
            .expect("it may connect");
        let found: Result<async_nats::jetstream::consumer::PullConsumer, _> =
            own.get_consumer_from_stream(name, catalog::STREAM).await;
        assert!(found.is_ok(), "{name} sees its own consumer");
        assert!(refused > 60, "{refused} attempts of {name} were refused");
    }
    for name in ["look", "provision"] {
        let user = Trespasser::connect(&deployment, name).await;
        for entry in catalog::all() {
            user.may_not_publish(entry.subject).await;
        }
        for other in services {
            for subject in of_consumer(other) {
                user.may_not_publish(&subject).await;
            }
        }
        let may = ensemble::grants();
        let may = may
            .iter()
            .find(|grant| grant.user == name)
            .expect("its grant");
        let allowed = |subject: &str| {
            let mut allowed = may.publish.iter();
            allowed.any(|pattern| subject.starts_with(pattern.trim_end_matches(['*', '>'])))
        };
        let denied = administration("order")
            .into_iter()
            .filter(|subject| !allowed(subject));
        let denied: Vec<String> = denied.collect();
        assert!(
            denied.iter().any(|subject| subject.contains("PURGE")),
            "{denied:?}"
        );
        for subject in denied {
            user.may_not_publish(&subject).await;
        }
        for subject in EARS {
            user.may_not_subscribe(subject).await;
        }
    }
    assert_eq!(
        state(&provisioner).await,
        before,
        "nothing of it had an effect"
    );
    // Whoever is nobody, or does not know the password, does not come in.
    let nobody = async_nats::connect(deployment.nats_url()).await;
    assert!(nobody.is_err(), "without a user");
    let wrong = async_nats::ConnectOptions::with_user_and_password("order".into(), "x".into());
    assert!(
        wrong.connect(deployment.nats_url()).await.is_err(),
        "with a wrong password"
    );
    deployment.end().await;
}

/// The stream's last sequence, and its consumers.
async fn state(broker: &broker::Context) -> (u64, u64, usize) {
    let stream = broker
        .get_stream(catalog::STREAM)
        .await
        .expect("the stream");
    let state = &stream.cached_info().state;
    (state.last_sequence, state.messages, state.consumer_count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_cannot_connect_to_the_database_of_another() {
    let deployment = Deployment::empty().await;
    let services = ensemble::SERVICES.map(|service| service.name);
    for role in services {
        let own = deployment
            .connect(role, role)
            .await
            .expect("its own database");
        own.execute_unprepared("CREATE TABLE mine (n BIGINT)")
            .await
            .expect("its own tables");
        for sql in [
            "CREATE DATABASE another",
            "CREATE ROLE another",
            "ALTER ROLE postgres PASSWORD 'x'",
            "SELECT * FROM pg_authid",
            "SELECT pg_read_file('/etc/passwd')",
            "COPY mine TO PROGRAM 'true'",
        ] {
            let refused = own.execute_unprepared(sql).await;
            let refused = refused.expect_err(sql).to_string();
            assert!(
                refused.contains("denied") || refused.contains("must"),
                "{sql}: {refused}"
            );
        }
        // The password is asked for, and is not another's.
        let other = std::fs::read_to_string(deployment.secrets().join("postgres_admin"));
        for wrong in ["x", &other.expect("a password")] {
            let refused = deployment.connect_with(role, role, wrong).await;
            let refused = refused.expect_err("a wrong password").to_string();
            assert!(
                refused.contains("password authentication failed"),
                "does the server's pg_hba.conf ask for passwords? {refused}"
            );
        }
        let others = services.into_iter().filter(|other| *other != role);
        for other in others.chain(["postgres"]) {
            let refused = deployment.connect(role, other).await;
            let refused = refused.expect_err("another's database").to_string();
            assert!(
                refused.contains("permission denied for database"),
                "{refused}"
            );
        }
    }
    deployment.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_live_is_shown_before_it_is_changed_and_only_changed_when_told() {
    let deployment = Deployment::empty().await;
    let first = deployment.command("provision", &["provision"]).await;
    assert!(first.status.success(), "{}", first.stderr);
    assert!(
        first.stdout.contains("create stream EVENTS"),
        "{}",
        first.stdout
    );
    let other = [
        "provision",
        "--flows",
        "parallel",
        "--stream-max-bytes",
        "5000000",
    ];
    for more in [&["--dry-run"][..], &[]] {
        let shown = deployment
            .command("provision", &[&other[..], more].concat())
            .await;
        assert_eq!(shown.status.success(), !more.is_empty(), "{}", shown.stderr);
        assert!(
            shown.stdout.contains("max_bytes: -1 -> 5000000"),
            "{}",
            shown.stdout
        );
        assert!(
            shown.stdout.contains("change consumer point"),
            "{}",
            shown.stdout
        );
        assert!(
            shown.stdout.contains("- product.reserved"),
            "{}",
            shown.stdout
        );
        assert!(format!("{}{}", shown.stdout, shown.stderr).contains("nothing was changed"));
    }
    let reader = broker::connect(&deployment.access("look"), "look")
        .await
        .expect("a reader");
    let before = topology::look(&reader).await.expect("what there is");
    let changed = deployment
        .command("provision", &[&other[..], &["--yes"]].concat())
        .await;
    assert!(changed.status.success(), "{}", changed.stderr);
    let after = topology::look(&reader).await.expect("what there is");
    assert_ne!(before.consumers, after.consumers);
    let again = deployment.command("provision", &other).await;
    assert!(
        again.stdout.contains("nothing to change"),
        "{}",
        again.stdout
    );
    deployment.end().await;
}
