//! Databases, one for each step and one for orders, and what is in them.

use serde::Deserialize;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Error, raw_sql};

use crate::Step;

/// Products of the shop; the load spreads its orders over them.
const PRODUCTS: i64 = 256;

/// How large the shop is to be.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Size {
    /// Users, `user0` and so on.
    pub users: i64,
    /// Coupons that each of them has.
    pub coupons: i64,
}

/// The pools of connections.
#[derive(Clone)]
pub struct Databases {
    /// Orders, and what orders are priced with.
    pub order: PgPool,
    steps: [PgPool; 4],
}

impl Databases {
    /// Makes new databases, whose names begin with `prefix`, on a server; those of an earlier
    /// run are dropped.
    ///
    /// # Errors
    /// What the server says.
    pub async fn create(server: &str, prefix: &str, connections: u32) -> Result<Self, Error> {
        let options: PgConnectOptions = server.parse()?;
        let mut admin = options.clone().database("postgres").connect().await?;
        let names = ["order", "stock", "point", "coupon", "cart"];
        let mut pools = Vec::new();
        for name in names {
            let database = format!("{prefix}_{name}");
            let drop = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
            raw_sql(AssertSqlSafe(drop)).execute(&mut admin).await?;
            let create = format!("CREATE DATABASE {database}");
            raw_sql(AssertSqlSafe(create)).execute(&mut admin).await?;
            let pool = PgPoolOptions::new()
                .max_connections(connections)
                .min_connections(connections)
                .test_before_acquire(false)
                .connect_with(options.clone().database(&database))
                .await?;
            raw_sql(tables(name)).execute(&pool).await?;
            pools.push(pool);
        }
        admin.close().await?;
        let mut pools = pools.into_iter();
        let mut next = || pools.next().ok_or(Error::PoolClosed);
        Ok(Self {
            order: next()?,
            steps: [next()?, next()?, next()?, next()?],
        })
    }

    /// The database of a step.
    #[must_use]
    pub fn of(&self, step: Step) -> &PgPool {
        &self.steps[step.index()]
    }

    /// Empties everything and fills the shop.
    ///
    /// # Errors
    /// What the server says.
    pub async fn fill(&self, size: Size) -> Result<(), Error> {
        let Size { users, coupons } = size;
        let fillings = [
            (&self.order, FILL_ORDER),
            (self.of(Step::Stock), FILL_STOCK),
            (self.of(Step::Point), FILL_POINT),
            (self.of(Step::Coupon), FILL_COUPON),
            (self.of(Step::Cart), FILL_CART),
        ];
        for (pool, statements) in fillings {
            for statement in statements {
                let filled = sqlx::query(*statement)
                    .bind(users)
                    .bind(coupons)
                    .bind(PRODUCTS);
                filled.execute(pool).await?;
            }
            raw_sql("VACUUM ANALYZE").execute(pool).await?;
        }
        Ok(())
    }
}

fn tables(name: &str) -> &'static str {
    match name {
        "order" => {
            "CREATE TABLE prices (product_id UUID PRIMARY KEY, price BIGINT NOT NULL);
             CREATE TABLE known_coupons (coupon_id UUID PRIMARY KEY, user_id TEXT NOT NULL,
                 discount BIGINT NOT NULL);
             CREATE TABLE orders (order_id UUID PRIMARY KEY, user_id TEXT NOT NULL,
                 state TEXT NOT NULL, held INT NOT NULL, body TEXT NOT NULL,
                 placed_at TIMESTAMPTZ NOT NULL DEFAULT now());
             CREATE INDEX ON orders (placed_at) WHERE state = 'PENDING';
             CREATE TABLE inbox (event_id UUID PRIMARY KEY, reply TEXT);"
        }
        "stock" => {
            "CREATE TABLE products (product_id UUID PRIMARY KEY, available BIGINT NOT NULL
                 CHECK (available >= 0), held BIGINT NOT NULL, settled BIGINT NOT NULL);
             CREATE TABLE holds (order_id UUID PRIMARY KEY, state TEXT NOT NULL);
             CREATE TABLE inbox (event_id UUID PRIMARY KEY, reply TEXT);"
        }
        "point" => {
            "CREATE TABLE accounts (user_id TEXT PRIMARY KEY, balance BIGINT NOT NULL
                 CHECK (balance >= 0), held BIGINT NOT NULL, settled BIGINT NOT NULL);
             CREATE TABLE holds (order_id UUID PRIMARY KEY, state TEXT NOT NULL);
             CREATE TABLE inbox (event_id UUID PRIMARY KEY, reply TEXT);"
        }
        "coupon" => {
            "CREATE TABLE coupons (coupon_id UUID PRIMARY KEY, user_id TEXT NOT NULL,
                 state TEXT NOT NULL);
             CREATE TABLE holds (order_id UUID PRIMARY KEY, state TEXT NOT NULL);
             CREATE TABLE inbox (event_id UUID PRIMARY KEY, reply TEXT);"
        }
        _ => {
            "CREATE TABLE items (user_id TEXT NOT NULL, product_id UUID NOT NULL,
                 quantity BIGINT NOT NULL CHECK (quantity >= 0),
                 PRIMARY KEY (user_id, product_id));
             CREATE TABLE holds (order_id UUID PRIMARY KEY, state TEXT NOT NULL);
             CREATE TABLE inbox (event_id UUID PRIMARY KEY, reply TEXT);"
        }
    }
}

// Ids are numbers, so that the load knows them: see `elsewhere` in `ensemble bench`. Each
// statement takes users, coupons and products, whether it needs them or not.
const FILL_ORDER: &[&str] = &[
    "WITH size AS (SELECT $1::BIGINT, $2::BIGINT, $3::BIGINT), gone AS (DELETE FROM orders),
     handled AS (DELETE FROM inbox), coupons AS (DELETE FROM known_coupons)
     DELETE FROM prices",
    "INSERT INTO prices SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(p), 12, '0'))::UUID, 500
     FROM generate_series(0, $3 - 1) AS p WHERE $1 > 0 OR $2 > 0",
    "INSERT INTO known_coupons
     SELECT (lpad(to_hex(u), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(c), 12, '0'))::UUID,
         'user' || u, 100
     FROM generate_series(0, $1 - 1) AS u, generate_series(0, $2 - 1) AS c WHERE $3 > 0",
];
const FILL_STOCK: &[&str] = &[
    "WITH size AS (SELECT $1::BIGINT, $2::BIGINT, $3::BIGINT), gone AS (DELETE FROM holds),
     handled AS (DELETE FROM inbox) DELETE FROM products",
    "INSERT INTO products SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(p), 12, '0'))::UUID,
         1000000000, 0, 0
     FROM generate_series(0, $3 - 1) AS p WHERE $1 > 0 OR $2 > 0",
];
const FILL_POINT: &[&str] = &[
    "WITH size AS (SELECT $1::BIGINT, $2::BIGINT, $3::BIGINT), gone AS (DELETE FROM holds),
     handled AS (DELETE FROM inbox) DELETE FROM accounts",
    "INSERT INTO accounts SELECT 'user' || u, 1000000000, 0, 0
     FROM generate_series(0, $1 - 1) AS u WHERE $2 > 0 OR $3 > 0",
];
const FILL_COUPON: &[&str] = &[
    "WITH size AS (SELECT $1::BIGINT, $2::BIGINT, $3::BIGINT), gone AS (DELETE FROM holds),
     handled AS (DELETE FROM inbox) DELETE FROM coupons",
    "INSERT INTO coupons
     SELECT (lpad(to_hex(u), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(c), 12, '0'))::UUID,
         'user' || u, 'AVAILABLE'
     FROM generate_series(0, $1 - 1) AS u, generate_series(0, $2 - 1) AS c WHERE $3 > 0",
];
const FILL_CART: &[&str] = &[
    "WITH size AS (SELECT $1::BIGINT, $2::BIGINT, $3::BIGINT), gone AS (DELETE FROM holds),
     handled AS (DELETE FROM inbox) DELETE FROM items",
    "INSERT INTO items
     SELECT 'user' || u, ('00000000-0000-7000-8000-' || lpad(to_hex(u * 2 % $3 + n), 12, '0'))::UUID,
         1000000
     FROM generate_series(0, $1 - 1) AS u, generate_series(0, 1) AS n WHERE $2 > 0",
];
