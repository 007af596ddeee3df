//! `ensemble why`: what an order waits for, on a real system with something wrong with it.
//! Its words are shown by the snapshots beside its code; here it is seen to be right, and the
//! commands that it gives to be the remedy.

use events::{Flow, OrderId, Step, catalog};
use integration_tests::{Backend, Finished, Shop, World, eventually};
use serde_json::{Value, json};

use crate::commands::{self, copied};

/// Asks why, until the answer has a reason with this code; the answer.
async fn until_because(world: &World, order: OrderId, code: &str) -> (Finished, Value) {
    let order = order.to_string();
    eventually(code, async || {
        let finished = commands::run(world, &["why", &order, "--json"]).await;
        let answer = commands::json(&finished);
        let because = answer["because"].as_array().into_iter().flatten();
        match because.into_iter().any(|because| because["code"] == code) {
            true => Ok((finished, answer)),
            false => Err(answer.to_string()),
        }
    })
    .await
}

async fn why(world: &World, order: OrderId) -> (Option<i32>, Value) {
    let finished = commands::run(world, &["why", &order.to_string(), "--json"]).await;
    (finished.status.code(), commands::json(&finished))
}

fn first_command(answer: &Value) -> String {
    let command = answer["next"][0]["command"].as_str();
    command
        .unwrap_or_else(|| panic!("a command in {answer}"))
        .to_owned()
}

/// A world with a process per service, and a shop.
async fn apart(backend: Backend, flags: &[&str]) -> (World, Shop) {
    let mut world = World::with(backend, &ensemble::SERVICES, flags).await;
    world.start_apart().await;
    let shop = Shop::open(&world, None).await;
    (world, shop)
}

const PATIENT: [&str; 2] = ["--order-deadline", "600"];

/// Pauses a consumer for an hour.
pub(crate) async fn pause(world: &World, service: &str) {
    let until = jetstream::clock::rfc3339(jetstream::clock::wall() + 3_600_000);
    let subject = format!("$JS.API.CONSUMER.PAUSE.{}.{service}", catalog::STREAM);
    let body = json!({ "pause_until": until }).to_string();
    let answer = world.broker().client().request(subject, body.into()).await;
    let answer: Value = serde_json::from_slice(&answer.expect("an answer").payload).expect("JSON");
    assert_eq!(answer["paused"], true, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_service_is_named_and_the_order_goes_on_once_it_runs() {
    let (mut world, shop) = apart(Backend::Sqlite, &PATIENT).await;
    world.stop("coupon").await;
    let order = shop.order(&world, Flow::Parallel).await;
    let others = [
        (Step::STOCK, "succeeded"),
        (Step::POINT, "succeeded"),
        (Step::CART, "succeeded"),
    ];
    shop.until_steps(&world, order, &others).await;
    let (finished, answer) = until_because(&world, order, "SERVICE_DOWN").await;
    assert_eq!(finished.status.code(), Some(3), "a person is needed");
    assert_eq!(answer["verdict"], "WAITING");
    let waits = format!("order {order} waits for coupon");
    assert_eq!(answer["headline"], waits.as_str());
    let text = answer["because"][0]["text"].as_str().expect("a text");
    assert!(
        text.starts_with("coupon is not running: nobody asks"),
        "{text}"
    );
    // Its own, and what stock and point have said, which would be its turn in the sequential
    // flow.
    assert!(text.contains("3 events wait, the oldest for"), "{text}");
    let command = first_command(&answer);
    assert!(
        command.starts_with("coupon-svc --nats-url nats://"),
        "{command}"
    );

    world.start_alone("coupon").await;
    world.user("alice").until(order, "CONFIRMED").await;
    world.quiet().await;
    let (code, answer) = why(&world, order).await;
    assert_eq!((code, &answer["verdict"]), (Some(0), &json!("CONFIRMED")));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_consumer_is_named_and_the_command_resumes_it() {
    let (world, shop) = apart(Backend::Sqlite, &PATIENT).await;
    pause(&world, "coupon").await;
    let order = shop.order(&world, Flow::Parallel).await;
    let (finished, answer) = until_because(&world, order, "CONSUMER_PAUSED").await;
    assert_eq!(finished.status.code(), Some(3));
    let text = answer["because"][0]["text"].as_str().expect("a text");
    assert!(
        text.starts_with("coupon's consumer is paused for another 59 min"),
        "{text}"
    );
    let resumed = copied(&world, &first_command(&answer)).await;
    assert!(resumed.status.success(), "{resumed:?}");
    world.user("alice").until(order, "CONFIRMED").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_named_and_the_command_redrives_it() {
    let (world, shop) = apart(Backend::Sqlite, &PATIENT).await;
    let coupon = world.database("coupon");
    let rename = async |from: &str, to: &str| {
        let sql = format!("ALTER TABLE {from} RENAME TO {to}");
        coupon.execute(&sql, vec![]).await.expect("renamed");
    };
    rename("coupons", "coupons_away").await;
    let order = shop.order(&world, Flow::Parallel).await;
    let (finished, answer) = until_because(&world, order, "DEAD_LETTER").await;
    assert_eq!(finished.status.code(), Some(3));
    let text = answer["because"][0]["text"].as_str().expect("a text");
    let words = "coupon could not handle order.created.pending and set it aside";
    assert!(
        text.starts_with(words) && text.contains("coupons"),
        "{text}"
    );
    rename("coupons_away", "coupons").await;
    let redriven = copied(&world, &first_command(&answer)).await;
    assert!(redriven.status.success(), "{redriven:?}");
    world.user("alice").until(order, "CONFIRMED").await;
    world.end().await;
}

async fn an_order_past_its_deadline_is_listed_with_what_holds_it_up(backend: Backend) {
    let (mut world, shop) = apart(backend, &["--order-deadline", "1"]).await;
    world.stop("coupon").await;
    // Order's deadlines wait until it has heard its backlog: here, for ever.
    pause(&world, "order").await;
    let order = shop.order(&world, Flow::Parallel).await;
    let stuck = eventually("past due", async || {
        let finished = commands::run(&world, &["why", "--stuck", "--json"]).await;
        let answer = commands::json(&finished);
        match answer["orders"][0]["verdict"] == "PAST_DUE" {
            true => Ok((finished, answer)),
            false => Err(answer.to_string()),
        }
    })
    .await;
    let (finished, answer) = stuck;
    assert_eq!(finished.status.code(), Some(3));
    let stuck = &answer["orders"][0];
    assert_eq!(stuck["order_id"], json!(order));
    let reasons = stuck["because"].as_array().expect("reasons");
    let reason = |code: &str, service: &str| {
        reasons
            .iter()
            .any(|r| r["code"] == code && r["service"] == service)
    };
    assert!(reason("SERVICE_DOWN", "coupon"), "{stuck}");
    assert!(reason("CONSUMER_PAUSED", "order"), "{stuck}");
    assert!(reason("NOT_HEARD", "order"), "stock has answered: {stuck}");

    let resumed = ["provision", "--resume", "--nats-url", world.nats_url()];
    let resumed = commands::on(&world, &resumed, &[]).await;
    assert!(resumed.status.success(), "{resumed:?}");
    world.user("alice").until(order, "COMPENSATING").await;
    world.start_alone("coupon").await;
    world.user("alice").until(order, "CANCELED").await;
    world.quiet().await;
    let (code, answer) = why(&world, order).await;
    assert_eq!((code, &answer["verdict"]), (Some(0), &json!("CANCELED")));
    let headline = answer["headline"].as_str().expect("a headline");
    assert!(
        headline.contains("had not answered within 1.0 s"),
        "{headline}"
    );
    let none = commands::run(&world, &["why", "--stuck"]).await;
    assert_eq!(none.stdout.trim(), "no order is past due");
    assert_eq!(none.status.code(), Some(0));
    world.end().await;
}

integration_tests::on_both_databases! {
    past_due: an_order_past_its_deadline_is_listed_with_what_holds_it_up();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_given_up_comes_with_what_a_person_can_do() {
    let flags = ["--order-deadline", "1", "--compensation-deadlines", "1"];
    let (mut world, shop) = apart(Backend::Sqlite, &flags).await;
    world.stop("coupon").await;
    let order = shop.order(&world, Flow::Parallel).await;
    world
        .user("alice")
        .until(order, "COMPENSATION_FAILED")
        .await;
    let (code, answer) = why(&world, order).await;
    assert_eq!((code, &answer["verdict"]), (Some(3), &json!("GIVEN_UP")));
    let stuck = commands::run(&world, &["why", "--stuck", "--json"]).await;
    assert_eq!(commands::json(&stuck)["orders"][0]["verdict"], "GIVEN_UP");
    let next = answer["next"].as_array().expect("commands");
    let commands: Vec<&str> = next.iter().filter_map(|n| n["command"].as_str()).collect();
    let by_hand = commands
        .iter()
        .find(|command| command.contains("mark-undone coupon"));
    let marked = copied(&world, by_hand.expect("a command")).await;
    assert!(marked.status.success(), "{marked:?}");
    assert!(marked.stdout.contains("CANCELED"), "{marked:?}");
    world.start_alone("coupon").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_an_order_ended_is_said_with_and_without_order() {
    let (mut world, shop) = apart(Backend::Sqlite, &[]).await;
    let canceled = shop.order(&world, Flow::Parallel).await;
    world.user("alice").until(canceled, "CONFIRMED").await;
    shop.cancel(&world, canceled).await.ok();
    world.user("alice").until(canceled, "CANCELED").await;
    let items = json!([{ "product_id": shop.mug, "quantity": 5 }]);
    let refused = world.user("bob").place(json!({ "items": items })).await;
    world.user("bob").until(refused, "CANCELED").await;
    world.quiet().await;
    let with = [why(&world, canceled).await, why(&world, refused).await];
    let headline = |(code, answer): &(Option<i32>, Value)| {
        assert_eq!(*code, Some(0), "{answer}");
        answer["headline"].as_str().expect("a headline").to_owned()
    };
    let [by_user, by_point] = [&with[0], &with[1]].map(headline);
    assert!(
        by_user.contains("its user canceled it; all is given back"),
        "{by_user}"
    );
    let no = "point said no: INSUFFICIENT_POINTS: 2500 needed, 0 there";
    assert!(by_point.contains(no), "{by_point}");

    // The events alone tell the same.
    world.stop("order").await;
    let without = [why(&world, canceled).await, why(&world, refused).await];
    assert_eq!(
        [&without[0], &without[1]].map(headline),
        [by_user, by_point]
    );
    for (with, without) in with.iter().zip(&without) {
        assert_eq!(with.1["steps"], without.1["steps"]);
    }
    world.start_alone("order").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_answered_is_said_in_a_sentence() {
    let mut world = World::start(Backend::Sqlite).await;
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
    let fails = |finished: Finished, words: &str| {
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
        assert!(finished.stderr.contains(words), "{finished:?}");
    };
    fails(
        commands::run(&world, &["why", unknown]).await,
        "there is no order",
    );
    fails(
        commands::run(&world, &["why", "order-1"]).await,
        "not an order id",
    );
    let away = [
        "--nats-url",
        "nats://127.0.0.1:1",
        "--url",
        "http://127.0.0.1:1",
    ];
    fails(
        commands::on(&world, &["why", unknown], &away).await,
        "127.0.0.1:1",
    );
    fails(
        commands::on(&world, &["why", "--stuck"], &away).await,
        "order does not answer",
    );
    // Without services, the stream answers alone.
    world.stop("all").await;
    let broker = ["--nats-url", world.nats_url()];
    fails(
        commands::on(&world, &["why", unknown], &broker).await,
        "no event of order",
    );
    world.start_together("all").await;
    world.end().await;
}
