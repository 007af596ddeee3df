//! How points are kept.

use std::collections::{BTreeMap, BTreeSet};

use events::hold::Hold;
use events::{Money, OrderContext, Refusal, Step, UserId};
use jetstream::database::bulk::{Column, Rows};
use jetstream::hearing::participant::Participant;
use jetstream::{Fault, Tx};

use crate::domain::{Account, Accounts};

/// Takes the step `point`.
pub(crate) struct Point;

/// The accounts of a batch, and how they were when they were loaded.
pub(crate) struct Loaded {
    accounts: Accounts,
    before: BTreeMap<UserId, Account>,
}

impl Participant for Point {
    const STEP: Step = Step::POINT;
    type Held = Money;
    type Resources = Loaded;

    async fn load(&self, tx: &Tx, orders: &[&OrderContext]) -> Result<Loaded, Fault> {
        let users: BTreeSet<_> = orders.iter().map(|order| order.user_id.as_str()).collect();
        let sql = "SELECT user_id, balance, held, settled FROM accounts
                   WHERE user_id IN (SELECT id FROM v) ORDER BY user_id";
        let mut of = BTreeMap::new();
        for row in tx.load(Rows::texts(users), sql, vec![]).await? {
            let account = Account {
                balance: Money(row.try_get("", "balance")?),
                held: Money(row.try_get("", "held")?),
                settled: Money(row.try_get("", "settled")?),
            };
            let user: String = row.try_get("", "user_id")?;
            of.insert(UserId::new(user)?, account);
        }
        Ok(Loaded {
            before: of.clone(),
            accounts: Accounts { of },
        })
    }

    fn hold(&self, loaded: &mut Loaded, order: &OrderContext, _: i64) -> Result<Money, Refusal> {
        loaded.accounts.hold(&order.user_id, order.total)
    }

    fn release(&self, loaded: &mut Loaded, order: &OrderContext, held: &Money, from: Hold) {
        let settled = from == Hold::Settled;
        loaded.accounts.release(&order.user_id, *held, settled);
    }

    fn settle(&self, loaded: &mut Loaded, order: &OrderContext, held: &Money) {
        loaded.accounts.settle(&order.user_id, *held);
    }

    async fn save(&self, tx: &Tx, loaded: Loaded) -> Result<(), Fault> {
        let mut rows = Rows::of(&[
            ("id", Column::Text),
            ("balance", Column::Int),
            ("held", Column::Int),
            ("settled", Column::Int),
            ("had_balance", Column::Int),
            ("had_held", Column::Int),
            ("had_settled", Column::Int),
        ]);
        for (user, before) in &loaded.before {
            let Some(account) = loaded.accounts.of.get(user).filter(|now| *now != before) else {
                continue;
            };
            rows.push([
                user.as_str().into(),
                account.balance.0.into(),
                account.held.0.into(),
                account.settled.0.into(),
                before.balance.0.into(),
                before.held.0.into(),
                before.settled.0.into(),
            ]);
        }
        let sql = "UPDATE accounts SET balance = v.balance, held = v.held,
                       settled = v.settled FROM v WHERE accounts.user_id = v.id";
        let unchanged = "accounts.balance = v.had_balance AND accounts.held = v.had_held
                         AND accounts.settled = v.had_settled";
        // The table's CHECKs are the bound.
        tx.write(rows, &tx.as_loaded(sql, unchanged), vec![]).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::context::{NewOrder, OrderLine};
    use events::{Flow, OrderId, ProductId};
    use jetstream::Database;
    use jetstream::database::fixture::on_each_database;
    use jetstream::hearing::laws::{Sample, participant_laws};
    use jetstream::hearing::participant::subscription;
    use uuid::Uuid;

    fn order(n: u128, user: &str, total: i64) -> OrderContext {
        let line = OrderLine {
            product_id: ProductId(Uuid::from_u128(1)),
            quantity: 1,
            unit_price: Money(total),
            price_version: 1,
        };
        OrderContext::new(NewOrder {
            order_id: OrderId(Uuid::from_u128(n)),
            user_id: UserId::new(user).expect("valid"),
            flow: Flow::Parallel,
            needed: [Step::STOCK, Step::POINT].into_iter().collect(),
            lines: vec![line],
            discount: Money::ZERO,
            coupon_id: None,
            placed_at: 0,
            deadline: 0,
        })
        .expect("valid")
    }

    async fn charge(tx: &Tx, user: &str, amount: i64) {
        let sql = "INSERT INTO accounts VALUES ($1, $2, 0, 0, $2)";
        tx.execute(sql, vec![user.into(), amount.into()])
            .await
            .expect("charged");
    }

    async fn account(tx: &Tx, user: &str) -> (i64, i64, i64) {
        let sql = "SELECT balance, held, settled FROM accounts WHERE user_id = $1";
        let rows = tx.query(sql, vec![user.into()]).await.expect("read");
        let number = |name| rows[0].try_get("", name).expect("a number");
        (number("balance"), number("held"), number("settled"))
    }

    async fn a_batch_is_held_settled_and_given_back(database: &Database) {
        let tx = database.begin().await.expect("begun");
        charge(&tx, "alice", 1000).await;
        charge(&tx, "bob", 50).await;
        let orders = [
            order(1, "alice", 600),
            order(2, "bob", 51),
            order(3, "alice", 400),
            order(4, "nobody", 1),
        ];
        let orders: Vec<_> = orders.iter().collect();

        let mut loaded = Point.load(&tx, &orders).await.expect("loaded");
        let held: Vec<_> = orders
            .iter()
            .map(|order| Point.hold(&mut loaded, order, 0))
            .collect();
        Point.save(&tx, loaded).await.expect("saved");
        let held: Vec<_> = held.into_iter().map(Result::ok).collect();
        assert_eq!(held, [Some(Money(600)), None, Some(Money(400)), None]);
        assert_eq!(account(&tx, "alice").await, (0, 1000, 0));
        assert_eq!(account(&tx, "bob").await, (50, 0, 0));

        let mut loaded = Point.load(&tx, &orders).await.expect("loaded");
        Point.settle(&mut loaded, orders[0], &Money(600));
        Point.release(&mut loaded, orders[2], &Money(400), Hold::Held);
        Point.save(&tx, loaded).await.expect("saved");
        assert_eq!(account(&tx, "alice").await, (400, 0, 600));

        let mut loaded = Point.load(&tx, &orders).await.expect("loaded");
        Point.release(&mut loaded, orders[0], &Money(600), Hold::Settled);
        Point.save(&tx, loaded).await.expect("saved");
        assert_eq!(account(&tx, "alice").await, (1000, 0, 0));
    }

    async fn the_table_refuses_what_the_code_must_never_do(database: &Database) {
        for wrong in [
            "balance = balance + 1",
            "balance = balance + 51, held = held - 51",
            "balance = -1, held = 101",
        ] {
            let tx = database.begin().await.expect("begun");
            charge(&tx, "alice", 100).await;
            let sql = format!("UPDATE accounts SET {wrong}");
            assert!(tx.execute(&sql, vec![]).await.is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn point_obeys_the_laws_of_a_participant() {
        let sample = Sample {
            service: &crate::SERVICE,
            subscription: subscription(Point, &Flow::ALL),
            step: Step::POINT,
            seen: "SELECT balance || ' ' || held || ' ' || settled AS seen FROM accounts",
            held: order(1, "alice", 600),
            refused: order(2, "alice", 1001),
        };
        participant_laws(&sample, async |tx| charge(tx, "alice", 1000).await).await;
    }

    #[tokio::test]
    async fn accounts_are_kept_and_their_sums_hold() {
        on_each_database(&crate::SERVICE, async |database| {
            a_batch_is_held_settled_and_given_back(database).await;
            the_table_refuses_what_the_code_must_never_do(database).await;
        })
        .await;
    }
}
