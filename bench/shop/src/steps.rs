//! The four steps: what each holds for an order, settles and gives back, within a
//! transaction of its caller's.

use serde::{Deserialize, Serialize};
use sqlx::{Error, PgConnection, query};
use uuid::Uuid;

/// An order, as it travels.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// Its id, given by who places it.
    pub order_id: Uuid,
    /// Whose it is.
    pub user_id: String,
    /// Its lines.
    pub items: Vec<Item>,
    /// The coupon that it uses.
    pub coupon_id: Uuid,
    /// What is to be paid; known once it is priced.
    #[serde(default)]
    pub total: i64,
}

/// A line of an order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Item {
    /// Which product.
    pub product_id: Uuid,
    /// How many.
    pub quantity: i64,
}

/// A step of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Units are held.
    Stock,
    /// Points are held.
    Point,
    /// The coupon is held.
    Coupon,
    /// What is ordered leaves the cart.
    Cart,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Stock, Self::Point, Self::Coupon, Self::Cart];

    /// Its place among them.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        ["stock", "point", "coupon", "cart"][self.index()]
    }

    /// Holds what the order needs, once: false when there is not enough, or the order was
    /// given up before; then the transaction is to be rolled back.
    ///
    /// # Errors
    /// What the database says.
    pub async fn hold(self, tx: &mut PgConnection, order: &Order) -> Result<bool, Error> {
        let first = query(
            "INSERT INTO holds (order_id, state) VALUES ($1, 'HELD')
                           ON CONFLICT DO NOTHING",
        );
        let first = first.bind(order.order_id).execute(&mut *tx).await?;
        if first.rows_affected() == 0 {
            return Ok(false);
        }
        let (products, quantities) = order.lines();
        let lines = products.len() as u64;
        let (changed, expected) = match self {
            Self::Stock => {
                let sql = "UPDATE products AS p
                           SET available = available - i.quantity, held = held + i.quantity
                           FROM UNNEST($1::UUID[], $2::BIGINT[]) AS i (product_id, quantity)
                           WHERE p.product_id = i.product_id AND p.available >= i.quantity";
                (
                    query(sql)
                        .bind(products)
                        .bind(quantities)
                        .execute(tx)
                        .await?,
                    lines,
                )
            }
            Self::Point => {
                let sql = "UPDATE accounts SET balance = balance - $2, held = held + $2
                           WHERE user_id = $1 AND balance >= $2";
                (
                    query(sql)
                        .bind(&order.user_id)
                        .bind(order.total)
                        .execute(tx)
                        .await?,
                    1,
                )
            }
            Self::Coupon => {
                let sql = "UPDATE coupons SET state = 'HELD'
                           WHERE coupon_id = $1 AND user_id = $2 AND state = 'AVAILABLE'";
                (
                    query(sql)
                        .bind(order.coupon_id)
                        .bind(&order.user_id)
                        .execute(tx)
                        .await?,
                    1,
                )
            }
            Self::Cart => {
                let sql = "UPDATE items AS c SET quantity = c.quantity - i.quantity
                           FROM UNNEST($2::UUID[], $3::BIGINT[]) AS i (product_id, quantity)
                           WHERE c.user_id = $1 AND c.product_id = i.product_id
                               AND c.quantity >= i.quantity";
                let update = query(sql)
                    .bind(&order.user_id)
                    .bind(products)
                    .bind(quantities);
                (update.execute(tx).await?, lines)
            }
        };
        Ok(changed.rows_affected() == expected)
    }

    /// What is held is gone for good.
    ///
    /// # Errors
    /// What the database says.
    pub async fn settle(self, tx: &mut PgConnection, order: &Order) -> Result<(), Error> {
        if !moved(tx, order, "SETTLED").await? {
            return Ok(());
        }
        let (products, quantities) = order.lines();
        match self {
            Self::Stock => {
                let sql = "UPDATE products AS p
                           SET held = held - i.quantity, settled = settled + i.quantity
                           FROM UNNEST($1::UUID[], $2::BIGINT[]) AS i (product_id, quantity)
                           WHERE p.product_id = i.product_id";
                query(sql)
                    .bind(products)
                    .bind(quantities)
                    .execute(tx)
                    .await?;
            }
            Self::Point => {
                let sql = "UPDATE accounts SET held = held - $2, settled = settled + $2
                           WHERE user_id = $1";
                query(sql)
                    .bind(&order.user_id)
                    .bind(order.total)
                    .execute(tx)
                    .await?;
            }
            Self::Coupon => {
                let sql = "UPDATE coupons SET state = 'USED' WHERE coupon_id = $1";
                query(sql).bind(order.coupon_id).execute(tx).await?;
            }
            Self::Cart => {}
        }
        Ok(())
    }

    /// What is held is given back; an order that comes later finds that it was given up.
    ///
    /// # Errors
    /// What the database says.
    pub async fn release(self, tx: &mut PgConnection, order: &Order) -> Result<(), Error> {
        let first = query(
            "INSERT INTO holds (order_id, state) VALUES ($1, 'VOID')
                           ON CONFLICT DO NOTHING",
        );
        let first = first.bind(order.order_id).execute(&mut *tx).await?;
        if first.rows_affected() == 1 || !moved(tx, order, "RELEASED").await? {
            return Ok(());
        }
        let (products, quantities) = order.lines();
        match self {
            Self::Stock => {
                let sql = "UPDATE products AS p
                           SET available = available + i.quantity, held = held - i.quantity
                           FROM UNNEST($1::UUID[], $2::BIGINT[]) AS i (product_id, quantity)
                           WHERE p.product_id = i.product_id";
                query(sql)
                    .bind(products)
                    .bind(quantities)
                    .execute(tx)
                    .await?;
            }
            Self::Point => {
                let sql = "UPDATE accounts SET balance = balance + $2, held = held - $2
                           WHERE user_id = $1";
                query(sql)
                    .bind(&order.user_id)
                    .bind(order.total)
                    .execute(tx)
                    .await?;
            }
            Self::Coupon => {
                let sql = "UPDATE coupons SET state = 'AVAILABLE' WHERE coupon_id = $1";
                query(sql).bind(order.coupon_id).execute(tx).await?;
            }
            Self::Cart => {
                let sql = "UPDATE items AS c SET quantity = c.quantity + i.quantity
                           FROM UNNEST($2::UUID[], $3::BIGINT[]) AS i (product_id, quantity)
                           WHERE c.user_id = $1 AND c.product_id = i.product_id";
                let update = query(sql)
                    .bind(&order.user_id)
                    .bind(products)
                    .bind(quantities);
                update.execute(tx).await?;
            }
        }
        Ok(())
    }
}

impl Order {
    // In one order everywhere, so that no two transactions wait for each other's lines.
    fn lines(&self) -> (Vec<Uuid>, Vec<i64>) {
        let mut lines: Vec<_> = self
            .items
            .iter()
            .map(|item| (item.product_id, item.quantity))
            .collect();
        lines.sort_unstable();
        lines.into_iter().unzip()
    }
}

async fn moved(tx: &mut PgConnection, order: &Order, state: &str) -> Result<bool, Error> {
    let sql = "UPDATE holds SET state = $2 WHERE order_id = $1 AND state = 'HELD'";
    let moved = query(sql)
        .bind(order.order_id)
        .bind(state)
        .execute(tx)
        .await?;
    Ok(moved.rows_affected() == 1)
}
