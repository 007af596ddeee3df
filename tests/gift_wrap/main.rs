//! A fifth step is one more entry in the list of steps and a service that takes it.

mod upgrade;
mod wrap;

use events::context::NewOrder;
use events::{Flow, Money, OrderContext, OrderId, OrderLine, ProductId, Step, UserId};
use integration_tests::{Backend, Shop, World, on_both_databases};
use jetstream::Service;
use jetstream::hearing::laws::{Sample, participant_laws};
use jetstream::hearing::participant;
use uuid::Uuid;

const FIVE: [Step; 5] = [
    Step::STOCK,
    Step::POINT,
    Step::COUPON,
    Step::CART,
    Step::GIFT_WRAP,
];

on_both_databases! {
    five_steps_are_confirmed_in_the_parallel_flow: confirmed(Flow::Parallel);
    five_steps_are_confirmed_in_the_sequential_flow: confirmed(Flow::Sequential);
    without_paper_the_other_four_give_back_in_the_parallel_flow: no_paper(Flow::Parallel);
    without_paper_the_other_four_give_back_in_the_sequential_flow: no_paper(Flow::Sequential);
    without_stock_wrap_answers_in_the_parallel_flow: no_stock(Flow::Parallel);
    without_stock_wrap_answers_in_the_sequential_flow: no_stock(Flow::Sequential);
}

async fn start(backend: Backend, refuses: Option<Step>) -> (World, Shop) {
    let mut services: Vec<Service> = ensemble::SERVICES.to_vec();
    services.push(wrap::SERVICE);
    let mut world = World::with(backend, &services, &[]).await;
    world.start_apart().await;
    let shop = Shop::open(&world, refuses).await;
    (world, shop)
}

async fn confirmed(backend: Backend, flow: Flow) {
    let (world, shop) = start(backend, None).await;
    let order = shop.order(&world, flow).await;
    world.user("alice").until(order, "CONFIRMED").await;
    world.quiet().await;
    shop.until_steps(&world, order, &FIVE.map(|step| (step, "succeeded")))
        .await;
    assert_eq!(sheets(&world).await, 98);
    assert!(said(&world, order).await.contains(&"wrap.reserved"));
    world.end().await;
}

async fn no_paper(backend: Backend, flow: Flow) {
    let (mut world, shop) = start(backend, None).await;
    let before = shop.ledger(&world).await;
    let one_sheet = "UPDATE paper SET sheets = 1";
    let updated = world.database("wrap").execute(one_sheet, vec![]).await;
    updated.expect("updated");
    // Wrap comes last, so that the other four have something to give back.
    world.stop("wrap").await;
    let order = shop.order(&world, flow).await;
    let four = [Step::STOCK, Step::POINT, Step::COUPON, Step::CART];
    shop.until_steps(&world, order, &four.map(|step| (step, "succeeded")))
        .await;
    world.start_alone("wrap").await;
    let view = world.user("alice").until(order, "CANCELED").await;
    assert_eq!(view["refusals"][0]["code"], "OUT_OF_PAPER");
    shop.until_steps(&world, order, &four.map(|step| (step, "compensated")))
        .await;
    assert_eq!(view["steps"]["wrap"], "refused");
    assert_eq!(shop.ledger(&world).await, before);
    assert_eq!(sheets(&world).await, 1);
    world.end().await;
}

async fn no_stock(backend: Backend, flow: Flow) {
    let (mut world, shop) = start(backend, Some(Step::STOCK)).await;
    let before = shop.ledger(&world).await;
    // Stock comes last, so that in the parallel flow the order is wrapped before.
    world.stop("stock").await;
    let order = shop.order(&world, flow).await;
    let (earlier, answer) = match flow {
        Flow::Parallel => ("succeeded", "compensated"),
        Flow::Sequential => ("waiting", "void"),
    };
    shop.until_steps(&world, order, &[(Step::GIFT_WRAP, earlier)])
        .await;
    world.start_alone("stock").await;
    let view = world.user("alice").until(order, "CANCELED").await;
    assert_eq!(view["refusals"][0]["code"], "OUT_OF_STOCK");
    assert_eq!(view["steps"]["wrap"], answer);
    world.quiet().await;
    assert!(said(&world, order).await.contains(&"wrap.released"));
    assert_eq!(sheets(&world).await, 100);
    assert_eq!(shop.ledger(&world).await, before);
    world.end().await;
}

async fn sheets(world: &World) -> i64 {
    let sheets = world.operator().get("/wrap").await.ok();
    sheets.as_i64().expect("a number")
}

async fn said(world: &World, order: OrderId) -> Vec<&'static str> {
    let story = world.story(order).await;
    story.iter().map(|e| e.envelope.entry.subject).collect()
}

#[tokio::test]
async fn wrap_obeys_the_laws_of_a_participant() {
    let sample = Sample {
        service: &wrap::SERVICE,
        subscription: participant::subscription(wrap::Wrap, &Flow::ALL),
        step: Step::GIFT_WRAP,
        seen: "SELECT CAST(sheets AS TEXT) AS seen FROM paper",
        held: wrapped(1, 2),
        refused: wrapped(2, 101),
    };
    participant_laws(&sample, async |_| ()).await;
}

fn wrapped(number: u128, quantity: i64) -> OrderContext {
    let line = OrderLine {
        product_id: ProductId(Uuid::from_u128(1)),
        quantity,
        unit_price: Money(500),
        price_version: 1,
    };
    OrderContext::new(NewOrder {
        order_id: OrderId(Uuid::from_u128(number)),
        user_id: UserId::new("alice").expect("valid"),
        flow: Flow::Parallel,
        needed: [Step::STOCK, Step::GIFT_WRAP].into_iter().collect(),
        lines: vec![line],
        discount: Money::ZERO,
        coupon_id: None,
        placed_at: 0,
        deadline: 0,
    })
    .expect("valid")
}
