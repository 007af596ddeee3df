//! Deadlines, and what happens when a step stays silent.

use events::OrderId;
use integration_tests::{Backend, World};
use serde_json::{Value, json};

const FLAGS: [&str; 4] = ["--order-deadline", "1", "--compensation-deadlines", "1"];

/// An order whose coupon service is away: its deadline passes, its compensation is asked
/// for again and given up.
async fn given_up(world: &World) -> OrderId {
    let product = world.operator().product(100, 5).await;
    world.operator().charge("alice", 1_000).await;
    let alice = world.user("alice");
    let items = json!([{ "product_id": product, "quantity": 2 }]);
    let coupon = "01890a5d-ac96-774b-bcce-b302099a8057";
    issue_by_event(world, coupon).await;
    let order = alice
        .place(json!({ "items": items, "coupon_id": coupon }))
        .await;
    let view = alice.until(order, "COMPENSATION_FAILED").await;
    assert_eq!(view["reason"], "DEADLINE_PASSED");
    assert_eq!(
        view["steps"],
        json!({ "stock": "compensated", "point": "compensated", "coupon": "waiting" })
    );
    order
}

/// Order knows coupons from events; here the event comes without the service.
async fn issue_by_event(world: &World, coupon: &str) {
    use events::fact::CouponIssued;
    use events::{CampaignId, Coupon, Discount, Envelope, EventId, Money, UserId, catalog};
    let issued = CouponIssued {
        coupon_id: coupon.parse().expect("an id"),
        campaign_id: CampaignId(jetstream::clock::new_id()),
        user_id: UserId::new("alice").expect("valid"),
        terms: Coupon {
            discount: Discount::Amount { amount: Money(10) },
            min_total: Money(0),
        },
        expires_at: None,
    };
    let id = jetstream::clock::new_id();
    let envelope = Envelope {
        id: EventId(id),
        entry: &catalog::COUPON_ISSUED,
        aggregate: coupon.to_owned(),
        correlation: id,
        causation: None,
        time: jetstream::clock::wall(),
        pseq: 1,
        traceparent: None,
        body: issued.encode(),
    };
    let sent = world
        .broker()
        .publish("coupon.issued", envelope.encode())
        .await;
    sent.expect("sent").await.expect("stored");
}

async fn without_coupon(backend: Backend) -> World {
    let mut world = World::with(backend, &ensemble::SERVICES, &FLAGS).await;
    for service in ["order", "stock", "point", "cart"] {
        world.start_alone(service).await;
    }
    world
}

async fn a_compensation_that_was_given_up_is_listed_and_asked_for_again(backend: Backend) {
    let mut world = without_coupon(backend).await;
    let order = given_up(&world).await;
    let listed = world
        .operator()
        .get("/orders?state=COMPENSATION_FAILED")
        .await
        .ok();
    assert_eq!(listed["orders"][0]["order_id"], json!(order));

    // The service comes back: it hears it all, and its answers end the order by themselves.
    world.start_alone("coupon").await;
    let view = world.user("alice").until(order, "CANCELED").await;
    assert_eq!(
        view["steps"]["coupon"], "refused",
        "it never issued this coupon"
    );
    let late = json!({ "action": "retry", "reason": "too late" });
    let answer = world
        .operator()
        .post(&format!("/orders/{order}/resolve"), late)
        .await;
    assert_eq!(
        (answer.status, &answer.body["code"]),
        (409, &json!("NOT_GIVEN_UP"))
    );
    world.end().await;
}

async fn a_person_ends_what_healing_could_not(backend: Backend) {
    let mut world = without_coupon(backend).await;
    let order = given_up(&world).await;
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
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compensation_that_was_given_up_is_listed_and_asked_for_again_on_sqlite() {
    a_compensation_that_was_given_up_is_listed_and_asked_for_again(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compensation_that_was_given_up_is_listed_and_asked_for_again_on_postgres() {
    a_compensation_that_was_given_up_is_listed_and_asked_for_again(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_ends_what_healing_could_not_on_sqlite() {
    a_person_ends_what_healing_could_not(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_ends_what_healing_could_not_on_postgres() {
    a_person_ends_what_healing_could_not(Backend::Postgres).await;
}
