//! Stock's HTTP routes.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{patch, post};
use axum::{Json, Router};
use events::fact::{self, ProductListed};
use events::{Money, ProductId, catalog};
use jetstream::http::auth::Caller;
use jetstream::http::idempotency::{self, Answered, Done, Once};
use jetstream::http::page::{Page, PageQuery};
use jetstream::http::{between, text};
use jetstream::{Body, Emission, Fault, Problem, Query, Shell, Tx, clock};
use sea_orm::QueryResult;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

// Sums of 50 lines of 10,000 units at this price are exact in every JSON reader.
const MAX_PRICE: i64 = 10_000_000_000;
const MAX_UNITS: i64 = 1_000_000_000;

pub(crate) fn routes(shell: &Shell) -> Router {
    crate::restate::start(shell);
    Router::new()
        .route("/products", post(create).get(list))
        .route("/products/{id}", patch(change).get(show))
        .route("/products/{id}/restock", post(restock))
        .with_state(shell.clone())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewProduct {
    name: String,
    #[serde(default)]
    option: String,
    price: i64,
    stock: i64,
}

#[derive(Serialize)]
struct ProductView {
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
    State(shell): State<Shell>,
    caller: Caller,
    Body(new): Body<NewProduct>,
) -> Result<(StatusCode, Json<ProductView>), Problem> {
    caller.require_operator()?;
    text("name", &new.name, 1)?;
    text("option", &new.option, 0)?;
    between("price", new.price, 0, MAX_PRICE)?;
    between("stock", new.stock, 0, MAX_UNITS)?;
    let id = ProductId(clock::new_id());
    let tx = shell.begin().await?;
    let sql = "INSERT INTO products (product_id, name, option, price, price_version,
                   previous_price, replaced_at, initial_stock, restocked_total, available, held,
                   settled, said_at, created_at)
               VALUES ($1, $2, $3, $4, 1, 0, 0, $5, 0, $5, 0, 0, $6, $6)";
    let values = vec![
        id.0.into(),
        new.name.clone().into(),
        new.option.clone().into(),
        new.price.into(),
        new.stock.into(),
        tx.now().into(),
    ];
    tx.execute(sql, values).await?;
    let listed = ProductListed {
        product_id: id,
        name: new.name,
        option: new.option,
        price: Money(new.price),
        version: 1,
        initial_stock: new.stock,
    };
    let view = read_one(&tx, id).await?;
    let said = Emission::fact(&catalog::PRODUCT_LISTED, id, listed.encode());
    shell.commit(tx, vec![said]).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    price: Option<i64>,
}

async fn change(
    State(shell): State<Shell>,
    caller: Caller,
    Path(id): Path<String>,
    Body(change): Body<Change>,
) -> Result<Json<ProductView>, Problem> {
    caller.require_operator()?;
    let id = product_id(&id)?;
    let tx = shell.begin().await?;
    let mut said = vec![];
    if let Some(price) = change.price {
        between("price", price, 0, MAX_PRICE)?;
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Restock {
    quantity: i64,
}

async fn restock(
    State(shell): State<Shell>,
    caller: Caller,
    Path(id): Path<String>,
    Once { body, key }: Once<Restock>,
) -> Result<Answered, Problem> {
    caller.require_operator()?;
    let id = product_id(&id)?;
    between("quantity", body.quantity, 1, MAX_UNITS)?;
    let request = key.map(|key| key.on(&caller, format!("POST /products/{id}/restock")));
    idempotency::once(&shell, request, add(&shell, id, body.quantity)).await
}

async fn add(shell: &Shell, id: ProductId, quantity: i64) -> Result<Done, Problem> {
    let tx = shell.begin().await?;
    let sql = "UPDATE products SET available = available + $2,
                   restocked_total = restocked_total + $2 WHERE product_id = $1";
    tx.execute(sql, vec![id.0.into(), quantity.into()]).await?;
    let answer = Answered::new(StatusCode::OK, &read_one(&tx, id).await?)?;
    let body = fact::stock_added(id, quantity);
    let said = vec![Emission::fact(&catalog::STOCK_ADDED, id, body)];
    Ok(Done { tx, said, answer })
}

async fn show(
    State(shell): State<Shell>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<ProductView>, Problem> {
    let id = product_id(&id)?;
    let sql = format!("{SELECT} WHERE product_id = $1");
    let rows = shell.database().query(&sql, vec![id.0.into()]).await?;
    let row = rows.first().ok_or_else(|| Problem::not_found("product"))?;
    Ok(Json(view(row)?))
}

async fn list(
    State(shell): State<Shell>,
    _: Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<Value>, Problem> {
    let page = Page::of(&query)?;
    // Ids are in the order of their creation, so the last one seen is the cursor.
    let sql = format!("{SELECT} WHERE product_id < $1 ORDER BY product_id DESC LIMIT $2");
    let values = vec![page.before().into(), page.fetch().into()];
    let rows = shell.database().query(&sql, values).await?;
    let views = rows.iter().map(view).collect::<Result<Vec<_>, _>>()?;
    let (products, next_cursor) = page.cut(views, |product| product.product_id);
    Ok(Json(
        json!({ "products": products, "next_cursor": next_cursor }),
    ))
}

async fn read_one(tx: &Tx, id: ProductId) -> Result<ProductView, Problem> {
    let rows = tx
        .query(
            &format!("{SELECT} WHERE product_id = $1"),
            vec![id.0.into()],
        )
        .await?;
    let row = rows.first().ok_or_else(|| Problem::not_found("product"))?;
    Ok(view(row)?)
}

fn view(row: &QueryResult) -> Result<ProductView, Fault> {
    Ok(ProductView {
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

fn product_id(text: &str) -> Result<ProductId, Problem> {
    text.parse().map_err(|_| Problem::not_found("product"))
}
