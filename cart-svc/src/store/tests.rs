use super::*;
use events::context::{NewOrder, OrderLine};
use events::{Flow, Money, OrderId};
use jetstream::Database;
use jetstream::database::fixture::on_each_database;
use jetstream::hearing::laws::{Sample, participant_laws};
use jetstream::hearing::participant::subscription;
use uuid::Uuid;

fn user(name: &str) -> UserId {
    UserId::new(name).expect("valid")
}

fn product(n: u128) -> ProductId {
    ProductId(Uuid::from_u128(n))
}

fn order(n: u128, name: &str, lines: &[(u128, i64)]) -> OrderContext {
    let line = |(n, quantity): &(u128, i64)| OrderLine {
        product_id: product(*n),
        quantity: *quantity,
        unit_price: Money(100),
        price_version: 1,
    };
    OrderContext::new(NewOrder {
        order_id: OrderId(Uuid::from_u128(n)),
        user_id: user(name),
        flow: Flow::Parallel,
        needed: [Step::STOCK, Step::CART].into_iter().collect(),
        lines: lines.iter().map(line).collect(),
        discount: Money::ZERO,
        coupon_id: None,
        placed_at: 0,
        deadline: 0,
    })
    .expect("valid")
}

async fn set(tx: &Tx, name: &str, n: u128, quantity: i64) {
    let mut loaded = load_cart(tx, &user(name)).await.expect("loaded");
    let cart = loaded.carts.entry(user(name)).or_default();
    cart.set(product(n), quantity).expect("not full");
    save(tx, loaded).await.expect("saved");
}

async fn cart(tx: &Tx, name: &str) -> Vec<(u128, i64)> {
    let loaded = load_cart(tx, &user(name)).await.expect("loaded");
    let items = loaded.carts.into_values().flat_map(|cart| cart.items);
    items
        .map(|(id, quantity)| (id.0.as_u128(), quantity))
        .collect()
}

async fn a_batch_is_taken_out_and_put_back(database: &Database) {
    let tx = database.begin().await.expect("begun");
    for (name, n, quantity) in [
        ("alice", 1, 5),
        ("alice", 2, 3),
        ("alice", 9, 9),
        ("bob", 1, 1),
    ] {
        set(&tx, name, n, quantity).await;
    }
    let orders = [
        order(1, "alice", &[(1, 4), (2, 3)]),
        order(2, "alice", &[(1, 2)]),
        order(3, "bob", &[(1, 1)]),
        order(4, "nobody", &[(1, 1)]),
    ];
    let orders: Vec<_> = orders.iter().collect();

    let mut loaded = Carts.load(&tx, &orders).await.expect("loaded");
    let held: Vec<_> = orders
        .iter()
        .map(|order| Carts.hold(&mut loaded, order, 0).ok())
        .collect();
    Carts.save(&tx, loaded).await.expect("saved");
    let taken: Vec<_> = held.iter().map(Option::is_some).collect();
    assert_eq!(taken, [true, false, true, false]);
    assert_eq!(cart(&tx, "alice").await, [(1, 1), (9, 9)]);
    assert_eq!(cart(&tx, "bob").await, []);

    // The user edits the cart; then one order is confirmed, the other given back.
    set(&tx, "alice", 2, 1).await;
    let mut loaded = Carts.load(&tx, &orders).await.expect("loaded");
    let (alices, bobs) = (held[0].as_ref(), held[2].as_ref());
    Carts.settle(&mut loaded, orders[2], bobs.expect("held"));
    Carts.release(&mut loaded, orders[0], alices.expect("held"), Hold::Held);
    Carts.save(&tx, loaded).await.expect("saved");
    assert_eq!(cart(&tx, "alice").await, [(1, 5), (2, 4), (9, 9)]);
    assert_eq!(cart(&tx, "bob").await, []);

    let mut loaded = Carts.load(&tx, &orders).await.expect("loaded");
    Carts.release(&mut loaded, orders[2], bobs.expect("held"), Hold::Settled);
    Carts.save(&tx, loaded).await.expect("saved");
    assert_eq!(cart(&tx, "bob").await, [(1, 1)]);
}

async fn the_table_refuses_what_the_code_must_never_do(database: &Database) {
    for quantity in [0, -1] {
        let tx = database.begin().await.expect("begun");
        set(&tx, "alice", 1, 5).await;
        let sql = "UPDATE items SET quantity = $1";
        let wrong = tx.execute(sql, vec![i64::from(quantity).into()]).await;
        assert!(wrong.is_err(), "{quantity}");
    }
}

// On PostgreSQL a second transaction waits; on SQLite there is but one writer.
async fn an_empty_cart_can_be_locked(database: &Database) {
    let first = database.begin().await.expect("begun");
    load_cart(&first, &user("alice")).await.expect("locked");
    let second = async {
        let tx = database.begin().await.expect("begun");
        load_cart(&tx, &user("alice")).await.expect("locked");
    };
    let waiting = std::time::Duration::from_millis(200);
    assert!(tokio::time::timeout(waiting, second).await.is_err());
}

#[tokio::test]
async fn carts_are_kept_and_locked() {
    on_each_database(&crate::SERVICE, async |database| {
        a_batch_is_taken_out_and_put_back(database).await;
        the_table_refuses_what_the_code_must_never_do(database).await;
        an_empty_cart_can_be_locked(database).await;
    })
    .await;
}

#[tokio::test]
async fn cart_obeys_the_laws_of_a_participant() {
    let sample = Sample {
        service: &crate::SERVICE,
        subscription: subscription(Carts, &Flow::ALL),
        step: Step::CART,
        seen: "SELECT user_id || ' ' || quantity AS seen FROM items
               ORDER BY user_id, product_id",
        held: order(1, "alice", &[(1, 4), (2, 3)]),
        refused: order(2, "alice", &[(1, 6)]),
    };
    let fill = async |tx: &Tx| {
        set(tx, "alice", 1, 5).await;
        set(tx, "alice", 2, 3).await;
    };
    participant_laws(&sample, fill).await;
}
