//! Deadlines, and what happens when a step stays silent.

use events::{Flow, OrderId};
use integration_tests::{Backend, World};
use serde_json::{Value, json};

const FLAGS: [&str; 4] = ["--order-deadline", "1", "--compensation-deadlines", "1"];

/// An order whose coupon service is away: its deadline passes, its compensation is asked
/// for again and given up.
async fn given_up(world: &mut World, flow: Flow) -> OrderId {
    let product = world.operator().product(100, 5).await;
    world.operator().charge("alice", 1_000).await;
    let campaign = world.operator().campaign(json!({ "amount": 10 }), 1).await;
    let coupon = world.user("alice").issue(&campaign).await;
    world.quiet().await;
    world.stop("coupon").await;
    let alice = world.user("alice");
    let items = json!([{ "product_id": product, "quantity": 2 }]);
    let order = alice
        .place(json!({ "items": items, "coupon_id": coupon, "flow": flow }))
        .await;
    let view = alice.until(order, "COMPENSATION_FAILED").await;
    assert_eq!(view["reason"], "DEADLINE_PASSED");
    assert_eq!(
        view["steps"],
        json!({ "stock": "compensated", "point": "compensated", "coupon": "waiting" })
    );
    order
}

async fn apart(backend: Backend) -> World {
    let mut world = World::with(backend, &ensemble::SERVICES, &FLAGS).await;
    world.start_apart().await;
    world
}

async fn a_compensation_that_was_given_up_is_listed_and_asked_for_again(
    backend: Backend,
    flow: Flow,
) {
    let mut world = apart(backend).await;
    let order = given_up(&mut world, flow).await;
    let listed = world
        .operator()
        .get("/orders?state=COMPENSATION_FAILED")
        .await
        .ok();
    assert_eq!(listed["orders"][0]["order_id"], json!(order));

    // The service comes back: it hears it all, and its answers end the order by themselves.
    world.start_alone("coupon").await;
    let view = world.user("alice").until(order, "CANCELED").await;
    assert_eq!(view["steps"]["coupon"], "compensated");
    let late = json!({ "action": "retry", "reason": "too late" });
    let answer = world
        .operator()
        .post(&format!("/orders/{order}/resolve"), late)
        .await;
    assert_eq!(
        (answer.status, &answer.body["code"]),
        (409, &json!("NOT_GIVEN_UP"))
    );
    world.quiet().await;
    world
        .replays_equal(&format!("{flow}_deadline_and_repeated_compensation"))
        .await;
    world.end().await;
}

async fn a_person_ends_what_healing_could_not(backend: Backend) {
    let mut world = apart(backend).await;
    let order = given_up(&mut world, Flow::Parallel).await;
    let path = format!("/orders/{order}/resolve");
    let send = async |body: Value| world.operator().post(&path, body).await;

    let retry = json!({ "action": "retry", "reason": "again" });
    assert_eq!(
        world.user("alice").post(&path, retry.clone()).await.status,
        403
    );
    assert_eq!(send(retry).await.ok()["state"], "COMPENSATING");
    world
        .user("alice")
        .until(order, "COMPENSATION_FAILED")
        .await;

    let wrong = send(json!({ "action": "mark_undone", "step": "stock", "reason": "x" })).await;
    assert_eq!((wrong.status, &wrong.body["field"]), (422, &json!("step")));
    let marked =
        send(json!({ "action": "mark_undone", "step": "coupon", "reason": "looked" })).await;
    let view = marked.ok();
    assert_eq!(
        (&view["state"], &view["steps"]["coupon"]),
        (&json!("CANCELED"), &json!("void"))
    );

    world.start_alone("coupon").await;
    world.quiet().await;
    world.replays_equal("ended_by_a_person").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compensation_that_was_given_up_is_listed_and_asked_for_again_on_sqlite() {
    a_compensation_that_was_given_up_is_listed_and_asked_for_again(Backend::Sqlite, Flow::Parallel)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compensation_that_was_given_up_is_listed_and_asked_for_again_on_postgres() {
    a_compensation_that_was_given_up_is_listed_and_asked_for_again(
        Backend::Postgres,
        Flow::Parallel,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_ends_what_healing_could_not_on_sqlite() {
    a_person_ends_what_healing_could_not(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_ends_what_healing_could_not_on_postgres() {
    a_person_ends_what_healing_could_not(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequential_order_is_given_up_and_ended_too() {
    a_compensation_that_was_given_up_is_listed_and_asked_for_again(
        Backend::Sqlite,
        Flow::Sequential,
    )
    .await;
}
