//! Stock's HTTP routes.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use events::fact::{self, ProductListed};
use events::{Money, ProductId, catalog};
use jetstream::http::auth::Caller;
use jetstream::http::idempotency::{self, Answered, Done, Once};
use jetstream::http::page::{Page, PageQuery};
use jetstream::http::{Created, Id, Number, Operator, Routes, Text, doc};
use jetstream::{Body, Emission, Fault, Problem, Query, Shell, Tx, clock};
use sea_orm::QueryResult;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

// Sums of 50 lines of 10,000 units at this price are exact in every JSON reader.
const MAX_PRICE: i64 = 10_000_000_000;
const MAX_UNITS: i64 = 1_000_000_000;

type Price = Number<0, MAX_PRICE>;
type FirstStock = Number<0, MAX_UNITS>;
type Quantity = Number<1, MAX_UNITS>;

pub(crate) fn routes() -> Routes {
    Routes::about("products", "What is sold, and how much of it there is")
        .post("/products", create, "List a product, with its first stock")
        .get("/products", list, "List the products, newest first")
        .get("/products/{id}", show, "Show a product")
        .patch("/products/{id}", change, "Change the price of a product")
        .post(
            "/products/{id}/restock",
            restock,
            doc("Add stock of a product").answers::<Product>(200, "It is there"),
        )
        .with(|shell| {
            crate::restate::start(shell);
            shell.clone()
        })
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "mug", "option": "blue", "price": 1200, "stock": 100 }))]
struct NewProduct {
    #[schema(inline)]
    name: Text,
    /// What tells it from the others of its name: a size, a colour
    #[schema(inline)]
    option: Option<Text>,
    #[schema(inline)]
    price: Price,
    #[schema(inline)]
    stock: FirstStock,
}

#[derive(Serialize, ToSchema)]
struct Product {
    product_id: Uuid,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    option: String,
    price: i64,
    available: i64,
    held: i64,
    settled: i64,
    initial_stock: i64,
    restocked_total: i64,
}

const SELECT: &str = "SELECT product_id, name, option, price, available, held, settled,
                             initial_stock, restocked_total FROM products";

async fn create(
    operator: Operator,
    State(shell): State<Shell>,
    Body(new): Body<NewProduct>,
) -> Result<Created<Product>, Problem> {
    let (price, stock) = (new.price.get(), new.stock.get());
    let option = new.option.map(String::from).unwrap_or_default();
    let id = ProductId(clock::new_id());
    let tx = operator.begin().await?;
    let sql = "INSERT INTO products (product_id, name, option, price, price_version,
                   previous_price, replaced_at, initial_stock, restocked_total, available, held,
                   settled, said_at, created_at)
               VALUES ($1, $2, $3, $4, 1, 0, 0, $5, 0, $5, 0, 0, $6, $6)";
    let values = vec![
        id.0.into(),
        new.name.as_str().into(),
        option.as_str().into(),
        price.into(),
        stock.into(),
        tx.now().into(),
    ];
    tx.execute(sql, values).await?;
    let listed = ProductListed {
        product_id: id,
        name: new.name.into(),
        option,
        price: Money(price),
        version: 1,
        initial_stock: stock,
    };
    let view = read_one(&tx, id).await?;
    let said = Emission::fact(&catalog::PRODUCT_LISTED, id, listed.encode());
    shell.commit(tx, vec![said]).await?;
    Ok(Created(view))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "price": 1300 }))]
struct Change {
    #[schema(inline)]
    price: Option<Price>,
}

async fn change(
    operator: Operator,
    State(shell): State<Shell>,
    Id(id): Id<ProductId>,
    Body(change): Body<Change>,
) -> Result<Json<Product>, Problem> {
    let tx = operator.begin().await?;
    let mut said = vec![];
    if let Some(price) = change.price {
        let price = price.get();
        let sql = "UPDATE products SET previous_price = price, price = $2, replaced_at = $3,
                       price_version = price_version + 1, said_at = $3
                   WHERE product_id = $1 AND price <> $2
                   RETURNING name, option, price, price_version, initial_stock";
        let rows = tx
            .query(sql, vec![id.0.into(), price.into(), tx.now().into()])
            .await?;
        for row in rows {
            let body = listed(id, &row)?.encode();
            said.push(Emission::fact(&catalog::PRODUCT_LISTED, id, body));
        }
    }
    let view = read_one(&tx, id).await?;
    shell.commit(tx, said).await?;
    Ok(Json(view))
}

/// What `product.listed` says about a row.
pub(crate) fn listed(id: ProductId, row: &QueryResult) -> Result<ProductListed, Fault> {
    Ok(ProductListed {
        product_id: id,
        name: row.try_get("", "name")?,
        option: row.try_get("", "option")?,
        price: Money(row.try_get("", "price")?),
        version: row.try_get("", "price_version")?,
        initial_stock: row.try_get("", "initial_stock")?,
    })
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "quantity": 10 }))]
struct Restock {
    #[schema(inline)]
    quantity: Quantity,
}

async fn restock(
    operator: Operator,
    State(shell): State<Shell>,
    Id(id): Id<ProductId>,
    Once { body, key }: Once<Restock>,
) -> Result<Answered, Problem> {
    let request = key.map(|key| key.on(&operator, format!("POST /products/{id}/restock")));
    let add = add(&operator, id, body.quantity.get());
    idempotency::once(&shell, request, add).await
}

async fn add(operator: &Operator, id: ProductId, quantity: i64) -> Result<Done, Problem> {
    let tx = operator.begin().await?;
    let sql = "UPDATE products SET available = available + $2,
                   restocked_total = restocked_total + $2 WHERE product_id = $1";
    tx.execute(sql, vec![id.0.into(), quantity.into()]).await?;
    let answer = Answered::new(StatusCode::OK, &read_one(&tx, id).await?)?;
    let body = fact::stock_added(id, quantity);
    let said = vec![Emission::fact(&catalog::STOCK_ADDED, id, body)];
    Ok(Done { tx, said, answer })
}

async fn show(caller: Caller, Id(id): Id<ProductId>) -> Result<Json<Product>, Problem> {
    let sql = format!("{SELECT} WHERE product_id = $1");
    let rows = caller.query_public(&sql, vec![id.0.into()]).await?;
    let row = rows.first().ok_or_else(|| Problem::not_found("product"))?;
    Ok(Json(view(row)?))
}

#[derive(Serialize, ToSchema)]
struct Products {
    products: Vec<Product>,
    /// The `cursor` of the next page; null on the last
    next_cursor: Option<Uuid>,
}

async fn list(caller: Caller, Query(query): Query<PageQuery>) -> Result<Json<Products>, Problem> {
    let page = Page::of(&query)?;
    // Ids are in the order of their creation, so the last one seen is the cursor.
    let sql = format!("{SELECT} WHERE product_id < $1 ORDER BY product_id DESC LIMIT $2");
    let values = vec![page.before().into(), page.fetch().into()];
    let rows = caller.query_public(&sql, values).await?;
    let views = rows.iter().map(view).collect::<Result<Vec<_>, _>>()?;
    let (products, next_cursor) = page.cut(views, |product| product.product_id);
    Ok(Json(Products {
        products,
        next_cursor,
    }))
}

async fn read_one(tx: &Tx, id: ProductId) -> Result<Product, Problem> {
    let rows = tx
        .query(
            &format!("{SELECT} WHERE product_id = $1"),
            vec![id.0.into()],
        )
        .await?;
    let row = rows.first().ok_or_else(|| Problem::not_found("product"))?;
    Ok(view(row)?)
}

fn view(row: &QueryResult) -> Result<Product, Fault> {
    Ok(Product {
        product_id: row.try_get("", "product_id")?,
        name: row.try_get("", "name")?,
        option: row.try_get("", "option")?,
        price: row.try_get("", "price")?,
        available: row.try_get("", "available")?,
        held: row.try_get("", "held")?,
        settled: row.try_get("", "settled")?,
        initial_stock: row.try_get("", "initial_stock")?,
        restocked_total: row.try_get("", "restocked_total")?,
    })
}
