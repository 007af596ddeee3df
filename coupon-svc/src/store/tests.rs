use super::*;
use events::context::{NewOrder, OrderLine};
use events::{Flow, ProductId};
use jetstream::Database;
use jetstream::database::fixture::on_each_database;
use jetstream::hearing::laws::{Sample, participant_laws};
use jetstream::hearing::participant::subscription;

fn order(n: u128, user: &str, coupon: u128) -> OrderContext {
    OrderContext::new(NewOrder {
        order_id: OrderId(Uuid::from_u128(n)),
        user_id: UserId::new(user).expect("valid"),
        flow: Flow::Parallel,
        needed: [Step::STOCK, Step::COUPON].into_iter().collect(),
        lines: vec![OrderLine {
            product_id: ProductId(Uuid::from_u128(1)),
            quantity: 1,
            unit_price: Money(1000),
            price_version: 1,
        }],
        discount: Money(100),
        coupon_id: Some(CouponId(Uuid::from_u128(coupon))),
        placed_at: 0,
        deadline: 0,
    })
    .expect("valid")
}

/// A user has a coupon of 10 percent.
async fn give(tx: &Tx, coupon: u128, user: &str) {
    let sql = "INSERT INTO coupons VALUES
                   ($1, $1, $2, '{\"percent\":10}', 0, 0, 'AVAILABLE', $3, 0, 0)";
    let values = vec![
        Uuid::from_u128(coupon).into(),
        user.into(),
        Uuid::nil().into(),
    ];
    tx.execute(sql, values).await.expect("given");
}

async fn coupon(tx: &Tx, coupon: u128) -> (String, u128) {
    let sql = "SELECT state, order_id FROM coupons WHERE coupon_id = $1";
    let values = vec![Uuid::from_u128(coupon).into()];
    let rows = tx.query(sql, values).await.expect("read");
    let order: Uuid = rows[0].try_get("", "order_id").expect("an id");
    let state = rows[0].try_get("", "state").expect("a state");
    (state, order.as_u128())
}

async fn a_batch_is_held_used_and_given_back(database: &Database) {
    let tx = database.begin().await.expect("begun");
    give(&tx, 7, "alice").await;
    give(&tx, 8, "bob").await;
    let orders = [
        order(1, "alice", 7),
        order(2, "alice", 7),
        order(3, "bob", 8),
        order(4, "bob", 9),
    ];
    let orders: Vec<_> = orders.iter().collect();
    let (seven, eight) = (CouponId(Uuid::from_u128(7)), CouponId(Uuid::from_u128(8)));

    let mut loaded = Coupons.load(&tx, &orders).await.expect("loaded");
    let held: Vec<_> = orders
        .iter()
        .map(|order| Coupons.hold(&mut loaded, order, 0).ok())
        .collect();
    assert_eq!(held, [Some(seven), None, Some(eight), None]);
    Coupons.save(&tx, loaded).await.expect("saved");
    assert_eq!(coupon(&tx, 7).await, ("HELD".to_owned(), 1));
    assert_eq!(coupon(&tx, 8).await, ("HELD".to_owned(), 3));

    let mut loaded = Coupons.load(&tx, &orders).await.expect("loaded");
    Coupons.settle(&mut loaded, orders[0], &seven);
    Coupons.release(&mut loaded, orders[2], &eight, Hold::Held);
    Coupons.save(&tx, loaded).await.expect("saved");
    assert_eq!(coupon(&tx, 7).await, ("USED".to_owned(), 1));
    assert_eq!(coupon(&tx, 8).await, ("AVAILABLE".to_owned(), 0));

    let mut loaded = Coupons.load(&tx, &orders).await.expect("loaded");
    Coupons.release(&mut loaded, orders[0], &seven, Hold::Settled);
    Coupons.save(&tx, loaded).await.expect("saved");
    assert_eq!(coupon(&tx, 7).await, ("AVAILABLE".to_owned(), 0));
}

async fn the_table_refuses_what_the_code_must_never_do(database: &Database) {
    let tx = database.begin().await.expect("begun");
    give(&tx, 7, "alice").await;
    let wrong = "UPDATE coupons SET state = 'LOST'";
    assert!(tx.execute(wrong, vec![]).await.is_err(), "{wrong}");
}

#[tokio::test]
async fn coupons_are_kept_for_one_order_at_a_time() {
    on_each_database(&crate::SERVICE, async |database| {
        a_batch_is_held_used_and_given_back(database).await;
        the_table_refuses_what_the_code_must_never_do(database).await;
    })
    .await;
}

#[tokio::test]
async fn coupon_obeys_the_laws_of_a_participant() {
    let sample = Sample {
        service: &crate::SERVICE,
        subscription: subscription(Coupons, &Flow::ALL),
        step: Step::COUPON,
        seen: "SELECT state AS seen FROM coupons ORDER BY coupon_id",
        held: order(1, "alice", 7),
        refused: order(2, "alice", 8),
    };
    let fill = async |tx: &Tx| {
        give(tx, 7, "alice").await;
        give(tx, 8, "bob").await;
    };
    participant_laws(&sample, fill).await;
}
