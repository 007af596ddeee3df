//! Cart's HTTP routes.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use events::{ProductId, UserId, catalog, fact};
use jetstream::http::auth::Caller;
use jetstream::http::between;
use jetstream::{Body, Emission, Fault, Problem, Shell};
use serde::{Deserialize, Serialize};

use crate::domain::{Cart, Full, MAX_PRODUCTS};
use crate::store::{load_cart, save};

// As much as one line of an order can have.
const MAX_QUANTITY: i64 = 10_000;

pub(crate) fn routes(shell: &Shell) -> Router {
    Router::new()
        .route("/carts/{user}", get(show))
        .route("/carts/{user}/items/{product_id}", put(set).delete(remove))
        .with_state(shell.clone())
}

#[derive(Serialize)]
struct CartView {
    user_id: UserId,
    items: Vec<ItemView>,
}

#[derive(Serialize)]
struct ItemView {
    product_id: ProductId,
    quantity: i64,
}

async fn show(
    State(shell): State<Shell>,
    caller: Caller,
    Path(user): Path<String>,
) -> Result<Json<CartView>, Problem> {
    let user = caller.owner(&user)?;
    let cart = read_cart(&shell, &user).await?;
    Ok(Json(view(user, cart)))
}

async fn read_cart(shell: &Shell, user: &UserId) -> Result<Cart, Fault> {
    let sql = "SELECT product_id, quantity FROM items WHERE user_id = $1";
    let values = vec![user.as_str().into()];
    let mut cart = Cart::default();
    for row in shell.database().query(sql, values).await? {
        let product = ProductId(row.try_get("", "product_id")?);
        cart.items.insert(product, row.try_get("", "quantity")?);
    }
    Ok(cart)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Quantity {
    quantity: i64,
}

async fn set(
    State(shell): State<Shell>,
    caller: Caller,
    Path((user, product)): Path<(String, String)>,
    Body(Quantity { quantity }): Body<Quantity>,
) -> Result<Json<CartView>, Problem> {
    let user = caller.owner(&user)?;
    let product = product_id(&product)?;
    between("quantity", quantity, 1, MAX_QUANTITY)?;
    let cart = edit(&shell, &user, product, quantity).await?;
    Ok(Json(view(user, cart)))
}

/// What is not in the cart is removed already: asking twice is no error.
async fn remove(
    State(shell): State<Shell>,
    caller: Caller,
    Path((user, product)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let user = caller.owner(&user)?;
    edit(&shell, &user, product_id(&product)?, 0).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sets a quantity, and says so if that changes anything.
async fn edit(
    shell: &Shell,
    user: &UserId,
    product: ProductId,
    quantity: i64,
) -> Result<Cart, Problem> {
    let tx = shell.begin().await?;
    let mut loaded = load_cart(&tx, user).await?;
    let cart = loaded.carts.entry(user.clone()).or_default();
    let changed = cart.set(product, quantity).map_err(full)?;
    let cart = cart.clone();
    let mut said = vec![];
    if changed {
        save(&tx, loaded).await?;
        let body = fact::cart_changed(user, product, quantity);
        said.push(Emission::fact(&catalog::CART_CHANGED, user, body));
    }
    shell.commit(tx, said).await?;
    Ok(cart)
}

fn full(_: Full) -> Problem {
    let detail = format!("a cart has at most {MAX_PRODUCTS} different products: remove one first");
    Problem::unprocessable("CART_FULL", detail)
}

fn view(user_id: UserId, cart: Cart) -> CartView {
    let item = |(product_id, quantity)| ItemView {
        product_id,
        quantity,
    };
    CartView {
        user_id,
        items: cart.items.into_iter().map(item).collect(),
    }
}

fn product_id(text: &str) -> Result<ProductId, Problem> {
    text.parse().map_err(|_| Problem::not_found("product"))
}
